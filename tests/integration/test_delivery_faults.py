"""Every fault in every stage, against a provider that does what it is told: how each recipient ends, how often the
provider got the message, and what the sender is told. Real sockets, real TLS, real logins.
"""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import aiosmtplib
import pytest

from relay.delivery.breaker import Breaker
from relay.delivery.connection import Opener, Times
from relay.delivery.probe import PortLook, Readiness
from relay.model import Kind, State
from relay.providers.provider import client_context
from support.delivering import BODY, SHORT, FakeJournal, at_rest, delivering, pausing, provider_for
from support.memory_spool import FakeClock, MemorySpool
from support.scripted_provider import CLOSE, HANG, RESET, USUAL, Act, ScriptedProvider, Talk

# long enough for a busy machine, and only where something hangs
QUICK = Times(connect=1.0, reply=1.0, block=1.0, final=1.0, quit=1.0, rate=1e6)
HUGE = BODY + (b"x" * 998_000 + b"\r\n") * 20  # more than all the buffers on the way
DUE, DELIVERED, REFUSED = State.DUE, State.DELIVERED, State.REFUSED

# stage, what the provider does there once, state then, kept by the provider, in doubt
FAULTS: list[tuple[str, Act, State, int, bool]] = [
    ("greeting", "421 4.3.2 not now", DUE, 0, False),
    ("greeting", "554 5.3.2 no service", DUE, 0, False),
    ("greeting", "garbage", DUE, 0, False),
    ("greeting", HANG, DUE, 0, False),
    ("greeting", CLOSE, DUE, 0, False),
    ("greeting", RESET, DUE, 0, False),
    ("ehlo", "421 4.3.2 not now", DUE, 0, False),
    ("ehlo", "garbage", DUE, 0, False),
    ("ehlo", HANG, DUE, 0, False),
    ("ehlo", CLOSE, DUE, 0, False),
    ("starttls", "454 4.7.0 not now", DUE, 0, False),
    ("starttls", "502 5.5.1 what", DUE, 0, False),
    ("starttls", HANG, DUE, 0, False),
    ("starttls", RESET, DUE, 0, False),
    ("starttls", ["220 go", CLOSE], DUE, 0, False),
    ("starttls", ["220 go", b"\x00 this is not TLS\r\n", CLOSE], DUE, 0, False),
    ("auth", "451 Authentication failed: Maximum credits exceeded", DUE, 0, False),
    ("auth", "454 4.7.0 later", DUE, 0, False),
    ("auth", "garbage", DUE, 0, False),
    ("auth", HANG, DUE, 0, False),
    ("auth", RESET, DUE, 0, False),
    ("mail", "421 4.3.2 closing", DUE, 0, False),
    ("mail", ["421 4.3.2 closing", CLOSE], DUE, 0, False),
    ("mail", "451 4.3.0 later", DUE, 0, False),
    ("mail", "550 5.7.1 sender not allowed", DUE, 0, False),
    ("mail", "552 5.3.4 message too big", REFUSED, 0, False),
    ("mail", "452 4.5.3 Daily message limit exceeded", DUE, 0, False),
    ("mail", "garbage", DUE, 0, False),
    ("mail", b"\xff\xfe\x00\r\n", DUE, 0, False),
    ("mail", "250-ok\n250-ok\n250 ok", DELIVERED, 1, False),
    ("mail", HANG, DUE, 0, False),
    ("mail", CLOSE, DUE, 0, False),
    ("mail", RESET, DUE, 0, False),
    ("rcpt", "450 4.2.0 greylisted", DUE, 0, False),
    ("rcpt", "452 4.5.3 too many recipients", DUE, 0, False),
    ("rcpt", "550 5.1.1 no such user", REFUSED, 0, False),
    ("rcpt", "554 5.7.1 Relay access denied", DUE, 0, False),
    ("rcpt", "530 5.7.0 Authentication required", DUE, 0, False),
    ("rcpt", "421 4.3.2 closing", DUE, 0, False),
    ("rcpt", "garbage", DUE, 0, False),
    ("rcpt", HANG, DUE, 0, False),
    ("rcpt", CLOSE, DUE, 0, False),
    ("rcpt", RESET, DUE, 0, False),
    ("data", "451 4.3.0 later", DUE, 0, False),
    ("data", "554 5.5.1 no", DUE, 0, False),
    ("data", "250 what", DUE, 0, False),
    ("data", "421 4.3.2 closing", DUE, 0, False),
    ("data", "garbage", DUE, 0, False),
    ("data", HANG, DUE, 0, False),
    ("data", RESET, DUE, 0, False),
    ("final", "250 2.0.0 queued", DELIVERED, 1, False),
    ("final", "250-2.0.0\n250 queued", DELIVERED, 1, False),
    ("final", "450 4.3.0 later", DUE, 0, False),
    ("final", "421 4.3.2 closing", DUE, 0, False),
    ("final", "550 5.7.1 spam", REFUSED, 0, False),
    ("final", "550 5.4.5 Daily user sending quota exceeded", DUE, 0, False),
    ("final", "550 The from address does not match a verified Sender Identity.", DUE, 0, False),
    ("final", "354 go on", DUE, 1, True),
    ("final", "garbage", DUE, 1, True),
    ("final", HANG, DUE, 1, True),
    ("final", CLOSE, DUE, 1, True),
    ("final", RESET, DUE, 1, True),
]
# What refuses our login: the mail waits for the key and not for a time, as the test of these says.
KEY_REFUSED: list[tuple[str, Act]] = [
    ("auth", "535 5.7.8 wrong"),
    ("auth", "550 5.7.30 Basic authentication is not supported"),
]


