"""The ports that the settings ask for, taken, and the listeners on them."""

from __future__ import annotations

import socket
from collections.abc import Callable

from relay.clock import Clock
from relay.providers.reach import Reach
from relay.settings import Settings
from relay.submission.desk import AccountsNow, Certificate, Desk, Journal, Lan, Passwords, Spool
from relay.submission.front import Front
from relay.submission.limiter import Limiter
from relay.submission.listener import Listener
from relay.submission.ports import CannotListen, take
from relay.submission.repeats import Repeats
from relay.submission.tls import Certificates
from relay.usage import LAN, lan_budget


def take_ports(settings: Settings, problems: list[str]) -> dict[str, list[socket.socket]]:
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
    desk: Callable[[str], Desk],
    gateways: frozenset[str],
) -> Front:
    """The listeners on those ports; ``desk`` makes what the sessions of the one of that name share."""
    listeners = [
        Listener(
            desk(name),
            sockets,
            networks=settings.lan.networks if name == LAN and settings.lan else None,
            gateways=gateways,
        )
        for name, sockets in taken.items()
    ]
    return Front(listeners, certificates if settings.tls else None)


def desk(
    settings: Settings,
    name: str,
    *,
    accounts: AccountsNow,
    passwords: Passwords,
    limiter: Limiter,
    repeats: Repeats | None,
    spool: Spool,
    journal: Journal,
    clock: Clock,
    certificate: Certificate | None,
    reach: Reach,
    smtputf8: Callable[[], bool],
) -> Desk:
    """What the sessions of the listener ``name`` share, as the settings want it."""
    lan = settings.lan if name == LAN else None
    return Desk(
        listener=name,
        hostname=settings.hostname,
        domain=settings.domains[0],
        accounts=accounts,
        passwords=passwords,
        limiter=limiter,
        spool=spool,
        journal=journal,
        clock=clock,
        certificate=certificate if lan is None or settings.tls else None,
        implicit_tls=name == "submissions",
        lan=Lan(account=lan.account, recipients=lan.recipients, budget=lan_budget(lan)) if lan else None,
        size_limit=announced_size(settings, reach),
        recipients_limit=settings.recipients_limit,
        reach=reach,
        smtputf8=smtputf8,
        client_address_in_received=settings.client_address_in_received,
        repeats=repeats,
    )


def announced_size(settings: Settings, reach: Reach) -> int:
    """The message size that clients are told: what we take, and never more than some provider does with our fields."""
    return min(settings.message_size_limit, reach.size_limit)
