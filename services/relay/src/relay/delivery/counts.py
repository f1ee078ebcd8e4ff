"""What is left of the providers' quotas, as delivery needs to know it between claims: about so much, a moment ago.

Exact it is only inside the spool's claim, which reserves. Here it serves to tell people what their mail waits for, and
to see whether a message that one provider did not take may go on at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from relay.choice.allowance import Allowance
from relay.choice.offer import Terms
from relay.choice.quota import since
from relay.clock import Clock

AGE = 1.0  # seconds that an answer of the spool is good for


class Usage(Protocol):
    """What is needed of the spool."""

    async def usage(self, since: float) -> Mapping[str, list[tuple[float, int]]]: ...

    async def in_hand(self) -> Mapping[str, int]: ...


class Counts:
    """Of all providers with these terms."""

    def __init__(self, terms: Sequence[Terms], spool: Usage, clock: Clock) -> None:
        self._terms = {one.name: one for one in terms}
        self._quotas = [quota for one in terms for quota in one.quotas]
        self._spool, self._clock = spool, clock
        self._looked = -AGE
        self._used: Mapping[str, list[tuple[float, int]]] = {}
        self._in_hand: Mapping[str, int] = {}
        self._made = 0.0
        self._allowance: Allowance | None = None

    async def look(self) -> None:
        """Ask the spool, unless that was done a moment ago or no provider has a quota."""
        now = self._clock.monotonic()
        if not self._quotas or 0 <= now - self._looked < AGE:
            return
        self._looked, wall = now, self._clock.time()
        first = min(since(quota, wall) for quota in self._quotas)
        self._used, self._in_hand = await self._spool.usage(first), await self._spool.in_hand()
        self._allowance = None

    def allowance(self) -> Allowance:
        """What is left by the last answer; never to be taken from.

        Shared by all who ask within a moment: it adds up a month of buckets, and thousands of deliveries may be looked
        at in one go.
        """
        now = self._clock.monotonic()
        if self._allowance is None or not 0 <= now - self._made < AGE:
            self._made = now
            self._allowance = Allowance(self._terms, self._clock.time(), self._buckets, lambda: self._in_hand)
        return self._allowance

    def _buckets(self, provider: str, first: float) -> list[tuple[float, int]]:
        return [(at, number) for at, number in self._used.get(provider, ()) if at >= first]
