"""Marks in a message's list of providers that were tried: what outlasts a round. Pure."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Final

NEVER: Final = "!"  # before a provider that will never take this very message; no provider's name begins so
LAST: Final = "~"  # before the one whose refusal this notice tells of: in each round it comes behind all others


def for_good(tried: AbstractSet[str]) -> frozenset[str]:
    """What of ``tried`` outlasts the round: all marks, and the providers that will never take this message."""
    marks = frozenset(name for name in tried if name.startswith((NEVER, LAST)))
    return marks | {mark.removeprefix(NEVER) for mark in marks if mark.startswith(NEVER)}


def spared(provider: str) -> frozenset[str]:
    """What a notice begins with that tells of a refusal by ``provider``: its first round is for the others only."""
    return frozenset((provider, LAST + provider)) if provider else frozenset()