def name(value: Any) -> str:
    return str(value)[:30] if isinstance(value, (str, bytes, list)) else getattr(value, "value", str(value))


@pytest.mark.parametrize(("stage", "act", "state", "kept", "doubt"), FAULTS, ids=name)
@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelined", "in turn"])
async def test_fault(stage: str, act: Act, state: State, kept: int, doubt: bool, pipelining: bool) -> None:
    extensions = ("8BITMIME", "SIZE 1000000") + (("PIPELINING",) if pipelining else ())
    async with ScriptedProvider(tls="starttls", users={"user": "secret"}, extensions=extensions) as peer:
        peer.once(stage, act)
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY)
        async with delivering(spool, provider_for(peer), times=QUICK if act is HANG else SHORT):
            await spool.settled(message)
        (row,) = spool.of(message)
        assert row.state is state, row
        assert row.attempts == 1
        assert row.doubts == int(doubt)
        assert len(peer.kept) == kept
        assert len(spool.notices) == int(state is State.REFUSED)
        if state is State.DUE:
            assert row.next_attempt == spool.clock.now + (900 if doubt else 60)
            assert row.reply, "nobody could tell why"
        assert (State.SENDING in row.history) == (stage == "final" or state is DELIVERED)


@pytest.mark.parametrize(("stage", "act"), KEY_REFUSED, ids=name)
@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelined", "in turn"])
async def test_mail_that_met_a_dead_key_goes_as_soon_as_the_key_works(stage: str, act: Act, pipelining: bool) -> None:
    extensions = ("8BITMIME", "SIZE 1000000") + (("PIPELINING",) if pipelining else ())
    async with ScriptedProvider(tls="starttls", users={"user": "secret"}, extensions=extensions) as peer:
        peer.once(stage, act)
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY)
        async with delivering(spool, provider_for(peer), breaker=Breaker) as dispatcher:
            await at_rest(spool, dispatcher)
            (row,) = spool.of(message)
            assert (row.state, row.attempts, row.doubts) == (DUE, 0, 0), "no attempt is lost by it"
            assert (len(peer.kept), len(peer.logins), spool.notices) == (0, 1, []), "asked once, and nobody is bothered"
            assert row.reply, "nobody could tell why"
            port = PortLook(port=peer.port, tls="starttls", open=True, login=True)
            dispatcher.looked(Readiness(provider="scripted", at=0.0, ports=(port,)))
            await spool.settled(message)  # and no time passes
        assert spool.states(message) == [DELIVERED]
        assert [got.content for got in peer.kept] == [BODY]


