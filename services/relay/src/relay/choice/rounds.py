"""What outlasts a round: providers that will never take one message, in its list of those that were tried. Pure."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Final

NEVER: Final = "!"  # before a provider that will never take this very message; no provider's name begins so


def for_good(tried: AbstractSet[str]) -> frozenset[str]:
    """What of ``tried`` outlasts the round: the providers that will never take this message, with their marks."""
    marks = [name for name in tried if name.startswith(NEVER)]
    return frozenset(one for mark in marks for one in (mark, mark.removeprefix(NEVER)))
