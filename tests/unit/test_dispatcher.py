"""Claiming, connections, pauses, shutdown: what one notices of the dispatcher, with a scripted provider on loopback."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest

from relay.delivery.connection import Times
from relay.delivery.digest import Digests
from relay.delivery.dispatcher import Dispatcher
from relay.delivery.outlook import Delay
from relay.model import EventKind, Kind, Message, State
from relay.providers.provider import Provider
from relay.spool import QueueEntry, SpoolError, SpoolFailed, SpoolFull
from support.delivering import BODY, SHORT, FakeJournal, Outlook, delivering, pausing, provider_for
from support.memory_spool import FakeClock, MemorySpool
from support.scripted_provider import CLOSE, HANG, RESET, USUAL, Got, ScriptedProvider, Talk
from support.spooling import offering


async def eventually(peer: ScriptedProvider, condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await peer.changed.wait()


# --- connections
async def test_messages_share_a_connection_and_leave_it_politely() -> None:
    async with ScriptedProvider() as peer:
        spool = MemorySpool(FakeClock())
        messages = [spool.add(BODY + b"%d\r\n" % n) for n in range(20)]
        async with delivering(spool, provider_for(peer)):
            await spool.settled(*messages)
        assert peer.connections == 1
        assert sorted(got.content for got in peer.kept) == sorted(spool.bodies.values())
        assert peer.commands[-1] == (1, "QUIT")


async def test_no_connection_carries_more_than_the_provider_allows() -> None:
    async with ScriptedProvider() as peer:
        spool = MemorySpool(FakeClock())
        messages = [spool.add(BODY) for _ in range(10)]
        async with delivering(spool, provider_for(peer, messages_per_connection=4)):
            await spool.settled(*messages)
        assert sorted(sum(got.connection == n for got in peer.kept) for n in (1, 2, 3)) == [2, 4, 4]


async def test_an_old_connection_is_renewed_however_well_it_works() -> None:
    async with ScriptedProvider() as peer:
        spool = MemorySpool(FakeClock())
        first = spool.add(BODY)
        async with delivering(spool, provider_for(peer, seconds_per_connection=600.0)):
            await spool.settled(first)
            spool.advance(500)
            await spool.settled(spool.add(BODY))
            assert peer.connections == 1
            spool.advance(101)
            await spool.settled(spool.add(BODY))
        assert peer.connections == 2
        assert len(peer.kept) == 3


async def test_no_more_connections_than_the_provider_allows() -> None:
    async with ScriptedProvider() as peer:
        peer.always("data", HANG)
        spool = MemorySpool(FakeClock())
        for _ in range(30):
            spool.add(BODY)
        async with delivering(spool, provider_for(peer, connections=3)):
            await eventually(peer, lambda: sum(line == "DATA" for _, line in peer.commands) == 3)
            assert peer.open == peer.connections == 3


async def test_an_idle_connection_is_closed_after_a_while() -> None:
    async with ScriptedProvider() as peer:
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY)
        async with delivering(spool, provider_for(peer, idle=0.05)):
            await spool.settled(message)
            await eventually(peer, lambda: (1, "QUIT") in peer.commands)
            second = spool.add(BODY)
            await spool.settled(second)
        assert peer.connections == 2


@pytest.mark.parametrize(
    "end", [["250 2.0.0 ok", CLOSE], ["250 2.0.0 ok", RESET], ["250 2.0.0 ok", "421 4.4.2 idle", CLOSE]]
)
async def test_a_kept_connection_that_died_is_replaced_at_once_and_costs_no_attempt(end: Any) -> None:
    async with ScriptedProvider() as peer:
        peer.once("final", end)
        spool = MemorySpool(FakeClock())
        first = spool.add(BODY)
        async with delivering(spool, provider_for(peer)):
            await spool.settled(first)
            second = spool.add(BODY)
            await spool.settled(second)
        assert spool.states(first) + spool.states(second) == [State.DELIVERED] * 2
        assert [row.attempts for row in spool.rows.values()] == [1, 1]
        assert len(peer.kept) == 2


SPENT = [
    ("mail", "421 4.7.0 enough for one connection"),
    ("mail", "451-Requested action aborted\n451 Mails per session limit"),
    ("mail", "452 4.3.2 try again"),  # at MAIL no word is needed
    ("rcpt", "421 4.7.0 enough"),
    ("rcpt", "450 4.7.1 too many messages in this session"),
    ("rcpt", CLOSE),
    ("data", "421 4.7.0 enough"),
    ("data", "451 4.3.0 later"),
    ("data", RESET),
]
ENVELOPES = pytest.mark.parametrize("extensions", [("PIPELINING",), ()], ids=["pipelined", "in turn"])


@ENVELOPES
@pytest.mark.parametrize(("stage", "act"), SPENT)
async def test_a_session_that_is_spent_is_left_for_a_fresh_one_at_once(
    stage: str, act: Any, extensions: tuple[str, ...]
) -> None:
    async with ScriptedProvider(extensions=extensions) as peer:
        peer.once(stage, USUAL[stage], act)
        spool, journal = MemorySpool(FakeClock()), FakeJournal()
        messages = [spool.add(BODY), spool.add(BODY)]
        async with delivering(spool, provider_for(peer), journal=journal):
            await spool.settled(*messages)
        assert [(row.state, row.attempts, row.doubts) for row in spool.rows.values()] == [(State.DELIVERED, 1, 0)] * 2
        assert (peer.connections, len(peer.kept), journal.said) == (2, 2, [])


@ENVELOPES
@pytest.mark.parametrize(("stage", "act"), [("mail", "451 4.3.0 busy"), ("data", "451 4.3.0 busy")])
async def test_a_provider_that_is_busy_on_a_fresh_session_too_is_asked_no_more(
    stage: str, act: str, extensions: tuple[str, ...]
) -> None:
    async with ScriptedProvider(extensions=extensions) as peer:
        peer.once(stage, USUAL[stage], act, act, act)
        spool = MemorySpool(FakeClock())
        messages = [spool.add(BODY), spool.add(BODY)]
        async with delivering(spool, provider_for(peer)):
            await spool.settled(*messages)
        assert [(row.state, row.attempts) for row in spool.rows.values()] == [(State.DELIVERED, 1), (State.DUE, 1)]
        assert (peer.connections, len(peer.kept)) == (2, 1)


async def test_a_recipient_that_is_put_off_costs_no_session() -> None:
    async with ScriptedProvider() as peer:
        peer.rcpt["grey@example.net"] = "450 4.2.0 greylisted, come again"
        spool = MemorySpool(FakeClock())
        messages = [spool.add(BODY), spool.add(BODY, ["grey@example.net"]), spool.add(BODY)]
        async with delivering(spool, provider_for(peer)):
            await spool.settled(*messages)
        assert [spool.states(message) for message in messages] == [[State.DELIVERED], [State.DUE], [State.DELIVERED]]
        assert peer.connections == 1


async def test_a_message_put_off_after_its_content_is_the_last_of_its_session() -> None:
    async with ScriptedProvider() as peer:
        peer.once("final", USUAL["final"], "451 4.7.0 that was one too many for this session")
        spool = MemorySpool(FakeClock())
        messages = [spool.add(BODY) for _ in range(3)]
        async with delivering(spool, provider_for(peer)):
            await spool.settled(*messages)
        assert [row.attempts for row in spool.rows.values()] == [1, 1, 1]
        assert (peer.connections, len(peer.kept)) == (2, 2)


class Few(ScriptedProvider):
    """Takes three mails a session, and six recipients."""

    async def _on_mail(self, talk: Talk, text: str) -> None:
        if len(self._of(talk)) >= 3:
            await self._one(talk, "450 4.7.1 mails per session limit")
        else:
            await super()._on_mail(talk, text)

    async def _on_rcpt(self, talk: Talk, text: str) -> None:
        if sum(len(got.recipients) for got in self._of(talk)) + len(talk.recipients) >= 6:
            await self._one(talk, "452 4.5.3 Too many recipients")
        else:
            await super()._on_rcpt(talk, text)

    def _of(self, talk: Talk) -> list[Got]:
        return [got for got in self.messages if got.connection == talk.number]


@ENVELOPES
@pytest.mark.parametrize(("recipients", "sessions"), [(1, 4), (4, 8)])
async def test_mail_goes_on_at_the_pace_of_a_provider_that_takes_little_a_session(
    recipients: int, sessions: int, extensions: tuple[str, ...]
) -> None:
    async with Few(extensions=extensions) as peer:
        spool, journal = MemorySpool(FakeClock()), FakeJournal()
        messages = [spool.add(BODY, [f"{n}@example.net" for n in range(recipients)]) for _ in range(12)]
        async with delivering(spool, provider_for(peer), journal=journal):
            await spool.settled(*messages)
        assert {(row.state, row.doubts) for row in spool.rows.values()} == {(State.DELIVERED, 0)}
        assert sum(len(got.recipients) for got in peer.kept) == 12 * recipients
        assert peer.connections == sessions
        assert journal.said == []


# --- bytes
async def test_large_messages_wait_for_each_other_and_small_ones_pass() -> None:
    async with ScriptedProvider() as peer:
        peer.once("final", HANG)
        spool = MemorySpool(FakeClock())
        large = [spool.add(BODY + b"x" * 6000 + b"\r\n") for _ in range(3)]
        async with delivering(spool, provider_for(peer, connections=3, bytes_in_flight=10_000)):
            await eventually(peer, lambda: len(peer.messages) == 1)
            small = spool.add(BODY)
            await spool.settled(small)
            assert spool.states(small) == [State.DELIVERED]
            assert sum(len(got.wire) > 6000 for got in peer.messages) == 1
            assert [state for one in large for state in spool.states(one)].count(State.CLAIMED) == 2


async def test_a_message_larger_than_the_budget_travels_alone() -> None:
    async with ScriptedProvider() as peer:
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY + b"x" * 6000 + b"\r\n")
        async with delivering(spool, provider_for(peer, bytes_in_flight=100)):
            await spool.settled(message)
        assert spool.states(message) == [State.DELIVERED]


# --- the pause
async def test_a_provider_that_is_down_is_not_asked_by_every_message_that_waits() -> None:
    async with ScriptedProvider() as peer:
        peer.always("greeting", RESET)
        spool = MemorySpool(FakeClock())
        messages = [spool.add(BODY) for _ in range(500)]
        journal = FakeJournal()
        async with delivering(spool, provider_for(peer, connections=4), breaker=pausing(60.0, 120.0), journal=journal):
            await spool.until(lambda: any(row.attempts for row in spool.rows.values()))
            await spool.until(lambda: not any(row.state is State.CLAIMED for row in spool.rows.values()))
            assert sum(row.attempts for row in spool.rows.values()) == peer.connections <= 4
            assert spool.claims == 1
            assert [event for event, _ in journal.said] == ["provider_paused"]
            peer.always("greeting", None)
            spool.advance(130)  # the pause ends, by one message that probes
            await spool.settled(*messages)
        assert {row.state for row in spool.rows.values()} == {State.DELIVERED}
        assert [event for event, _ in journal.said] == ["provider_paused", "provider_resumed"]


async def test_when_the_provider_is_back_one_message_probes_and_the_rest_follow() -> None:
    async with ScriptedProvider() as peer:
        peer.once("greeting", RESET, RESET, RESET)
        spool = MemorySpool(FakeClock())
        messages = [spool.add(BODY) for _ in range(50)]
        async with delivering(spool, provider_for(peer), breaker=pausing(first=0.01, most=0.02)):
            await spool.until(lambda: sum(row.state is State.DELIVERED for row in spool.rows.values()) == 49)
            spool.advance(60)
            await spool.settled(*messages)
        assert [row.state for row in spool.rows.values()] == [State.DELIVERED] * 50
        assert sorted(row.attempts for row in spool.rows.values()) == [1] * 49 + [2], (
            "who only knocked is not held back for it"
        )
        assert len(peer.kept) == 50


async def test_after_a_pause_only_one_message_is_at_risk_until_the_provider_is_well() -> None:
    async with ScriptedProvider() as peer:
        peer.always("greeting", RESET)
        spool = MemorySpool(FakeClock())
        for _ in range(50):
            spool.add(BODY)
        async with delivering(spool, provider_for(peer, connections=4), breaker=pausing(0.05, 0.05)):
            await spool.until(lambda: any(row.attempts for row in spool.rows.values()))
            await eventually(peer, lambda: peer.open == 0)
            peer.always("greeting", HANG)
            await eventually(peer, lambda: peer.open > 0)
            assert sum(row.state is State.CLAIMED for row in spool.rows.values()) == 1


async def test_a_message_refused_for_itself_pauses_nothing() -> None:
    async with ScriptedProvider() as peer:
        peer.once("final", "550 5.7.1 spam")
        peer.once("rcpt", "550 5.1.1 unknown")
        spool = MemorySpool(FakeClock())
        messages = [spool.add(BODY) for _ in range(5)]
        async with delivering(spool, provider_for(peer), breaker=pausing(60.0, 120.0)):
            await spool.settled(*messages)
        assert sorted(row.state for row in spool.rows.values()) == ["delivered"] * 3 + ["refused"] * 2


# --- shutdown
def started(
    spool: MemorySpool, provider: Provider, **more: Any
) -> tuple[Dispatcher, asyncio.Event, asyncio.Task[None]]:
    known = {"times": SHORT, "journal": FakeJournal(), "breaker": pausing(), **more}
    dispatcher = Dispatcher(
        [provider],
        spool=spool,
        clock=spool.clock,
        hostname="mail.example.org",
        postmaster="postmaster@example.org",
        **known,
    )
    stop = asyncio.Event()
    return dispatcher, stop, asyncio.ensure_future(dispatcher.run(stop))


@pytest.mark.parametrize("stage", ["greeting", "mail", "rcpt", "data"])
async def test_shutdown_before_the_dot_gives_the_message_back_as_if_not_begun(stage: str) -> None:
    async with ScriptedProvider() as peer:
        peer.once(stage, HANG)
        spool = MemorySpool(FakeClock())
        messages = [spool.add(BODY + b"x" * 40_000 + b"\r\n") for _ in range(3)]
        dispatcher, stop, running = started(spool, provider_for(peer, connections=1))
        await eventually(peer, lambda: peer.connections == 1 and spool.claims == 1)
        if stage != "greeting":
            await eventually(peer, lambda: any(line.startswith(stage.upper()) for _, line in peer.commands))
        stop.set()
        await running
        await dispatcher.drain(0.1)
        assert [row.state for row in spool.rows.values()] == [State.DUE] * 3
        assert [row.attempts for row in spool.rows.values()] == [0] * 3
        assert [row.next_attempt for row in spool.rows.values()] == [spool.clock.now] * 3
        assert len(messages) == 3


async def test_shutdown_waits_for_the_answer_to_the_final_dot() -> None:
    async with ScriptedProvider() as peer:
        answered = asyncio.Event()
        peer.once("final", [HANG])
        spool = MemorySpool(FakeClock())
        spool.add(BODY)
        waiting = spool.add(BODY)
        dispatcher, stop, running = started(spool, provider_for(peer, connections=1))
        await eventually(peer, lambda: len(peer.messages) == 1)
        stop.set()
        await running
        assert spool.states(waiting) == [State.DUE], "what was not begun is given back at once"
        draining = asyncio.ensure_future(dispatcher.drain(0.3))
        await asyncio.wait((draining,), timeout=0.1)
        assert not draining.done()
        await draining
        first = spool.rows[1]
        assert (first.state, first.doubts) == (State.DUE, 1), "no answer by then: in doubt"
        assert first.next_attempt == spool.clock.now + 900
        assert not answered.is_set()


async def test_shutdown_that_gets_its_answer_in_time_is_a_delivery() -> None:
    async with ScriptedProvider() as peer:
        peer.once("final", ["250-still thinking", "250 2.0.0 queued"])
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY)
        dispatcher, stop, running = started(spool, provider_for(peer))
        await eventually(peer, lambda: len(peer.messages) == 1)
        stop.set()
        await running
        await dispatcher.drain(5.0)
        assert spool.states(message) == [State.DELIVERED]
        assert peer.open == 0 or (1, "QUIT") in peer.commands


async def test_an_idle_dispatcher_stops_at_once() -> None:
    async with ScriptedProvider() as peer:
        spool = MemorySpool(FakeClock())
        dispatcher, stop, running = started(spool, provider_for(peer))
        await asyncio.sleep(0)
        stop.set()
        async with asyncio.timeout(1):
            await running
            await dispatcher.drain(60)


# --- the spool's failures
@pytest.mark.parametrize("when", ["mark", "record"])
async def test_a_spool_that_fails_ends_delivery_and_no_dot_is_written_without_its_mark(when: str) -> None:
    async with ScriptedProvider() as peer:
        spool = MemorySpool(FakeClock())
        spool.add(BODY)
        if when == "record":
            peer.once("mail", "450 later")
        spool.fail_with = SpoolFailed("disk gone")
        dispatcher, _stop, running = started(spool, provider_for(peer))
        with pytest.raises(SpoolFailed):
            await running
        with pytest.raises(SpoolFailed):
            await dispatcher.drain(1.0)
        assert peer.messages == []


async def test_without_room_for_the_mark_the_message_is_put_off() -> None:
    class Full(MemorySpool):
        full = True

        async def mark(self, deliveries: Any, provider: str = "") -> None:
            if self.full:
                raise SpoolFull("no room")
            await super().mark(deliveries, provider)

    async with ScriptedProvider() as peer:
        spool = Full(FakeClock())
        message = spool.add(BODY)
        async with delivering(spool, provider_for(peer)):
            await spool.settled(message)
            assert spool.states(message) == [State.DUE]
            assert spool.of(message)[0].reply == "the relay's disk is full"
            assert peer.messages == []
            spool.full = False
            spool.advance(60)
            await spool.settled(message)
        assert spool.states(message) == [State.DELIVERED]


@pytest.mark.parametrize("inline", [0, 10_000_000])
async def test_a_body_that_cannot_be_read_or_a_bug_of_ours_does_not_take_other_messages_with_it(inline: int) -> None:
    class Broken(MemorySpool):
        async def read(self, message_id: str) -> Any:
            if message_id == bad.id:
                raise SpoolError("The body is gone.")
            async for piece in super().read(message_id):
                yield piece

        async def mark(self, deliveries: Any, provider: str = "") -> None:
            if inline and self.rows[deliveries[0]].message.id == bad.id:
                raise RuntimeError("a bug")
            await super().mark(deliveries, provider)

    async with ScriptedProvider() as peer:
        spool = Broken(FakeClock(), inline=inline)
        bad = spool.add(BODY)
        good = [spool.add(BODY) for _ in range(3)]
        async with delivering(spool, provider_for(peer)):
            await spool.settled(bad, *good)
        assert spool.states(bad) == [State.DUE]
        assert spool.of(bad)[0].reply.startswith("internal error: ")
        assert {state for one in good for state in spool.states(one)} == {State.DELIVERED}
        assert len(peer.messages) == 3, "a message without its body, or without its mark, had its dot written"


@pytest.mark.parametrize("reply", ["250 2.0.0 ok", "451 4.3.0 later", "550 5.7.1 spam"])
async def test_a_header_that_cannot_be_read_keeps_no_outcome_from_being_recorded(reply: str) -> None:
    class Damaged(MemorySpool):
        async def header(self, message_id: str) -> bytes:
            raise apsw.CorruptError("database disk image is malformed")

    async with ScriptedProvider() as peer:
        peer.always("final", reply)
        spool, journal = Damaged(FakeClock(), inline=0), FakeJournal()
        message = spool.add(BODY)
        async with delivering(spool, provider_for(peer), journal=journal):
            await spool.settled(message)
        assert spool.of(message)[0].reply == reply[4:]
        told = [fields["message"] for event, fields in journal.said if event == "message_unreadable"]
        assert set(told) == (set() if reply.startswith("250") else {message.id})
        assert len(spool.notices) == reply.startswith("550")


async def test_the_notice_brings_back_the_header_of_a_message_without_a_body() -> None:
    async with ScriptedProvider() as peer:
        peer.always("final", "550 5.7.1 spam")
        spool = MemorySpool(FakeClock())
        message = spool.add(b"From: anna@example.org\r\nSubject: only this\r\n")
        async with delivering(spool, provider_for(peer)):
            await spool.settled(message)
        assert spool.notices[0][1].count(b"Subject: only this") == 1


async def test_a_disk_too_full_to_give_messages_back_does_not_end_delivery(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(MemorySpool):
        refused = 0

        async def release(self, jobs: Any) -> None:
            if self.refused < 2:
                self.refused += 1
                raise SpoolFull
            await super().release(jobs)

    monkeypatch.setattr("relay.delivery.recording.FULL_WAIT", 0.01)
    async with ScriptedProvider() as peer:
        peer.once("mail", "421 4.3.2 not now")
        spool = Full(FakeClock())
        messages = [spool.add(BODY) for _ in range(3)]
        async with delivering(spool, provider_for(peer)):
            await spool.settled(*messages[1:])
        assert spool.refused == 2
        assert {state for one in messages[1:] for state in spool.states(one)} == {State.DELIVERED}


# --- doubts of an earlier run, and ties
async def test_what_an_earlier_run_left_too_often_in_doubt_ends_with_a_notice() -> None:
    async with ScriptedProvider() as peer:
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY)
        spool.rows[1].doubts = 2
        (job,) = await spool.claim(offering(1))
        async with delivering(spool, provider_for(peer), stuck=[job]):
            await spool.settled(message)
        assert spool.states(message) == [State.UNKNOWN]
        assert len(spool.notices) == 1
        assert peer.connections == 0


async def test_a_doubt_tied_to_a_provider_that_is_gone_is_put_aside_with_a_reason() -> None:
    async with ScriptedProvider() as peer:
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY)
        spool.rows[1].provider, spool.rows[1].doubts = "former", 1
        other = spool.add(BODY)
        async with delivering(spool, provider_for(peer)):
            await spool.settled(message, other)
        assert spool.states(message) == [State.HELD]
        assert "former" in spool.of(message)[0].reply
        assert spool.of(message)[0].tied_to == "former", "released as it is, it must not slip to another provider"
        assert spool.states(other) == [State.DELIVERED]


# --- events and metrics
async def test_every_recipient_has_its_event_and_its_attempt() -> None:
    async with ScriptedProvider() as peer:
        peer.rcpt = {"b@example.net": "550 5.1.1 unknown", "c@example.net": "450 4.2.0 later"}
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY, ["a@example.net", "b@example.net", "c@example.net"])
        spool.clock.now += 7
        journal = FakeJournal()
        async with delivering(spool, provider_for(peer), journal=journal):
            await spool.settled(message)
        assert journal.attempts == {"delivered": 1, "refused": 1, "deferred": 1}
        kinds = [(event.kind, event.recipient) for event in spool.events]
        assert kinds == [
            (EventKind.DELIVERED, "a@example.net"),
            (EventKind.REFUSED, "b@example.net"),
            (EventKind.DEFERRED, "c@example.net"),
            (EventKind.NOTICE_QUEUED, "anna@example.org"),
        ]
        assert {event.message for event in spool.events} == {message.id}
        assert spool.events[0].detail == {"delay": 7.0}
        assert spool.events[2].detail == {"delay": 7.0, "next_attempt": spool.clock.now + 60}
        assert spool.events[3].detail == {"notice": spool.notices[0][0].id}


async def test_a_clock_that_jumps_suspends_expiry_and_says_so() -> None:
    async with ScriptedProvider() as peer:
        peer.always("final", "451 4.3.0 later")
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY)
        journal = FakeJournal()
        async with delivering(spool, provider_for(peer), journal=journal):
            await spool.settled(message)
            spool.clock.now += 365 * 86400  # somebody set it
            spool.advance(60)
            await spool.settled(message)
        assert spool.states(message) == [State.DUE]
        assert [event for event, _ in journal.said] == ["clock_jumped"]


async def test_an_account_that_gets_priority_wakes_what_waits_for_the_reserve() -> None:
    high: set[str] = set()
    spool, pokes = MemorySpool(FakeClock()), list[frozenset[str]]()
    spool.poke = lambda: pokes.append(frozenset(high))  # type: ignore[method-assign]
    dispatcher = Dispatcher(
        [Provider(name="p", host="h", ports=((587, "starttls"),))],
        spool=spool,
        journal=FakeJournal(),
        clock=spool.clock,
        hostname="mail.example.org",
        postmaster="postmaster@example.org",
        high=lambda: frozenset(high),
    )
    dispatcher.look()
    assert pokes == []
    high.add("anna")
    dispatcher.look()
    assert pokes == [{"anna"}]


async def test_the_trials_provider_writes_files(tmp_path: Path) -> None:
    spool = MemorySpool(FakeClock())
    message = spool.add(BODY, ["a@example.net", "b@example.net"])
    provider = Provider(name="capture", host="", ports=(), captured=tmp_path / "captured")
    async with delivering(spool, provider):
        await spool.settled(message)
    assert (tmp_path / "captured" / f"{message.id}.eml").read_bytes() == BODY
    assert spool.states(message) == [State.DELIVERED] * 2


# --- delays
class Delayed:
    """The spool's part of a digest."""

    def __init__(self, entries: list[QueueEntry]) -> None:
        self.entries = entries
        self.letters: list[tuple[list[int], Message, bytes]] = []
        self.asked: list[float] = []

    async def delayed(self, before: float) -> list[QueueEntry]:
        self.asked.append(before)
        told = {number for numbers, *_ in self.letters for number in numbers}
        return [entry for entry in self.entries if entry.delivery not in told and entry.message.received_at < before]

    async def delay_noticed(self, deliveries: Any, notice: Any = None, events: Any = ()) -> None:
        message, content, _ = notice
        self.letters.append((list(deliveries), message, content))


