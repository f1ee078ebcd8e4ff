"""Failed mail can be tried again for a week: its body is kept, and never in the way of new mail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from relay.limits import DAY, KEPT, KEPT_SHARE, LIFETIME, MIB
from relay.model import Job, Message, State
from relay.spool import SpoolError, SpoolFull
from relay.spool.space import Disk
from support import invariants
from support.spooling import NOW, Opened, a_message, eventually, offer, offering, opened, results

BODY = b"Subject: s\r\n\r\nhello\r\n"
LARGE = b"z" * 200_000


async def fail(one: Opened, *states: State, body: bytes = BODY) -> Message:
    """A message whose recipients end so."""
    to = [f"r{n}@x.example" for n in range(len(states))]
    message = await one.add(a_message(to=to, at=one.clock.now), body)
    (job,) = await one.spool.claim(offering())
    ends = [results(job, state)[n] for n, state in enumerate(states)]
    await one.spool.record(job, [end._replace(next_attempt=one.clock.now) for end in ends], [])
    return message


async def job_of(one: Opened) -> Job:
    (job,) = await one.spool.claim(offering())
    return job


async def there(one: Opened, message: Message) -> bool:
    """Whether its text can still be read."""
    try:
        return bool([data async for data in one.spool.read(message.id)])
    except SpoolError:
        return False


async def test_only_what_failed_is_sent_again_and_it_has_five_new_days(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as one:
        message = await fail(one, State.DELIVERED, State.REFUSED, State.DELIVERED)
        one.clock.now += 6 * DAY
        await one.spool.delay_noticed([entry.delivery for entry in await one.spool.failed()])
        assert await one.spool.retry(message.id) == (1, 0, None)
        assert (await one.spool.stats()).oldest == one.clock.now, "it is not old mail that is stuck"
        job = await job_of(one)
        assert [(each.address, each.attempts) for each in job.recipients] == [("r1@x.example", 0)]
        assert job.body == BODY
        await one.spool.record(job, results(job, State.DUE, at=one.clock.now), [])
        since, one.clock.now = one.clock.now, one.clock.now + LIFETIME
        assert await one.spool.delayed(since) == [], "its sender hears of a delay as of that of new mail"
        assert len(await one.spool.delayed(since + 1)) == 1
        assert await one.spool.claim_overdue(lambda: offer(0), since, 5) == []
    states = invariants.check(tmp_path / "spool")[message.id].deliveries.values()
    assert list(states) == [State.DELIVERED, State.DUE, State.DELIVERED]


async def test_of_a_message_that_is_not_done_what_waits_and_what_failed_is_tried(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as one:
        message = await fail(one, State.DUE, State.EXPIRED, State.UNKNOWN)
        assert await one.spool.retry(message.id) == (2, 1, None)
        job = await job_of(one)
        assert [each.address for each in job.recipients] == ["r0@x.example", "r1@x.example"]


async def test_what_may_have_arrived_is_sent_again_only_by_somebody_who_says_so(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as one:
        message = await fail(one, State.UNKNOWN, State.REFUSED, State.UNKNOWN)
        assert await one.spool.retry(message.id) == (1, 2, None)
        assert await one.spool.retry(message.id, anyway=True) == (3, 0, None)
        assert (await job_of(one)).tied_to == ""


async def test_who_acknowledges_a_failure_gives_its_body_up(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as one:
        message = await fail(one, State.REFUSED, State.DELIVERED)
        one.clock.now += 10
        await one.spool.acknowledge(message.id)
        assert not await there(one, message)
        assert await one.spool.retry(message.id) == (0, 0, NOW + 10)
        seen = await fail(one, State.REFUSED, State.DUE)
        await one.spool.acknowledge(seen.id)
        job = await job_of(one)
        assert [each.address for each in job.recipients] == ["r1@x.example"]
        await one.spool.record(job, results(job, State.DELIVERED), [])
        assert not await there(one, seen), "nothing of it is left to be tried"


async def test_what_is_dropped_or_delivered_leaves_no_body(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as one:
        dropped, delivered = await fail(one, State.HELD), await fail(one, State.DELIVERED)
        await one.spool.drop(dropped.id)
        for message in (dropped, delivered):
            assert not await there(one, message)
            assert await one.spool.retry(message.id) == (0, 0, None)


async def test_a_week_later_it_can_only_be_sent_again_from_the_mail_program(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as one:
        old = await fail(one, State.REFUSED)
        one.clock.now += 60
        young = await fail(one, State.REFUSED)
        one.clock.now = NOW + KEPT + 30
        await keep_house(one)
        assert (await there(one, old), await there(one, young)) == (False, True)
        assert await one.spool.retry(old.id) == (0, 0, NOW + KEPT + 30)
        assert [entry.message.id for entry in await one.spool.failed()] == [old.id, young.id], "it stays on the list"
        assert (await one.spool.retry(young.id)).changed == 1


async def test_a_second_failure_keeps_it_for_another_week(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as one:
        message = await fail(one, State.REFUSED)
        one.clock.now += KEPT - 60
        await one.spool.retry(message.id)
        job = await job_of(one)
        await one.spool.record(job, results(job, State.REFUSED), [])
        one.clock.now += KEPT - 60
        await keep_house(one)
        assert (await one.spool.retry(message.id)).changed == 1


# --- the room that they take


def small_disk(one: Opened, folder: Path, size: int) -> None:
    """A disk of ``size`` bytes, as the spool sees it: looked at whenever it is asked."""

    def look(_: Path) -> Disk:
        one.clock.now += 1.0  # what the writer counts once a second is counted
        used = sum(file.stat().st_size for file in folder.iterdir())
        return Disk(size=size, free=size - used, inodes=None)

    one.spool._space._look = look
    one.spool._space._asked = -1e9


async def fill(one: Opened) -> int:
    """Accept messages as a session does until there is no room, even after the log was cut; how many."""
    number, before = 0, -1
    while number > before:
        before = number
        while one.spool.room() > len(LARGE):
            reservation = one.spool.reserve(len(LARGE))
            await one.add(body=LARGE)
            reservation.release()
            number += 1
        await keep_house(one)
    with pytest.raises(SpoolFull):
        one.spool.reserve(len(LARGE))
    return number


async def keep_house(one: Opened) -> None:
    before = one.spool._writer._kept_house

    def kept_house() -> bool:  # the writer leaves it for the next minute when it has something to write: ask again
        one.spool._writer.housekeep()
        return one.spool._writer._kept_house != before

    await eventually(kept_house)
    await one.spool.hold(account="nobody")  # what the loop was told of it is heard by now


async def test_new_mail_finds_as_much_room_as_if_no_body_were_kept(tmp_path: Path) -> None:
    numbers = []
    for failures in (0, 8):
        folder = tmp_path / str(failures)
        async with opened(folder, message_size_limit=MIB) as one:
            small_disk(one, folder, 30 * MIB)
            failed = [await fail(one, State.REFUSED, body=LARGE) for _ in range(failures)]
            assert all([await there(one, message) for message in failed])
            numbers.append(await fill(one))
            assert not any([await there(one, message) for message in failed])
    assert numbers[0] > 50
    assert abs(numbers[0] - numbers[1]) <= 1


async def test_the_oldest_go_first_when_they_take_more_than_a_tenth_of_the_room(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    async with opened(folder, message_size_limit=MIB) as one:
        small_disk(one, folder, 30 * MIB)
        failed = [await fail(one, State.REFUSED, body=LARGE) for _ in range(40)]
        one.spool.room()
        await fail(one, State.REFUSED)  # the writer counts
        share = one.spool.room() * KEPT_SHARE
        await eventually(lambda: 0 < one.spool._space.kept <= share)
        left = [await there(one, message) for message in failed]
        assert left == sorted(left), "the oldest went"
        assert sum(left) == pytest.approx(share / len(LARGE), abs=1.5)


async def test_a_disk_that_is_full_before_we_knew_costs_bodies_of_failed_mail_first(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as one:
        failed = [await fail(one, State.REFUSED, body=LARGE) for _ in range(5)]
        pragma: Callable[..., int] = one.spool._opened.store.connection.pragma
        pragma("max_page_count", pragma("page_count"))
        kept = [await one.add(body=LARGE) for _ in range(4)]
        assert not any([await there(one, message) for message in failed])
        assert await one.spool.retry(failed[0].id) == (0, 0, NOW)
        with pytest.raises(SpoolFull):
            await one.add(body=3 * LARGE)
        assert not one.fatal
    assert {message.id for message in kept} <= set(invariants.check(tmp_path / "spool"))