@pytest.mark.parametrize(
    "act", ["421 4.3.2 had enough", "552 5.3.4 had enough", "garbage", HANG, CLOSE, RESET], ids=name
)
async def test_a_fault_in_the_middle_of_the_content_is_no_delivery_and_no_doubt(act: Act) -> None:
    async with ScriptedProvider() as peer:
        peer.once("body", [act] if act is HANG else [act, HANG])
        spool = MemorySpool(FakeClock(), inline=1000)
        message = spool.add(HUGE)
        async with delivering(spool, provider_for(peer), times=QUICK):
            await spool.settled(message)
            (row,) = spool.of(message)
            assert (row.state, row.attempts, row.doubts) == (State.DUE, 1, 0)
            assert peer.messages == []
            spool.advance(60)
            await spool.settled(message)
        assert spool.states(message) == [DELIVERED]
        assert [got.content for got in peer.kept] == [HUGE]


@pytest.mark.parametrize(
    ("stage", "act"),
    KEY_REFUSED + [(s, a) for s, a, state, kept, doubt in FAULTS if state is DUE and not doubt],
    ids=name,
)
async def test_after_a_fault_the_next_attempt_delivers_once(stage: str, act: Act) -> None:
    async with ScriptedProvider(tls="starttls", users={"user": "secret"}) as peer:
        peer.once(stage, act)
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY)
        async with delivering(spool, provider_for(peer), times=QUICK if act is HANG else SHORT):
            await spool.settled(message)
            spool.advance(60)
            await spool.settled(message)
        assert spool.states(message) == [DELIVERED]
        assert [got.content for got in peer.kept] == [BODY]
        assert spool.notices == []


# --- TLS never falls back
async def test_a_provider_without_starttls_gets_neither_login_nor_mail() -> None:
    async with ScriptedProvider(tls="none", users={"user": "secret"}) as peer:
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY)
        provider = provider_for(peer, ports=((peer.port, "starttls"),), tls_context=client_context())
        async with delivering(spool, provider):
            await spool.settled(message)
        assert spool.states(message) == [State.DUE]
        assert "STARTTLS" in spool.of(message)[0].reply
        assert peer.logins == []
        assert {line.split()[0] for _, line in peer.commands} <= {"EHLO", "QUIT"}


@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_a_certificate_for_another_name_is_not_accepted(tls: str) -> None:
    async with ScriptedProvider(tls=tls, users={"user": "secret"}, certificate_name="other.example.net") as peer:
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY)
        async with delivering(spool, provider_for(peer)):
            await spool.settled(message)
        assert spool.states(message) == [State.DUE]
        assert "certificate is not valid" in spool.of(message)[0].reply
        assert peer.logins == []


@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_a_certificate_of_an_unknown_authority_is_not_accepted(tls: str) -> None:
    async with ScriptedProvider(tls=tls, users={"user": "secret"}) as peer:
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY)
        async with delivering(spool, provider_for(peer, tls_context=client_context())):
            await spool.settled(message)
        assert spool.states(message) == [State.DUE]
        assert "certificate is not valid" in spool.of(message)[0].reply
        assert peer.logins == []


async def test_answers_injected_before_tls_are_not_believed() -> None:
    async with ScriptedProvider(tls="starttls", users={"user": "secret"}) as peer:
        peer.once(
            "starttls",
            b"220 go\r\n250-injected\r\n250 AUTH PLAIN\r\n235 in\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n",
        )
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY)
        async with delivering(spool, provider_for(peer), times=QUICK):
            await spool.settled(message)
        assert (spool.states(message) == [DELIVERED]) == (len(peer.kept) == 1)


