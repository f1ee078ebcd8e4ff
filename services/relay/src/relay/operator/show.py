"""How the verbs show things to people: words for spans of time, and text from strangers made harmless.

Addresses and providers' replies are written by others. Control characters, escape sequences and characters that change
the direction of writing are shown as escapes, so that none can move the cursor, colour the screen or fake a line;
rich's markup is never interpreted in them.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TextIO

from rich.console import Console
from rich.text import Text

EX_OK, EX_USAGE, EX_DATAERR, EX_UNAVAILABLE, EX_TEMPFAIL = 0, 64, 65, 69, 75  # sysexits.h

WHY_PAUSED = {"key dead": "its key was refused", "used up": "its quota is used up", "busy": "it failed or was busy"}
# The provider's 250 is not yet the mailbox: people are never told "delivered" where only that is known.
_WORDS = {"delivered": "handed over"}
_STYLES = {"delivered": "green", "held": "yellow", "refused": "red", "expired": "red", "unknown": "red"}


def console(file: TextIO = sys.stdout) -> Console:
    """A console on ``file``; colours only if it is a terminal, 80 columns if it is none."""
    return Console(file=file, highlight=False, markup=False, emoji=False, soft_wrap=False)


def safe(text: object) -> str:
    """``text`` with everything that is not printable written as an escape."""
    value = str(text)
    if value.isprintable():
        return value
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in value)


def safe_lines(text: object) -> str:
    """As :func:`safe`, line by line: for text of our own with strangers' words in it."""
    return "\n".join(map(safe, str(text).split("\n")))


def state(word: str) -> Text:
    """A state or an event, in the words for people and in its colour."""
    return Text(_WORDS.get(word, safe(word).replace("_", " ")), style=_STYLES.get(word, ""))


def span(seconds: float) -> str:
    """A span of time in one unit, as a person would say it."""
    for length, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(0, int(seconds))} s"


def moment(at: float) -> str:
    """A moment in UTC, whatever zone this machine has."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"


def minute(at: float) -> str:
    """As :func:`moment`, to the minute and with its zone."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def answer(provider: object, code: object, reply: object) -> str:
    """Who said what: the provider's own sentence."""
    said = " ".join(safe(part) for part in (code, reply) if part)
    return f"{safe(provider)}: {said}" if provider and said else said or safe(provider)
