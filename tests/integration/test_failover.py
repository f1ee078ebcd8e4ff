"""Two providers, of which the first does each documented thing in each stage: who got the message and how often, what
the sender was told, what the queue and the list of providers show. Real sockets, real TLS, real logins.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from relay import limits
from relay.choice.quota import Quota
from relay.choice.routes import Route, Routes
from relay.delivery.breaker import Breaker
from relay.delivery.connection import Times
from relay.delivery.dispatcher import Dispatcher
from relay.delivery.outlook import ProviderState
from relay.delivery.probe import PortLook, Readiness
from relay.model import EventKind, State
from relay.providers.presets import PRESETS
from relay.providers.provider import Provider
from relay.providers.rules import Standing
from relay.spool import QueueEntry
from support.delivering import BODY, SHORT, FakeJournal, at_rest, delivering, pausing, provider_for
from support.memory_spool import FakeClock, MemorySpool, Row
from support.presets import provider
from support.scripted_provider import CLOSE, HANG, RESET, USUAL, Act, ScriptedProvider

# long enough for a busy machine, and only where something hangs
QUICK = Times(connect=1.0, reply=1.0, block=1.0, final=1.0, quit=1.0, rate=1e6)
DUE, DELIVERED, REFUSED, HELD, EXPIRED = State.DUE, State.DELIVERED, State.REFUSED, State.HELD, State.EXPIRED
REAL = Breaker  # pauses as long as they are


@dataclass
class Scene:
    """Scripted providers, a dispatcher that knows them by these names, and the spool."""

    peers: Sequence[ScriptedProvider]
    spool: MemorySpool
    dispatcher: Dispatcher
    journal: FakeJournal

    async def rest(self) -> None:
        await at_rest(self.spool, self.dispatcher)

    def kept(self) -> list[int]:
        """How many messages each provider kept."""
        return [len(peer.kept) for peer in self.peers]

    def state(self, name: str) -> ProviderState:
        return next(one for one in self.dispatcher.providers() if one.name == name)

    def paused(self) -> list[tuple[str, str, str]]:
        """(provider, sender, standing) of each pause that was told of."""
        told = [fields for event, fields in self.journal.said if event == "provider_paused"]
        return [(fields["provider"], fields["sender"], fields["standing"]) for fields in told]


NAMES = ("one", "two", "three")


@contextlib.asynccontextmanager
async def scene(
    *peers: ScriptedProvider,
    facts: Sequence[dict[str, Any]] = (),
    breaker: Any = REAL,
    times: Times = SHORT,
    **more: Any,
) -> AsyncIterator[Scene]:
    async with contextlib.AsyncExitStack() as stack:
        for peer in peers:
            await stack.enter_async_context(peer)
        spool, journal = MemorySpool(FakeClock()), FakeJournal()
        known: list[Provider] = [
            provider_for(peer, name=name, title=name.title(), **(facts[n] if n < len(facts) else {}))
            for n, (name, peer) in enumerate(zip(NAMES, peers, strict=False))
        ]
        dispatcher = await stack.enter_async_context(
            delivering(spool, *known, times=times, journal=journal, breaker=breaker, **more)
        )
        yield Scene(peers, spool, dispatcher, journal)


def secure(**more: Any) -> ScriptedProvider:
    return ScriptedProvider(**{"tls": "starttls", "users": {"user": "secret"}, **more})


# preset, stage, what the first provider does there, how it is paused then ("": not; "@": for the sender)
FAULTS: list[tuple[str, str, Act, str]] = [
    ("sendgrid", "auth", "451 Authentication failed: Maximum credits exceeded", "used up"),
    ("sendgrid", "auth", "550 Authentication failed: Maximum credits exceeded", "used up"),
    ("sendgrid", "mail", "451 Maximum credits exceeded", "used up"),
    ("ses", "final", "454 Throttling failure: Daily message quota exceeded", "used up"),
    ("gmail", "final", "550 5.4.5 Daily user sending limit exceeded. For more information...", "used up"),
    ("generic", "mail", "452 4.5.3 Daily message limit exceeded", ""),  # a guess: one message alone proves nothing
    ("generic", "final", "554 5.7.0 limit on the number of allowed outgoing messages was exceeded.", ""),
    ("sendgrid", "auth", "535 Authentication failed: The provided authorization grant is invalid, revoked", "key dead"),
    ("generic", "auth", "535 5.7.8 wrong", "key dead"),
    ("microsoft365", "auth", "535 5.7.139 Authentication unsuccessful", "key dead"),
    ("generic", "mail", "530 5.7.0 Authentication required", "key dead"),
    ("sendgrid", "final", "550 The from address does not match a verified Sender Identity.", "@not set up"),
    ("smtp2go", "final", "550 From header sender domain not verified", "@not set up"),
    ("generic", "greeting", "421 4.3.2 not now", "busy"),
    ("generic", "greeting", "554 5.3.2 no service here", "busy"),
    ("generic", "mail", "421 4.3.2 closing", "busy"),
    ("generic", "rcpt", "421 4.3.2 closing", "busy"),
    ("generic", "final", "421 4.3.2 closing", "busy"),
    ("generic", "final", "451 4.3.0 later", ""),
    ("generic", "final", "451-4.3.0 später\n451-4.3.0 noch später\n451 4.3.0 viel später", ""),
    ("generic", "mail", b"451 4.3.0 \xff\xfe\xe4\r\n", ""),
    ("generic", "rcpt", "450 4.2.0 greylisted", ""),
    ("generic", "rcpt", "554 5.7.1 Relay access denied", ""),  # of this recipient, as far as is known
    ("generic", "rcpt", "553 5.7.1 <anna@example.org>: Sender address rejected: not owned by user bob", ""),
    ("generic", "final", "550 5.7.1 Sender mismatch", ""),
    ("ses", "final", "554 Message rejected: Sending suspended for this account. For more information...", "key dead"),
    ("generic", "greeting", HANG, "busy"),
    ("generic", "ehlo", HANG, "busy"),
    ("generic", "starttls", HANG, "busy"),
    ("generic", "auth", HANG, "busy"),
    ("generic", "mail", HANG, "busy"),
    ("generic", "rcpt", HANG, ""),
    ("generic", "data", HANG, ""),
    ("generic", "greeting", RESET, "busy"),
    ("generic", "starttls", "454 4.7.0 TLS not available", "busy"),
    ("generic", "starttls", ["220 go", CLOSE], "busy"),
    ("generic", "data", RESET, ""),
    ("generic", "data", "554 5.5.1 no", ""),
    ("generic", "data", "421 4.3.2 closing", "busy"),
    ("generic", "data", "451 4.3.0 later", ""),
    ("generic", "body", ["421 4.3.2 had enough", HANG], "busy"),  # unasked
    ("generic", "body", HANG, ""),
    ("generic", "body", RESET, ""),
]
HUGE = BODY + (b"x" * 998_000 + b"\r\n") * 20  # more than all the buffers on the way: its dot is not written


def named(value: Any) -> str:
    return str(value)[:40]


@pytest.mark.parametrize(("preset", "stage", "act", "pause"), FAULTS, ids=named)
async def test_what_one_provider_does_not_take_the_next_gets_at_once(
    preset: str, stage: str, act: Act, pause: str
) -> None:
    times, content = QUICK if act is HANG else SHORT, HUGE if stage == "body" else BODY
    async with scene(secure(), secure(), facts=[{"rules": PRESETS[preset].rules}], times=times) as here:
        here.peers[0].always(stage, act)
        message = here.spool.add(content)
        await here.rest()
        (row,) = here.spool.of(message)
        assert (row.state, row.attempts, row.provider) == (DELIVERED, 1, "two")
        assert here.kept() == [0, 1]
        assert here.peers[1].kept[0].content == content
        assert here.spool.notices == [], "the sender need not know"
        deferred, delivered = here.spool.events
        assert (deferred.kind, deferred.provider, deferred.detail["goes_on"]) == (EventKind.DEFERRED, "one", True)
        assert (delivered.kind, delivered.provider) == (EventKind.DELIVERED, "two")
        sender = "anna@example.org" if pause.startswith("@") else ""
        assert here.paused() == ([("one", sender, pause.removeprefix("@"))] if pause else [])
        assert here.state("one").state == ("paused" if pause and not sender else "open")
        assert [one.domain for one in here.state("one").domains] == ([sender] if sender else [])
        assert here.state("two").state == "open"


@pytest.mark.parametrize(
    ("preset", "stage", "act", "said"),
    [
        ("sendgrid", "auth", "451 Authentication failed: Maximum credits exceeded", "{}'s quota is used up"),
        ("generic", "auth", "535 5.7.8 wrong", "{} refused the login: 5.7.8 wrong"),
        ("generic", "data", "421 4.3.2 closing", "{} is in trouble: 4.3.2 closing"),
        ("generic", "body", ["421 4.3.2 had enough", HANG], "{} is in trouble: 4.3.2 had enough"),
        (
            "smtp2go",
            "final",
            "550 sender domain not verified",
            "anna@example.org is not set up at {}: sender domain not",
        ),
        ("generic", "data", "451 4.3.0 later", ""),  # it is tried again by the schedule
    ],
    ids=named,
)
async def test_what_the_queue_says_when_no_provider_takes_it(preset: str, stage: str, act: Act, said: str) -> None:
    facts = [{"rules": PRESETS[preset].rules}] * 2
    async with scene(secure(), secure(), facts=facts) as here:
        for peer in here.peers:
            peer.always(stage, act)
        message = here.spool.add(HUGE if stage == "body" else BODY)
        await here.rest()
        (row,) = here.spool.of(message)
        assert row.state is DUE
        words = here.dispatcher.waits(entry_of(row))
        assert words.startswith("waits until 2027-01-15 ") if said else words == ""
        assert all(said.format(name) in words for name in ("One", "Two"))


def entry_of(row: Row) -> QueueEntry:
    """As the spool would give it."""
    return QueueEntry(
        delivery=row.number,
        message=row.message,
        recipient=row.recipient,
        state=row.state,
        next_attempt=row.next_attempt,
        changed_at=0.0,
        attempts=row.attempts,
        doubts=row.doubts,
        provider=row.provider,
        code=0,
        reply=row.reply,
        held=0.0,
        delay_noticed=False,
        acknowledged=False,
        tried=row.tried,
    )


@pytest.mark.parametrize("act", [HANG, CLOSE, RESET, "garbage", "354 go on", b"250-half"], ids=named)
async def test_what_may_have_been_delivered_stays_with_its_provider(act: Act) -> None:
    times = SHORT if act in (CLOSE, RESET) else QUICK
    async with scene(secure(), secure(), breaker=pausing(), times=times) as here:
        here.peers[0].once("final", act)
        message = here.spool.add(BODY)
        await here.rest()
        (row,) = here.spool.of(message)
        assert (row.state, row.doubts, row.tied_to) == (DUE, 1, "one")
        assert row.next_attempt == here.spool.clock.now + 900
        here.spool.advance(900)
        await here.rest()
        assert here.spool.states(message) == [DELIVERED]
        assert here.kept() == [2, 0], "never hurried through another one"
        assert {got.content for got in here.peers[0].kept} == {BODY}


async def test_a_doubt_waits_for_its_provider_however_well_the_other_is() -> None:
    async with scene(secure(), secure(), breaker=pausing(30.0, 60.0)) as here:
        here.peers[0].once("final", RESET)
        message = here.spool.add(BODY)
        await here.rest()
        here.peers[0].always("greeting", "421 4.3.2 not now")
        here.spool.advance(900)
        await here.rest()
        other = here.spool.add(BODY)
        await here.rest()
        assert (here.spool.states(message), here.spool.states(other)) == ([DUE], [DELIVERED])
        assert here.kept() == [1, 1]


async def test_a_doubt_whose_provider_refuses_our_key_is_put_aside_for_a_person() -> None:
    async with scene(secure(), secure(), breaker=pausing()) as here:
        here.peers[0].once("final", RESET)
        message = here.spool.add(BODY)
        await here.rest()
        here.peers[0].always("auth", "535 5.7.8 key revoked")
        here.spool.advance(900)
        await here.rest()
        (row,) = here.spool.of(message)
        assert (row.state, row.tied_to) == (HELD, "one")
        assert "may have been delivered through One" in row.reply
        assert "key revoked" in row.reply
        assert "retry ID" in row.reply
        assert here.kept() == [1, 0]


# --- TLS
@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_a_certificate_for_another_name_gets_neither_login_nor_mail_and_the_next_provider_does(tls: str) -> None:
    bad = secure(tls=tls, certificate_name="other.example.net")
    async with scene(bad, secure()) as here:
        message = here.spool.add(BODY)
        await here.rest()
        assert here.spool.states(message) == [DELIVERED]
        assert here.kept() == [0, 1]
        assert bad.logins == []
        assert "certificate is not valid" in here.state("one").reason


async def test_a_provider_whose_starttls_was_stripped_gets_neither_login_nor_mail() -> None:
    stripped = secure()
    stripped.always("ehlo", "250-scripted\n250-8BITMIME\n250 AUTH PLAIN LOGIN")
    async with scene(stripped, secure()) as here:
        message = here.spool.add(BODY)
        await here.rest()
        assert here.spool.states(message) == [DELIVERED]
        assert here.kept() == [0, 1]
        assert stripped.logins == []
        assert {line.split()[0] for _, line in stripped.commands} <= {"EHLO", "QUIT"}
        assert "STARTTLS" in here.state("one").reason


# --- ports
async def test_a_port_that_cannot_be_used_leads_to_the_next_at_once_and_that_one_is_kept() -> None:
    good = ScriptedProvider(tls="tls", users={"user": "secret"})
    async with ScriptedProvider() as shut, ScriptedProvider(users={"user": "secret"}) as stripped, good:
        shut._server.close()
        ports = ((shut.port, "starttls"), (stripped.port, "starttls"), (good.port, "tls"))
        spool = MemorySpool(FakeClock())
        first = spool.add(BODY)
        provider = provider_for(good, ports=ports)
        async with delivering(spool, provider) as dispatcher:
            await at_rest(spool, dispatcher)
            assert dispatcher.providers()[0].port == good.port
            second = spool.add(BODY)
            await at_rest(spool, dispatcher)
        assert spool.states(first) + spool.states(second) == [DELIVERED] * 2
        assert [row.attempts for row in spool.rows.values()] == [1, 1]
        assert stripped.connections == 1
        assert stripped.logins == []


async def test_a_port_that_swallows_everything_does_not_hold_mail_up() -> None:
    async with ScriptedProvider() as silent, ScriptedProvider() as good:
        silent.always("greeting", HANG)
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY)
        provider = provider_for(good, ports=((silent.port, "none"), (good.port, "none")))
        async with delivering(spool, provider, times=QUICK) as dispatcher:
            await at_rest(spool, dispatcher)
        assert spool.states(message) == [DELIVERED]
        assert spool.of(message)[0].attempts == 1
        assert Times().connect > limits.PORT_TIME, "the last port has all the time, the others have less"


async def test_a_port_that_offers_no_login_of_ours_gives_way_to_the_next() -> None:
    async with secure(mechanisms="NTLM", tls="none") as bare, secure(tls="none") as good:
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY)
        provider = provider_for(good, ports=((bare.port, "none"), (good.port, "none")))
        async with delivering(spool, provider) as dispatcher:
            await at_rest(spool, dispatcher)
        assert (spool.states(message), bare.logins) == ([DELIVERED], [])


async def test_a_provider_that_answers_is_not_asked_at_its_other_ports() -> None:
    async with ScriptedProvider() as busy, ScriptedProvider() as other:
        busy.always("greeting", "421 4.3.2 not now")
        spool = MemorySpool(FakeClock())
        spool.add(BODY)
        provider = provider_for(busy, ports=((busy.port, "none"), (other.port, "none")))
        async with delivering(spool, provider, breaker=REAL) as dispatcher:
            await at_rest(spool, dispatcher)
        assert (busy.connections, other.connections) == (1, 0)


# --- rounds
async def test_when_nobody_takes_it_the_schedule_does_and_each_was_asked_once() -> None:
    async with scene(secure(), secure(), secure()) as here:
        for peer in here.peers:
            peer.always("final", "451 4.3.0 later")
        message = here.spool.add(BODY)
        await here.rest()
        (row,) = here.spool.of(message)
        assert (row.state, row.attempts, row.tried) == (DUE, 1, frozenset())
        assert row.next_attempt == here.spool.clock.now + 60
        assert [len(peer.messages) for peer in here.peers] == [1, 1, 1]
        here.peers[0].always("final", None)
        here.spool.advance(60)
        await here.rest()
        assert here.spool.states(message) == [DELIVERED]
        assert here.kept() == [1, 0, 0]


async def test_used_up_everywhere_waits_without_counting_attempts_and_says_for_what() -> None:
    facts = [{"rules": PRESETS["sendgrid"].rules, "quotas": (Quota(limit=300, period="day"),)}] * 2
    async with scene(secure(), secure(), facts=facts) as here:
        for peer in here.peers:
            peer.always("auth", "451 Authentication failed: Maximum credits exceeded")
        messages = [here.spool.add(BODY) for _ in range(20)]
        await here.rest()
        rows = list(here.spool.rows.values())
        assert {(row.state, row.attempts) for row in rows} == {(DUE, 0)}
        assert [len(peer.logins) for peer in here.peers] == [1, 1], "one message met it, the others were not touched"
        assert abs(here.state("one").until - here.spool.clock.now - 16 * 3600) < 61, "midnight UTC"
        for peer in here.peers:
            peer.always("auth", None)
        here.spool.advance(16 * 3600 + 60)
        await here.rest()
        assert {state for one in messages for state in here.spool.states(one)} == {DELIVERED}
        assert sum(here.kept()) == 20
        assert here.spool.notices == []


async def test_a_guess_pauses_only_after_three_messages_met_it() -> None:
    async with scene(secure(), secure()) as here:
        here.peers[0].always("mail", "452 4.5.3 Daily message limit exceeded")
        for number in (1, 2, 3):
            assert here.paused() == []
            here.spool.add(BODY)
            await here.rest()
            assert here.kept() == [0, number]
        assert here.paused() == [("one", "", "used up")]
        asked = len(here.peers[0].commands)
        here.spool.add(BODY)
        await here.rest()
        assert here.kept() == [0, 4]
        assert len(here.peers[0].commands) == asked


async def test_a_provider_that_says_that_it_has_too_many_of_our_threads_gets_fewer_connections() -> None:
    facts = {"rules": PRESETS["microsoft365"].rules, "connections": 3}
    async with scene(secure(), facts=[facts], breaker=pausing()) as here:
        here.peers[0].once("final", "432 4.3.2 STOREDRV.ClientSubmit; sender thread limit exceeded [Hostname=X]")
        for _ in range(40):
            here.spool.add(BODY)
        await here.rest()
        here.spool.advance(limits.CONNECTION_BACK / 2)
        await here.rest()
        assert here.kept() == [40]
        assert here.paused()[0] == ("one", "", "busy")
        assert here.peers[0].open == 2


async def test_ten_failures_in_a_row_without_a_reason_are_one_too_many() -> None:
    async with scene(secure(), secure(), facts=[{"connections": 1}]) as here:
        here.peers[0].always("final", "451 4.3.0 later")
        for number in range(1, limits.RUN_OF_FAILURES + 1):
            assert here.paused() == []
            here.spool.add(BODY)
            await here.rest()
            assert here.kept() == [0, number]
        assert here.paused() == [("one", "", "busy")]


async def test_a_message_that_gets_through_ends_the_run() -> None:
    async with scene(secure(), secure()) as here:
        for _ in range(3):
            here.peers[0].once("final", *["451 4.3.0 later"] * (limits.RUN_OF_FAILURES - 1))
            for _ in range(limits.RUN_OF_FAILURES):
                here.spool.add(BODY)
                await here.rest()
        assert here.paused() == []


async def test_messages_that_wait_for_a_paused_provider_go_to_the_next_without_an_attempt() -> None:
    async with scene(secure(), secure(), facts=[{"connections": 1}]) as here:
        here.peers[0].always("auth", "535 5.7.8 key revoked")
        messages = [here.spool.add(BODY) for _ in range(200)]
        await here.rest()
        assert {state for one in messages for state in here.spool.states(one)} == {DELIVERED}
        assert {row.attempts for row in here.spool.rows.values()} == {1}
        assert here.kept() == [0, 200]
        assert len(here.peers[0].logins) == 1


async def test_one_message_probes_and_meanwhile_the_others_go_on_through_the_next() -> None:
    async with scene(secure(), secure(), facts=[{"rules": PRESETS["sendgrid"].rules}]) as here:
        here.peers[0].always("auth", "451 Maximum credits exceeded")
        here.spool.add(BODY)
        await here.rest()
        for _ in range(50):
            here.spool.add(BODY)
        await here.rest()
        assert here.kept() == [0, 51]
        here.spool.advance(3600)
        for _ in range(50):
            here.spool.add(BODY)
        await here.rest()
        assert here.kept() == [0, 101]
        assert len(here.peers[0].logins) == 2, "one probe, and it failed"
        here.peers[0].always("auth", None)
        here.spool.advance(3600)
        for _ in range(50):
            here.spool.add(BODY)
        await here.rest()
        assert sum(here.kept()) == 151
        assert here.state("one").state == "open"
        assert here.kept()[0] >= 1
        assert [event for event, _ in here.journal.said][-1] == "provider_resumed"


# --- one sender domain
async def test_a_domain_that_is_not_set_up_there_leaves_the_others_alone() -> None:
    rules = PRESETS["sendgrid"].rules
    async with scene(secure(), secure(), facts=[{"rules": rules}, {"rules": rules}]) as here:
        refusal = "550 The from address does not match a verified Sender Identity."
        here.peers[0].once("final", refusal)
        here.spool.add(BODY)
        await here.rest()
        here.spool.add(BODY, sender="anna@other.example")
        await here.rest()
        assert here.kept() == [1, 1]
        assert here.paused() == [("one", "anna@example.org", "not set up")]


async def test_one_address_that_is_not_known_there_stops_no_other_of_its_domain() -> None:
    async with scene(secure(), facts=[{"rules": PRESETS["ses"].rules}]) as here:
        peer = here.peers[0]
        peer.once("final", "554 Message rejected: Email address is not verified.")
        bad = [here.spool.add(BODY, sender="bob@example.org", account="printer") for _ in range(10)]
        await here.rest()
        assert here.paused() == [("one", "bob@example.org", "not set up")]
        good = here.spool.add(BODY, sender="anna@example.org")
        await here.rest()
        assert here.spool.states(good) == [DELIVERED]
        assert here.kept() == [1]
        assert {row.attempts for one in bad for row in here.spool.of(one)} == {0}
        assert len(peer.messages) == 2, "and he knocks once an hour, not with every mail"


SANDBOX = (
    "554 Message rejected: Email address is not verified. The following identities failed the check in region X: {}"
)


@pytest.mark.parametrize(
    ("to", "named", "kept", "pauses"),
    [
        ("bob@example.net", "bob@example.net", [1, 1], []),
        ("Anna@example.org", "anna@example.org", [0, 2], [("one", "anna@example.org", "not set up")]),
    ],
)
async def test_a_recipient_that_is_not_verified_pauses_no_sender(
    to: str, named: str, kept: list[int], pauses: list[tuple[str, str, str]]
) -> None:
    async with scene(secure(), secure(), facts=[{"rules": PRESETS["ses"].rules}, {}]) as here:
        here.peers[0].once("final", SANDBOX.format(named))
        first = here.spool.add(BODY, [to], sender="anna@example.org")
        await here.rest()
        second = here.spool.add(BODY, ["carol@example.net"], sender="anna@example.org")
        await here.rest()
        assert here.spool.states(first) == here.spool.states(second) == [DELIVERED]
        assert here.kept() == kept
        assert here.paused() == pauses


async def test_what_two_addresses_met_is_the_domains_and_others_ask_first_when_its_time_is_over() -> None:
    async with scene(secure(), facts=[{"rules": PRESETS["ses"].rules, "connections": 1}]) as here:
        refusal = "554 Message rejected: Email address is not verified."
        here.peers[0].once("final", refusal, refusal)
        for name in ("bob", "carol"):
            for _ in range(10):
                here.spool.add(BODY, sender=f"{name}@example.org")
        await here.rest()
        assert here.paused() == [("one", who, "not set up") for who in ("bob@example.org", "example.org")]
        anna = here.spool.add(BODY, sender="anna@example.org")
        await here.rest()
        assert here.spool.states(anna) == [DUE]
        here.spool.advance(301)
        await here.rest()
        assert here.spool.states(anna) == [DELIVERED]
        assert here.kept() == [1]


async def test_a_domain_that_is_set_up_nowhere_waits_and_is_no_bounce() -> None:
    rules = PRESETS["sendgrid"].rules
    async with scene(secure(), secure(), facts=[{"rules": rules}, {"rules": rules}]) as here:
        for peer in here.peers:
            peer.always("final", "550 The from address does not match a verified Sender Identity.")
        messages = [here.spool.add(BODY) for _ in range(5)]
        await here.rest()
        assert {state for one in messages for state in here.spool.states(one)} == {DUE}
        assert here.spool.notices == []
        assert {len(peer.messages) for peer in here.peers} <= {1, 2, 3, 4, 5}
        for peer in here.peers:
            peer.always("final", None)
        here.spool.advance(2 * 3600)
        await here.rest()
        assert {state for one in messages for state in here.spool.states(one)} == {DELIVERED}


async def test_who_has_set_the_domain_up_by_now_has_one_message_tried_and_the_rest_follow() -> None:
    async with scene(secure(), facts=[{"rules": PRESETS["sendgrid"].rules}]) as here:
        here.peers[0].always("final", "550 The from address does not match a verified Sender Identity.")
        messages = [here.spool.add(BODY) for _ in range(3)]
        await here.rest()
        sent = len(here.peers[0].messages)
        here.dispatcher.retried(messages[0])
        await here.rest()
        assert len(here.peers[0].messages) == sent + 1, "one alone asks, and it is not set up yet"
        here.peers[0].always("final", None)
        here.dispatcher.retried(here.spool.add(BODY, sender="anna@example.com"))
        await here.rest()
        assert here.kept() == [1], "that is another domain"
        here.dispatcher.retried(messages[0])
        await here.rest()
        assert [here.spool.states(one) for one in messages] == [[DELIVERED]] * 3


# --- what is the message's own
CRLF = "\r\n"


async def test_a_message_refused_for_its_content_is_not_offered_to_the_next() -> None:
    async with scene(secure(), secure()) as here:
        here.peers[0].always("final", "550 5.7.1 spam")
        message = here.spool.add(BODY)
        await here.rest()
        assert here.spool.states(message) == [REFUSED]
        assert here.kept() == [0, 0]
        ((_, content),) = here.spool.notices
        assert b"One says: 550 5.7.1 spam" in content


@pytest.mark.parametrize("field", ["Subject", "X-Reason"])
@pytest.mark.parametrize("fold", ["", CRLF, f"{CRLF} "], ids=repr)
async def test_a_refusal_that_quotes_a_field_stops_nobody_elses_mail(field: str, fold: str) -> None:
    async with scene(secure(), secure(), facts=[{"rules": PRESETS["sendgrid"].rules}]) as here:
        value = f"Your invoice:{fold} Maximum credits exceeded"
        here.peers[0].always("final", f'550 5.7.1 looks like spam: "{value.replace(CRLF, "")}"')
        message = here.spool.add(f"{field}: {value}\r\n".encode() + BODY)
        await here.rest()
        assert (here.spool.states(message), here.paused()) == ([REFUSED], [])


async def test_what_one_provider_can_never_carry_goes_to_one_that_can() -> None:
    utf8 = ("PIPELINING", "8BITMIME", "SMTPUTF8")
    async with scene(secure(), secure(extensions=utf8)) as here:
        message = here.spool.add(BODY, ["jürgen@example.net"], smtputf8=True)
        await here.rest()
        assert here.spool.states(message) == [DELIVERED]
        assert here.kept() == [0, 1]


async def test_smtputf8_that_is_not_offered_any_more_is_waited_for_and_stops_nothing_else() -> None:
    async with scene(secure()) as here:
        waiting = [
            here.spool.add(BODY, ["jürgen@example.net"], smtputf8=True) for _ in range(limits.RUN_OF_FAILURES + 1)
        ]
        await here.rest()
        assert {state for message in waiting for state in here.spool.states(message)} == {DUE}
        assert (here.spool.notices, here.paused()) == ([], [])
        here.peers[0].extensions = ("PIPELINING", "8BITMIME", "SMTPUTF8")
        here.spool.advance(3600)
        await here.rest()
        assert {state for message in waiting for state in here.spool.states(message)} == {DELIVERED}


async def test_a_header_beyond_ascii_goes_to_one_that_can_carry_it() -> None:
    utf8 = ("PIPELINING", "8BITMIME", "SMTPUTF8")
    async with scene(secure(), secure(extensions=utf8)) as here:
        message = here.spool.add(BODY, smtputf8=True)
        await here.rest()
        assert here.spool.states(message) == [DELIVERED]
        assert here.kept() == [0, 1]


async def test_smtputf8_is_known_from_every_providers_last_ehlo() -> None:
    utf8 = ("PIPELINING", "8BITMIME", "SMTPUTF8")
    async with scene(secure(extensions=utf8), secure(extensions=utf8)) as here:
        offered = here.dispatcher.smtputf8

        def looked(*ports: bool | None) -> None:
            """The probe has found these at the ports of the second."""
            found = [
                PortLook(port=n, tls="tls", open=one is not None, login=None, smtputf8=one)
                for n, one in enumerate(ports)
            ]
            here.dispatcher.looked(Readiness(provider="two", at=0.0, ports=tuple(found)))

        assert not offered(), "nobody was heard"
        here.spool.add(BODY)
        await here.rest()
        assert not offered(), "the second was not"
        looked(True, None)
        assert offered()
        looked(None, None)
        assert offered(), "one that cannot be reached has not changed its mind"
        looked(True, False)
        assert not offered()


async def test_what_no_provider_can_carry_is_refused_once_all_have_said_so() -> None:
    async with scene(*(secure(extensions=("PIPELINING", "SIZE 10")) for _ in range(3))) as here:
        message = here.spool.add(BODY)
        await here.rest()
        assert here.spool.states(message) == [REFUSED]
        assert len(here.spool.notices) == 1


BARE = "250 2.0.0 Ok"  # of Cloudflare's: without an id, nothing was sent
CLOUDFLARE = provider("cloudflare")
ONE_EACH = {"recipients": CLOUDFLARE.recipients, "accepted": CLOUDFLARE.accepted}


async def test_a_250_that_means_that_nothing_was_sent_is_no_delivery_and_no_doubt() -> None:
    async with scene(secure(), secure(), facts=[ONE_EACH]) as here:
        here.peers[0].once("final", BARE)
        here.peers[0].always("final", "250 2.0.0 Ok <{number}@example.org>")
        message = here.spool.add(BODY, ["a@example.net", "b@example.net"])
        await here.rest()
        assert here.spool.states(message) == [DELIVERED, DELIVERED]
        assert sorted(row.provider for row in here.spool.of(message)) == ["one", "two"]
        assert [len(got.recipients) for peer in here.peers for got in peer.messages] == [1, 1, 1]
        assert (here.spool.notices, here.paused()) == ([], [])


async def test_where_no_other_provider_is_left_the_sender_is_told_of_the_suppression_list() -> None:
    async with scene(secure(), facts=[ONE_EACH]) as here:
        here.peers[0].always("final", BARE)
        message = here.spool.add(BODY)
        await here.rest()
        assert here.spool.states(message) == [REFUSED]
        ((_, content),) = here.spool.notices
        assert b"One says: 250 without an id: it sent nothing, since the address is on its suppression list." in content
        assert b"Action: failed" in content


async def test_what_one_can_never_carry_and_another_did_not_take_now_is_no_bounce() -> None:
    utf8 = ("PIPELINING", "8BITMIME", "SMTPUTF8")
    async with scene(secure(extensions=utf8), secure()) as here:
        here.peers[0].always("mail", "451 4.3.0 later")
        message = here.spool.add(BODY, ["jürgen@example.net"], smtputf8=True)
        await here.rest()
        assert here.spool.states(message) == [DUE]
        here.peers[0].always("mail", None)
        for _ in range(3):
            here.spool.advance(7200)
            await here.rest()
        assert here.spool.states(message) == [DELIVERED]
        assert here.kept() == [1, 0]
        assert here.spool.notices == []


async def test_each_recipient_goes_its_own_way() -> None:
    async with scene(secure(), secure()) as here:
        here.peers[0].rcpt = {"b@example.net": "550 5.1.1 unknown", "c@example.net": "450 4.2.0 later"}
        message = here.spool.add(BODY, ["a@example.net", "b@example.net", "c@example.net"])
        await here.rest()
        assert here.spool.states(message) == [DELIVERED, REFUSED, DELIVERED]
        assert [got.recipients for peer in here.peers for got in peer.kept] == [["a@example.net"], ["c@example.net"]]


async def test_a_notice_names_what_the_other_providers_said_before() -> None:
    async with scene(secure(), secure()) as here:
        here.peers[0].always("mail", "451 4.3.0 one is tired")
        here.peers[1].always("final", "550 5.7.1 two calls it spam")
        here.spool.add(BODY)
        await here.rest()
        ((_, content),) = here.spool.notices
        assert b"Two says: 550 5.7.1 two calls it spam" in content
        assert b"Before that, One said: 451 4.3.0 one is tired" in content


# --- routes and quotas
async def test_a_route_is_never_left() -> None:
    routes = Routes(("one", "two"), (Route(("one",), domain="example.org"),))
    async with scene(secure(), secure(), routes=routes) as here:
        here.peers[0].always("final", "451 4.3.0 later")
        bound, free = here.spool.add(BODY), here.spool.add(BODY, sender="anna@other.example")
        await here.rest()
        assert here.spool.states(bound) + here.spool.states(free) == [DUE, DELIVERED]
        assert here.kept() == [0, 1]


async def test_quotas_are_used_up_in_order_and_never_exceeded() -> None:
    facts = [{"quotas": (Quota(limit=limit, period="day"),)} for limit in (7, 5)]
    async with scene(secure(), secure(), facts=facts) as here:
        for n in range(20):
            here.spool.add(BODY, [f"r{n}@example.net"])
        await here.rest()
        assert here.kept() == [7, 5]
        assert sum(row.state is DUE and row.attempts == 0 for row in here.spool.rows.values()) == 8
        here.spool.advance(86400)
        await here.rest()
        assert here.kept() == [14, 6]


async def test_what_is_too_large_for_the_first_goes_to_the_next() -> None:
    async with scene(secure(), secure(), facts=[{"size_limit": 1000}]) as here:
        here.spool.add(BODY + b"x" * 2000 + b"\r\n")
        here.spool.add(BODY)
        await here.rest()
        assert here.kept() == [1, 1]


async def test_too_many_recipients_for_one_transaction_go_in_parts() -> None:
    async with scene(secure(), facts=[{"recipients": 4}]) as here:
        message = here.spool.add(BODY, [f"r{n}@example.net" for n in range(10)])
        await here.rest()
        assert here.spool.states(message) == [DELIVERED] * 10
        assert sorted(len(got.recipients) for got in here.peers[0].kept) == [2, 4, 4]


# --- the end of patience
def long_after_the_start(here: Scene) -> None:
    """So much later that mail may expire, and nothing was looked at meanwhile."""
    here.spool.clock.now += limits.EXPIRY_AFTER_START
    here.spool.clock.passed += limits.EXPIRY_AFTER_START


async def test_mail_that_grew_old_while_the_relay_was_off_gets_more_than_one_try() -> None:
    async with scene(secure()) as here:
        here.peers[0].always("final", "451 4.3.0 later")
        old = [here.spool.add(BODY, received_at=here.spool.clock.now - 6 * 86400) for _ in range(2)]
        await here.rest()
        assert [here.spool.states(one) for one in old] == [[DUE], [DUE]], "one bad moment is not its end"
        here.spool.advance(limits.EXPIRY_AFTER_START - 60)
        await here.rest()
        assert here.spool.states(old[0]) == [DUE]
        here.spool.advance(7200)
        await here.rest()
        assert here.spool.states(old[0]) == [EXPIRED]
        assert here.spool.notices


async def test_mail_that_no_provider_could_be_tried_for_ends_with_the_reasons() -> None:
    facts = [{"rules": PRESETS["sendgrid"].rules}] * 2
    async with scene(secure(), secure(), facts=facts) as here:
        for peer in here.peers:
            peer.always("auth", "451 Maximum credits exceeded")
        young = here.spool.add(BODY)
        old = here.spool.add(BODY, received_at=here.spool.clock.now - 6 * 86400)
        await here.rest()
        assert here.spool.states(old) == [DUE], "it could not be tried"
        assert await here.dispatcher.sweep() == 0, "the relay has only just started"
        long_after_the_start(here)
        assert await here.dispatcher.sweep() == 1
        assert here.spool.states(old) + here.spool.states(young) == [EXPIRED, DUE]
        ((_, content),) = here.spool.notices
        assert old.id.encode() in content
        assert b"One's quota is used up; Two's quota is used up" in content.replace(b"=\r\n", b"")


async def test_the_sweep_ends_only_what_cannot_be_tried() -> None:
    async with scene(secure()) as here:
        here.peers[0].always("greeting", "421 4.3.2 not now")
        here.spool.add(BODY)
        await here.rest()
        stale = here.spool.add(BODY, received_at=here.spool.clock.now - 6 * 86400)
        await here.rest()
        assert here.spool.states(stale) == [DUE]
        long_after_the_start(here)
        assert await here.dispatcher.sweep() == 1
        assert here.spool.states(stale) == [EXPIRED]
        ((_, content),) = here.spool.notices
        assert b"It waited for five days and was then given up." in content
        assert b"no provider could take it: One is in trouble: 4.3.2 not now" in content


# --- speed
async def test_failover_adds_less_than_fifty_milliseconds() -> None:
    async with scene(ScriptedProvider(), ScriptedProvider(), breaker=pausing(30, 60)) as here:
        here.spool.add(BODY)
        await here.rest()  # both are warm
        taken = []
        for _ in range(5):
            here.peers[0].once("mail", "451 4.3.0 later", "451 4.3.0 later")  # on a fresh connection too
            begun = time.perf_counter()
            message = here.spool.add(BODY)
            await here.spool.settled(message)
            taken.append(time.perf_counter() - begun)
            assert here.spool.of(message)[0].provider == "two"
        assert min(taken) < 0.05, taken


def look(here: Scene, *, key: bool) -> Readiness:
    """What a look at the first provider finds."""
    port = here.peers[0].port
    wrong = {} if key else {"sentence": "535 5.7.8 No", "standing": Standing.KEY_DEAD}
    return Readiness(
        provider="one", at=0.0, ports=(PortLook(port=port, tls="starttls", open=True, login=key, **wrong),)
    )


async def test_a_login_without_a_message_ends_the_pause_of_a_dead_key() -> None:
    async with scene(secure()) as here:
        here.peers[0].always("auth", "535 5.7.8 key revoked")
        message = here.spool.add(BODY)
        await here.rest()
        assert here.state("one").standing == "key dead"
        here.peers[0].always("auth", USUAL["auth"])
        here.dispatcher.looked(look(here, key=True))
        assert here.state("one").state == "open"
        await here.rest()
        assert here.spool.states(message) == [DELIVERED], "what waited for the key goes at once"


async def test_a_provider_that_no_mail_prefers_is_open_again_once_a_look_got_through() -> None:
    async with scene(secure(), secure(), routes=Routes(("two", "one"))) as here:
        here.peers[0].always("greeting", "421 4.3.2 not now")
        here.peers[1].once("mail", "451 4.3.0 later")  # so that one message comes here
        here.spool.add(BODY)
        await here.rest()
        assert here.state("one").state == "paused"
        assert here.dispatcher.unprobed() == []
        here.dispatcher.looked(look(here, key=True))
        assert here.state("one").state == "paused", "its time is not over"
        here.spool.advance(10)
        await here.rest()
        assert here.state("one").state == "probing"
        assert here.dispatcher.unprobed() == ["one"]
        here.dispatcher.looked(look(here, key=True))
        assert here.state("one").state == "open"
        assert here.journal.said[-1][0] == "provider_resumed"


async def test_where_there_is_no_login_a_look_ends_the_pause_of_a_dead_key_once_its_time_is_over() -> None:
    """A relay that lets us in by our address."""
    bare, facts = ScriptedProvider(), [{"rules": PRESETS["workspace"].rules}]
    async with scene(bare, secure(), facts=facts, routes=Routes(("two", "one"))) as here:
        bare.always("rcpt", "550 5.7.1 Mail relay denied [192.0.2.1]. Invalid credentials for relay.")
        here.peers[1].once("mail", "451 4.3.0 later")  # so that one message comes here
        here.spool.add(BODY)
        await here.rest()
        assert here.state("one").standing == "key dead"
        port = PortLook(port=bare.port, tls="none", open=True, login=None)
        found = Readiness(provider="one", at=0.0, ports=(port,))
        here.dispatcher.looked(found)
        assert here.state("one").state == "paused"
        here.spool.advance(400)
        await here.rest()
        assert here.dispatcher.unprobed() == ["one"]
        here.dispatcher.looked(found)
        assert here.state("one").state == "open"


async def test_a_sender_that_sends_nothing_more_is_not_told_of_for_ever() -> None:
    facts = [{"rules": PRESETS["ses"].rules}]
    async with scene(secure(), secure(), facts=facts, routes=Routes(("two", "one"))) as here:
        here.peers[0].always("final", "554 Message rejected: Email address is not verified.")
        here.peers[1].once("mail", "451 4.3.0 later")
        here.spool.add(BODY)
        await here.rest()
        for minutes in (0, 61, 50):
            here.spool.advance(minutes * 60.0)
            await here.rest()
            assert [one.domain for one in here.state("one").domains] == ["anna@example.org"]
        here.spool.advance(600)
        await here.rest()
        assert here.state("one").domains == ()
        assert here.journal.said[-1][0] == "provider_resumed"


async def test_a_look_that_fails_in_place_of_a_message_begins_the_next_pause() -> None:
    async with scene(secure()) as here:
        here.peers[0].always("greeting", "421 4.3.2 not now")
        here.spool.add(BODY)
        await here.rest()
        here.dispatcher.looked(look(here, key=False))
        assert here.state("one").standing == "busy", "what is paused is not paused again"
        here.spool.advance(10)
        here.dispatcher.looked(look(here, key=False))
        assert (here.state("one").state, here.state("one").standing) == ("paused", "key dead")
        here.spool.advance(400)
        assert here.dispatcher.unprobed() == [], "a wrong password is offered once an hour, not once a minute"


async def test_while_a_message_probes_a_look_decides_nothing() -> None:
    async with scene(secure()) as here:
        here.peers[0].once("greeting", "421 4.3.2 not now")
        message = here.spool.add(BODY)
        await here.rest()
        here.peers[0].once("final", HANG)
        here.spool.advance(60)
        while here.state("one").in_hand != 1 or not here.peers[0].messages:
            await here.peers[0].changed.wait()
        assert here.dispatcher.unprobed() == []
        for key in (True, False):
            here.dispatcher.looked(look(here, key=key))
            assert (here.state("one").state, here.state("one").standing) == ("probing", "busy")
        assert here.spool.states(message) != [DELIVERED]