# --- logins
@pytest.mark.parametrize("mechanisms", ["PLAIN LOGIN", "LOGIN", "PLAIN", "CRAM-MD5 LOGIN", "XOAUTH2 PLAIN"])
@pytest.mark.parametrize("tls", ["starttls", "tls", "none"])
async def test_login(mechanisms: str, tls: str) -> None:
    async with ScriptedProvider(tls=tls, users={"user": "sécret"}, mechanisms=mechanisms) as peer:
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY)
        async with delivering(spool, provider_for(peer)):
            await spool.settled(message)
        assert spool.states(message) == [DELIVERED]
        assert peer.logins == [("user", "sécret")]


async def test_a_wrong_password_is_tried_once_and_stops_the_claiming() -> None:
    async with ScriptedProvider(tls="starttls", users={"user": "right"}) as peer:
        spool = MemorySpool(FakeClock())
        messages = [spool.add(BODY) for _ in range(200)]
        journal = FakeJournal()
        provider = provider_for(peer, password="wrong", connections=2)
        async with delivering(spool, provider, breaker=pausing(first=30.0, most=60.0), journal=journal) as dispatcher:
            await spool.until(lambda: any(row.reply for row in spool.rows.values()))
            await at_rest(spool, dispatcher)
        assert 1 <= len(peer.logins) <= 2, "one for each connection, and not two mechanisms each"
        assert sum(bool(row.reply) for row in spool.rows.values()) <= 2
        assert not any(row.attempts for row in spool.rows.values()), "it is not the mail's fault"
        assert all(state is State.DUE for message in messages for state in spool.states(message))
        assert [event for event, _ in journal.said] == ["provider_paused"]
        assert journal.said[0][1]["reason"].startswith("5.7.8")


async def test_a_refused_mechanism_leads_to_the_other() -> None:
    async with ScriptedProvider(users={"user": "secret"}) as peer:
        peer.once("auth", "504 5.5.4 not that one", USUAL["auth"])
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY)
        async with delivering(spool, provider_for(peer)):
            await spool.settled(message)
        assert spool.states(message) == [DELIVERED]
        assert [line.split()[1] for _, line in peer.commands if line.startswith("AUTH")] == ["PLAIN", "LOGIN"]


class Picky(ScriptedProvider):
    """Refuses mechanisms with ``refusals``, by name, and where ``leaves`` is set hangs up on who tried one."""

    def __init__(self, refusals: dict[str, str], *, leaves: bool = False, **more: Any) -> None:
        super().__init__(users={"user": "secret"}, **more)
        self.refusals, self.leaves = refusals, leaves

    async def _on_auth(self, talk: Talk, text: str) -> None:
        if refusal := self.refusals.get(text.removeprefix("AUTH ").split(" ")[0]):
            await self._do(talk, "auth", [refusal, CLOSE] if self.leaves else refusal)
        else:
            await super()._on_auth(talk, text)


@pytest.mark.parametrize("leaves", [False, True])
@pytest.mark.parametrize("code", ["500", "501", "502", "503", "504"])
async def test_a_mechanism_that_is_offered_and_not_taken_gives_way_to_the_other(code: str, leaves: bool) -> None:
    async with Picky({"PLAIN": f"{code} 5.5.4 not that one"}, leaves=leaves) as peer:
        spool, journal = MemorySpool(FakeClock()), FakeJournal()
        message = spool.add(BODY)
        async with delivering(spool, provider_for(peer), journal=journal):
            await spool.settled(message)
        assert (spool.states(message), spool.of(message)[0].attempts) == ([DELIVERED], 1)
        assert peer.logins == [("user", "secret")]
        assert (peer.connections, journal.said) == (2 if leaves else 1, [])


