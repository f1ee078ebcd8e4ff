"""The ports that the settings ask for, taken, and the listeners on them."""

from __future__ import annotations

import socket
from typing import Any

from relay.settings import LanSettings, Settings
from relay.submission.desk import Desk, Lan
from relay.submission.front import Front
from relay.submission.listener import Listener
from relay.submission.ports import CannotListen, take
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
