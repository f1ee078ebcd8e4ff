"""What delivery knows of quotas between claims: a moment old, and cheap to ask about thousands of deliveries."""

from __future__ import annotations

from datetime import UTC, datetime

from relay.choice.offer import Terms
from relay.choice.quota import Quota
from relay.delivery.counts import AGE, Counts

NOON = datetime(2026, 9, 21, 12, tzinfo=UTC).timestamp()


class HandClock:
    now = NOON

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


class Spool:
    def __init__(self) -> None:
        self.used, self.asked = 0, 0

    async def usage(self, since: float) -> dict[str, list[tuple[float, int]]]:
        self.asked += 1
        return {"brevo": [(NOON, self.used)]}

    async def in_hand(self) -> dict[str, int]:
        return {"brevo": 1}


async def test_what_is_left_is_a_moment_old_and_counted_once() -> None:
    spool, clock = Spool(), HandClock()
    counts = Counts([Terms("brevo", quotas=(Quota(limit=10, period="day"),))], spool, clock)
    await counts.look()
    assert counts.allowance().left("brevo", True) == 9
    assert counts.allowance() is counts.allowance()
    spool.used = 5
    await counts.look()
    assert (spool.asked, counts.allowance().left("brevo", True)) == (1, 9)
    clock.now += AGE
    await counts.look()
    assert (spool.asked, counts.allowance().left("brevo", True)) == (2, 4)


async def test_a_new_day_is_noticed_without_another_look() -> None:
    spool, clock = Spool(), HandClock()
    spool.used = 10
    counts = Counts([Terms("brevo", quotas=(Quota(limit=10, period="day"),))], spool, clock)
    await counts.look()
    assert counts.allowance().left("brevo", True) == -1
    clock.now += 12 * 3600
    assert counts.allowance().left("brevo", True) == 9