@pytest.mark.parametrize("code", ["501", "504", "534", "535", "550"])
async def test_a_login_refused_before_the_password_is_no_dead_key(code: str) -> None:
    async with Picky({"LOGIN": f"{code} 5.7.0 not here"}, mechanisms="LOGIN") as peer:
        spool, journal = MemorySpool(FakeClock()), FakeJournal()
        message = spool.add(BODY)
        async with delivering(spool, provider_for(peer), journal=journal, breaker=Breaker):
            await spool.settled(message)
        assert (spool.states(message), peer.logins) == ([DUE], [])
        assert f"offers a login by LOGIN and then does not take it: {code} 5.7.0 not here" in spool.of(message)[0].reply
        assert [fields["standing"] for _, fields in journal.said] == ["busy"]


class Asking(ScriptedProvider):
    """Asks so in AUTH LOGIN, and after that refuses; what it was told is in ``told``."""

    def __init__(self, *questions: str) -> None:
        super().__init__(users={"user": "secret"}, mechanisms="LOGIN")
        self.questions, self.told = questions, list[str]()

    async def _on_auth(self, talk: Talk, text: str) -> None:
        assert text == "AUTH LOGIN"
        for question in self.questions:
            await self._one(talk, f"334 {question}")
            self.told.append((await talk.reader.readline()).decode().strip())
            if self.told[-1] == "*":
                break
        await self._one(talk, "535 5.7.8 no")


NAME, PASSWORD = "dXNlcg==", "c2VjcmV0"


@pytest.mark.parametrize(
    ("questions", "told"),
    [
        (["VXNlcm5hbWU6", "UGFzc3dvcmQ6"], [NAME, PASSWORD]),
        (["VXNlciBOYW1lAA==", "UGFzc3dvcmQA"], [NAME, PASSWORD]),  # Exchange
        (["Username:", "Password:"], [NAME, PASSWORD]),  # in clear
        (["", ""], [NAME, PASSWORD]),
        (["VXNlcm5hbWU6"], [NAME]),  # the name is refused
        (["VXNlcm5hbWU6", "VXNlcm5hbWU6"], [NAME, "*"]),  # the name again is not the password
        (["UGFzc3dvcmQ6"], ["*"]),  # a name was never asked for
        (["VXNlcm5hbWU6", "UGFzc3dvcmQ6", "UGFzc3dvcmQ6"], [NAME, PASSWORD, ""]),  # we left
    ],
)
async def test_each_question_gets_its_answer_and_no_other(questions: list[str], told: list[str]) -> None:
    async with Asking(*questions) as peer:
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY)
        async with delivering(spool, provider_for(peer), breaker=Breaker) as dispatcher:
            await at_rest(spool, dispatcher)
        assert spool.states(message) == [DUE]
        assert peer.told == told


class Reticent(ScriptedProvider):
    """Takes PLAIN only when it asked for it: it refuses an initial response, or overlooks it."""

    def __init__(self, password: str, refusal: str = "") -> None:
        super().__init__(users={"user": password}, mechanisms="PLAIN")
        self.refusal = refusal

    async def _on_auth(self, talk: Talk, text: str) -> None:
        _, _, *initial = text.split(" ")
        if initial and self.refusal:
            await self._one(talk, self.refusal)
            return
        _, user, password = (await self._ask(talk, "")).split("\0")
        self.logins.append((user, password))
        talk.user = user
        await self._do(talk, "auth")


async def test_plain_is_no_answer_to_a_question_for_the_name() -> None:
    class Confused(Asking):
        async def _on_auth(self, talk: Talk, text: str) -> None:
            await super()._on_auth(talk, "AUTH LOGIN")

    async with Confused("VXNlcm5hbWU6", "UGFzc3dvcmQ6") as peer:
        peer.mechanisms = "PLAIN"
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY)
        async with delivering(spool, provider_for(peer)):
            await spool.settled(message)
        assert (spool.states(message), peer.told) == ([DUE], ["*"])


