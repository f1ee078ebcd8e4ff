"""Several providers and the real spool: what must hold over restarts, and from outside of the running relay."""

from __future__ import annotations

import asyncio
import contextlib
import json
import smtplib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from relay import limits
from relay.choice import waiting
from relay.choice.quota import Quota
from relay.delivery.breaker import Breaker
from relay.delivery.digest import Digests
from relay.delivery.dispatcher import Dispatcher
from relay.model import EventKind, State
from relay.providers.presets import PRESETS
from support.appliance import PASSWORD, Appliance, account
from support.appliance import eventually as in_time
from support.delivering import BODY, SHORT, FakeJournal, provider_for
from support.scripted_provider import HANG, RESET, ScriptedProvider, Talk
from support.spooling import Opened, SetClock, a_message, eventually, opened

DAY = (Quota(limit=5, period="day"),)


@contextlib.asynccontextmanager
async def delivering(
    box: Opened, *peers: ScriptedProvider, drain: float = 5.0, **facts: Any
) -> AsyncIterator[Dispatcher]:
    names = ("one", "two", "three")
    dispatcher = Dispatcher(
        [provider_for(peer, name=name, title=name.title(), **facts) for name, peer in zip(names, peers, strict=False)],
        spool=box.spool,
        journal=FakeJournal(),
        clock=box.clock,
        hostname="mail.example.org",
        postmaster="postmaster@example.org",
        stuck=box.spool.recovered_unknown,
        jitter=lambda: 0.5,
        times=SHORT,
        breaker=Breaker,
    )
    stop = asyncio.Event()
    running = asyncio.create_task(dispatcher.run(stop))
    try:
        yield dispatcher
    finally:
        stop.set()
        await running
        await dispatcher.drain(drain)


def later(box: Opened, dispatcher: Dispatcher, seconds: float) -> None:
    box.clock.now += seconds
    dispatcher.look()
    box.spool.poke()


def count(box: Opened, kind: EventKind) -> int:
    return sum(event.kind is kind for event in box.events)


async def test_two_hundred_messages_go_on_when_the_first_provider_is_shut(tmp_path: Path) -> None:
    async with ScriptedProvider() as shut, ScriptedProvider() as good, opened(tmp_path) as box:
        shut.always("greeting", "421 4.3.2 not now")
        sent = [await box.add(a_message(account=f"a{n % 7}"), BODY) for n in range(200)]
        async with delivering(box, shut, good):
            await eventually(lambda: count(box, EventKind.DELIVERED) == 200)
        assert len(good.kept) == 200
        assert len({got.content for got in good.kept}) == 1
        assert shut.connections <= 2, "one for each of its hands, then none"
        stories = [await box.spool.trace(message_id=message.id) for message in sent]
        assert {story.deliveries[0].provider for (story,) in stories} == {"two"}
        assert {story.deliveries[0].attempts for (story,) in stories} == {1}


async def test_quotas_hold_over_restarts_and_begin_anew_at_midnight(tmp_path: Path) -> None:
    clock = SetClock()
    async with ScriptedProvider() as one, ScriptedProvider() as two:
        for goal in (3, 6, 10):  # the third start finds 9 used
            async with opened(tmp_path, clock) as box:
                before = len(one.kept) + len(two.kept)
                for _ in range(goal - before):
                    await box.add(a_message(), BODY)
                async with delivering(box, one, two, quotas=DAY):
                    await eventually(lambda: len(one.kept) + len(two.kept) == goal)  # noqa: B023
        assert (len(one.kept), len(two.kept)) == (5, 5)
        async with opened(tmp_path, clock) as box:
            await box.add(a_message(), BODY)
            async with delivering(box, one, two, quotas=DAY) as dispatcher:
                await dispatcher.look_at_quotas()
                (entry,) = await box.spool.queue()
                said = dispatcher.waits(entry)
                assert said == "waits until 2027-01-16 00:00 UTC: One's quota is used up; Two's quota is used up"
                later(box, dispatcher, limits.DAY)
                await eventually(lambda: len(one.kept) == 6)


