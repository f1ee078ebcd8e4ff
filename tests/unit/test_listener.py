"""Listeners as clients meet them: let in, turned away, a new certificate, sent away politely at the end."""

from __future__ import annotations

import asyncio
import errno
import socket
from pathlib import Path

import pytest

from relay.accounts import Account, Accounts
from relay.refusal import Reason
from relay.submission import front, gateway, listener, ports
from relay.submission.front import Front
from relay.submission.ports import CannotListen
from support.appliance import publish_certificate
from support.reception import Reception, person, reception, to_data, until

HEAD = b"From: anna@example.org\r\n\r\n"


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
        assert args[:4] == ("submissions", "127.0.0.1", "", False)
        assert args[4]
        assert host.limiter.connections == 0


class Exhausted:
    """A listening socket of a machine that is out of file descriptors, then no more."""

    def __init__(self, real: socket.socket, failures: int) -> None:
        self.real, self.failures = real, failures

    def accept(self) -> tuple[socket.socket, object]:
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, "too many open files")
        return self.real.accept()

    def __getattr__(self, name: str) -> object:
        return getattr(self.real, name)


async def test_out_of_file_descriptors_it_waits_and_does_not_spin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "WAIT_WHEN_OUT", 0.05)
    host = Reception(tmp_path, "lan", tls=False)
    host.listener._sockets = [Exhausted(host.listener._sockets[0], 2)]  # type: ignore[list-item]
    host.start()
    try:
        assert (await (await host.connect()).line()).startswith(b"220 ")
        assert [fields["error"] for _, fields in host.journal.told("system")] == ["EMFILE", "EMFILE"]
    finally:
        await host.stop()


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


def now(host: Reception, *accounts: Account) -> None:
    """These are the accounts, and the listener is told so."""
    host.file.current = Accounts(accounts)
    host.listener.accounts_changed(host.file.current)


@pytest.mark.parametrize(
    ("accounts", "why"),
    [
        ([person(password_hash="another")], b"has a new password; log in again with it."),
        ([person(disabled=True)], b"is disabled; the operator can enable it again."),
        ([], b"was removed; ask the operator for a new one."),
    ],
)
async def test_who_knew_an_old_password_keeps_no_connection_by_talking(
    tmp_path: Path, accounts: list[Account], why: bytes
) -> None:
    people = [person(), person("bert")]
    async with reception(tmp_path, accounts=people, limits={"connections": 4}) as host:
        thieves = [await host.logged_in("anna") for _ in range(2)]
        other = await host.logged_in("bert")
        stranger = await host.connect()
        await stranger.line()
        for thief in thieves:
            assert (await thief.ask(b"NOOP")).startswith(b"250 ")
        now(host, *accounts, people[1])
        for thief in thieves:
            assert await thief.line() == b"421 4.7.0 The account anna " + why
            assert await thief.line() == b""
        await until(lambda: host.limiter.connections == 2, "their places to be given back")
        for client in (other, stranger):
            assert (await client.ask(b"NOOP")).startswith(b"250 ")
        assert [args[2:4] for args, _ in host.journal.told("refused")] == [("anna", Reason.ACCOUNT_CHANGED)] * 2
        if accounts == [person(password_hash="another")]:
            await host.logged_in("anna")


async def test_other_changes_of_an_account_hang_up_on_nobody(tmp_path: Path) -> None:
    async with reception(tmp_path) as host:
        client = await host.logged_in()
        now(host, person(recipients_per_day=5), person("bert"))
        assert (await client.ask(b"NOOP")).startswith(b"250 ")


async def test_a_message_that_is_under_way_is_judged_at_its_end(tmp_path: Path) -> None:
    async with reception(tmp_path) as host:
        client = await host.logged_in()
        await to_data(client)
        now(host, person(password_hash="another"))
        await client.send(b"From: anna@example.org\r\n\r\n.\r\nNOOP\r\n")
        assert (await client.line()).startswith(b"421 4.7.0 The account anna has a new password")
        assert await client.line() == b""
        assert host.spool.kept == []


async def test_the_lan_port_knows_no_passwords(tmp_path: Path) -> None:
    async with reception(tmp_path, "lan", tls=False) as host:
        client = await host.logged_in()
        now(host, person(password_hash="another"))
        assert (await client.ask(b"NOOP")).startswith(b"250 ")


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
    stop = asyncio.Event()
    running = asyncio.create_task(alone.run(stop))
    await until(lambda: lan.listener.open, "the port to open")
    stop.set()
    await asyncio.wait_for(running, 10)
    await alone.stop(1.0)
    assert isinstance(front.limits.DRAIN_SUBMISSION, float)


async def test_an_occupied_port_is_named_with_its_setting(tmp_path: Path) -> None:
    async with reception(tmp_path) as host:
        port = host.listener.port
        for address in ("127.0.0.1", "0.0.0.0"):
            with pytest.raises(CannotListen) as problem:
                ports.take(address, port, "RELAY_SUBMISSION_PORT")
            assert str(problem.value) == (
                f"RELAY_SUBMISSION_PORT: port {port} on {address} is in use by another program; "
                "end that, or choose another port."
            )


def test_a_foreign_address_cannot_be_listened_on() -> None:
    with pytest.raises(CannotListen, match=r"^RELAY_LAN_PORT: cannot listen on 192\.0\.2\.1 port 0: "):
        ports.take("192.0.2.1", 0, "RELAY_LAN_PORT")


def test_a_port_for_which_only_ipv6_is_occupied_is_occupied() -> None:
    with socket.socket(socket.AF_INET6) as other:
        other.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            other.bind(("::", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        other.listen()
        with pytest.raises(CannotListen, match="is in use"):
            ports.take("0.0.0.0", other.getsockname()[1], "RELAY_LAN_PORT")


async def test_a_wildcard_means_both_protocols(tmp_path: Path) -> None:
    host = Reception(tmp_path, "lan", tls=False, networks=None, address="::")
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
