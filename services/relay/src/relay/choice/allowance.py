"""What is left of the providers' quotas at one moment, with what has been taken since.

What counts is what was used in the window and what is in hand: claimed, so that it may be used. Both are asked of the
spool, once and only for providers that have a quota.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from relay.choice import quota
from relay.choice.offer import Terms
from relay.choice.quota import Quota

Buckets = Sequence[tuple[float, int]]
ANY: Final = 1 << 30  # left of a provider that has no quota
SOON: Final = 60.0  # seconds; what is in hand ends by then mostly, and may give back what it had reserved


class Allowance:
    """Answers :func:`relay.choice.choose.choose`; make one for each claim."""

    def __init__(
        self,
        terms: Mapping[str, Terms],
        now: float,
        used: Callable[[str, float], Buckets],
        in_hand: Callable[[], Mapping[str, int]],
    ) -> None:
        """``used`` gives a provider's buckets since a moment, ``in_hand`` the recipients that each has in hand."""
        self._terms, self._now, self._used, self._in_hand = terms, now, used, in_hand
        self._hand: Mapping[str, int] | None = None
        self._found: dict[tuple[str, bool], tuple[int, float]] = {}  # (left, resets at) before anything was taken
        self._taken: dict[str, int] = {}
        self.reserved = False  # whether a quota was found used up of which a part is only in hand

    def left(self, provider: str, high: bool) -> int:
        """Recipients that the provider's quotas still allow."""
        return self._look(provider, high)[0] - self._taken.get(provider, 0)

    def resets(self, provider: str, high: bool) -> float:
        """When they allow one more, supposing that they allow none now."""
        until = self._look(provider, high)[1]
        if until == -math.inf:  # they did until something was taken just now
            until = self._now + SOON
        self.reserved = self.reserved or until <= self._now + SOON
        return until

    def take(self, provider: str, recipients: int) -> None:
        """Reserve so many."""
        self._taken[provider] = self._taken.get(provider, 0) + recipients

    def _look(self, provider: str, high: bool) -> tuple[int, float]:
        found = self._found.get((provider, high))
        if found is None:
            found = self._found[provider, high] = self._count(provider, high)
        return found

    def _count(self, provider: str, high: bool) -> tuple[int, float]:
        terms = self._terms.get(provider)
        if terms is None or not terms.quotas:
            return ANY, math.inf
        if self._hand is None:
            self._hand = self._in_hand()
        in_hand = self._hand.get(provider, 0)
        left, until = ANY, -math.inf
        for one in terms.quotas:
            limit = quota.allowed(one, terms.reserve, high)
            buckets = self._used(provider, quota.since(one, self._now))
            used = quota.used(one, self._now, buckets)
            left = min(left, limit - used - in_hand)
            if used >= limit:
                until = max(until, _resets_at(one, limit, self._now, buckets))
            elif used + in_hand >= limit:
                until = max(until, self._now + SOON)
        return left, until


def _resets_at(one: Quota, limit: int, now: float, buckets: Buckets) -> float:
    """A quota that nothing may use never resets: its limit, or what the reserve leaves of it, is nothing."""
    return quota.resets_at(replace(one, limit=limit), now, buckets) if limit > 0 else math.inf
