"""Listeners and sessions as clients meet them: let in, turned away, timed out, and sent away politely at the end."""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path

import pytest

from relay import limits
from relay.accounts import Accounts
from relay.submission import front, gateway, intake
from relay.submission.front import Front
from relay.submission.listener import CannotListen
from support.appliance import publish_certificate
from support.fakes import FakeSpool
from support.reception import PASSWORD, Reception, person, reception
from support.smtp_client import RawClient

HEAD = b"From: anna@example.org\r\n\r\n"


async def until(condition: object, what: str) -> None:
    """Let the loop run until ``condition()`` is true."""
    assert callable(condition)
    deadline = asyncio.get_running_loop().time() + 10
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, what
        await asyncio.sleep(0.001)


async def to_data(client: RawClient) -> None:
    assert (await client.ask(b"MAIL FROM:<anna@example.org>")).startswith(b"250")
    assert (await client.ask(b"RCPT TO:<bob@example.net>")).startswith(b"250")
    assert (await client.ask(b"DATA")).startswith(b"354")


# --- the commit ---


async def test_a_client_that_leaves_during_the_commit_does_not_stop_it(tmp_path: Path) -> None:
    async with reception(tmp_path) as host:
        client = await host.logged_in()
        await to_data(client)
        host.spool.gate.clear()
        await client.send(HEAD + b".\r\n")
        await until(lambda: not host.spool.gate.is_set() and host.journal.told("login"), "the message to arrive")
        client.abort()
        await until(lambda: all(session.lost for session in host.listener._sessions), "the hang-up to be seen")
        host.spool.gate.set()
        await asyncio.wait_for(host.spool.arrived.wait(), 10)
        assert host.spool.kept[0].message.recipients == ("bob@example.net",)


async def test_no_250_before_the_commit(tmp_path: Path) -> None:
    async with reception(tmp_path, "lan", tls=False) as host:
        client = await host.logged_in()
        await to_data(client)
        host.spool.gate.clear()
        await client.send(HEAD + b".\r\n")
        waiting = asyncio.create_task(client.line())
        await asyncio.sleep(0)
        done, _ = await asyncio.wait({waiting}, timeout=0.05)
        assert not done
        host.spool.gate.set()
        assert (await waiting).startswith(b"250 2.0.0 Kept safe as " + host.spool.kept[0].message.id.encode())


async def test_a_client_that_closes_its_half_after_the_dot_gets_its_answer(tmp_path: Path) -> None:
    async with reception(tmp_path, "lan", tls=False) as host:
        client = await host.logged_in()
        await to_data(client)
        await client.send(HEAD + b".\r\nQUIT\r\n")
        client.half_close()
        assert (await client.line()).startswith(b"250 ")
        assert (await client.line()).startswith(b"221 ")


async def test_a_large_message_travels_in_chunks_and_whole(tmp_path: Path) -> None:
    body = b"".join(b"%09d .leading\r\n.dot %d\r\n" % (number, number) for number in range(60_000))
    async with reception(tmp_path) as host:
        client = await host.logged_in()
        await to_data(client)
        await client.send(HEAD + body.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        assert (await client.line()).startswith(b"250 ")
        kept = host.spool.kept[0]
        assert kept.data.endswith(HEAD[-4:] + body)
        assert kept.message.size == len(kept.data)
        assert host.spool.largest == limits.CHUNK


async def test_what_was_reserved_is_given_back_however_a_message_ends(tmp_path: Path) -> None:
    async with reception(tmp_path, "lan", tls=False) as host:
        client = await host.logged_in()
        for ending in (b"RSET", b"EHLO again", b"DATA"):
            assert (await client.ask(b"MAIL FROM:<anna@example.org> SIZE=1000")).startswith(b"250")
            assert host.spool.reserved == 1000
            await client.ask(b"RCPT TO:<bob@example.net>")
            await client.ask(ending)
            if ending == b"DATA":
                await client.send(HEAD + b".\r\n")
                await client.line()
            assert host.spool.reserved == 0
        await client.ask(b"MAIL FROM:<anna@example.org> SIZE=1000")
        client.abort()
        await until(lambda: host.spool.reserved == 0, "the reservation to be given back")


# --- time ---


async def test_an_idle_client_is_told_and_hung_up_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IDLE_BEFORE_AUTH", 0.05)
    async with reception(tmp_path) as host:
        client = await host.connect()
        await client.line()
        await client.send(b"EH")
        assert (await client.line()).startswith(b"421 4.4.2 ")
        assert await client.line() == b""


async def test_who_has_logged_in_may_idle_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "IDLE_AFTER_AUTH", 0.1)
    async with reception(tmp_path) as host:
        client = await host.logged_in()
        monkeypatch.setattr(limits, "IDLE_BEFORE_AUTH", 0.0)
        assert (await client.line()).startswith(b"421 4.4.2 ")