async def test_a_crash_in_doubt_stays_with_its_provider_and_counts_in_its_quota(tmp_path: Path) -> None:
    clock = SetClock()
    async with ScriptedProvider() as one, ScriptedProvider() as two:
        one.once("final", HANG)
        async with opened(tmp_path, clock) as box:
            await box.add(a_message(), BODY)
            box.spool.record = lambda *_: asyncio.sleep(0)  # type: ignore[method-assign, assignment]
            async with delivering(box, one, two, drain=0):
                await eventually(lambda: len(one.messages) == 1)
        async with opened(tmp_path, clock) as box:
            usage = await box.spool.usage(0.0)
            assert sum(number for _, number in usage["one"]) == 1
            async with delivering(box, one, two) as dispatcher:
                later(box, dispatcher, limits.DOUBT_WAIT)
                await eventually(lambda: count(box, EventKind.DELIVERED) == 1)
        assert (len(one.messages), len(two.messages)) == (2, 0)


async def test_what_waited_five_days_for_a_pause_ends_and_the_sender_is_told(tmp_path: Path) -> None:
    async with ScriptedProvider() as one, opened(tmp_path) as box:
        one.always("mail", "451 Maximum credits exceeded")
        await box.add(a_message(at=box.clock.now), BODY)
        async with delivering(box, one, rules=PRESETS["sendgrid"].rules) as dispatcher:
            await eventually(lambda: dispatcher.providers()[0].state == "paused")
            message = await box.add(a_message(at=box.clock.now - limits.LIFETIME - 1), BODY)
            assert await dispatcher.sweep() == 0, "the relay has only just started"
            box.clock.now += limits.EXPIRY_AFTER_START  # and nothing is looked at meanwhile
            assert await dispatcher.sweep() == 1
            (story,) = await box.spool.trace(message_id=message.id)
        assert story.deliveries[0].state is State.EXPIRED
        assert story.deliveries[0].reply == "no provider could take it: One's quota is used up"
        assert (count(box, EventKind.EXPIRED), count(box, EventKind.NOTICE_QUEUED)) == (1, 1)


async def test_a_notice_goes_to_a_provider_that_did_not_refuse_what_it_tells_of(tmp_path: Path) -> None:
    async with ScriptedProvider() as one, ScriptedProvider() as two, opened(tmp_path) as box:
        one.always("final", "550 5.4.6 Anything at all.")
        two.once("mail", "451 later")  # the notice's next round finds both open
        await box.add(a_message(at=box.clock.now), BODY)
        async with delivering(box, one, two) as dispatcher:
            await eventually(lambda: count(box, EventKind.DEFERRED) == 1)
            later(box, dispatcher, limits.MINUTE * 2)
            await eventually(lambda: count(box, EventKind.DELIVERED) == 1)
        assert [got.recipients for got in two.kept] == [["anna@example.org"]]
        assert len(one.messages) == 1, "the notice was never offered to the one that refused the mail"


async def test_a_notice_takes_the_one_that_refused_the_mail_when_the_other_stays_shut(tmp_path: Path) -> None:
    async with ScriptedProvider() as one, ScriptedProvider() as two, opened(tmp_path) as box:
        one.once("final", "550 5.7.1 no")
        two.always("mail", "451 Maximum credits exceeded")
        await box.add(a_message(at=box.clock.now), BODY)
        async with delivering(box, one, two, rules=PRESETS["sendgrid"].rules) as dispatcher:
            await eventually(lambda: dispatcher.providers()[1].state == "paused")
            later(box, dispatcher, waiting.ROUND)
            await eventually(lambda: count(box, EventKind.DELIVERED) == 1)
        assert [got.recipients for got in one.kept] == [["anna@example.org"]]


@pytest.mark.parametrize("answer", ["550 5.7.1 words that nobody knows", "554 5.7.1 spam", "550 5.1.1 unknown"])
async def test_the_only_provider_is_tried_for_five_days_with_a_notice_and_then_an_alarm_rings(
    tmp_path: Path, answer: str
) -> None:
    async with ScriptedProvider() as one, opened(tmp_path) as box:
        one.always("final", answer)
        mail = await box.add(a_message(at=box.clock.now), BODY)
        async with delivering(box, one) as dispatcher:
            for tries in range(1, 4):
                await eventually(lambda: count(box, EventKind.DEFERRED) == tries)  # noqa: B023
                (waiting_one,) = [entry for entry in await box.spool.queue() if entry.state is State.DUE]
                assert (await box.spool.retry(waiting_one.message.id)).changed == 1, (
                    "whoever looks may try it at any time"
                )
            await eventually(lambda: count(box, EventKind.DEFERRED) == 4)
            assert (await box.spool.stats()).failed_notices == 0
            later(box, dispatcher, limits.EXPIRY_AFTER_START)
            later(box, dispatcher, limits.LIFETIME)
            await eventually(lambda: count(box, EventKind.EXPIRED) == 1)
        (event,) = [event for event in box.events if event.kind is EventKind.NOTICE_FAILED]
        (story,) = await box.spool.trace(message_id=mail.id)
        assert story.events[-1] == event, "it is told where somebody looks who asks for the mail"
        assert (event.message, event.recipient, event.detail["state"]) == (mail.id, "anna@example.org", "expired")
        (notice,) = await box.spool.trace(message_id=str(event.detail["notice"]))
        assert notice.events[-1].detail["told_of"] == mail.id
    async with opened(tmp_path) as box:
        assert (await box.spool.stats()).failed_notices == 1
        await box.spool.acknowledge(notice.message.id)
    async with opened(tmp_path) as box:
        assert (await box.spool.stats()).failed_notices == 0