def entry(number: int, clock: FakeClock, age: float, **more: Any) -> QueueEntry:
    message = MemorySpool(clock).add(BODY, received_at=clock.now - age, **more)
    return QueueEntry(
        delivery=number, message=message, recipient=f"r{number}@example.net", state=State.DUE, next_attempt=clock.now,
        changed_at=clock.now, attempts=3, doubts=0, provider="p", code=451, reply="4.3.0 later", held=0.0,
        delay_noticed=False, acknowledged=False,
    )  # fmt: skip


async def test_one_letter_a_sender_and_day_names_everything_that_is_late() -> None:
    clock = FakeClock()
    spool = Delayed(
        [
            entry(1, clock, 5 * 3600),
            entry(2, clock, 6 * 3600),
            entry(3, clock, 6 * 3600, notify="carl@example.org"),
            entry(4, clock, 3600),
            entry(5, clock, 6 * 3600, kind=Kind.NOTICE),
            entry(6, clock, 6 * 3600, null_sender=True),
            entry(7, clock, 6 * 3600, notify=""),
        ]
    )
    digests = Digests(spool, clock, "mail.example.org", "postmaster@example.org", Outlook())
    assert await digests.look() == 2
    assert [(numbers, message.recipients) for numbers, message, _ in spool.letters] == [
        ([1, 2], ("anna@example.org",)),
        ([3], ("carl@example.org",)),
    ]
    assert b"r1@example.net" in spool.letters[0][2]
    assert b"r2@example.net" in spool.letters[0][2]
    clock.now += 4 * 3600  # the fourth is late now too, but its sender has had today's letter
    assert await digests.look() == 0
    clock.now += 20 * 3600
    assert await digests.look() == 1
    assert spool.letters[2][0] == [4]


