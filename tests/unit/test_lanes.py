"""`make test` and the rest of `make test-all`: every test is in one of them, and nothing is fetched twice in vain."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

from support.appliance import ROOT

QUICK = ["tests/unit", "tests/dialogues"]
NEEDS_MORE = re.compile(r"^from support\.(peers import .*\bneed\b|(postfix|project|stage|pebble) import)", re.MULTILINE)


def runs(*words: str) -> list[list[str]]:
    """The arguments of pytest, each time that ``make`` with these words runs it."""
    lines = subprocess.run(["make", "--dry-run", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [shlex.split(line.partition(" -m pytest ")[2]) for line in lines.splitlines() if " -m pytest " in line]


def test_each_test_is_in_one_lane_and_in_one_only() -> None:
    """What the first takes is what the second leaves; neither chooses by mark or name."""
    quick, rest = runs("test-all")
    assert runs("test") == [quick]
    assert [word for word in quick if word.startswith("tests")] == QUICK
    assert [word for word in rest if word.startswith("tests")] == ["tests"]
    assert [word.removeprefix("--ignore=") for word in rest if word.startswith("--ignore")] == QUICK
    assert not {"-m", "-k", "--deselect", "--ignore-glob"} & {*quick, *rest}


def test_integration_runs_make_test_first_and_does_not_repeat_it() -> None:
    script = (ROOT / ".ci/run").read_text()
    first, second = re.findall(r"\bmake (?:-C \S+ )?(test\S*(?: --\S+)*)", script)
    _, rest = runs("test-all")
    assert [runs(*first.split()), runs(*second.split())] == [runs("test"), [rest]]
    assert "REQUIRE_ALL=1" in script


def test_what_make_test_runs_needs_no_other_program() -> None:
    """tests/integration is for such."""
    files = [file for path in QUICK for file in (ROOT / path).rglob("*.py")]
    assert [str(file) for file in files if NEEDS_MORE.search(file.read_text())] == []


def test_what_could_not_be_fetched_is_not_asked_for_again_that_day(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    for name, text in (
        ("bin/id", "echo 1000"),  # nobody who may install anything
        (".venv/bin/python", 'echo "$@" >> asked; echo "E: the mirror does not answer"; exit 100'),
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)

    def brought(*words: str, **environ: str) -> tuple[int, str]:
        """How often something was asked for until now, and what was said."""
        environ |= {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}
        command = [tmp_path / "tools/peers", *words]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
        return len((tmp_path / "asked").read_text().splitlines()), done.stderr

    once, said = brought()
    assert "nodemailer cannot be had, and the tests of it are skipped: E: the mirror does not answer" in said
    assert brought() == (once, said)
    assert brought("--again")[0] == 2 * once
    assert brought(REQUIRE_ALL="1")[0] == 3 * once
