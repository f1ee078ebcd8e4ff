"""Real peers as providers: Postfix with STARTTLS and SASL, and its smtp-sink."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from relay.model import State
from relay.providers.presets import PRESETS
from relay.providers.provider import Provider, client_context
from relay.providers.rules import Standing
from support.delivering import FakeJournal, at_rest, delivering, pausing
from support.memory_spool import FakeClock, MemorySpool
from support.peers import need
from support.ports import free_port
from support.postfix import PASSWORD, USER, Postfix

BODY = (
    b"Received: from somewhere\r\nDate: Tue, 24 Nov 2026 12:00:00 +0000\r\nFrom: anna@example.org\r\n"
    b"To: bob@example.net\r\nMessage-ID: <%d@example.org>\r\nSubject: dots\r\n\r\n"
    b".\r\n..\r\n...leading\r\n8-bit: \xc3\xa9\r\n" + b"x" * 900 + b"\r\n.\r\n"
)


@pytest.fixture(scope="module")
def postfix() -> Iterator[Postfix]:
    with Postfix() as peer:
        yield peer


def provider(peer: Postfix, password: str = PASSWORD, ca: str = "") -> Provider:
    return Provider(
        name="postfix",
        host="127.0.0.1",
        ports=((peer.port, "starttls"),),
        username=f"{USER}@provider.test",
        password=password,
        tls_context=client_context(ca or peer.pem()),
        rules=PRESETS["generic"].rules,
        connections=2,
    )


def of(mails: list[bytes], number: int) -> bytes:
    (mail,) = [mail for mail in mails if b"<%d@example.org>" % number in mail]
    return mail


async def test_messages_arrive_byte_for_byte(postfix: Postfix) -> None:
    spool = MemorySpool(FakeClock(), inline=20_000)
    bodies = {1: BODY % 1, 2: BODY % 2 + b".line of a long one\r\n" * 100_000}
    messages = [spool.add(body) for body in bodies.values()]
    async with delivering(spool, provider(postfix)):
        await spool.settled(*messages)
    assert [row.state for row in spool.rows.values()] == [State.DELIVERED] * 2, spool.rows
    assert all("queued as" in row.reply for row in spool.rows.values())
    mails = await asyncio.to_thread(postfix.mail, 2)
    for number, body in bodies.items():
        assert of(mails, number).endswith(body.replace(b"\r\n", b"\n"))  # its files have Unix line ends


async def test_recipients_that_it_refuses_or_puts_off_end_each_as_it_says(postfix: Postfix) -> None:
    spool = MemorySpool(FakeClock())
    message = spool.add(BODY % 3, ["bob@example.net", "unknown@example.net", "later@example.net"])
    journal = FakeJournal()
    async with delivering(spool, provider(postfix), journal=journal):
        await spool.settled(message)
    assert spool.states(message) == [State.DELIVERED, State.REFUSED, State.DUE]
    assert [row.code for row in spool.of(message)] == [250, 550, 450]
    ((_, notice),) = spool.notices
    assert b"Status: 5.1.1" in notice
    assert b"unknown@example.net" in notice


async def test_a_wrong_password_defers_and_pauses(postfix: Postfix) -> None:
    spool = MemorySpool(FakeClock())
    message = spool.add(BODY % 4)
    journal = FakeJournal()
    async with delivering(spool, provider(postfix, "wrong"), journal=journal, breaker=pausing(60, 60)) as dispatcher:
        await at_rest(spool, dispatcher)
    assert spool.states(message) == [State.DUE]
    assert spool.of(message)[0].code == 535
    assert [(event, fields["standing"]) for event, fields in journal.said] == [("provider_paused", Standing.KEY_DEAD)]
    assert spool.notices == []


async def test_a_certificate_it_cannot_prove_gets_no_password(postfix: Postfix) -> None:
    spool = MemorySpool(FakeClock())
    message = spool.add(BODY % 5)
    async with delivering(spool, provider(postfix, ca=Postfix().pem())):
        await spool.settled(message)
    assert spool.states(message) == [State.DUE]
    assert "certificate is not valid" in spool.of(message)[0].reply


async def test_a_message_beyond_its_size_limit_is_refused_before_it_is_sent(postfix: Postfix) -> None:
    spool = MemorySpool(FakeClock())
    message = spool.add(BODY % 6, size=20_000_001)
    async with delivering(spool, provider(postfix)):
        await spool.settled(message)
    assert spool.states(message) == [State.REFUSED]
    assert "takes at most 20000000" in spool.of(message)[0].reply


async def test_a_provider_that_went_down_for_a_while_gets_everything_once() -> None:
    spool = MemorySpool(FakeClock())
    with Postfix() as peer:
        there = provider(peer)
    async with delivering(spool, there):
        message = spool.add(BODY % 7)
        await spool.settled(message)
        assert spool.states(message) == [State.DUE]
        assert "refused the connection" in spool.of(message)[0].reply
    with Postfix() as peer:
        async with delivering(spool, provider(peer)):
            spool.advance(60)
            await spool.settled(message)
        assert spool.states(message) == [State.DELIVERED]
        assert len(await asyncio.to_thread(peer.mail, 1)) == 1


# --- smtp-sink
@pytest.mark.parametrize("options", [[], ["-p"], ["-e"], ["-a"]], ids=["plain", "no pipelining", "no esmtp", "no auth"])
async def test_smtp_sink_takes_hundreds_over_a_few_connections(options: list[str]) -> None:
    with Sink(options) as sink:
        spool = MemorySpool(FakeClock())
        messages = [spool.add(BODY % n) for n in range(300)]
        peer = Provider(name="sink", host="127.0.0.1", ports=((sink.port, "none"),), connections=4)
        async with delivering(spool, peer):
            await spool.settled(*messages)
    assert {row.state for row in spool.rows.values()} == {State.DELIVERED}
    assert {row.attempts for row in spool.rows.values()} == {1}


class Sink:
    """Postfix's smtp-sink on a free port."""

    def __init__(self, options: list[str]) -> None:
        self.options = options

    def __enter__(self) -> Sink:
        self.port = free_port()
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        self.process = subprocess.Popen([need("smtp-sink"), *user, *self.options, f"127.0.0.1:{self.port}", "100"])
        end = time.monotonic() + 10
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                time.sleep(0.02)
        raise RuntimeError("smtp-sink does not answer")

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