@pytest.mark.parametrize(
    ("password", "refusal"),
    [("secret", "501 5.5.4 no initial response"), ("secret", ""), ("k" * 367, "500 5.5.6 line too long")],
)
async def test_plain_is_answered_when_it_is_asked_for(password: str, refusal: str) -> None:
    async with Reticent(password, refusal) as peer:
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY)
        async with delivering(spool, provider_for(peer)):
            await spool.settled(message)
        assert spool.states(message) == [DELIVERED]
        assert peer.logins == [("user", password)]


async def test_a_provider_with_no_mechanism_of_ours_gets_no_mail() -> None:
    async with ScriptedProvider(users={"user": "secret"}, mechanisms="CRAM-MD5 XOAUTH2") as peer:
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY)
        async with delivering(spool, provider_for(peer)):
            await spool.settled(message)
        assert spool.states(message) == [State.DUE]
        assert "no login by PLAIN or LOGIN" in spool.of(message)[0].reply


@pytest.mark.parametrize("tls", ["starttls", "tls", "none"])
@pytest.mark.parametrize("answer", ["450 4.3.2 not now", "550 5.7.1 not you", "garbage", "250-and then nothing"])
async def test_an_answer_to_ehlo_that_is_no_yes_leaves_no_connection_open(answer: str, tls: str) -> None:
    async with ScriptedProvider(tls=tls) as peer:
        peer.always("ehlo", answer)
        opener = Opener(provider_for(peer), "mail.example.org", QUICK)
        with pytest.raises((aiosmtplib.SMTPException, OSError)):
            await opener.open(0.5)
        async with asyncio.timeout(5.0):
            while peer.open:
                await peer.changed.wait()


# --- several recipients
async def test_each_recipient_has_its_own_fate_and_one_notice_names_all_that_failed() -> None:
    async with ScriptedProvider() as peer:
        peer.rcpt = {
            "b@example.net": "550 5.1.1 unknown",
            "c@example.net": "450 4.2.0 later",
            "d@example.net": "551 5.1.6 moved",
        }
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY, [f"{letter}@example.net" for letter in "abcde"])
        async with delivering(spool, provider_for(peer)):
            await spool.settled(message)
            assert spool.states(message) == [DELIVERED, REFUSED, DUE, REFUSED, DELIVERED]
            peer.rcpt = {}
            spool.advance(60)
            await spool.settled(message)
        assert spool.states(message) == [DELIVERED, REFUSED, DELIVERED, REFUSED, DELIVERED]
        assert [got.recipients for got in peer.kept] == [["a@example.net", "e@example.net"], ["c@example.net"]]
        ((notice, content),) = spool.notices
        assert notice.recipients == ("anna@example.org",)
        assert b"b@example.net" in content
        assert b"d@example.net" in content
        assert b"550 5.1.1 unknown" in content
        assert b"c@example.net" not in content


@pytest.mark.parametrize("pipelining", [True, False])
async def test_all_recipients_refused_leaves_the_connection_fit_for_the_next(pipelining: bool) -> None:
    async with ScriptedProvider(extensions=("PIPELINING",) if pipelining else ()) as peer:
        peer.rcpt = {"b@example.net": "550 5.1.1 unknown"}
        spool = MemorySpool(FakeClock())
        first, second = spool.add(BODY, ["b@example.net"]), spool.add(BODY, ["a@example.net"])
        async with delivering(spool, provider_for(peer)):
            await spool.settled(first, second)
        assert spool.states(first) + spool.states(second) == [REFUSED, DELIVERED]
        assert peer.connections == 1
        assert [got.recipients for got in peer.messages] == [["a@example.net"]]


