"""Connections: who fills them without a login keeps nobody out, and who has logged in is never sent away for others."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher

from relay import limits
from relay.accounts import Account, Accounts
from relay.clock import SystemClock
from relay.refusal import Reason
from relay.submission import auth
from relay.submission.auth import Authenticator
from relay.submission.limiter import Limiter, Strangers
from support.reception import PASSWORD, Reception, person, reception, until
from support.smtp_client import RawClient

HASHER = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


async def connect_from(host: Reception, address: str, tls: ssl.SSLContext | None = None) -> RawClient:
    name = "localhost" if tls else None
    where = ("127.0.0.1", host.listener.port)
    streams = await asyncio.open_connection(*where, local_addr=(address, 0), ssl=tls, server_hostname=name)
    client = RawClient(*streams)
    host.clients.append(client)
    return client


async def test_strangers_who_take_all_connections_make_room_for_others(tmp_path: Path) -> None:
    async with reception(tmp_path, limits={"connections": 4, "connections_per_address": 3}) as host:
        owner = await host.logged_in()
        crowd = [await connect_from(host, "127.0.0.66") for _ in range(3)]
        for client in crowd:
            assert (await client.line()).startswith(b"220 ")
        newcomer = await connect_from(host, "127.0.0.7")
        assert (await newcomer.line()).startswith(b"220 "), "all four were taken"
        assert (await crowd[0].line()).startswith(b"421 4.3.2 "), "the oldest of the crowd"
        assert await crowd[0].line() == b""
        assert (await crowd[1].ask(b"NOOP")).startswith(b"250 ")
        assert (await owner.ask(b"NOOP")).startswith(b"250 ")
        assert [args[2] for args, _ in host.journal.told("connection_refused")] == [Reason.CONNECTIONS]
        await until(lambda: host.limiter.connections == 4, "the place to be counted once")


async def test_who_has_logged_in_is_never_sent_away(tmp_path: Path) -> None:
    people = [person(), person("bert")]
    async with reception(tmp_path, limits={"connections": 2}, accounts=people) as host:
        owners = [await host.logged_in(account.name) for account in people]
        assert (await (await connect_from(host, "127.0.0.7")).line()).startswith(b"421 4.3.2 ")
        for owner in owners:
            assert (await owner.ask(b"NOOP")).startswith(b"250 ")


async def test_a_crowd_gains_nothing_by_pushing(tmp_path: Path) -> None:
    async with reception(tmp_path, limits={"connections": 2}) as host:
        crowd = [await connect_from(host, "127.0.0.66") for _ in range(2)]
        for client in crowd:
            await client.line()
        assert (await (await connect_from(host, "127.0.0.66")).line()).startswith(b"421 4.3.2 ")
        assert (await crowd[0].ask(b"NOOP")).startswith(b"250 ")


async def test_behind_a_gateway_that_hides_all_addresses_the_oldest_stranger_makes_room(tmp_path: Path) -> None:
    gateways = frozenset({"127.0.0.1"})
    async with reception(tmp_path, "submissions", limits={"connections": 2}, gateways=gateways) as host:
        crowd = [await host.connect() for _ in range(2)]
        for client in crowd:
            await client.line()
        owner = await host.logged_in()
        assert (await crowd[0].line()).startswith(b"421 4.3.2 ")
        for _ in range(5):
            assert (await (await host.connect()).line()).startswith(b"220 ")
        assert (await owner.ask(b"NOOP")).startswith(b"250 ")


async def test_one_account_leaves_half_of_the_connections_to_the_others(tmp_path: Path) -> None:
    people = [person(), person("bert")]
    async with reception(tmp_path, limits={"connections": 4}, accounts=people) as host:
        for _ in range(2):
            await host.logged_in("anna")
        with pytest.raises(AssertionError, match=r"421 4\.7\.0 Account anna has 2 connections open already"):
            await host.logged_in("anna")
        await until(lambda: host.limiter.connections == 2, "the third to be hung up on")
        ((refused, _),) = host.journal.told("refused")
        assert refused[2:4] == ("anna", Reason.CONNECTIONS_OF_ACCOUNT)
        for _ in range(2):
            await host.logged_in("bert")
        await host.clients[0].close()
        await until(lambda: host.limiter.connections == 3, "a place to become free")
        await host.logged_in("anna")


@asynccontextmanager
async def house(
    tmp_path: Path, connections: int, people: list[Account] | None = None
) -> AsyncIterator[tuple[Reception, Reception]]:
    """A port for whoever logs in and the LAN's, of one relay with so many connections."""
    (tmp_path / "lan").mkdir()
    most, people = {"connections": connections}, people or [person()]
    async with (
        reception(tmp_path, limits=most, accounts=people) as host,
        reception(tmp_path / "lan", "lan", accounts=people, desk={"limiter": host.limiter}) as lan,
    ):
        yield host, lan


async def test_machines_of_the_lan_that_send_nothing_keep_nobody_out(tmp_path: Path) -> None:
    async with house(tmp_path, 3) as (host, lan):
        machines = [await connect_from(lan, "127.0.0.66") for _ in range(3)]
        for machine in machines:
            await machine.line()
            assert (await machine.ask(b"EHLO printer")).startswith(b"250 ")
        await host.logged_in()
        assert (await machines[0].line()).startswith(b"421 4.3.2 ")
        device = await connect_from(lan, "127.0.0.7")
        assert (await device.line()).startswith(b"220 "), "and the house's own devices get in"


