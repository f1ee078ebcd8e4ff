"""Reads a ``.env`` as Docker Compose does, as far as ours go: ``NAME=value``, quotes, comments; nothing is expanded."""

from __future__ import annotations

import re

_LINE = re.compile(
    r"""\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(?:'([^']*)'|"((?:[^"\\]|\\.)*)"|(.*?))\s*(?:\s\#.*)?"""
)


def read(path: str) -> dict[str, str]:
    """The settings in a file. Raises OSError."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return parse(file.read())


def parse(text: str) -> dict[str, str]:
    """The settings in a text; lines of any other form are none of ours. In double quotes a backslash protects."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        if (match := _LINE.fullmatch(line)) and not line.lstrip().startswith("#"):
            name, single, double, bare = match.groups()
            bare = "" if bare is None or bare.startswith("#") else bare
            found[name] = (
                single if single is not None else re.sub(r"\\(.)", r"\1", double) if double is not None else bare
            )
    return found
