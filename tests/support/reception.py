"""A listener on loopback with real TLS, real limits and a fake spool, in the test's own loop."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from relay.accounts import Account, Accounts
from relay.clock import SystemClock
from relay.delivery.offers import Offers
from relay.listening import desk
from relay.providers.build import build
from relay.providers.reach import Reach
from relay.settings import Settings, read
from relay.submission.desk import AccountsNow, Certificate, Desk, Journal, Passwords, Spool
from relay.submission.limiter import Limiter
from relay.submission.listener import Listener
from relay.submission.ports import take
from relay.submission.repeats import Recent, Repeats
from relay.submission.tls import Certificates
from support.appliance import publish_certificate
from support.fakes import FakeAccountsFile, FakeJournal, FakePasswords, FakeSpool
from support.presets import environ
from support.smtp_client import RawClient

HOSTNAME = "mail.example.org"
PASSWORD = "correct horse"
LOOPBACK = ipaddress.ip_network("127.0.0.0/8")


def person(name: str = "anna", **more: Any) -> Account:
    """An account that may send as NAME@example.org, as much as it likes."""
    defaults: dict[str, Any] = {
        "password_hash": "-",
        "senders": (f"{name}@example.org",),
        "recipients_per_day": None,
        "recipients_per_hour": None,
    }
    return Account(name=name, **(defaults | more))


def settings(account: str = "anna", **more: str) -> Settings:
    """Those of a relay with all three listeners and one provider, ``generic``; ``more`` adds to them.

    It is one without TLS, for thousands of sessions are made, and a context for TLS reads the system's authorities.
    """
    provider = {"GENERIC_HOST": "127.0.0.1", "GENERIC_TLS": "none", "GENERIC_USERNAME": "", "GENERIC_PASSWORD": ""}
    lan = {"RELAY_LAN_BIND": "127.0.0.1", "RELAY_LAN_NETWORKS": "127.0.0.0/16", "RELAY_LAN_ACCOUNT": account}
    lan |= {"RELAY_LAN_RECIPIENTS": "*", "RELAY_LAN_RECIPIENTS_PER_DAY": "unlimited"}
    return read(environ("generic") | provider | {"OWNPOST_HOSTNAME": HOSTNAME} | lan | more)


def offers(wanted: Settings) -> Offers:
    """What delivery knows of the providers in ``wanted``: nothing yet."""
    providers, clock, journal = [build(one) for one in wanted.providers], SystemClock(), FakeJournal()
    return Offers(
        providers,
        routes=wanted.routes,
        high=frozenset,
        clock=clock,
        journal=journal,
        jitter=lambda: 0.0,
        poke=lambda: None,
    )


def desk_for(
    wanted: Settings,
    name: str,
    known: Offers,
    *,
    accounts: AccountsNow,
    passwords: Passwords,
    limiter: Limiter,
    repeats: Repeats | None,
    spool: Spool,
    journal: Journal,
    certificate: Certificate | None,
) -> Desk:
    """The desk of the listener ``name``, made as the relay makes it."""
    return desk(
        wanted,
        name,
        accounts=accounts,
        passwords=passwords,
        limiter=limiter,
        repeats=repeats,
        spool=spool,
        journal=journal,
        clock=SystemClock(),
        certificate=certificate,
        reach=Reach(tuple(build(one).terms for one in wanted.providers), wanted.routes),
        smtputf8=known.smtputf8,
    )


@dataclass
class Reception:
    """``name`` is "submission", "submissions" or "lan"; ``settings`` and ``provider`` (its table in
    ``providers.toml``) are the operator's; ``desk`` overrides fields of the desk.
    """

    folder: Path
    name: str = "submission"
    accounts: list[Account] = field(default_factory=lambda: [person()])
    spool: FakeSpool = field(default_factory=FakeSpool)
    journal: FakeJournal = field(default_factory=FakeJournal)
    tls: bool = True
    settings: Mapping[str, str] = field(default_factory=dict)
    provider: Mapping[str, Any] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)
    gateways: frozenset[str] = frozenset()
    networks: tuple[Any, ...] | None = (LOOPBACK,)
    address: str = "127.0.0.1"
    port: int = 0
    desk: dict[str, Any] = field(default_factory=dict)
    clients: list[RawClient] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.file = FakeAccountsFile(Accounts(self.accounts))
        self.passwords = FakePasswords(self.file, {account.name: PASSWORD for account in self.accounts})
        self.client_context = ssl.create_default_context()
        self.certificates: Certificates | None = None
        if self.tls:
            ca = publish_certificate(self.folder, "localhost", HOSTNAME)
            self.client_context.load_verify_locations(ca)
            self.certificates = Certificates(self.folder, HOSTNAME, clock=SystemClock(), journal=self.journal)
            assert self.certificates.refresh()
        self.repeats = Repeats(Recent(SystemClock(), 600.0), self.spool.states_of)
        self.limiter = Limiter(clock=SystemClock(), gateways=self.gateways, **self.limits)
        wanted = self._settings()
        self.offers = offers(wanted)
        self.listener = Listener(
            self._desk(wanted),
            take(self.address, self.port, "RELAY_SUBMISSION_PORT"),
            networks=self.networks if self.name == "lan" else None,
            gateways=self.gateways,
        )

    def _settings(self) -> Settings:
        lines = [f"{key} = {json.dumps(value)}" for key, value in self.provider.items()]
        (self.folder / "providers.toml").write_text("\n".join(["[generic]", *lines]) if lines else "")
        return settings(self.accounts[0].name, RELAY_CONFIG=str(self.folder), **self.settings)

    def _desk(self, wanted: Settings) -> Desk:
        made = desk_for(
            wanted,
            self.name,
            self.offers,
            accounts=self.file,
            passwords=self.passwords,
            limiter=self.limiter,
            repeats=self.repeats,
            spool=self.spool,
            journal=self.journal,
            certificate=self.certificates,
        )
        return replace(made, **self.desk)

    async def connect(self, host: str = "127.0.0.1") -> RawClient:
        """A client that has read nothing yet; under TLS on the port where TLS is implied."""
        return await self._connect(self.client_context if self.name == "submissions" else None, host)

    async def connect_plainly(self) -> RawClient:
        """A client that knows no TLS, on whatever port."""
        return await self._connect(None, "127.0.0.1")

    async def _connect(self, tls: ssl.SSLContext | None, host: str) -> RawClient:
        client = await RawClient.connect(self.listener.port, tls, host)
        self.clients.append(client)
        return client

    def start(self) -> None:
        """Let clients in."""
        self.listener.start()

    async def stop(self) -> None:
        """Let nobody in any more and hang up on all."""
        for client in self.clients:
            client.abort()
        self.listener.close()
        await self.listener.drain(2.0)

    async def logged_in(self, name: str = "anna") -> RawClient:
        """A client that has shaken hands and logged in as ``name``, as far as the listener knows such things."""
        client = await self.connect()
        assert (await client.line()).startswith(b"220 ")
        assert (await client.ask(b"EHLO client")).startswith(b"250 ")
        if self.name == "submission":
            assert (await client.ask(b"STARTTLS")).startswith(b"220 ")
            await client.start_tls(self.client_context)
            assert (await client.ask(b"EHLO client")).startswith(b"250 ")
        if self.name != "lan":
            reply = await client.ask(b"AUTH PLAIN " + b64encode(f"\0{name}\0{PASSWORD}".encode()))
            assert reply.startswith(b"235 "), reply
        return client


async def until(condition: Callable[[], object], what: str) -> None:
    """Let the loop run until ``condition()`` is true; fails with ``what`` after ten seconds."""
    deadline = asyncio.get_running_loop().time() + 10
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, f"waited in vain for {what}"
        await asyncio.sleep(0.001)


async def to_data(client: RawClient) -> None:
    """From MAIL to the 354."""
    assert (await client.ask(b"MAIL FROM:<anna@example.org>")).startswith(b"250")
    assert (await client.ask(b"RCPT TO:<bob@example.net>")).startswith(b"250")
    assert (await client.ask(b"DATA")).startswith(b"354")


@asynccontextmanager
async def reception(folder: Path, name: str = "submission", **more: Any) -> AsyncIterator[Reception]:
    """A :class:`Reception` that is open."""
    host = Reception(folder, name, **more)
    host.start()
    try:
        yield host
    finally:
        await host.stop()