async def test_messages_under_way_from_the_lan_take_no_more_than_an_accounts_share(tmp_path: Path) -> None:
    async with house(tmp_path, 4, [person("printer"), person(), person("bert")]) as (host, lan):
        machines = [await connect_from(lan, f"127.0.0.{n}") for n in (66, 67, 68, 69)]
        replies = []
        for machine in machines:
            await machine.line()
            await machine.ask(b"EHLO printer")
            replies.append(await machine.ask(b"MAIL FROM:<printer@example.org>"))
        assert [reply[:9] for reply in replies] == [b"250 2.1.0"] * 2 + [b"421 4.7.0"] * 2
        await host.logged_in()
        await host.logged_in("bert")
        reply = await machines[0].ask(b"RCPT TO:<bob@example.net>")
        assert reply.startswith(b"250 "), "nobody is sent away in mid-mail"
        assert (await machines[1].ask(b"RSET")).startswith(b"250 ")
        again = await connect_from(lan, "127.0.0.70")
        await again.line()
        await again.ask(b"EHLO printer")
        assert (await again.ask(b"MAIL FROM:<printer@example.org>")).startswith(b"250 "), "the place is free again"


async def test_handshakes_that_never_end_make_room_too(tmp_path: Path) -> None:
    async with reception(tmp_path, "submissions", limits={"connections": 2}) as host:
        crowd = [await connect_from(host, "127.0.0.66") for _ in range(2)]
        await until(lambda: host.limiter.connections == 2, "both to be let in")
        newcomer = await connect_from(host, "127.0.0.7", host.client_context)
        assert (await newcomer.line()).startswith(b"220 ")
        assert await crowd[0].line() == b""
        await until(lambda: host.limiter.connections == 2, "the place to be counted once")


async def test_who_makes_way_is_told_so_under_tls_too(tmp_path: Path) -> None:
    async with reception(tmp_path, limits={"connections": 2}) as host:
        crowd = [await connect_from(host, "127.0.0.66") for _ in range(2)]
        for client in crowd:
            await client.line()
            assert (await client.ask(b"EHLO client")).startswith(b"250 ")
            assert (await client.ask(b"STARTTLS")).startswith(b"220 ")
        await crowd[0].start_tls(host.client_context)  # the other is in the midst of its handshake
        for address in ("127.0.0.7", "127.0.0.8"):
            assert (await (await connect_from(host, address)).line()).startswith(b"220 ")
        assert (await crowd[0].line()).startswith(b"421 4.3.2 ")
        assert await crowd[1].line() == b"", "no clear text into a handshake"


def test_the_crowd_is_the_address_with_most_and_nobody_is_kept_after_leaving() -> None:
    strangers, left = Strangers(), []
    for number, address in enumerate(["a", "b", "b", "c", "b", "c"]):
        strangers.add(address, number, lambda number=number: left.append(number))  # type: ignore[misc]
    assert [strangers.make_room("new") for _ in range(4)] == [True] * 4
    assert left == [1, 2, 3, 0]
    strangers.remove("b", 4)
    strangers.remove("b", 4)
    assert strangers.make_room("c") is False
    assert strangers.make_room("new") is True
    assert strangers.make_room("new") is False
    assert not strangers._leave


def test_a_household_of_ipv6_is_one_crowd() -> None:
    limit, left = Limiter(clock=SystemClock(), connections=2), []
    for peer in ("2001:db8::1", "2001:db8::2"):
        assert limit.connect(peer) is None
        limit.stranger(peer, peer, lambda peer=peer: left.append(peer))  # type: ignore[misc]
    assert limit.connect("2001:db8::3") is not None
    assert limit.connect("192.0.2.1") is None
    assert left == ["2001:db8::1"]


async def test_strangers_who_were_sent_away_leave_the_queue_for_passwords_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All but those whom Argon2 has come to: they pay for their guess like anybody."""
    people = [person(password_hash=HASHER.hash(PASSWORD))]
    answer, half_a_minute = threading.Event(), asyncio.Event()
    passwords = Authenticator(lambda: Accounts(people), clock=SystemClock(), sleep=lambda _: half_a_minute.wait())
    verify = auth.verify
    monkeypatch.setattr(auth, "verify", lambda *each: answer.wait(10) and verify(*each))
    judged = limits.PASSWORD_CHECKS_AT_ONCE
    more: dict[str, Any] = {"accounts": people, "desk": {"passwords": passwords}, "limits": {"connections": 2}}
    async with reception(tmp_path, "submissions", **more) as host:
        for number in range(50):
            stranger = await connect_from(host, f"127.0.1.{number + 1}", host.client_context)
            assert (await stranger.line()).startswith(b"220 ")
            await stranger.ask(b"EHLO stranger")
            await stranger.send(b"AUTH PLAIN AGFubmEAZ3Vlc3M=\r\n")
        await until(lambda: len(host.listener._sessions) <= 2 + judged, "those who were sent away to be gone")
        assert sum(users for _, users in passwords._gates._gates.values()) <= 2 + judged
        answer.set()
        async with asyncio.timeout(5):
            await host.logged_in()
        assert host.journal.told("login")[0][0][4], "the owner's own"
        half_a_minute.set()
        await until(lambda: len(host.journal.told("login")) > judged, "the guesses to be told")
    passwords.close()
