"""The composition root: builds the relay's parts from the settings and wires them; nothing else knows them all.

What is wrong is gathered and told all at once (:class:`CannotStart`).

An operator who has to start five times to learn of five mistakes has been failed by us: accounts, provider, spool,
ports and the number of open files are each tried, whatever became of the others.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from prometheus_client import CollectorRegistry

from relay import __version__, limits
from relay.accounts import Accounts, AccountsError, demo_problem
from relay.accounts_file import AccountsFile
from relay.clock import Clock
from relay.control import Control, ControlError
from relay.control_pages import routes
from relay.delivery.digest import Digests
from relay.delivery.dispatcher import Dispatcher
from relay.descriptors import CannotOpenFiles, raise_limit
from relay.holding import Holding
from relay.journal import Journal
from relay.log import Log
from relay.metrics import Metrics
from relay.providers.build import build
from relay.providers.provider import Provider
from relay.service import Relay
from relay.settings import LanSettings, Settings
from relay.spool import Spool, SpoolUnusable
from relay.status import Status
from relay.submission.auth import Authenticator
from relay.submission.desk import Desk, Lan
from relay.submission.dialogue import own_mistake
from relay.submission.front import Front
from relay.submission.gateway import default_gateways
from relay.submission.listener import Listener
from relay.submission.mirror import Mirror
from relay.submission.ports import CannotListen, take
from relay.submission.tls import Certificates
from relay.testmail import TestMail
from relay.usage import LAN, lan_budget, limiter

T = TypeVar("T")
FILES_BESIDE_CONNECTIONS = 256  # the spool, the sockets to the provider, the control socket, libraries


class CannotStart(Exception):
    """What is wrong, one sentence for each problem."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = tuple(problems)


class Problems(list[str]):
    """Gathers what goes wrong."""

    def catch(self, step: Callable[[], T]) -> T | None:
        """The value of ``step``, or ``None`` and its problems are noted."""
        try:
            return step()
        except AccountsError as error:
            self.extend(error.problems)
        except (CannotOpenFiles, ssl.SSLError) as error:
            self.append(str(error))
        return None


def accounts_file(settings: Settings, journal: Journal) -> AccountsFile:
    """The accounts in force. Raises :class:`AccountsError`."""

    published = {"OWNPOST_BIND": settings.bind} | ({"RELAY_LAN_BIND": settings.lan.bind} if settings.lan else {})

    def check(accounts: Accounts) -> str | None:
        return demo_problem(accounts, published, settings.providers) or _lan_problem(settings.lan, accounts)

    return AccountsFile(settings.config / "accounts.toml", journal=journal, check=check)


def _lan_problem(lan: LanSettings | None, accounts: Accounts) -> str | None:
    if lan is None or accounts.find(lan.account) is not None:
        return None
    known = ", ".join(account.name for account in accounts) or "none"
    return f"RELAY_LAN_ACCOUNT={lan.account} is not among the accounts ({known}); add it or name another."


def provider(settings: Settings) -> Provider:
    """The provider that mail goes to. Raises ssl.SSLError when its CA is not one."""
    return build(settings.providers[0])


async def open_spool(settings: Settings, journal: Journal, clock: Clock, failed: Callable[[str], None]) -> Spool:
    """The spool, recovered. Raises :class:`SpoolUnusable`."""
    spool = await Spool.open(
        settings.spool,
        clock=clock,
        message_size_limit=settings.message_size_limit,
        on_committed=journal.committed,
        on_fatal=failed,
        on_group=journal.commit_group,
        history=settings.history_days * limits.DAY,
        filesystem=settings.spool_filesystem,
    )
    if spool.filesystem_problem:
        journal.system("spool_filesystem", problem=spool.filesystem_problem)
    return spool


def announced_size(settings: Settings, to: Provider) -> int:
    """The message size that clients are told: what we take, and never more than the provider does with our fields."""
    return min(
        settings.message_size_limit,
        to.size_limit - limits.SIZE_RESERVE if to.size_limit else settings.message_size_limit,
    )


def take_ports(settings: Settings, problems: Problems) -> dict[str, list[socket.socket]]:
    """Bound sockets of each listener that the settings ask for; what cannot be had is among the problems."""
    wanted = {
        "submission": (settings.listen, settings.submission_port, "RELAY_SUBMISSION_PORT"),
        "submissions": (settings.listen, settings.submissions_port, "RELAY_SUBMISSIONS_PORT"),
        LAN: (settings.lan.listen, settings.lan.port, "RELAY_LAN_PORT") if settings.lan else ("", 0, ""),
    }
    taken = {}
    for name, (address, port, setting) in wanted.items():
        if port:
            try:
                taken[name] = take(address, port, setting)
            except CannotListen as problem:
                problems.append(str(problem))
    return taken


