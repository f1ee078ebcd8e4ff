"""The message id: the one string a user quotes.

26 characters of Crockford's base 32 (no I, L, O, U; safe in a file name, a URL and a telephone call) that hold a UUIDv7
(RFC 9562, section 5.7): 48 bits of milliseconds, then random bits, so ids sort by the time they were made.
"""

from __future__ import annotations

import random
import re

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LENGTH = 26
_PATTERN = re.compile(f"[0-7][{ALPHABET}]{{{LENGTH - 1}}}")
_PAIRS = [first + second for first in ALPHABET for second in ALPHABET]
_SHIFTS = range(120, -1, -10)


def new_id(now: float) -> str:
    """A new message id for the Unix time ``now`` (seconds)."""
    value = int(now * 1000) << 80 | random.getrandbits(80)  # an id is no secret; it must be unlike others
    value = value & ~(0xF << 76) | 0x7 << 76  # version 7
    value = value & ~(0x3 << 62) | 0x2 << 62  # variant
    pairs = [_PAIRS[value >> shift & 1023] for shift in _SHIFTS]
    return "".join(pairs)


def is_id(text: str) -> bool:
    """Whether ``text`` has the form of a message id; anything else never reaches a query or a path."""
    return _PATTERN.fullmatch(text) is not None