async def test_a_retry_of_failed_mail_is_a_new_try_of_five_days_and_a_second_failure_is_told_again(
    tmp_path: Path,
) -> None:
    async with ScriptedProvider() as one, opened(tmp_path) as box:
        one.once("final", "550 5.7.1 spam")
        mail = await box.add(a_message(at=box.clock.now), BODY)
        async with delivering(box, one) as dispatcher:
            await eventually(lambda: count(box, EventKind.DELIVERED) == 1)  # the notice
            later(box, dispatcher, 6 * limits.DAY)
            one.once("final", "451 4.3.0 later", "550 5.7.1 still spam")
            assert (await box.spool.retry(mail.id)).changed == 1
            await eventually(lambda: count(box, EventKind.DEFERRED) == 1)
            assert count(box, EventKind.EXPIRED) == 0, "it is old, and was retried just now"
            later(box, dispatcher, 2 * limits.MINUTE)
            await eventually(lambda: count(box, EventKind.DELIVERED) == 2)
            assert (count(box, EventKind.REFUSED), count(box, EventKind.NOTICE_QUEUED)) == (2, 2)
            assert (await box.spool.retry(mail.id)).changed == 1
            await eventually(lambda: count(box, EventKind.DELIVERED) == 3)
        assert [got.recipients for got in one.kept] == [["anna@example.org"]] * 2 + [["someone@example.net"]]
        assert one.kept[-1].content.endswith(BODY[-20:])


