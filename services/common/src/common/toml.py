"""TOML files that people edit, read in time that grows with their size and no faster.

``tomllib`` takes the square of the number of names that a key is made of (``a.a.a = 1``): a file of 1 MiB with one such
line would hold a program up for an hour. No key of ours has more than three.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

KEY_NAMES = 32  # of one key: ten times what anybody writes, a millisecond at worst
# Dots in quoted text are none of a key's: those of addresses in a list, for example.
_QUOTED = re.compile(r'"(?:[^"\\\n]|\\.)*+"' + r"|'[^'\n]*+'")


def loads(text: str) -> dict[str, Any]:
    """The document in ``text``. Raises ValueError, which says what is wrong as the end of a sentence."""
    for line in text.split("\n"):
        if line.count(".") >= KEY_NAMES and _QUOTED.sub("", line).partition("#")[0].count(".") >= KEY_NAMES:
            raise ValueError(f"a key is made of more than {KEY_NAMES} names")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
