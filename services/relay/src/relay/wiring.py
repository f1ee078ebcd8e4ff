"""Puts together what needs the spool and the accounts: submission, delivery, and what operators see of both."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from relay import limits
from relay.accounts import Accounts
from relay.accounts_file import AccountsFile
from relay.clock import Clock
from relay.control import Control
from relay.control_pages import routes
from relay.delivery.digest import Digests
from relay.delivery.dispatcher import Dispatcher
from relay.delivery.probe import Prober, login_of
from relay.holding import Holding
from relay.journal import Journal
from relay.listening import desk, front
from relay.metrics import Metrics
from relay.oauth.tokens import Tokens
from relay.provider_report import ProviderReport
from relay.providers.provider import Provider
from relay.providers.reach import Reach
from relay.quotas import Quotas
from relay.service import Relay
from relay.settings import Settings
from relay.spool import Spool
from relay.status import Status
from relay.submission.auth import Authenticator
from relay.submission.desk import Desk
from relay.submission.dialogue import own_mistake
from relay.submission.front import Front
from relay.submission.gateway import default_gateways
from relay.submission.limiter import Limiter
from relay.submission.mirror import Mirror
from relay.submission.repeats import Repeats
from relay.submission.tls import Certificates
from relay.testmail import TestMail
from relay.usage import limiter, repeats


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What everything else stands on."""

    settings: Settings
    journal: Journal
    metrics: Metrics
    clock: Clock
    spool: Spool
    accounts: AccountsFile
    to: tuple[Provider, ...]  # in order of preference


async def wire(ground: Ground, taken: dict[str, list[socket.socket]]) -> Relay:
    """All parts, at the ports ``taken``. Raises :class:`ControlError`."""
    settings, clock, journal = ground.settings, ground.clock, ground.journal
    certificates = Certificates(settings.certs, settings.hostname, clock=clock, journal=journal)
    gateways = default_gateways()
    counts = await limiter(settings, ground.accounts.current, ground.spool, clock, gateways, journal)
    passwords = Authenticator(lambda: ground.accounts.current, clock=clock, gateways=gateways)
    grants = tokens(ground)
    dispatcher = delivery(ground, grants)
    seen = await repeats(settings, ground.spool, clock)
    ports = front(
        settings, taken, certificates, desks(ground, certificates, passwords, counts, seen, dispatcher), gateways
    )
    mirror = Mirror(ports.listeners, certificates, settings.hostname, journal)
    holding = Holding(ground.spool, ground.accounts.current)
    tell_of_changes(ground, holding, counts, ports, dispatcher)
    prober = look_out(ground, dispatcher, grants)
    quotas = Quotas(
        [one.terms for one in ground.to], ground.spool, clock, journal, lambda: bool(ground.accounts.current.high)
    )
    state = Status(settings, ports, certificates, mirror, ground.accounts, ground.spool, clock)
    return Relay(
        journal=journal,
        accounts=ground.accounts,
        holding=holding,
        passwords=passwords,
        spool=ground.spool,
        front=ports,
        mirror=mirror,
        dispatcher=dispatcher,
        digests=Digests(ground.spool, clock, settings.hostname, settings.postmaster, dispatcher),
        prober=prober,
        quotas=quotas,
        control=await control(ground, state, dispatcher, prober, quotas),
    )


def desks(
    ground: Ground,
    certificates: Certificates,
    passwords: Authenticator,
    counts: Limiter,
    seen: Repeats | None,
    dispatcher: Dispatcher,
) -> Callable[[str], Desk]:
    """What each listener's sessions share, by its name."""
    reach = Reach(tuple(one.terms for one in ground.to), ground.settings.routes)
    return lambda name: desk(
        ground.settings,
        name,
        accounts=ground.accounts,
        passwords=passwords,
        limiter=counts,
        repeats=seen,
        spool=ground.spool,
        journal=ground.journal,
        clock=ground.clock,
        certificate=certificates,
        reach=reach,
        smtputf8=dispatcher.smtputf8,
    )


def tokens(ground: Ground) -> dict[str, Tokens]:
    """The access tokens of those providers that want one."""
    return {
        one.name: Tokens(
            one.name,
            one.username,
            one.oauth,
            ground.settings.spool,
            clock=ground.clock,
            trouble=partial(_trouble, ground.journal, one.name),
        )
        for one in ground.to
        if one.oauth is not None
    }


def _trouble(journal: Journal, provider: str, sentence: str) -> None:
    journal.system("oauth_trouble", provider=provider, reason=sentence)


def delivery(ground: Ground, grants: Mapping[str, Tokens]) -> Dispatcher:
    """What brings mail to providers."""
    settings = ground.settings
    return Dispatcher(
        ground.to,
        spool=ground.spool,
        journal=ground.journal,
        clock=ground.clock,
        hostname=settings.hostname,
        postmaster=settings.postmaster,
        routes=settings.routes,
        high=lambda: ground.accounts.current.high,
        stuck=ground.spool.recovered_unknown,
        tokens=grants,
        doubt_wait=settings.doubt_minutes * limits.MINUTE,
    )


def tell_of_changes(ground: Ground, holding: Holding, counts: Limiter, ports: Front, dispatcher: Dispatcher) -> None:
    """Who has something to do when the accounts are others."""

    def changed(old: Accounts, new: Accounts) -> None:
        holding.accounts_changed(old, new)
        counts.volume.accounts_changed(new, ground.clock.time())
        ports.accounts_changed(new)
        dispatcher.look()

    ground.accounts.on_change = changed


def look_out(ground: Ground, dispatcher: Dispatcher, grants: Mapping[str, Tokens]) -> Prober:
    """What looks whether providers can be used that no mail tries."""
    return Prober(
        ground.to,
        hostname=ground.settings.hostname,
        clock=ground.clock,
        journal=ground.journal,
        looked=dispatcher.looked,
        unprobed=dispatcher.unprobed,
        login=login_of(grants),
    )


async def control(ground: Ground, state: Status, dispatcher: Dispatcher, prober: Prober, quotas: Quotas) -> Control:
    """What operators and the exporter ask, answering. Raises :class:`ControlError`."""
    settings = ground.settings
    test = TestMail(ground.spool, ground.clock, hostname=settings.hostname, postmaster=settings.postmaster)
    pages = routes(
        spool=ground.spool,
        metrics=ground.metrics,
        clock=ground.clock,
        ready=state.reasons,
        status=state.facts,
        test=test.queue,
        providers=ProviderReport(ground.to, settings.routes, dispatcher, prober, quotas),
        retried=dispatcher.retried,
    )
    answering = Control(settings.socket, pages, lambda error: own_mistake(ground.journal, error))
    await answering.start()
    return answering
