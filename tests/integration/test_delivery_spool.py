"""Delivery out of the real spool: outcomes that stay, crashes between the dot and the answer, notices, delays."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from relay import limits
from relay.delivery.digest import Digests
from relay.delivery.dispatcher import Dispatcher
from relay.model import EventKind, Kind, State
from support.delivering import BODY, SHORT, FakeJournal, Outlook, pausing, provider_for
from support.scripted_provider import HANG, ScriptedProvider
from support.spooling import Opened, SetClock, a_message, eventually, opened


@contextlib.asynccontextmanager
async def delivering(box: Opened, peer: ScriptedProvider, drain: float = 5.0, **more: Any) -> AsyncIterator[None]:
    """A dispatcher on the real spool; ``drain=0`` is a crash as far as the spool can tell."""
    dispatcher = Dispatcher(
        [provider_for(peer, **more)],
        spool=box.spool,
        journal=FakeJournal(),
        clock=box.clock,
        hostname="mail.example.org",
        postmaster="postmaster@example.org",
        stuck=box.spool.recovered_unknown,
        jitter=lambda: 0.5,
        times=SHORT,
        breaker=pausing(0.01, 0.02),
    )
    stop = asyncio.Event()
    running = asyncio.ensure_future(dispatcher.run(stop))
    try:
        yield
    finally:
        stop.set()
        await running
        await dispatcher.drain(drain)


async def states(box: Opened, message_id: str) -> list[State]:
    (story,) = await box.spool.trace(message_id=message_id)
    return [delivery.state for delivery in story.deliveries]


def later(box: Opened, seconds: float) -> None:
    box.clock.now += seconds
    box.spool.poke()


async def test_small_and_large_messages_leave_whole_and_their_outcomes_stay(tmp_path: Path) -> None:
    bodies = {f"m{n}": BODY + b"%d\r\n" % n for n in range(200)}
    bodies["large"] = BODY + b".a long line with a dot\r\n" * 60_000
    async with ScriptedProvider() as peer, opened(tmp_path) as box:
        sent = {name: await box.add(a_message(account=name), body) for name, body in bodies.items()}
        async with delivering(box, peer, connections=4):
            await eventually(lambda: len(peer.kept) == len(bodies))
            await eventually(lambda: sum(event.kind is EventKind.DELIVERED for event in box.events) == len(bodies))
        assert sorted(got.content for got in peer.kept) == sorted(bodies.values())
        assert await box.spool.queue() == []
        assert (await box.spool.stats()).messages == 0
        for message in sent.values():
            assert await states(box, message.id) == [State.DELIVERED]


async def test_each_recipient_keeps_its_own_fate_over_a_restart(tmp_path: Path) -> None:
    clock = SetClock()
    async with ScriptedProvider() as peer:
        peer.rcpt = {"b@example.net": "550 5.1.1 unknown", "c@example.net": "450 4.2.0 later"}
        async with opened(tmp_path, clock) as box:
            message = await box.add(a_message(to=["a@example.net", "b@example.net", "c@example.net"]), BODY)
            async with delivering(box, peer):
                await eventually(lambda: len(peer.kept) == 2)  # the message, and the notice
        peer.rcpt = {}
        async with opened(tmp_path, clock) as box:
            assert await states(box, message.id) == [State.DELIVERED, State.REFUSED, State.DUE]
            async with delivering(box, peer):
                later(box, 60)
                await eventually(lambda: len(peer.kept) == 3)
            assert await states(box, message.id) == [State.DELIVERED, State.REFUSED, State.DELIVERED]
        notice = peer.kept[1]
        assert notice.recipients == ["anna@example.org"]
        assert b"550 5.1.1 unknown" in notice.content
        assert message.id.encode() in notice.content
        assert [got.recipients for got in peer.kept[::2]] == [["a@example.net"], ["c@example.net"]]


async def crash_after_the_dot(folder: Path, clock: SetClock, peer: ScriptedProvider) -> None:
    """The process dies while the answer to the final dot is awaited: nothing of it is recorded."""
    peer.once("final", HANG)
    before = len(peer.messages)
    async with opened(folder, clock) as box:
        box.spool.record = lambda *_: asyncio.sleep(0)  # type: ignore[method-assign, assignment]
        async with delivering(box, peer, drain=0):
            later(box, limits.DOUBT_WAIT)  # since the start that found it in doubt
            await eventually(lambda: len(peer.messages) == before + 1)


async def test_a_crash_after_the_dot_is_a_doubt_and_the_third_ends_it(tmp_path: Path) -> None:
    clock = SetClock()
    async with ScriptedProvider() as peer:
        async with opened(tmp_path, clock) as box:
            message = await box.add(a_message(at=clock.now), BODY)
        for _ in range(3):
            await crash_after_the_dot(tmp_path, clock, peer)
        async with opened(tmp_path, clock) as box, delivering(box, peer):
            await eventually(lambda: len(peer.messages) == 4)  # three times the message, then the notice
            await eventually(lambda: any(event.kind is EventKind.UNKNOWN for event in box.events))
        assert [got.content for got in peer.messages[:3]] == [BODY] * 3
        assert b"may have been delivered" in peer.messages[3].content
        async with opened(tmp_path, clock) as box:
            assert await states(box, message.id) == [State.UNKNOWN]


async def test_a_crash_before_the_dot_costs_nothing(tmp_path: Path) -> None:
    clock = SetClock()
    async with ScriptedProvider() as peer:
        peer.once("data", HANG)
        async with opened(tmp_path, clock) as box:
            message = await box.add(a_message(at=clock.now), BODY)
            box.spool.record = lambda *_: asyncio.sleep(0)  # type: ignore[method-assign, assignment]
            async with delivering(box, peer, drain=0):
                await eventually(lambda: any(line == "DATA" for _, line in peer.commands))
        async with opened(tmp_path, clock) as box, delivering(box, peer):
            await eventually(lambda: len(peer.kept) == 1)
            await eventually(lambda: any(event.kind is EventKind.DELIVERED for event in box.events))
            (story,) = await box.spool.trace(message_id=message.id)
        assert story.deliveries[0].attempts == 1
        assert story.deliveries[0].doubts == 0


async def test_shutdown_gives_back_what_was_not_begun(tmp_path: Path) -> None:
    async with ScriptedProvider() as peer, opened(tmp_path) as box:
        peer.once("final", HANG)
        for n in range(10):
            await box.add(a_message(account=f"a{n}"), BODY)
        async with delivering(box, peer, drain=0.1):
            await eventually(lambda: len(peer.messages) == 1)
        entries = await box.spool.queue()
        assert [entry.state for entry in entries] == [State.DUE] * 10
        assert sorted(entry.doubts for entry in entries) == [0] * 9 + [1]
        assert sorted(entry.attempts for entry in entries) == [0] * 9 + [1]


async def test_a_delay_is_told_once_through_the_provider_and_never_about_notices(tmp_path: Path) -> None:
    async with ScriptedProvider() as peer, opened(tmp_path) as box:
        peer.always("mail", "451 4.3.0 not now")
        message = await box.add(a_message(at=box.clock.now), BODY)
        digests = Digests(box.spool, box.clock, "mail.example.org", "postmaster@example.org", Outlook())
        async with delivering(box, peer):
            await eventually(lambda: any(event.kind is EventKind.DEFERRED for event in box.events))
        assert await digests.look() == 0
        later(box, limits.DELAY_NOTICE_AFTER + 1)
        assert await digests.look() == 1
        assert await digests.look() == 0
        peer.always("mail", None)
        async with delivering(box, peer):
            await eventually(lambda: len(peer.kept) == 2)
        (letter,) = [got for got in peer.kept if got.mail.startswith("MAIL FROM:<postmaster@example.org>")]
        assert message.id.encode() in letter.content
        assert b"the last answer: 4.3.0 not now" in letter.content
        kinds = {
            entry.message.kind
            for story in await box.spool.trace(recipient="anna@example.org")
            for entry in story.deliveries
        }
        assert kinds == {Kind.NOTICE}
