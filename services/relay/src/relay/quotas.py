"""How much of each provider's quotas is used, for whoever asks; and one word in the journal at four fifths.

Recipients count. What is on its way counts as used: a claim has reserved it. The spool holds the truth
(:mod:`relay.choice.quota` says whose windows begin when); nothing is kept here but of which windows was told, so after
a restart one may be told of again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from relay.choice.offer import Terms
from relay.choice.quota import Quota, allowed, resets_at, since, used
from relay.clock import Clock

HIGH = 0.8  # the share of a quota from which it is said to be nearly used up
PERIOD = 60.0  # seconds between two looks


class Usage(Protocol):
    """What is asked of the spool. Buckets are (start, recipients)."""

    async def usage(self, since: float) -> Mapping[str, list[tuple[float, int]]]: ...
    async def in_hand(self) -> Mapping[str, int]: ...


class Journal(Protocol):
    """Where it is told."""

    def system(self, event: str, **fields: Any) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One quota of one provider, now. All but times and hours are recipients."""

    limit: int
    period: str  # day, month, rolling
    zone: str  # of day and month
    hours: int  # of rolling
    used: int
    in_hand: int  # on their way: reserved, and perhaps given back
    reserve: int  # of ``limit``, kept for accounts with priority; 0 where there are none
    since: float  # when the window began
    resets_at: float  # when there is room again, or more of it

    @property
    def taken(self) -> int:
        """What cannot be promised to anybody else."""
        return self.used + self.in_hand

    @property
    def span(self) -> str:
        """The window, as it stands after a number of recipients."""
        if self.period != "rolling":
            return f"a {self.period}"
        return f"in {self.hours} hours" if self.hours <= 24 else f"in {self.hours // 24} days"

    @property
    def share(self) -> float:
        """The part that is taken."""
        return self.taken / self.limit if self.limit else 1.0


class Quotas:
    """The quotas of all providers, by their terms. ``priority`` says whether any account has priority."""

    def __init__(
        self,
        providers: Sequence[Terms],
        spool: Usage,
        clock: Clock,
        journal: Journal,
        priority: Callable[[], bool] = lambda: False,
    ) -> None:
        self._providers = [one for one in providers if one.quotas]
        self._spool, self._clock, self._journal, self._priority = spool, clock, journal, priority
        self._told: dict[tuple[str, int], float] = {}  # provider, number of its quota -> when

    async def run(self, stop: asyncio.Event, period: float = PERIOD) -> None:
        """Looks every so many seconds until ``stop`` is set. The spool's failures leave as exceptions."""
        while not stop.is_set():
            await self.look()
            try:
                await asyncio.wait_for(stop.wait(), period)
            except TimeoutError:
                pass  # time to look again

    async def look(self) -> None:
        """Tells of every quota that has come to :data:`HIGH` in a window of which was not told yet."""
        now = self._clock.time()
        for name, uses in (await self.uses()).items():
            for number, use in enumerate(uses):
                if use.share >= HIGH and self._told.get((name, number), float("-inf")) < use.since:
                    self._told[name, number] = now
                    self._tell(name, use)

    async def uses(self) -> dict[str, list[Use]]:
        """Every quota of every provider that has one."""
        if not self._providers:
            return {}
        now, kept = self._clock.time(), self._priority()
        first = min(since(quota, now) for one in self._providers for quota in one.quotas)
        buckets, in_hand = await self._spool.usage(first), await self._spool.in_hand()

        def use(terms: Terms, quota: Quota) -> Use:
            reserve = quota.limit - allowed(quota, terms.reserve, high=not kept)
            return _use(quota, buckets.get(terms.name, []), in_hand.get(terms.name, 0), reserve, now)

        return {one.name: [use(one, quota) for quota in one.quotas] for one in self._providers}

    def _tell(self, provider: str, use: Use) -> None:
        self._journal.system(
            "quota_used",
            provider=provider,
            used=use.taken,
            limit=use.limit,
            period=use.span,
            resets_at=use.resets_at,
        )


def _use(quota: Quota, buckets: list[tuple[float, int]], in_hand: int, reserve: int, now: float) -> Use:
    return Use(
        limit=quota.limit,
        period=quota.period,
        zone=quota.zone,
        hours=quota.hours,
        used=used(quota, now, buckets),
        in_hand=in_hand,
        reserve=reserve,
        since=since(quota, now),
        resets_at=resets_at(quota, now, buckets),
    )
