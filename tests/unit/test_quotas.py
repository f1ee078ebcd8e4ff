"""What is told of quotas: how much is used, when it begins anew, and one event at four fifths."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from relay.choice.offer import Terms
from relay.choice.quota import BUCKET, Quota
from relay.quotas import Quotas
from support.delivering import FakeJournal

DAY, HOUR = 86_400.0, 3_600.0
NOON = datetime(2026, 9, 21, 12, tzinfo=UTC).timestamp()
DAILY, MONTHLY = Quota(limit=100, period="day"), Quota(limit=1_000, period="month")
ROLLING = Quota(limit=10, period="rolling", hours=24)


class HandClock:
    def __init__(self) -> None:
        self.now = NOON

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


class Counted:
    """Usage by hand: (when, recipients) of one provider."""

    def __init__(self) -> None:
        self.buckets: dict[str, list[tuple[float, int]]] = {}
        self.hand: dict[str, int] = {}
        self.asked = 0
        self.asked_thrice = asyncio.Event()

    async def usage(self, since: float) -> dict[str, list[tuple[float, int]]]:
        self.asked += 1
        if self.asked == 3:
            self.asked_thrice.set()
        return {name: [one for one in found if one[0] >= since] for name, found in self.buckets.items()}

    async def in_hand(self) -> dict[str, int]:
        return self.hand

    def use(self, name: str, at: float, number: int) -> None:
        self.buckets.setdefault(name, []).append((at - at % BUCKET, number))


class House:
    def __init__(self, *terms: Terms) -> None:
        self.spool, self.clock, self.journal = Counted(), HandClock(), FakeJournal()
        self.priority = True
        self.quotas = Quotas(terms, self.spool, self.clock, self.journal, lambda: self.priority)

    async def events(self) -> int:
        await self.quotas.look()
        return len(self.journal.said)


async def test_each_quota_counts_its_own_window() -> None:
    house = House(Terms("brevo", quotas=(DAILY, MONTHLY), reserve=0.1), Terms("ses"))
    house.spool.use("brevo", NOON - 13 * HOUR, 70)  # yesterday
    house.spool.use("brevo", NOON - HOUR, 30)
    house.spool.hand["brevo"] = 5
    uses = await house.quotas.uses()
    assert set(uses) == {"brevo"}
    day, month = uses["brevo"]
    assert (day.used, day.in_hand, day.taken, day.share, day.reserve) == (30, 5, 35, 0.35, 10)
    house.priority = False  # nothing is kept for nobody
    assert (await house.quotas.uses())["brevo"][0].reserve == 0
    assert (day.since, day.resets_at) == (NOON - 12 * HOUR, NOON + 12 * HOUR)
    assert (month.used, month.taken) == (100, 105)
    assert month.resets_at == datetime(2026, 10, 1, tzinfo=UTC).timestamp()


async def test_four_fifths_are_told_once_a_window() -> None:
    house = House(Terms("brevo", quotas=(DAILY,)))
    house.spool.use("brevo", NOON, 79)
    assert await house.events() == 0
    house.spool.hand["brevo"] = 1  # on its way counts
    assert await house.events() == 1
    assert house.journal.said[0] == (
        "quota_used",
        {
            "provider": "brevo",
            "used": 80,
            "limit": 100,
            "period": "a day",
            "resets_at": NOON + 12 * HOUR,
        },
    )
    house.spool.use("brevo", NOON, 20)
    assert await house.events() == 1
    house.clock.now += DAY  # a new day, nothing used yet but what is on its way
    assert await house.events() == 1
    house.spool.use("brevo", house.clock.now, 80)
    assert await house.events() == 2


async def test_a_rolling_window_is_told_of_again_when_all_of_it_has_passed() -> None:
    house = House(Terms("ses", quotas=(ROLLING,)))
    house.spool.use("ses", NOON, 9)
    assert await house.events() == 1
    assert house.journal.said[0][1]["period"] == "in 24 hours"
    house.clock.now += 23 * HOUR
    house.spool.use("ses", house.clock.now, 9)  # what was used at noon still counts
    assert await house.events() == 1
    house.clock.now += 2 * HOUR
    assert await house.events() == 2


async def test_two_quotas_are_told_of_apart() -> None:
    house = House(Terms("brevo", quotas=(DAILY, Quota(limit=120, period="month"))))
    house.spool.use("brevo", NOON, 80)
    assert await house.events() == 1
    house.spool.use("brevo", NOON, 16)
    assert await house.events() == 2
    assert [fields["period"] for _, fields in house.journal.said] == ["a day", "a month"]


async def test_it_looks_by_itself_until_it_is_told_to_stop() -> None:
    house, stop = House(Terms("brevo", quotas=(DAILY,))), asyncio.Event()
    running = asyncio.ensure_future(house.quotas.run(stop, period=0.001))
    await house.spool.asked_thrice.wait()
    stop.set()
    await running


async def test_without_a_quota_nobody_is_asked() -> None:
    house, stop = House(Terms("sendgrid")), asyncio.Event()
    running = asyncio.ensure_future(house.quotas.run(stop))
    assert await house.quotas.uses() == {}
    assert house.spool.asked == 0
    assert not running.done()  # a part of the relay that ends ends the relay
    stop.set()
    await running