def front(
    settings: Settings,
    taken: dict[str, list[socket.socket]],
    certificates: Certificates,
    shared: dict[str, Any],
    gateways: frozenset[str],
) -> Front:
    """The listeners on those ports. ``shared`` is what every desk has in common."""
    listeners = []
    for name, sockets in taken.items():
        if name == LAN and settings.lan:
            listeners.append(_lan_listener(settings, settings.lan, sockets, certificates, shared, gateways))
        else:
            desk = Desk(listener=name, certificate=certificates, implicit_tls=name == "submissions", **shared)
            listeners.append(Listener(desk, sockets, gateways=gateways))
    return Front(listeners, certificates if settings.tls else None)


def _lan_listener(
    settings: Settings,
    lan: LanSettings,
    sockets: list[socket.socket],
    certificates: Certificates,
    shared: dict[str, Any],
    gateways: frozenset[str],
) -> Listener:
    rights = Lan(account=lan.account, recipients=lan.recipients, budget=lan_budget(lan))
    desk = Desk(listener=LAN, certificate=certificates if settings.tls else None, lan=rights, **shared)
    return Listener(desk, sockets, networks=lan.networks, gateways=gateways)


def open_files(settings: Settings) -> None:
    """Room for every connection that the settings allow. Raises :class:`CannotOpenFiles`."""
    raise_limit(settings.connections + FILES_BESIDE_CONNECTIONS)


async def serve(settings: Settings, log: Log, clock: Clock) -> int:
    """Run the relay until SIGTERM or SIGINT; the exit code. Raises :class:`CannotStart`."""
    stop, failed = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    log.attach(loop)
    metrics = Metrics(CollectorRegistry(), [one.name for one in settings.providers], __version__)
    journal = Journal(log, metrics)
    for warning in settings.warnings:
        journal.system("warning", text=warning)

    def spool_failed(reason: str) -> None:
        journal.system("spool_failed", reason=reason)
        failed.set()

    relay = await assemble(settings, journal, metrics, clock, spool_failed)
    journal.system("started", hostname=settings.hostname, version=__version__)
    return await relay.run(stop, failed)


async def assemble(
    settings: Settings, journal: Journal, metrics: Metrics, clock: Clock, spool_failed: Callable[[str], None]
) -> Relay:
    """Build every part and take the ports. Raises :class:`CannotStart` with all that is wrong."""
    problems = Problems()
    problems.catch(lambda: open_files(settings))
    accounts = problems.catch(lambda: accounts_file(settings, journal))
    to = problems.catch(lambda: provider(settings))
    taken = take_ports(settings, problems)
    try:
        spool = await open_spool(settings, journal, clock, spool_failed)
    except SpoolUnusable as error:
        raise CannotStart([*problems, str(error)]) from error
    try:
        if accounts is None or to is None or problems:
            raise CannotStart(problems)
        return await wire(settings, journal, metrics, clock, spool, accounts, to, taken)
    except BaseException:
        await spool.close()
        raise


async def wire(
    settings: Settings,
    journal: Journal,
    metrics: Metrics,
    clock: Clock,
    spool: Spool,
    accounts: AccountsFile,
    to: Provider,
    taken: dict[str, list[socket.socket]],
) -> Relay:
    """The parts that need the spool and the accounts, put together. Raises :class:`CannotStart`."""
    gateways = default_gateways()
    passwords = Authenticator(lambda: accounts.current, clock=clock, gateways=gateways)
    certificates = Certificates(settings.certs, settings.hostname, clock=clock, journal=journal)
    shared = {
        "hostname": settings.hostname,
        "domain": settings.domains[0],
        "accounts": accounts,
        "passwords": passwords,
        "limiter": await limiter(settings, accounts.current, spool, clock, gateways),
        "spool": spool,
        "journal": journal,
        "clock": clock,
        "size_limit": announced_size(settings, to),
        "recipients_limit": settings.recipients_limit,
        "client_address_in_received": settings.client_address_in_received,
    }
    ports = front(settings, taken, certificates, shared, gateways)
    mirror = Mirror(ports.listeners, certificates, settings.hostname, journal)
    holding = Holding(spool, accounts.current)
    accounts.on_change = holding.accounts_changed
    hostname, postmaster = settings.hostname, settings.postmaster
    state = Status(settings, ports, certificates, mirror, accounts, spool, clock)
    pages = routes(
        spool=spool,
        metrics=metrics,
        clock=clock,
        ready=state.reasons,
        status=state.facts,
        test=TestMail(spool, clock, hostname=hostname, postmaster=postmaster).queue,
    )
    control = Control(settings.socket, pages, lambda error: own_mistake(journal, error))
    try:
        await control.start()
    except ControlError as error:
        raise CannotStart([f"RELAY_RUN: {error}"]) from error
    return Relay(
        journal=journal,
        accounts=accounts,
        holding=holding,
        passwords=passwords,
        spool=spool,
        front=ports,
        mirror=mirror,
        dispatcher=Dispatcher(
            to,
            spool=spool,
            journal=journal,
            clock=clock,
            stuck=spool.recovered_unknown,
            hostname=hostname,
            postmaster=postmaster,
        ),
        digests=Digests(spool, clock, hostname, postmaster),
        control=control,
    )