async def test_a_client_may_be_as_slow_as_the_limit_and_no_slower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "RATE_WINDOW", 0.1)
    async with reception(tmp_path, "lan", tls=False) as host:
        client = await host.logged_in()
        await to_data(client)
        await client.send(HEAD)  # 26 bytes, and 50 are wanted in each window
        assert (await client.line()).startswith(b"421 4.4.2 ")
        assert await client.line() == b""
        assert host.spool.kept == []


def test_pace_counts_in_windows_and_ends_after_two_hours() -> None:
    pace = intake.Pace(1000.0)
    pace.count = 30_000
    assert (pace.deadline, pace.kept(1060.0)) == (1060.0, True)
    pace.count = 29_999
    assert not pace.kept(1120.0)
    pace.pause(40.0)
    assert pace.deadline == 1220.0
    pace.count = 30_000_000
    assert pace.kept(1000.0 + limits.DATA_TIME + 39)
    pace.count = 30_000_000
    assert not pace.kept(1000.0 + limits.DATA_TIME + 40)


async def test_a_tls_handshake_must_come_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TLS_HANDSHAKE_TIME", 0.05)
    async with reception(tmp_path, "submissions") as host:
        assert await (await host.connect_plainly()).line() == b""
        await until(lambda: host.limiter.connections == 0, "the connection to be given back")


async def test_a_handshake_after_starttls_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TLS_HANDSHAKE_TIME", 0.05)
    async with reception(tmp_path) as host:
        client = await host.connect()
        await client.line()
        await client.ask(b"EHLO client")
        assert (await client.ask(b"STARTTLS")).startswith(b"220 ")
        assert await client.line() == b""
        assert host.journal.told("tls_handshake")[0][0][:3] == ("submission", "", False)
        await until(lambda: host.limiter.connections == 0, "the connection to be given back")


# --- who may come in ---


async def test_who_talks_before_the_greeting_is_turned_away(tmp_path: Path) -> None:
    async with reception(tmp_path) as host:
        with socket.create_connection(("127.0.0.1", host.listener.port)) as early:
            early.sendall(b"EHLO spammer\r\n")  # the loop has had no chance to accept yet
            early.setblocking(False)
            reply = await asyncio.get_running_loop().sock_recv(early, 1000)
        assert reply.startswith(b"554 5.5.0 ")
        await until(lambda: host.limiter.connections == 0, "the connection to be given back")


@pytest.mark.parametrize(("gateways", "reply"), [((), b"421 4.7.0 "), (("127.0.0.1",), b"220 ")])
async def test_connections_of_an_address_are_counted_but_not_the_gateways(
    tmp_path: Path, gateways: tuple[str, ...], reply: bytes
) -> None:
    more = {"limits": {"connections_per_address": 2}, "gateways": frozenset(gateways)}
    async with reception(tmp_path, **more) as host:
        clients = [await host.connect() for _ in range(2)]
        for client in clients:
            assert (await client.line()).startswith(b"220 ")
        assert (await (await host.connect()).line()).startswith(reply)
        if not gateways:
            await clients[0].close()
            await until(lambda: host.limiter.connections == 1, "a place to become free")
            assert (await (await host.connect()).line()).startswith(b"220 ")


async def test_one_too_many_costs_no_tls_handshake(tmp_path: Path) -> None:
    async with reception(tmp_path, "submissions", limits={"connections": 0}) as host:
        assert await (await host.connect_plainly()).line() == b""
        assert host.journal.told("tls_handshake") == []
        assert len(host.journal.told("connection_refused")) == 1


async def test_the_gateway_is_nobody_on_the_lan(tmp_path: Path) -> None:
    async with reception(tmp_path, "lan", gateways=frozenset({"127.0.0.1"})) as host:
        assert (await (await host.connect()).line()).startswith(b"554 5.7.1 ")


async def test_a_failed_handshake_is_known_with_its_reason(tmp_path: Path) -> None:
    async with reception(tmp_path, "submissions") as host:
        client = await host.connect_plainly()
        await client.send(b"EHLO client\r\n" * 10)
        await client.line()
        await until(lambda: host.journal.told("tls_handshake"), "the handshake to fail")
        (args, _), *_ = host.journal.told("tls_handshake")
        assert args[:3] == ("submissions", "", False)
        assert args[3]
        assert host.limiter.connections == 0


# --- certificates and accounts that change meanwhile ---


@pytest.mark.parametrize("name", ["submission", "submissions"])
async def test_a_new_certificate_is_for_new_handshakes_and_disturbs_nobody(tmp_path: Path, name: str) -> None:
    async with reception(tmp_path, name) as host:
        before = await host.logged_in()
        ca = publish_certificate(tmp_path, "localhost", "mail.example.org")
        assert host.certificates is not None
        assert host.certificates.refresh()
        with pytest.raises(OSError, match="certificate verify failed"):
            await host.logged_in()
        host.client_context.load_verify_locations(ca)
        await host.logged_in()
        assert (await before.ask(b"NOOP")).startswith(b"250 ")


