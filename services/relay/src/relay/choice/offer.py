"""What delivery can take just now: an immutable value that it replaces whenever something changes.

The spool reads it in its own thread in the middle of a transaction; nothing in it may be changed after it was shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from relay.choice.quota import Quota
from relay.choice.routes import Routes


@dataclass(frozen=True)
class Terms:
    """What a provider takes."""

    name: str
    senders: tuple[str, ...] = ()  # addresses or ``*@domain``, folded (``relay.address.fold``); empty: any
    size_limit: int = 0  # bytes; 0: not known
    recipients: int = 0  # a message; 0: any number
    quotas: tuple[Quota, ...] = ()
    reserve: float = 0.1  # the share of each quota that is kept for accounts of high priority
    title: str = ""  # as people write it; empty: the name

    def serves(self, sender: str, domain: str) -> bool:
        """Whether it takes mail from this address of this domain (both folded)."""
        return not self.senders or sender in self.senders or f"*@{domain}" in self.senders

    def serves_some(self, domain: str) -> bool:
        """Whether it takes mail from any address of this domain."""
        return not self.senders or any(sender.rpartition("@")[2] == domain for sender in self.senders)


@dataclass(frozen=True)
class Closed:
    """Why a provider takes nothing, and until when."""

    until: float  # Unix seconds; infinite: not known
    reason: str  # one short sentence
    probed: bool = False  # one message of the sender is finding out: that takes seconds


@dataclass(frozen=True)
class Offer:
    """What all providers can take, and which a message may use."""

    terms: Mapping[str, Terms]
    routes: Routes
    rooms: Mapping[str, int]  # jobs that each may be given now; a provider that is not named has no room
    closed: Mapping[str, Closed] = field(default_factory=dict)
    closed_for: Mapping[tuple[str, str], Closed] = field(default_factory=dict)  # (provider, sender domain or address)
    rooms_for: Mapping[tuple[str, str], int] = field(default_factory=dict)  # the same; a pair that is being probed
    high: frozenset[str] = frozenset()  # accounts of high priority
    patient: frozenset[str] = frozenset()  # open providers that are waited for when all their room is taken: else the
    # mail of a busy minute would go on to the next, which may be the one that costs money

    def closing(self, provider: str, domain: str, sender: str) -> Closed | None:
        """Why the provider takes nothing from this sender, if so; ``sender`` empty: from this domain, whoever it is."""
        if provider in self.closed:
            return self.closed[provider]
        if not self.closed_for:
            return None
        return self.closed_for.get((provider, domain)) or self.closed_for.get((provider, sender))

    def room(self, provider: str, domain: str, sender: str) -> int:
        """Jobs that the provider may be given from this sender; likewise."""
        room, some = self.rooms.get(provider, 0), self.rooms_for
        return min(room, *(some.get((provider, who), room) for who in (domain, sender))) if some else room

    def is_high(self, account: str) -> bool:
        """Whether the account may use the reserve. Where none is of high priority, nothing is kept for any."""
        return not self.high or account in self.high


NOTHING = Offer({}, Routes(()), {})
