"""The composition root: takes what the relay stands on, the spool, the accounts, the ports, and has it wired.

What is wrong is gathered and told all at once (:class:`CannotStart`).

An operator who has to start five times to learn of five mistakes has been failed by us: accounts, provider, spool,
ports and the number of open files are each tried, whatever became of the others.
"""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import Callable, Sequence
from typing import TypeVar

from prometheus_client import CollectorRegistry

from relay import __version__, limits
from relay.accounts import Accounts, AccountsError, demo_problem
from relay.accounts_file import AccountsFile, Check, load_checked
from relay.advice import advice
from relay.clock import Clock
from relay.control import ControlError
from relay.descriptors import CannotOpenFiles, raise_limit
from relay.journal import Journal
from relay.listening import take_ports
from relay.log import Log
from relay.metrics import Metrics
from relay.providers.build import build
from relay.providers.provider import Provider
from relay.service import Relay
from relay.settings import LanSettings, Settings
from relay.spool import Spool, SpoolUnusable, installation, mode
from relay.wiring import Ground, wire

T = TypeVar("T")
ACCOUNTS = "accounts.toml"  # in RELAY_CONFIG
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
        except (CannotOpenFiles, SpoolUnusable, ssl.SSLError) as error:
            self.append(str(error))
        return None


def check(settings: Settings) -> None:
    """Reads the files that the settings go with, and takes nothing. Raises :class:`CannotStart`."""
    problems = Problems()
    # First: in a folder that never ran, what else is wrong must not hide whose mail it would have taken.
    problems.catch(lambda: installation.check(settings.spool, settings.installation))
    problems.catch(lambda: load_checked(settings.config / ACCOUNTS, fence(settings)))
    problems.catch(lambda: providers(settings))
    if problems:
        raise CannotStart(problems)


def accounts_file(settings: Settings, journal: Journal) -> AccountsFile:
    """The accounts in force. Raises :class:`AccountsError`."""
    return AccountsFile(settings.config / ACCOUNTS, journal=journal, check=fence(settings))


def fence(settings: Settings) -> Check:
    """What speaks against accounts, right in themselves, with these settings."""
    published = {"OWNPOST_BIND": settings.bind} | ({"RELAY_LAN_BIND": settings.lan.bind} if settings.lan else {})

    def objection(accounts: Accounts) -> str | None:
        return demo_problem(accounts, published, settings.providers) or _lan_problem(settings.lan, accounts)

    return objection


def _lan_problem(lan: LanSettings | None, accounts: Accounts) -> str | None:
    if lan is None or accounts.find(lan.account) is not None:
        return None
    known = ", ".join(account.name for account in accounts) or "none"
    return f"RELAY_LAN_ACCOUNT={lan.account} is not among the accounts ({known}); add it or name another."


def providers(settings: Settings) -> tuple[Provider, ...]:
    """Those that mail may go through, in order of preference. Raises ssl.SSLError when the CA of one is none."""
    return tuple(build(one) for one in settings.providers)


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
        trial=settings.trial,
        installation=settings.installation,
        doubt_wait=settings.doubt_minutes * limits.MINUTE,
    )
    if spool.filesystem_problem:
        journal.system("spool_filesystem", problem=spool.filesystem_problem)
    if held := (await spool.stats()).held_by_mode:
        journal.system("warning", text=f"OWNPOST_PROVIDERS: {mode.warning(held, settings.trial)}")
    return spool


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
    journal = Journal(log, metrics, clock)

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
    to = problems.catch(lambda: providers(settings))
    taken = take_ports(settings, problems)
    try:
        spool = await open_spool(settings, journal, clock, spool_failed)
    except SpoolUnusable as error:
        raise CannotStart([*problems, str(error)]) from error
    try:
        if accounts is None or to is None or problems:
            raise CannotStart(problems)
        for warning in (*settings.notes, *advice(settings, accounts.current)):
            journal.system("warning", text=warning)
        ground = Ground(
            settings=settings, journal=journal, metrics=metrics, clock=clock, spool=spool, accounts=accounts, to=to
        )
        return await wire(ground, taken)
    except ControlError as error:
        await spool.close()
        raise CannotStart([f"RELAY_RUN: {error}"]) from error
    except BaseException:
        await spool.close()
        raise