async def test_a_domain_that_no_provider_knows_is_told_soon_and_a_quota_not_at_all() -> None:
    clock = FakeClock()
    spool = Delayed(
        [
            entry(1, clock, 120, sender="anna@unknown.example"),
            entry(2, clock, 120),
            entry(3, clock, 5 * 3600, sender="anna@used-up.example"),
            entry(4, clock, 30, sender="anna@unknown.example"),
        ]
    )
    outlook = Outlook({"unknown.example": Delay.NOT_SET_UP, "used-up.example": Delay.QUOTA}, "waits: it is not set up")
    digests = Digests(spool, clock, "mail.example.org", "postmaster@example.org", outlook)
    assert await digests.look() == 1
    ((numbers, message, content),) = spool.letters
    assert (numbers, message.recipients) == ([1], ("anna@example.org",))
    assert b"it waits: it is not set up" in content
    clock.now += 5 * 3600  # the rest of that domain's mail is told tomorrow; the other mail today
    assert await digests.look() == 1
    assert spool.letters[1][0] == [2]


async def test_what_was_put_aside_in_doubt_is_told_though_it_is_held() -> None:
    clock = FakeClock()
    aside = [replace(entry(n, clock, age), state=State.HELD, doubts=1) for n, age in ((1, 5 * 3600), (2, 60))]
    outlook = Outlook({"example.org": Delay.QUOTA})
    spool = Delayed(aside)
    assert await Digests(spool, clock, "mail.example.org", "postmaster@example.org", outlook).look() == 1
    ((numbers, _, content),) = spool.letters
    assert numbers == [1]
    assert b"it waits until whoever runs the relay sends it again or drops it" in content
    assert b"need not send them again" not in content


