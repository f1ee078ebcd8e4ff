"""docs/providers.md tells the truth: every preset has its part, and every name in it exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from relay.providers import file, keys
from relay.providers.presets import PRESETS
from relay.settings import read
from support.presets import BASE, REAL

TEXT = (Path(__file__).parents[2] / "docs" / "providers.md").read_text()
BLOCKS = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
TOML = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)


def lines(block: str, *, commented: bool) -> dict[str, str]:
    pattern = r"^#?([A-Z0-9_]+)=([^#\n]*)" if commented else r"^([A-Z0-9_]+)=([^#\n]*)"
    return {name: value.strip() for name, value in re.findall(pattern, block, re.MULTILINE)}


@pytest.mark.parametrize("name", REAL)
def test_every_preset_is_in_the_table_and_has_a_section(name: str) -> None:
    assert f"`{name}`" in TEXT
    title = "Any other provider" if name == "generic" else PRESETS[name].title
    assert f"\n### {title}\n" in TEXT


@pytest.mark.parametrize("block", [block for block in BLOCKS if "_PASSWORD=" in block or "_CLIENT_ID=" in block])
def test_what_it_says_to_write_is_enough_for_a_start(block: str) -> None:
    names = lines(block, commented=False)["OWNPOST_PROVIDERS"].split(",")
    more = {"BREVO_USERNAME": "me", "BREVO_PASSWORD": "x"} if len(names) > 1 else {}
    for commented in (False, True):
        assert read(BASE | more | lines(block, commented=commented)).providers[-1].name == names[-1]


def test_its_tables_are_right() -> None:
    for block in TOML:
        found = file.parse(block.encode())
        assert found.problems == ()
        assert found.routes(("ses", "brevo", "mailjet"))[1] == []


def test_it_explains_every_key() -> None:
    table = TEXT[TEXT.index("## Every key") :]
    assert [key for key in (*keys.KEYS, "preset") if f"`{key}`" not in table] == []
