"""Edits of the text of ``accounts.toml`` that leave every comment, blank line and order of keys where they are.

Pure: text in, text out. tomlkit keeps what is inside a table, but counts a comment above ``[accounts.next]`` to the
table before it: a new key would land below that comment, and removing the table would take it along. So new and removed
lines are placed by hand; whatever the text looks like, the result is compared with what it has to mean, and tomlkit
does it alone where the lines were not as expected.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any

import tomlkit

Value = str | int | bool | list[str]
_HEADER = re.compile(r"\s*\[")


def added(text: str, name: str, values: Mapping[str, Value]) -> str:
    """``text`` with one account more, at its end."""
    table = tomlkit.table()
    for key, value in values.items():
        table.add(key, value)
    accounts = tomlkit.table(is_super_table=True)
    accounts.add(name, table)
    document = tomlkit.document()
    document.add("accounts", accounts)
    gap = "" if not text or text.endswith("\n\n") else "\n" if text.endswith("\n") else "\n\n"
    return text + gap + tomlkit.dumps(document)


def changed(text: str, name: str, values: Mapping[str, Value]) -> str:
    """``text`` with ``values`` set in the account ``name``: where the key is, or else at the head of its table."""
    for key, value in values.items():
        meant = tomllib.loads(text)
        meant["accounts"][name][key] = value
        document = tomlkit.parse(text)
        table: Any = document["accounts"][name]
        new = key not in table
        table[key] = value
        by_hand = _with_first_line(text, name, f"{key} = {tomlkit.item(value).as_string()}\n") if new else ""
        text = by_hand if by_hand and _means(by_hand, meant) else tomlkit.dumps(document)
    return text


def removed(text: str, name: str) -> str:
    """``text`` without the account ``name``; a file without any account says ``[accounts]``."""
    meant = tomllib.loads(text)
    del meant["accounts"][name]
    lines = text.splitlines(keepends=True)
    first = _header_of(lines, name)
    shorter = ""
    if first >= 0:
        last = next((at for at in range(first + 1, len(lines)) if _HEADER.match(lines[at])), len(lines))
        while last < len(lines) and lines[last - 1].lstrip().startswith("#"):
            last -= 1  # comments right above the next header belong to it
        shorter = "".join(lines[:first] + lines[last:])
    if not meant["accounts"]:
        gap = "\n" if shorter and not shorter.endswith("\n") else ""
        shorter += gap + "[accounts]\n"
    if _means(shorter, meant):
        return shorter
    document = tomlkit.parse(text)
    del document["accounts"][name]
    return tomlkit.dumps(document)


def _header_of(lines: list[str], name: str) -> int:
    quoted = "|".join(re.escape(form) for form in (name, f'"{name}"', f"'{name}'"))
    pattern = re.compile(rf"\s*\[\s*accounts\s*\.\s*(?:{quoted})\s*\]")
    return next((at for at, line in enumerate(lines) if pattern.match(line)), -1)


def _with_first_line(text: str, name: str, line: str) -> str:
    lines = text.splitlines(keepends=True)
    first = _header_of(lines, name)
    if first < 0 or not lines[first].endswith("\n"):
        return ""
    return "".join([*lines[: first + 1], line, *lines[first + 1 :]])


def _means(text: str, meant: Mapping[str, Any]) -> bool:
    try:
        return tomllib.loads(text) == meant
    except tomllib.TOMLDecodeError:
        return False