async def test_mail_in_doubt_is_not_called_undelivered() -> None:
    clock = FakeClock()
    spool = Delayed([replace(entry(1, clock, 5 * 3600), doubts=1)])
    assert await Digests(spool, clock, "mail.example.org", "postmaster@example.org", Outlook()).look() == 1
    ((_, _, content),) = spool.letters
    assert b"may have been delivered" in content
    assert b"have not been delivered" not in content


async def test_a_full_disk_only_delays_the_letters() -> None:
    class Full(Delayed):
        full = 2

        async def delay_noticed(self, deliveries: Any, notice: Any = None, events: Any = ()) -> None:
            self.full -= 1
            if self.full >= 0:
                raise SpoolFull
            await super().delay_noticed(deliveries, notice, events)

    clock, stop = FakeClock(), asyncio.Event()
    spool = Full([entry(1, clock, 5 * 3600)])
    digests = Digests(spool, clock, "mail.example.org", "p@example.org", Outlook())
    running = asyncio.ensure_future(digests.run(stop, period=0.01))
    async with asyncio.timeout(5):
        while not spool.letters:
            assert not running.done(), "the relay would end, and end again, for as long as the disk is full"
            await asyncio.sleep(0.01)
    stop.set()
    await running


async def test_digests_stop_when_told() -> None:
    clock, stop = FakeClock(), asyncio.Event()
    spool = Delayed([])
    digests = Digests(spool, clock, "mail.example.org", "postmaster@example.org", Outlook())
    running = asyncio.ensure_future(digests.run(stop, period=0.01))
    async with asyncio.timeout(5):
        while len(spool.asked) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        stop.set()
        await running


def test_times_default_to_the_rfcs() -> None:
    assert Times().final >= 600
    assert Times().reply >= 300
