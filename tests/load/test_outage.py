"""The only provider is away for a week, and mail goes on coming in. Then it is back: who is served when?

Days pass on a clock of the test's; spool, delivery and connections are real. LOAD_WAITING says how many messages have
gathered when the provider comes back.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from relay import limits
from relay.delivery.lane import JOBS_A_HAND
from relay.model import EventKind
from support.figures import figures
from support.spooling import NOW
from support.week import DAY, World, world

WAITING = int(os.environ.get("LOAD_WAITING", "5000"))
SHARES = {"newsletter": 0.75, "shop": 0.2, "club": 0.045, "anna": 0.0045, "bert": 0.0005}  # of all mail
STEP = 600.0  # seconds: longer than any pause, and as often as the relay looks for what has grown too old
STEPS = int(7 * DAY / STEP)
IN_HAND = limits.CONNECTIONS_TO_PROVIDER * JOBS_A_HAND  # jobs that the provider's lane may have claimed at a time


def simulate(story: Callable[[], Awaitable[None]]) -> None:
    """Not in pytest's own loop: its debug mode takes ten times as long."""

    async def told() -> None:
        await story()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop, debug=False) as runner:
        runner.run(told())


def first_of(step: int, count: int) -> int:
    """The first message of ``count`` that comes at this step or later; the very first comes at the beginning."""
    return -(-count * step // STEPS)


def step_of(number: int, count: int) -> int:
    """When in the week a message comes."""
    return number * STEPS // count


async def a_week_without_provider(here: World, counts: dict[str, int]) -> None:
    """Each account's mail comes in evenly; half of the week connections are refused, then the answer is 421."""
    for step in range(STEPS):
        if step == STEPS // 2:
            await here.host.listen()
        for account, count in counts.items():
            await here.accept(account, range(first_of(step, count), first_of(step + 1, count)))
        await here.attempt_in_vain(STEP)


def places(taken: list[str]) -> dict[str, list[tuple[int, int]]]:
    """By account: the numbers of its messages, each with its place among all that the provider took."""
    found: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for place, address in enumerate(taken):
        number, _, domain = address.partition("@")
        found[domain.removesuffix(".example")].append((int(number), place))
    return found


def out_of_order(numbers: list[int]) -> int:
    """The most by which a message came before an older one of its account."""
    missing, late = set(range(len(numbers))), 0
    oldest = 0
    for number in numbers:
        late = max(late, number - oldest)
        missing.discard(number)
        while oldest < len(numbers) and oldest not in missing:
            oldest += 1
    return late


@pytest.mark.timeout(3600)
def test_after_a_week_of_outage_the_oldest_of_each_account_come_first_and_nobody_waits_for_the_newsletter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LIFETIME", 10 * DAY)
    counts = {account: round(WAITING * share) for account, share in SHARES.items()}
    total = sum(counts.values())

    async def story() -> None:
        async with world(tmp_path) as here:
            await a_week_without_provider(here, counts)
            assert not here.host.taken
            assert set(here.journal.ended) <= {EventKind.ACCEPTED, EventKind.DEFERRED}, "nothing ends before its time"
            most = STEPS + IN_HAND  # what was in hand when it began, and then one message for each pause
            assert here.journal.attempts <= most, "more messages knocked at the door"
            attempts = here.journal.attempts
            spent = time.process_time()
            for _ in range(int(DAY / STEP)):
                await here.attempt_in_vain(STEP)
            spent = time.process_time() - spent

            here.host.well = True
            here.clock.now += STEP
            began = time.perf_counter()
            here.look()
            await here.host.until(total // 4)
            await here.accept("cleo", [0])
            newcomer = len(here.host.taken)
            await here.host.until(total + 1)
            seconds = time.perf_counter() - began

        taken = here.host.taken
        assert Counter(taken).most_common(1)[0][1] == 1, "delivered more than once"
        found = places(taken)
        last = {account: found[account][-1][1] for account in counts}
        late = {account: out_of_order([number for number, _ in found[account]]) for account in counts}
        figures(
            f"outage of a week, {total:,} waiting",
            delivered=len(taken),
            lost=total + 1 - len(taken),
            attempts_in_the_week=attempts,
            cpu_of_a_day_with_all_waiting=f"{spent * 1000:,.0f} ms",
            drained_at=f"{total / seconds:,.0f}/s",
            done_after=", ".join(f"{account} ({counts[account]:,}) {last[account] + 1:,}" for account in counts),
            a_new_message_of_another_account_after=found["cleo"][0][1] - newcomer,
            out_of_order_by_at_most=max(late.values()),
        )
        assert {account: len(found[account]) for account in counts} == counts
        for (
            account,
            count,
        ) in counts.items():  # what was in hand when it began is a minute late: behind the first step's
            assert late[account] <= 2 * IN_HAND + first_of(1, count), f"{account}: newer ones before older ones: {late}"
        turns = 2 * (len(counts) + 1)  # a claim is divided by whole messages: at worst half of it goes by shares
        for account, count in counts.items():
            assert last[account] <= turns * count + IN_HAND, f"{account} had to wait for others"
        assert found["cleo"][0][1] - newcomer <= turns + 2 * IN_HAND

    simulate(story)


@pytest.mark.timeout(600)
def test_what_is_older_than_five_days_is_given_up_with_a_notice_each_and_the_rest_is_delivered(tmp_path: Path) -> None:
    counts = {"shop": 150, "anna": 14}
    total = sum(counts.values())

    async def story() -> None:
        async with world(tmp_path) as here:
            await a_week_without_provider(here, counts)
            given_up = dict(here.journal.expired)
            here.host.well = True
            here.clock.now += STEP
            here.look()
            await here.host.until(total)

        for account, count in counts.items():
            for number in range(count):
                address = f"{number}@{account}.example"
                accepted = NOW + step_of(number, count) * STEP
                if address in given_up:
                    age = given_up[address] - accepted
                    assert limits.LIFETIME < age <= limits.LIFETIME + 2 * STEP, f"{address} at {age / DAY:.2f} days"
                else:
                    assert accepted > NOW + 2 * DAY - 2 * STEP, f"{address} is older than five days and waits"
        assert given_up
        told = Counter(address for address in here.host.taken if address.endswith("@example.org"))
        assert sum(told.values()) == len(given_up)
        assert set(told) == {"shop@example.org", "anna@example.org"}
        delivered = [address for address in here.host.taken if address not in told]
        assert sorted([*delivered, *given_up]) == sorted(
            f"{n}@{one}.example" for one in counts for n in range(counts[one])
        )

    simulate(story)
