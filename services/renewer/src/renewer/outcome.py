"""What one attempt to get a certificate came to: values, consumed by the loop, never exceptions.

Every outcome says when the next attempt is due (Unix seconds), for only its maker knows: a minute for files, half a day
for certbot, hours after a failure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .pair import Pair


@dataclass(frozen=True, slots=True)
class Offered:
    """A pair that is to be published, verified already."""

    pair: Pair
    next_attempt: float
    authority: bool = False  # clients are to trust the last certificate of its chain


@dataclass(frozen=True, slots=True)
class Kept:
    """What is published is still right."""

    next_attempt: float


@dataclass(frozen=True, slots=True)
class Failed:
    """Nothing new; what is published stays in force. ``sentence`` says what a person has to change."""

    sentence: str
    next_attempt: float


Outcome = Offered | Kept | Failed


class Source(Protocol):
    """One of the modes of OWNPOST_TLS."""

    async def attempt(self, current: Pair | None) -> Outcome:
        """Look, and get a pair if ``current`` (what is published) is not good any more."""
        ...
