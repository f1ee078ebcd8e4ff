"""What clients can take of the relay who never log in, or never leave: commands, time, connections."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from relay import limits
from relay.refusal import Reason
from support.reception import Reception, reception, until
from support.smtp_client import RawClient

NOOP = b"NOOP\r\n"
LEFT_AFTER_EHLO = limits.COMMANDS_BEFORE_AUTH - 1


async def test_a_hundred_commands_without_a_login_are_answered_and_no_more(tmp_path: Path) -> None:
    async with reception(tmp_path) as host:
        client = await host.connect()
        await client.line()
        assert (await client.ask(b"EHLO client")).startswith(b"250 ")
        await client.send(NOOP * LEFT_AFTER_EHLO)
        for _ in range(LEFT_AFTER_EHLO):
            assert (await client.line()).startswith(b"250 2.0.0 ")
        assert (await client.ask(b"RSET")).startswith(b"421 4.7.0 ")
        assert await client.line() == b""
        assert [args[3] for args, _ in host.journal.told("refused")] == [Reason.AUTH_REQUIRED]


async def test_a_new_tls_session_is_no_new_allowance(tmp_path: Path) -> None:
    async with reception(tmp_path) as host:
        client = await host.connect()
        await client.line()
        await client.send(NOOP * 60)
        for _ in range(60):
            await client.line()
        assert (await client.ask(b"STARTTLS")).startswith(b"220 ")
        await client.start_tls(host.client_context)
        await client.send(NOOP * 39)
        for _ in range(39):
            assert (await client.line()).startswith(b"250 ")
        assert (await client.ask(b"NOOP")).startswith(b"421 4.7.0 ")


@pytest.mark.parametrize("name", ["submission", "lan"])
async def test_whom_we_know_may_say_more(tmp_path: Path, name: str) -> None:
    async with reception(tmp_path, name) as host:
        client = await host.logged_in()
        await client.send(NOOP * (limits.COMMANDS_BEFORE_AUTH + 1))
        for _ in range(limits.COMMANDS_BEFORE_AUTH + 1):
            assert (await client.line()).startswith(b"250 ")


async def test_a_client_cannot_keep_a_connection_without_a_login_by_being_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "TIME_BEFORE_AUTH", 1.5)
    async with reception(tmp_path) as host:
        client = await host.connect()
        await client.line()
        for _ in range(5):
            assert (await client.ask(b"NOOP")).startswith(b"250 ")
        reply = await client.line()  # long before IDLE_BEFORE_AUTH
        assert reply.startswith(b"421 4.4.2 "), reply
        assert b"log in" in reply
        assert await client.line() == b""


async def test_a_challenge_is_no_way_around_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TIME_BEFORE_AUTH", 1.5)
    async with reception(tmp_path, "submissions") as host:
        client = await host.connect()
        await client.line()
        await client.ask(b"EHLO client")
        assert (await client.ask(b"AUTH LOGIN")).startswith(b"334 ")
        assert (await client.line()).startswith(b"421 4.4.2 ")
        assert await client.line() == b""


async def test_who_has_logged_in_in_time_may_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with reception(tmp_path) as host:
        monkeypatch.setattr(limits, "TIME_BEFORE_AUTH", 2.0)
        client = await host.logged_in()
        loop = asyncio.get_running_loop()
        end = loop.time() + 2.0
        await until(lambda: loop.time() > end, "the time to pass")
        assert (await client.ask(b"NOOP")).startswith(b"250 ")


class SlowPasswords:
    """Opens to nobody, and takes its time, to judge or until it comes to that."""

    def __init__(self, *, judges: bool = True) -> None:
        self.asked, self.done = asyncio.Event(), asyncio.Event()
        self._judges = judges

    async def check(self, login: bytes, password: bytes, peer: str, judging: Callable[[], None]) -> None:
        if self._judges:
            judging()
        self.asked.set()
        await self.done.wait()


@asynccontextmanager
async def guessing(tmp_path: Path, passwords: SlowPasswords) -> AsyncIterator[tuple[Reception, RawClient]]:
    """A guesser has sent a password, which is being checked."""
    async with reception(tmp_path, "submissions", desk={"passwords": passwords}) as host:
        client = await host.connect()
        await client.line()
        await client.ask(b"EHLO client")
        await client.send(b"AUTH PLAIN AGFubmEAd3Jvbmc=\r\n")
        await asyncio.wait_for(passwords.asked.wait(), 10)
        yield host, client


async def test_who_talks_on_while_a_password_is_checked_is_hung_up_on(tmp_path: Path) -> None:
    """What the layers below us hold for a client that is paused is 0.2 MiB for each guess."""
    passwords = SlowPasswords()
    async with guessing(tmp_path, passwords) as (host, client):
        await client.send(NOOP)
        assert (await client.line()).startswith(b"554 5.5.0 ")
        assert await client.line() == b""
        (session,) = host.listener._sessions
        await until(lambda: session.lost, "the hang-up to be seen")
        assert host.limiter.connections == 1, "and the guess counts, as if the client had waited"
        passwords.done.set()
        await until(lambda: not host.limiter.connections, "the place to be given back")
        assert [args[4] for args, _ in host.journal.told("login")] == [False]


@pytest.mark.parametrize("login", [[b"AUTH PLAIN AGFubmEAd3Jvbmc="], [b"AUTH LOGIN YW5uYQ==", b"d3Jvbmc="]])
@pytest.mark.parametrize("behind", [b"NOOP\r\n" * 2_000, b"MAIL FROM:<anna@example.org>\r\n"])
async def test_who_sends_more_in_the_same_breath_as_a_password_is_hung_up_on(
    tmp_path: Path, login: list[bytes], behind: bytes
) -> None:
    """RFC 4954, section 4: AUTH is the last of a group. Or each guess would take 240 KB of ours along."""
    passwords = SlowPasswords()
    async with reception(tmp_path, "submissions", desk={"passwords": passwords}) as host:
        client = await host.connect()
        await client.line()
        await client.ask(b"EHLO client")
        for line in login[:-1]:
            assert (await client.ask(line)).startswith(b"334 ")
        await client.send(login[-1] + b"\r\n" + behind)
        assert (await client.line()).startswith(b"554 5.5.0 ")
        assert not passwords.asked.is_set()
        await until(lambda: not host.limiter.connections, "the hang-up")
        assert [args[3] for args, _ in host.journal.told("refused")] == [Reason.PIPELINING]


@asynccontextmanager
async def hung_up(tmp_path: Path, passwords: SlowPasswords) -> AsyncIterator[Reception]:
    """A guesser has sent a password and gone before the answer."""
    async with guessing(tmp_path, passwords) as (host, client):
        (session,) = host.listener._sessions
        transport = weakref.ref(session.transport)
        client.reset()
        await until(lambda: session.lost, "the hang-up to be seen")
        await until(lambda: gc.collect() >= 0 and transport() is None, "the buffers of its TLS to be given back")
        yield host


async def test_a_guesser_who_hangs_up_is_told_of_and_holds_the_place_until_the_delay_is_over(tmp_path: Path) -> None:
    passwords = SlowPasswords()
    async with hung_up(tmp_path, passwords) as host:
        for _ in range(10):
            await asyncio.sleep(0)
        assert host.limiter.connections == 1
        assert host.journal.told("login") == []
        passwords.done.set()
        await until(lambda: not host.limiter.connections, "the place to be given back")
        assert [args[2:] for args, _ in host.journal.told("login")] == [("anna", "PLAIN", False, Reason.AUTH_FAILED)]


async def test_a_relay_that_has_to_end_waits_for_no_guessers_delay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.submission.listener.LAST_COMMITS", 60.0)
    async with hung_up(tmp_path, SlowPasswords()) as host:
        host.listener.close()
        await asyncio.wait_for(host.listener.drain(0.02), 10)
        assert host.limiter.connections == 0


async def test_who_hangs_up_before_the_password_is_judged_has_not_guessed(tmp_path: Path) -> None:
    async with hung_up(tmp_path, SlowPasswords(judges=False)) as host:
        await until(lambda: not host.limiter.connections, "the place to be given back")
        assert host.journal.told("login") == []


def _shaken(host: Reception) -> ssl.SSLSocket:
    """A client on the port with implicit TLS that does nothing by itself, so that it answers no close_notify."""
    plain = socket.create_connection(("127.0.0.1", host.listener.port), 10)
    return host.client_context.wrap_socket(plain, server_hostname="localhost")


def _say_goodbye(host: Reception) -> ssl.SSLSocket:
    client = _shaken(host)
    assert client.recv(1000).startswith(b"220 ")
    client.sendall(b"QUIT\r\n")
    assert client.recv(1000).startswith(b"221 ")
    return client


async def test_who_has_said_goodbye_and_does_not_go_counts_and_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "CLOSING_TIME", 1.0)
    async with reception(tmp_path, "submissions") as host:
        client = await asyncio.to_thread(_say_goodbye, host)
        assert host.limiter.connections == 1
        await until(lambda: not host.limiter.connections, "the connection to be given back")
        client.settimeout(10)
        assert await asyncio.to_thread(client.recv, 1000) == b""
        client.close()
