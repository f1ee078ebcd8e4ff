"""Reads a ``.env`` as Docker Compose does, for where there is no Docker. ``tools/env`` has refused what the two could
not read alike: variables, and what one of them would lose.
"""

from __future__ import annotations

import re

_LINE = re.compile(
    r"""[ \t]*(?:export[ \t]+)?([A-Za-z0-9_.-]+)[ \t]*[=:][ \t]*"""
    r"""(?:'((?:[^'\\]|\\.)*+)'|"((?:[^"\\]|\\.)*+)"|([^\n]*))[^\n]*""",
    re.DOTALL,
)
_ESCAPES = {"n": "\n", "r": "\r", "$": "$$"}
FILE_LENGTH = 1024 * 1024  # characters


def read(path: str) -> dict[str, str]:
    """The settings in a file. Raises OSError."""
    with open(path, encoding="utf-8-sig", errors="replace", newline="") as file:
        return parse(file.read(FILE_LENGTH))


def parse(text: str) -> dict[str, str]:
    """The settings in a text; lines of any other form are none of ours."""
    found: dict[str, str] = {}
    at = 0
    while at < len(text):
        if match := _LINE.match(text, at):
            name, single, double, bare = match.groups()
            if single is not None:
                found[name] = single.replace("\\'", "'")
            else:
                value = bare.partition(" #")[0].strip() if double is None else re.sub(r"\\(.)", _escaped, double)
                found[name] = value.replace("$$", "$")
        at = text.find("\n", match.end() if match else at) + 1 or len(text)
    return found


def _escaped(match: re.Match[str]) -> str:
    return _ESCAPES.get(match[1], match[1])
