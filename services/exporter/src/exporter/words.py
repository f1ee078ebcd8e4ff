"""Numbers as people read them. Times are UTC, and say so."""

from __future__ import annotations

import math
import unicodedata
from datetime import UTC, datetime


def duration(seconds: float) -> str:
    """``90`` is "90 s", ``7200`` is "2 h": one unit, rounded down."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"


def size(number: float) -> str:
    """Bytes, in binary units."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 10 else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def stamp(time: float) -> str:
    """A Unix time to the minute."""
    try:
        return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return "at no time"


def iso(time: float) -> str:
    """A Unix time for machines, as ``<time datetime>`` wants it."""
    try:
        return datetime.fromtimestamp(math.floor(time), UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return ""


def plural(number: int, one: str, many: str = "") -> str:
    """``1 message``, ``2 messages``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def span(period: str, hours: int) -> str:
    """The window of a quota, as it stands after a number of recipients."""
    if period != "rolling":
        return f"a {period}"
    return f"in {hours} hours" if hours <= 24 else f"in {hours // 24} days"


def readable(text: str) -> str:
    """``text`` on one line, with what cannot be seen, or turns the direction of writing, as its number."""
    return text if text.isprintable() else "".join(map(_readable, text))


def _readable(char: str) -> str:
    """Control, format, surrogate and unassigned characters by their numbers."""
    if char == "\n" or char == "\t":
        return " "
    return f"\\u{ord(char):04x}" if unicodedata.category(char)[0] == "C" else char
