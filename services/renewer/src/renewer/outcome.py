"""What one attempt to get a certificate came to: values, consumed by the loop, never exceptions.

Every outcome says when the next attempt is due (Unix seconds), for only its maker knows: a minute for files, half a day
for certbot, hours after a failure.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from .pair import Pair


class Kind(StrEnum):
    """What stood in the way: the label of a metric, so there are few and they are all here."""

    PAIR = "pair"  # key and certificate may not be published together
    FILE = "file"  # the operator's files cannot be read
    DISK = "disk"  # certs/ or the volume `acme` cannot be written
    TOKEN = "token"  # noqa: S105 -- Cloudflare refuses the token, or it lacks a permission
    ZONE = "zone"  # the token's account does not have the domain
    CLOUDFLARE = "cloudflare"  # its API fails or wants us to slow down
    NETWORK = "network"  # Cloudflare or the authority cannot be reached
    VALIDATION = "validation"  # the authority looked for the challenge and did not find it
    RATE_LIMIT = "rate_limit"  # the authority's
    AUTHORITY = "authority"  # it refused the order for another reason
    TIMEOUT = "timeout"  # certbot came to no end
    CERTBOT = "certbot"  # certbot failed in a way that we do not know


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

    kind: Kind
    sentence: str
    next_attempt: float


Outcome = Offered | Kept | Failed


class Source(Protocol):
    """One of the modes of OWNPOST_TLS."""

    async def attempt(self, current: Pair | None) -> Outcome:
        """Look, and get a pair if ``current`` (what is published) is not good any more."""
        ...