async def test_too_many_recipients_are_sent_at_once_in_a_second_transaction() -> None:
    async with ScriptedProvider() as peer:
        peer.rcpt = {f"r{n}@example.net": "452 4.5.3 too many recipients" for n in range(3, 6)}
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY, [f"r{n}@example.net" for n in range(6)])
        async with delivering(spool, provider_for(peer)):
            await spool.until(lambda: bool(peer.kept))
            peer.rcpt = {}
            await spool.settled(message)
        assert spool.states(message) == [DELIVERED] * 6
        assert [len(got.recipients) for got in peer.kept] == [3, 3]
        assert [row.attempts for row in spool.of(message)] == [1] * 6


async def test_a_provider_that_takes_no_recipient_at_all_is_not_asked_for_ever() -> None:
    async with ScriptedProvider() as peer:
        peer.always("rcpt", "452 4.5.3 too many recipients")
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY, ["a@example.net", "b@example.net"])
        async with delivering(spool, provider_for(peer)):
            await spool.settled(message)
        assert [row.attempts for row in spool.of(message)] == [1, 1]
        assert sum(line.startswith("MAIL") for _, line in peer.commands) == 1


async def test_recipients_refused_before_a_doubt_stay_refused() -> None:
    async with ScriptedProvider() as peer:
        peer.rcpt = {"b@example.net": "550 5.1.1 unknown"}
        peer.once("final", RESET)
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY, ["a@example.net", "b@example.net"])
        async with delivering(spool, provider_for(peer)):
            await spool.settled(message)
        a, b = spool.of(message)
        assert (a.state, a.doubts, b.state, b.doubts) == (DUE, 1, REFUSED, 0)


# --- in doubt
async def test_a_doubt_waits_15_minutes_and_is_sent_again_at_most_twice() -> None:
    async with ScriptedProvider() as peer:
        peer.always("final", RESET)
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY)
        async with delivering(spool, provider_for(peer)):
            for sent in (1, 2, 3):
                await spool.settled(message)
                assert len(peer.kept) == sent
                spool.advance(899)
                await spool.settled(message)
                assert len(peer.kept) == sent, "sent again too early"
                spool.advance(1)
            await spool.settled(message)
            spool.advance(86400)
            await spool.settled(message)
        assert spool.states(message) == [State.UNKNOWN]
        assert len(peer.kept) == 3
        assert {got.content for got in peer.kept} == {BODY}, "the same message, with the same Message-ID"
        ((_, content),) = spool.notices
        assert b"may have been delivered" in content
        assert b"Ask the recipient before you send it again" in content


async def test_a_doubt_that_ends_well_ends_silently() -> None:
    async with ScriptedProvider() as peer:
        peer.once("final", HANG)
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY)
        async with delivering(spool, provider_for(peer), times=QUICK):
            await spool.settled(message)
            spool.advance(900)
            await spool.settled(message)
        assert spool.states(message) == [DELIVERED]
        assert spool.notices == []


# --- the end of patience
async def test_a_message_expires_directly_after_an_attempt_past_five_days() -> None:
    async with ScriptedProvider() as peer:
        peer.always("final", "451 4.3.0 never")
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY)
        async with delivering(spool, provider_for(peer)):
            attempts = 0
            while spool.states(message) == [State.DUE]:
                await spool.settled(message)
                attempts += 1
                spool.advance(7200)
        assert spool.states(message) == [State.EXPIRED]
        assert 60 <= attempts <= 66
        ((_, content),) = spool.notices
        assert b"tried for five days" in content
        assert b"451 4.3.0 never" in content


async def test_what_was_once_in_doubt_expires_as_unknown() -> None:
    async with ScriptedProvider() as peer:
        peer.once("final", RESET)
        peer.always("mail", "451 4.3.0 never")
        peer.once("mail", USUAL["mail"])
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY)
        async with delivering(spool, provider_for(peer)):
            await spool.settled(message)
            while spool.states(message) == [State.DUE]:
                spool.advance(7200)
                await spool.settled(message)
        assert spool.states(message) == [State.UNKNOWN]


