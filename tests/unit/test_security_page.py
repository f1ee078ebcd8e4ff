"""docs/security.md and docs/durability.md name tests; one that is renamed or gone is missed here."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/security.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/.]+?\.py)(?:::(\w+))?`", PAGE)))
DIALOGUES = re.findall(
    r"`([a-z_0-9]+_\*?[a-z_0-9]*)`", "\n".join(line for line in PAGE.splitlines() if "ialogue" in line)
)


def test_every_test_that_is_named_exists() -> None:
    assert len(NAMED) > 40
    for file, function in NAMED:
        text = (ROOT / file).read_text()
        assert not function or re.search(rf"def {function}\(", text), f"{file}::{function}"


def test_every_test_that_the_page_of_the_promise_names_exists() -> None:
    names = re.findall(r"`(test_\w+\.py)(?:::(\w+))?`", (ROOT / "docs/durability.md").read_text())
    assert len(names) > 10
    for file, function in names:
        texts = [found.read_text() for found in (ROOT / "tests").glob(f"*/{file}")]
        assert any(not function or re.search(rf"def {function}\(", text) for text in texts), f"{file}::{function}"


def test_every_dialogue_that_is_named_exists() -> None:
    assert len(DIALOGUES) >= 6
    for name in DIALOGUES:
        assert list((ROOT / "tests/dialogues").glob(f"{name}.txt")), name


def test_every_attack_has_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| **")]
    assert len(rows) >= 25
    assert all("tests/" in row or "dialogue" in row for row in rows)


def test_every_fuzz_target_is_named() -> None:
    for file in (ROOT / "tests/fuzz").glob("test_*.py"):
        assert f"tests/fuzz/{file.name}" in PAGE