@pytest.mark.parametrize("change", [{"disabled": True}, {"password_hash": "another"}, None])
async def test_a_changed_account_ends_at_its_next_mail(tmp_path: Path, change: dict[str, object] | None) -> None:
    async with reception(tmp_path) as host:
        client = await host.logged_in()
        assert (await client.ask(b"MAIL FROM:<anna@example.org>")).startswith(b"250 ")
        await client.ask(b"RSET")
        host.file.current = Accounts([] if change is None else [person(**change)])
        assert (await client.ask(b"NOOP")).startswith(b"250 ")
        assert (await client.ask(b"MAIL FROM:<anna@example.org>")).startswith(b"421 4.7.0 ")
        assert await client.line() == b""


async def test_new_senders_of_an_account_count_from_the_next_mail(tmp_path: Path) -> None:
    async with reception(tmp_path) as host:
        client = await host.logged_in()
        assert (await client.ask(b"MAIL FROM:<info@example.org>")).startswith(b"550 ")
        host.file.current = Accounts([person(senders=("info@example.org",))])
        assert (await client.ask(b"MAIL FROM:<info@example.org>")).startswith(b"250 ")


async def test_the_lan_port_of_an_account_that_is_gone(tmp_path: Path) -> None:
    async with reception(tmp_path, "lan") as host:
        client = await host.logged_in()
        host.file.current = Accounts()
        assert (await client.ask(b"MAIL FROM:<anna@example.org>")).startswith(b"451 4.3.5 ")


# --- our own mistakes, and secrets ---


async def test_an_exception_tells_the_client_nothing_and_the_log_no_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    said = "hush-hush"

    def broken(self: FakeSpool, size: int) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr(FakeSpool, "reserve", broken)
    async with reception(tmp_path, "lan", tls=False) as host:
        client = await host.logged_in()
        reply = await client.ask(b"MAIL FROM:<anna@example.org>")
        assert reply.startswith(b"451 4.3.0 ")
        assert (await client.ask(b"NOOP")).startswith(b"250 ")
        assert ("system", ("internal_error",), {"error": "RuntimeError"}) in host.journal.calls
        assert said not in caplog.text
        assert "RuntimeError" in caplog.text


async def test_after_an_exception_in_mid_message_the_stream_is_not_read_as_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **more: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(intake, "prepare", broken)
    async with reception(tmp_path, "lan", tls=False) as host:
        client = await host.logged_in()
        await to_data(client)
        await client.send(HEAD)
        assert (await client.line()).startswith(b"451 4.3.0 ")
        assert await client.line() == b""


async def test_no_secret_reaches_log_or_journal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with reception(tmp_path) as host:
        client = await host.logged_in()
        await client.ask(b"AUTH PLAIN AGFubmEAY29ycmVjdCBob3JzZQ==")
        await to_data(client)
        await client.send(HEAD + b"between us\r\n.\r\n")
        await client.line()
        await client.ask(b"Y29ycmVjdCBob3JzZQ==")
        told = caplog.text + repr(host.journal.calls)
        for secret in (PASSWORD, "Y29ycmVjdCBob3JzZQ", "AGFubmEAY29ycmVjdCBob3JzZQ", "between us"):
            assert secret not in told


# --- the end ---


async def test_stopping_sends_the_idle_away_and_lets_a_message_finish(tmp_path: Path) -> None:
    async with reception(tmp_path) as host:
        idle, busy = await host.logged_in(), await host.logged_in()
        await to_data(busy)
        await busy.send(HEAD + b"half")
        await until(lambda: any(session._trace for session in host.listener._sessions), "DATA")
        host.listener.close()
        draining = asyncio.create_task(host.listener.drain(10))
        assert (await idle.line()).startswith(b"421 4.3.2 ")
        assert await idle.line() == b""
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await host.connect()
        await busy.send(b" and half\r\n.\r\nMAIL FROM:<anna@example.org>\r\n")
        assert (await busy.line()).startswith(b"250 2.0.0 ")
        assert (await busy.line()).startswith(b"421 4.3.2 ")
        await asyncio.wait_for(draining, 10)
        assert host.spool.kept[0].data.endswith(b"half and half\r\n")
        assert host.limiter.connections == 0


async def test_who_does_not_finish_in_time_is_hung_up_on(tmp_path: Path) -> None:
    async with reception(tmp_path, "lan", tls=False) as host:
        client = await host.logged_in()
        await to_data(client)
        host.listener.close()
        await asyncio.wait_for(host.listener.drain(0.02), 10)
        assert await client.line() == b""
        assert host.spool.kept == []