class Slow(ScriptedProvider):
    """Takes no message while its gate is shut."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()

    async def _on_mail(self, talk: Talk, line: str) -> None:
        await self.gate.wait()
        await super()._on_mail(talk, line)


async def nothing_due(box: Opened) -> None:
    """Wait until all that waits is put off."""
    async with asyncio.timeout(20):
        while any(one.state is State.DUE and one.next_attempt <= box.clock.now for one in await box.spool.queue()):
            pass


async def test_the_other_mail_of_an_address_follows_within_seconds_once_it_is_known(tmp_path: Path) -> None:
    async with Slow() as one, opened(tmp_path) as box:
        one.once("final", "554 Message rejected: Email address is not verified.")
        await box.add(a_message("bob", at=box.clock.now), BODY)
        async with delivering(box, one, rules=PRESETS["ses"].rules) as dispatcher:
            await eventually(lambda: count(box, EventKind.DEFERRED) == 1)
            one.gate.clear()
            for _ in range(5):
                await box.add(a_message("bob", at=box.clock.now), BODY)
            later(box, dispatcher, limits.PAUSE_NOT_SET_UP)
            await nothing_due(box)
            later(box, dispatcher, waiting.ROOM)
            await nothing_due(box)
            one.gate.set()
            await eventually(lambda: count(box, EventKind.DELIVERED) == 1)
            later(box, dispatcher, waiting.PROBE)
            await eventually(lambda: count(box, EventKind.DELIVERED) == 6)


async def test_a_domain_that_is_set_up_nowhere_is_told_within_minutes(tmp_path: Path) -> None:
    async with ScriptedProvider() as one, ScriptedProvider() as two, opened(tmp_path) as box:
        for peer in (one, two):
            peer.always("final", "550 The from address does not match a verified Sender Identity.")
        await box.add(a_message(at=box.clock.now), BODY)
        async with delivering(box, one, two, rules=PRESETS["sendgrid"].rules) as dispatcher:
            await eventually(lambda: count(box, EventKind.DEFERRED) == 2)
            digests = Digests(box.spool, box.clock, "mail.example.org", "postmaster@example.org", dispatcher)
            assert await digests.look() == 0
            later(box, dispatcher, 5 * limits.MINUTE)
            assert await digests.look() == 1
            assert await digests.look() == 0
        (letter,) = [entry for entry in await box.spool.queue() if entry.message.kind == "notice"]
        content = await box.spool.read(letter.message.id).__anext__()
        assert b"example.org is not set up at One" in content.replace(b"=\r\n", b"")


async def test_a_domain_that_every_provider_seems_not_to_know_is_told_within_minutes_and_not_bounced(
    tmp_path: Path,
) -> None:
    async with ScriptedProvider() as one, ScriptedProvider() as two, opened(tmp_path) as box:
        for peer in (one, two):
            peer.always("mail", "550 5.7.1 Sender address is not verified")  # words of no preset: a guess
        await box.add(a_message(at=box.clock.now), BODY)
        async with delivering(box, one, two) as dispatcher:
            digests = Digests(box.spool, box.clock, "mail.example.org", "postmaster@example.org", dispatcher)
            await eventually(lambda: count(box, EventKind.DEFERRED) == 2)
            box.clock.now += limits.MINUTE - 1
            assert await digests.look() == 0, "one odd round proves nothing"
            later(box, dispatcher, 7)
            await eventually(lambda: count(box, EventKind.DEFERRED) == 4)
            assert await digests.look() == 1
            assert count(box, EventKind.REFUSED) + count(box, EventKind.EXPIRED) == 0
        (letter,) = [entry for entry in await box.spool.queue() if entry.message.kind == "notice"]
        content = (await box.spool.read(letter.message.id).__anext__()).replace(b"=\r\n", b"")
        assert (
            b"One does not seem to know anna@example.org as a sender: 5.7.1 Sender address is not verified" in content
        )
        assert b"Two does not seem to know" in content


# --- the relay as it runs
def chosen(folder: Path, *peers: tuple[str, ScriptedProvider], **more: str) -> dict[str, str]:
    """The settings that lead a relay to these, in this order."""
    found = {"OWNPOST_PROVIDERS": ",".join(name for name, _ in peers), **more}
    for name, peer in peers:
        (folder / f"{name}.pem").write_text(peer.pem())
        own = {"HOST": "127.0.0.1", "PORT": str(peer.port), "TLS": "starttls", "CA_FILE": str(folder / f"{name}.pem")}
        own |= {"USERNAME": "us", "PASSWORD": "key"}
        found |= {f"{name.upper()}_{key}": value for key, value in own.items()}
    return found


def send(relay: Appliance, *recipients: str) -> None:
    context = ssl.create_default_context(cafile=str(relay.ca))
    with smtplib.SMTP_SSL("127.0.0.1", relay.submissions, context=context, timeout=20) as smtp:
        smtp.login("anna", PASSWORD)
        smtp.sendmail("anna@example.org", recipients, "From: anna@example.org\r\nSubject: x\r\n\r\nHello.\r\n")


def log_of(relay: Appliance, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in relay.log.read_text().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


@pytest.mark.parametrize(
    ("stage", "act", "standing"),
    [
        ("auth", "451 Authentication failed: Maximum credits exceeded", "used up"),
        ("auth", "535 Authentication failed: The provided authorization grant is invalid", "key dead"),
        ("final", "550 The from address does not match a verified Sender Identity.", "not set up"),
        ("greeting", "421 4.3.2 not now", "busy"),
        ("mail", RESET, "busy"),
    ],
    ids=str,
)
async def test_the_relay_sends_through_the_next_provider_and_says_why(
    tmp_path: Path, stage: str, act: Any, standing: str
) -> None:
    users = {"us": "key"}
    async with (
        ScriptedProvider(tls="starttls", users=users) as first,
        ScriptedProvider(tls="starttls", users=users) as second,
    ):
        first.always(stage, act)
        settings = chosen(tmp_path, ("sendgrid", first), ("brevo", second), RELAY_LOG_FORMAT="json")
        relay = Appliance(tmp_path, settings, accounts={"anna": account(["*@example.org"])})
        await asyncio.to_thread(relay.start)
        try:
            await asyncio.to_thread(send, relay, "bob@example.net")
            await asyncio.to_thread(in_time, lambda: log_of(relay, "delivered"), "the delivery")
            (paused,) = [line for line in log_of(relay, "provider_paused") if line["provider"] == "sendgrid"]
            assert paused["standing"] == standing
            (delivered,) = log_of(relay, "delivered")
            assert delivered["provider"] == "brevo"
            queue = await asyncio.to_thread(relay.status, "/queue")
            assert queue["deliveries"] == []
        finally:
            await asyncio.to_thread(relay.stop)
        assert [got.recipients for got in second.kept] == [["bob@example.net"]]
        assert first.kept == []
