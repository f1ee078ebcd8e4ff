"""The spool as submission and delivery use it: waiting, cancelling, groups, large bodies, operators' verbs."""

from __future__ import annotations

import asyncio
import math
import threading
from pathlib import Path
from typing import Any

import pytest

from relay import limits
from relay.model import Event, EventKind, Kind, State
from relay.spool import SpoolError, SpoolFailed, SpoolFull, Upload
from relay.spool.changes import Change
from relay.spool.writer import Group
from support import invariants
from support.spooling import BODY, NOW, SetClock, a_message, accepted, eventually, ids, offering, opened, results


async def test_a_message_is_claimed_marked_and_recorded(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as one:
        waiting = asyncio.create_task(one.spool.claim(offering(5)))
        message = await one.add()
        (job,) = await waiting
        assert job.message.id == message.id
        assert job.body == BODY
        await one.spool.mark(ids(job), "sink")
        done = Event(kind=EventKind.DELIVERED, at=NOW, message=message.id, detail={"seconds": 0.5})
        await one.spool.record(job, results(job, State.DELIVERED), [done])
        assert one.events == [accepted(message), done]
        (trace,) = await one.spool.trace(message_id=message.id)
        assert trace.events == (accepted(message), done)
        assert trace.message.recipients == message.recipients
        assert [entry.state for entry in trace.deliveries] == [State.DELIVERED]
        with pytest.raises(SpoolError):
            await anext(one.spool.read(message.id))


async def test_messages_that_come_at_once_share_a_commit(tmp_path: Path) -> None:
    """How many do is up to the disk: where a commit takes no time, few gather meanwhile. So it may take some tries."""
    async with opened(tmp_path / "spool") as one:
        for _ in range(50):
            one.groups.clear()
            await asyncio.gather(*(one.add() for _ in range(40)))
            assert sum(one.groups) == 40
            if len(one.groups) < 20 and max(one.groups) > 4:
                return
        pytest.fail(f"each of 40 messages had a commit almost to itself, fifty times: {one.groups}")


async def test_a_claim_waits_for_what_becomes_due_and_is_woken_by_its_clock(tmp_path: Path) -> None:
    clock = SetClock()
    async with opened(tmp_path / "spool", clock) as one:
        await one.add()
        (job,) = await one.spool.claim(offering(1))
        await one.spool.record(job, results(job, State.DUE, at=NOW + 0.05), [])
        waiting = asyncio.create_task(one.spool.claim(offering(1)))
        await one.spool.mark([])
        assert not waiting.done()
        clock.now = NOW + 0.05
        (again,) = await asyncio.wait_for(waiting, 10)
        assert again.recipients[0].attempts == 1


async def test_a_clock_that_was_set_is_seen_when_poked(tmp_path: Path) -> None:
    clock = SetClock()
    async with opened(tmp_path / "spool", clock) as one:
        await one.add()
        (job,) = await one.spool.claim(offering(1))
        await one.spool.record(job, results(job, State.DUE, at=NOW + 3600), [])
        waiting = asyncio.create_task(one.spool.claim(offering(1)))
        await one.spool.mark([])
        clock.now = NOW + 3600
        one.spool.poke()
        assert len(await asyncio.wait_for(waiting, 10)) == 1


async def test_several_claims_wait_in_line(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as one:
        waiting = [asyncio.create_task(one.spool.claim(offering(1))) for _ in range(3)]
        await asyncio.sleep(0)
        sent = await asyncio.gather(*(one.add() for _ in range(3)))
        got = [(await asyncio.wait_for(task, 10))[0].message.id for task in waiting]
        assert sorted(got) == sorted(message.id for message in sent)


async def test_a_claim_that_is_given_up_gives_back_what_it_got(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as one:
        given_up = asyncio.create_task(one.spool.claim(offering(1)))
        await asyncio.sleep(0)
        adding = asyncio.create_task(one.add())
        while not one.events:
            given_up.cancel()  # before, during or after the commit that serves it
            await asyncio.sleep(0)
        message = await adding
        (job,) = await asyncio.wait_for(one.spool.claim(offering(1)), 10)
        assert job.message.id == message.id


async def test_a_claim_given_up_in_the_moment_it_is_served_gives_back_what_it_got(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path / "spool") as one:
        given_up = asyncio.create_task(one.spool.claim(offering(1)))
        await asyncio.sleep(0)
        hand_out = one.spool._hand_out

        def and_cancel(group: Group) -> None:
            hand_out(group)
            given_up.cancel()

        monkeypatch.setattr(one.spool, "_hand_out", and_cancel)
        message = await one.add()
        (job,) = await asyncio.wait_for(one.spool.claim(offering(1)), 10)
        assert job.message.id == message.id
        assert given_up.cancelled()


@pytest.mark.parametrize("size", [10, limits.CHUNK + 10])
async def test_a_caller_cancelled_in_mid_commit_leaves_all_or_nothing(tmp_path: Path, size: int) -> None:
    body = b"x" * size
    async with opened(tmp_path / "spool") as one:
        sent, uploads = [], list[Upload]()
        for turns in [*range(12), None]:
            message = a_message()
            sent.append(message)
            uploads.clear()

            async def submit(message: Any = message) -> None:
                upload = one.spool.upload(message.id)
                uploads.append(upload)
                try:
                    for at in range(0, size - limits.CHUNK, limits.CHUNK):
                        await upload.write(body[at : at + limits.CHUNK])
                    await upload.commit(message, body[-(size % limits.CHUNK) :], [accepted(message)])
                finally:
                    upload.abort()

            task = asyncio.create_task(submit())
            while turns is None and not (uploads and uploads[0]._ended):  # noqa: ASYNC110 - ended: it is in mid-commit
                await asyncio.sleep(0)
            for _ in range(turns or 0):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        await one.add()
    kept = invariants.check(tmp_path / "spool")
    for message in sent:
        assert message.id not in kept or kept[message.id].body == body
    assert sent[-1].id in kept, "cancelling undid what was being committed"


async def test_a_large_body_comes_back_as_it_was(tmp_path: Path) -> None:
    body = bytes(range(256)) * 5000
    async with opened(tmp_path / "spool") as one:
        message = a_message()
        upload = one.spool.upload(message.id)
        for at in range(0, len(body), limits.CHUNK):
            await upload.write(body[at : at + limits.CHUNK])
        await upload.commit(message, b"end", [])
        (job,) = await one.spool.claim(offering(1))
        assert job.body is None
        assert job.message.size == len(body) + 3
        assert b"".join([data async for data in one.spool.read(message.id)]) == body + b"end"


async def test_an_upload_given_up_leaves_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as one:
        upload = one.spool.upload(a_message().id)
        for _ in range(5):
            await upload.write(b"x" * limits.CHUNK)
        upload.abort()
        upload.abort()
        with pytest.raises(ValueError, match="ended"):
            await upload.write(b"x")
        await eventually(lambda: not upload._flying)
        await one.add()
    folder = tmp_path / "spool"
    assert len(invariants.check(folder)) == 1
    async with opened(folder) as one:
        assert one.events == [], "there was something to clean away"


async def test_chunks_have_a_size_and_messages_recipients(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as one:
        upload = one.spool.upload("")
        with pytest.raises(ValueError, match="at most"):
            await upload.write(b"x" * (limits.CHUNK + 1))
        for count in (0, limits.RECIPIENTS_MAX + 1):
            message = a_message(to=["x@y.example"] * count)
            with pytest.raises(ValueError, match="recipients"):
                await one.spool.upload(message.id).commit(message, b"x", [])
        await one.add(a_message(to=["x@y.example"] * limits.RECIPIENTS_MAX))


async def test_text_that_cannot_be_stored_costs_only_its_own_message(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as one:
        bad = a_message(to=["\udcff@x.example"])
        answers = await asyncio.gather(one.add(bad), one.add(), return_exceptions=True)
        assert isinstance(answers[0], ValueError)
        assert not isinstance(answers[1], BaseException)
        (job,) = await one.spool.claim(offering(1))
        (result,) = results(job, State.DELIVERED)
        odd = Event(kind=EventKind.DELIVERED, at=NOW, message=job.message.id, reply="caf\udce9 " * 400)
        await one.spool.record(job, [result], [odd])
        (trace,) = await one.spool.trace(message_id=job.message.id)
        assert trace.events[-1].reply.startswith("caf\\udce9")
        assert len(trace.events[-1].reply) == limits.REPLY_KEPT
        assert not one.fatal


async def test_a_message_id_given_twice_is_that_callers_error_alone(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as one:
        message = a_message()
        answers = await asyncio.gather(one.add(message), one.add(message), one.add(), return_exceptions=True)
        assert [isinstance(answer, Exception) for answer in answers] == [False, True, False]
        assert not one.fatal


async def test_the_header_is_read_however_it_is_cut(tmp_path: Path) -> None:
    header = b"Subject: s\r\n" + b"X-Long: " + b"y" * (limits.CHUNK - 20 - 1) + b"\r\n\r\n"
    async with opened(tmp_path / "spool") as one:
        for head in (b"A: b\r\n\r\n", header):
            message = await one.add(body=head + b"body\r\n\r\nmore" * 1000)
            assert await one.spool.header(message.id) == head
        message = await one.add(body=b"no blank line")
        assert await one.spool.header(message.id) == b"no blank line"
        with pytest.raises(SpoolError):
            await one.spool.header(a_message().id)


async def test_room_that_was_announced_is_kept_until_released(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as one:
        room = one.spool.room()
        first = one.spool.reserve(room - 100)
        with pytest.raises(SpoolFull):
            one.spool.reserve(100)
        small = one.spool.reserve(99)
        small.release()
        first.release()
        first.release()
        assert one.spool.room() == room


async def test_memory_is_bounded_by_making_uploads_wait(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as one:
        most = 0
        budget = one.spool._budget

        async def send() -> None:
            nonlocal most
            upload = one.spool.upload("")
            for _ in range(8):
                await upload.write(b"x" * limits.CHUNK)
                most = max(most, limits.UPLOADS_IN_FLIGHT - budget._free)
            upload.abort()

        await asyncio.gather(*(send() for _ in range(60)))
        assert limits.CHUNK * 20 < most <= limits.UPLOADS_IN_FLIGHT
        await eventually(lambda: budget._free == limits.UPLOADS_IN_FLIGHT)


async def test_operators_hold_release_retry_drop_and_acknowledge(tmp_path: Path) -> None:
    clock = SetClock()
    async with opened(tmp_path / "spool", clock) as one:
        first = await one.add(a_message("anna", ["a@x.example", "b@x.example"]))
        second = await one.add(a_message("bert"))
        assert await one.spool.hold(first.id) == 2
        assert await one.spool.hold(account="bert") == 1
        assert await one.spool.hold(account="nobody") == 0
        clock.now += 100
        assert await one.spool.unhold(account="anna") == 2
        (job,) = await one.spool.claim(offering(5))
        assert [(each.held, each.address) for each in job.recipients] == [(100, "a@x.example"), (100, "b@x.example")]
        await one.spool.record(job, results(job, State.DUE, at=clock.now + 900, doubts=1), [])
        assert (await one.spool.retry(first.id)).changed == 2
        (job,) = await one.spool.claim(offering(5))
        assert (job.tied_to, job.recipients[0].doubts) == ("", 0)
        assert await one.spool.drop(first.id) == 0, "what delivery has in hand is left to it"
        await one.spool.record(job, results(job, State.REFUSED), [])
        assert await one.spool.drop(second.id) == 1
        assert [entry.recipient for entry in await one.spool.queue()] == ["a@x.example", "b@x.example"]
        assert await one.spool.acknowledge(first.id) == 2
        assert await one.spool.queue() == []
        kinds = [event.kind for event in one.events if event.kind is not EventKind.ACCEPTED]
        assert kinds == [
            *[EventKind.HELD] * 3,
            *[EventKind.RELEASED] * 2,
            *[EventKind.RETRIED] * 2,
            EventKind.DROPPED,
            *[EventKind.ACKNOWLEDGED] * 2,
        ]
        with pytest.raises(ValueError, match="either"):
            await one.spool.hold()


async def test_a_doubt_that_was_put_aside_goes_on_to_another_provider_when_it_is_retried(tmp_path: Path) -> None:
    clock = SetClock()
    async with opened(tmp_path / "spool", clock) as one:
        message = await one.add()
        (job,) = await one.spool.claim(offering(1))
        await one.spool.mark(ids(job), "former")
        await one.spool.record(job, results(job, State.HELD, provider="former", doubts=1), [])
        clock.now += 50
        assert await one.spool.unhold(message.id) == 1
        (job,) = await one.spool.claim(offering(1))
        assert job.tied_to == "former", "released, it is as it was"
        await one.spool.record(job, results(job, State.HELD, provider="former"), [])
        clock.now += 100
        assert (await one.spool.retry(message.id)).changed == 1
        (job,) = await one.spool.claim(offering(1))
        assert (job.tied_to, job.recipients[0].held) == ("", 150)


async def test_mail_that_waits_for_a_time_in_a_future_that_was_none_is_tried(tmp_path: Path) -> None:
    """The machine's clock ran a year ahead when the provider deferred; then it was set right."""
    clock = SetClock()
    year = 365 * limits.DAY
    async with opened(tmp_path / "spool", clock) as one:
        clock.now = NOW + year
        await one.add(a_message("bert", at=clock.now))
        (job,) = await one.spool.claim(offering(1))
        await one.spool.record(job, results(job, State.DUE, at=clock.now + 60), [])
        clock.now = NOW
        due = await one.add()
        (job,) = await one.spool.claim(offering(1))
        await one.spool.record(job, results(job, State.DUE, at=NOW + 2 * limits.HOUR), [])
        clock.now = NOW + 1
        claim = asyncio.create_task(one.spool.claim(offering(5)))

        def kept_house() -> bool:  # the writer leaves it for the next minute when it has a claim to try: ask again
            one.spool._writer.housekeep()
            return one.spool._next_due == NOW + 61

        await eventually(kept_house)
        clock.now += 60
        one.spool.poke()
        (job,) = await claim
        assert job.message.account == "bert"
        assert (await one.spool.trace(message_id=due.id))[0].deliveries[0].next_attempt == NOW + 2 * limits.HOUR
        await one.spool.record(job, results(job, State.DUE, at=NOW + year), [])  # changed just now: as it was said
    clock.now = NOW - year
    async with opened(tmp_path / "spool", clock) as one:  # and so at a start
        assert min(entry.next_attempt for entry in await one.spool.queue()) < NOW - year + 3 * limits.HOUR


async def test_housekeeping_is_not_put_off_for_ever_by_a_busy_spool(tmp_path: Path) -> None:
    clock, go_on = SetClock(), threading.Event()
    async with opened(tmp_path / "spool", clock, history=10.0) as one:
        old = await one.add()
        (job,) = await one.spool.claim(offering(1))
        await one.spool.record(job, results(job, State.DELIVERED), [])
        clock.now += 11
        one.spool._writer._kept_house = -math.inf
        stuck = one.spool._submit(Change(work=lambda _: go_on.wait(20)))
        one.spool._housekeep()
        adding = asyncio.ensure_future(one.add())
        await asyncio.sleep(0)
        go_on.set()
        await stuck
        await adding
        await eventually(lambda: one.spool._writer._kept_house > 0)
        assert await one.spool.trace(message_id=old.id) == []


async def test_dropping_deletes_the_body(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as one:
        message = await one.add()
        assert await one.spool.drop(message.id) == 1
    assert invariants.check(tmp_path / "spool")[message.id].body is None


async def test_the_queue_shows_what_waits_oldest_first(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as one:
        sent = [await one.add(a_message(at=NOW - age)) for age in (10, 30, 20)]
        (job,) = await one.spool.claim(offering(1))
        await one.spool.record(job, results(job, State.DUE, at=NOW + 60), [])
        queue = await one.spool.queue()
        assert [entry.message.id for entry in queue] == [sent[1].id, sent[2].id, sent[0].id]
        assert (queue[0].reply, queue[0].provider, queue[0].attempts, queue[0].next_attempt) == (
            "so it was",
            "sink",
            1,
            NOW + 60,
        )
        assert len(await one.spool.queue(2)) == 2


async def test_traces_by_recipient_are_newest_first_and_do_not_mind_case(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as one:
        sent = [await one.add(a_message(to=["Who@X.example", f"r{n}@x.example"])) for n in range(3)]
        found = await one.spool.trace(recipient="who@x.example", limit=2)
        assert [trace.message.id for trace in found] == [sent[2].id, sent[1].id]
        assert await one.spool.trace(message_id="0" * 26) == []


async def test_what_was_put_aside_in_doubt_is_late_too(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as one:
        doubtful = await one.add(a_message(at=NOW - 100))
        (job,) = await one.spool.claim(offering(1))
        await one.spool.record(job, results(job, State.HELD, doubts=1), [])
        assert [entry.message.id for entry in await one.spool.delayed(NOW - 50)] == [doubtful.id]


async def test_delays_are_told_once(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as one:
        late = await one.add(a_message(at=NOW - 100))
        await one.add(a_message(at=NOW - 1))
        await one.add(a_message(at=NOW - 100, kind=Kind.NOTICE))
        held = await one.add(a_message(at=NOW - 100))
        await one.spool.hold(held.id)
        (entry,) = await one.spool.delayed(NOW - 50)
        assert entry.message.id == late.id
        notice = a_message(kind=Kind.NOTICE)
        told = Event(kind=EventKind.DELAY_NOTICE_QUEUED, at=NOW, message=notice.id)
        about = Event(kind=EventKind.DELAY_NOTICE_QUEUED, at=NOW, message=late.id)
        await one.spool.delay_noticed([entry.delivery], (notice, b"late", [told]), [about])
        assert await one.spool.delayed(NOW - 50) == []
        (trace,) = await one.spool.trace(message_id=notice.id)
        assert trace.events == (told,)
        (trace,) = await one.spool.trace(message_id=late.id)
        assert trace.events[-1] == about
        assert one.events[-2:] == [about, told]


async def test_what_an_account_used_is_counted_from_then_on(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as one:
        for age, to in ((90_000, ["a@x.example"]), (3_000, ["a@x.example", "b@x.example"]), (10, ["c@x.example"])):
            await one.add(a_message("anna", to, NOW - age))
        await one.add(a_message("bert", at=NOW - 5))
        await one.add(a_message("anna", at=NOW - 5, kind=Kind.NOTICE))
        assert await one.spool.used("anna", NOW - 86_400) == [(NOW - 3_000, 2), (NOW - 10, 1)]
        assert await one.spool.used("nobody", NOW - 86_400) == []


async def test_what_came_through_one_listener_is_counted_apart(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as one:
        for age, listener in ((30, "lan"), (20, "submission"), (10, "lan")):
            message = a_message("anna", at=NOW - age)
            event = Event(kind=EventKind.ACCEPTED, at=NOW - age, message=message.id, detail={"listener": listener})
            await one.spool.upload(message.id).commit(message, b"x", [event])
        assert [at for at, _ in await one.spool.used("anna", NOW - 86_400, "lan")] == [NOW - 30, NOW - 10]


async def test_stats_count_what_is_open_and_what_failed(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as one:
        for age in (5, 3, 2, 1):
            await one.add(a_message(at=NOW - age))
        jobs = await one.spool.claim(offering(3))
        await one.spool.mark(ids(jobs[0]), "sink")
        await one.spool.record(jobs[1], results(jobs[1], State.REFUSED), [])
        stats = await one.spool.stats()
        assert {state: n for state, n in stats.deliveries.items() if n} == {
            State.DUE: 1,
            State.CLAIMED: 1,
            State.SENDING: 1,
            State.REFUSED: 1,
        }
        assert (stats.messages, stats.bytes, stats.oldest) == (3, 3 * len(BODY), NOW - 5)
        assert stats.room == one.spool.room()
        assert stats.wal_bytes > 0


async def test_after_closing_everything_is_refused_and_the_log_is_empty(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as one:
        await one.add()
        waiting = asyncio.create_task(one.spool.claim(offering(1)))
        await waiting
        waiting = asyncio.create_task(one.spool.claim(offering(1)))
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    with pytest.raises(SpoolFailed):
        await one.spool.mark([1])
    with pytest.raises(SpoolFailed):
        await one.spool.claim(offering(1))
    log = tmp_path / "spool" / "spool.db-wal"
    assert not log.exists() or log.stat().st_size == 0


async def test_housekeeping_forgets_the_old_and_shortens_the_log(tmp_path: Path) -> None:
    clock = SetClock()
    async with opened(tmp_path / "spool", clock, history=1000.0) as one:
        old = await one.add()
        (job,) = await one.spool.claim(offering(1))
        await one.spool.record(job, results(job, State.DELIVERED), [])
        clock.now += 2000
        one.spool._housekeep()
        log = tmp_path / "spool" / "spool.db-wal"
        await eventually(lambda: log.stat().st_size == 0)
        assert await one.spool.trace(message_id=old.id) == []