async def test_stopping_cuts_off_handshakes_that_have_not_ended(tmp_path: Path) -> None:
    async with reception(tmp_path, "submissions") as host:
        await host.connect_plainly()
        await until(lambda: host.listener._arriving, "the connection")
        host.listener.close()
        await asyncio.wait_for(host.listener.drain(5), 10)
        assert host.limiter.connections == 0


# --- all listeners together ---


async def test_tls_ports_open_with_the_first_certificate_and_the_lan_at_once(tmp_path: Path) -> None:
    tls, lan = Reception(tmp_path / "tls"), Reception(tmp_path / "lan", "lan")
    certificates = tls.certificates
    assert certificates is not None
    served, certificates.current = certificates.current, None
    both = Front([tls.listener, lan.listener], certificates)
    assert both.bind() == []
    stop = asyncio.Event()
    running = asyncio.create_task(both.run(stop))
    await until(lambda: lan.listener.open, "the LAN's port to open")
    assert not tls.listener.open
    assert both.waiting_for[0].startswith("There is no certificate yet.")
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await tls.connect()
    certificates.current = served
    certificates.on_change()
    assert (await (await tls.connect()).line()).startswith(b"220 ")
    assert both.waiting_for == []
    stop.set()
    await running
    tls.clients[0].abort()
    await both.stop(1.0)
    assert both.waiting_for == ["It is being stopped."]


async def test_without_tls_the_front_runs_until_it_is_stopped(tmp_path: Path) -> None:
    lan = Reception(tmp_path, "lan", tls=False)
    alone = Front([lan.listener], None)
    assert alone.bind() == []
    stop = asyncio.Event()
    running = asyncio.create_task(alone.run(stop))
    await until(lambda: lan.listener.open, "the port to open")
    stop.set()
    await asyncio.wait_for(running, 10)
    await alone.stop(1.0)
    assert isinstance(front.limits.DRAIN_SUBMISSION, float)


async def test_an_occupied_port_is_named_with_its_setting(tmp_path: Path) -> None:
    async with reception(tmp_path) as host:
        other = Reception(tmp_path, port=host.listener.port)
        problems = Front([other.listener], None).bind()
        in_use = (
            f"RELAY_SUBMISSION_PORT: port {host.listener.port} on 127.0.0.1 is in use by another program; "
            "end that, or choose another port."
        )
        assert problems == [in_use]


async def test_a_foreign_address_cannot_be_listened_on(tmp_path: Path) -> None:
    host = Reception(tmp_path)
    host.listener._address = "192.0.2.1"
    with pytest.raises(CannotListen, match=r"^RELAY_SUBMISSION_PORT: cannot listen on 192\.0\.2\.1 port 0: "):
        host.listener.bind()


async def test_a_wildcard_means_both_protocols(tmp_path: Path) -> None:
    host = Reception(tmp_path, "lan", tls=False, networks=())
    host.listener._address = "::"
    host.listener._networks = None
    host.start()
    try:
        for address in ["127.0.0.1"] + (["::1"] if len(host.listener._sockets) == 2 else []):
            assert (await (await host.connect(address)).line()).startswith(b"220 ")
    finally:
        await host.stop()


# --- gateways ---

IPV4 = """\
Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	010011AC	0003	0	0	0	00000000	0	0	0
eth0	000011AC	00000000	0001	0	0	0	0000FFFF	0	0	0
eth1	00000000	FE01A8C0	0003	0	0	100	00000000	0	0	0
eth1	00000000	00000000	0001	0	0	200	00000000	0	0	0
eth1	0000000A	0101A8C0	0003	0	0	0	000000FF	0	0	0
broken
"""
NOWHERE = "0" * 32
IPV6 = f"""\
{NOWHERE} 00 {NOWHERE} 00 fd000000000000000000000000000001 00000400 00000001 00000000 00000003     eth0
fd000000000000000000000000000000 40 {NOWHERE} 00 {NOWHERE} 00000100 00000001 00000000 00000001     eth0
{NOWHERE} 00 {NOWHERE} 00 {NOWHERE} ffffffff 00000001 00000000 00200200       lo
"""


def test_the_default_gateways_are_read_from_the_kernels_tables() -> None:
    assert gateway.parse_ipv4(IPV4, "little") == {"172.17.0.1", "192.168.1.254"}
    assert gateway.parse_ipv6(IPV6) == {"fd00::1"}


def test_on_big_machines_the_bytes_stand_the_other_way() -> None:
    assert gateway.parse_ipv4(IPV4.replace("010011AC", "AC110001"), "big") >= {"172.17.0.1"}


def test_this_machines_gateways_can_be_read() -> None:
    assert isinstance(gateway.default_gateways(), frozenset)