# --- notices about notices
@pytest.mark.parametrize("more", [{"kind": Kind.NOTICE}, {"null_sender": True}, {"notify": ""}], ids=str)
async def test_nobody_is_told_who_must_not_be(more: dict[str, Any]) -> None:
    async with ScriptedProvider() as peer:
        peer.once("final", "550 5.7.1 spam")
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY, **more)
        async with delivering(spool, provider_for(peer)):
            await spool.settled(message)
        assert spool.states(message) == [REFUSED]
        assert spool.notices == []


async def test_a_notice_travels_through_the_provider_and_never_causes_another() -> None:
    async with ScriptedProvider() as peer:
        peer.once("final", "550 5.7.1 spam")
        spool = MemorySpool(FakeClock())
        spool.deliver_notices = True
        message = spool.add(BODY)
        async with delivering(spool, provider_for(peer)):
            await spool.until(lambda: len(spool.rows) == 2 and not spool.open)
        assert len(spool.notices) == 1
        assert [row.state for row in spool.rows.values()] == [REFUSED, DELIVERED]
        assert peer.messages[1].mail.startswith("MAIL FROM:<postmaster@example.org>")
        assert message.id.encode() in peer.messages[1].content


# --- secrets
async def test_no_secret_reaches_a_notice_an_event_or_a_reply() -> None:
    async with ScriptedProvider(users={"user": "hunter2-secret"}) as peer:
        peer.always("auth", "535 5.7.8 no")
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY)
        journal = FakeJournal()
        async with delivering(spool, provider_for(peer), journal=journal, breaker=Breaker) as dispatcher:
            await at_rest(spool, dispatcher)
        told = repr(spool.events) + repr(spool.of(message)) + repr(journal.said)
        assert "5.7.8 no" in told
        assert "hunter2" not in told


class Echo(ScriptedProvider):
    """Quotes what it refuses, as sendmail does, and what it means in clear."""

    def __init__(self, mechanism: str, refusal: str) -> None:
        super().__init__(users={"anna": "hunter2-secret"}, mechanisms=mechanism)
        self.refusal = refusal

    async def _on_auth(self, talk: Talk, text: str) -> None:
        line = text
        if text == "AUTH LOGIN":
            for question in ("User Name", "Password"):
                await self._one(talk, f"334 {base64.b64encode(question.encode()).decode()}")
                line = (await talk.reader.readline()).decode().strip()
        clear = base64.b64decode(line.split(" ")[-1]).decode().replace("\0", " ")
        await self._one(talk, f'{self.refusal} "{line}" "{line[:30]}" ({clear})')


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
@pytest.mark.parametrize("refusal", ["500 5.5.1 Command unrecognized:", "535 5.7.8 Wrong:", "454 4.7.0 Not now:"])
async def test_a_provider_that_quotes_the_password_tells_it_to_nobody(mechanism: str, refusal: str) -> None:
    async with Echo(mechanism, refusal) as peer:
        spool, journal = MemorySpool(FakeClock()), FakeJournal()
        message = spool.add(BODY)
        async with delivering(spool, provider_for(peer), journal=journal, breaker=Breaker) as dispatcher:
            await at_rest(spool, dispatcher)
        told = repr(spool.events) + repr(spool.of(message)) + repr(journal.said)
        assert refusal[4:] in told
        assert "hunter2" not in told
        for secret in (b"hunter2-secret", b"\0anna\0hunter2-secret"):
            assert base64.b64encode(secret).decode()[:16] not in told


async def test_a_hostile_reply_is_kept_harmless_and_short() -> None:
    async with ScriptedProvider() as peer:
        peer.once("final", b"450 4.0.0 \x1b[2J\x07" + "\u202e".encode() + b"x" * 2000 + b"\r\n")
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY)
        async with delivering(spool, provider_for(peer)):
            await spool.settled(message)
        (row,) = spool.of(message)
        assert row.reply.isprintable()
        assert len(row.reply) == 500
        assert all(event.reply == row.reply for event in spool.events)
