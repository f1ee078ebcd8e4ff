"""What is known of each provider, as plain values: its pauses, its quotas, its routes, and what the last look found.

``GET /providers``, ``/status.json`` and ``/queue`` show it; ``docs/architecture.md`` describes the fields. Times are
Unix seconds; an end that is not known is None.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from relay.choice.routes import Routes
from relay.delivery.outlook import DomainPause, ProviderState
from relay.delivery.probe import PortLook, Readiness
from relay.metrics import Metrics
from relay.providers.provider import Provider
from relay.quotas import Use
from relay.spool import QueueEntry


class Delivery(Protocol):
    """What is asked of the half of the relay that sends."""

    def providers(self) -> Sequence[ProviderState]: ...
    def waits(self, entry: QueueEntry) -> str: ...
    async def look_at_quotas(self) -> None: ...


class Looks(Protocol):
    """What is asked of the readiness probe."""

    last: dict[str, Readiness]

    async def look(self, name: str = ...) -> Mapping[str, Readiness]: ...


class Quotas(Protocol):
    """What is asked of the quotas."""

    async def uses(self) -> Mapping[str, Sequence[Use]]: ...


@dataclass(frozen=True, slots=True)
class Pause:
    """Whether a provider is left alone, for everyone or for some senders, and why."""

    state: str  # open, paused, probing
    standing: str = ""
    reason: str = ""
    until: float = 0.0


class ProviderReport:
    """Puts together what delivery, the probe and the quotas know."""

    def __init__(
        self, providers: Sequence[Provider], routes: Routes, delivery: Delivery, looks: Looks, quotas: Quotas
    ) -> None:
        self._providers = {one.name: one for one in providers}
        self._routes, self._delivery, self._looks, self._quotas = routes, delivery, looks, quotas

    @property
    def names(self) -> list[str]:
        """Those of all providers."""
        return list(self._providers)

    async def facts(self, name: str = "") -> list[dict[str, Any]]:
        """Every provider in the order of preference, or ``name`` alone."""
        uses = await self._quotas.uses()
        states = [one for one in self._delivery.providers() if name in ("", one.name)]
        return [self._one(one, uses.get(one.name, ())) for one in states]

    async def look(self, name: str = "") -> list[dict[str, Any]]:
        """As :meth:`facts`, after a fresh look."""
        await self._looks.look(name)
        return await self.facts(name)

    async def all_paused(self) -> list[dict[str, Any]]:
        """The pauses, if no provider is open; else nothing."""
        uses = await self._quotas.uses()
        pauses = {one.name: _standing(one, uses.get(one.name, ())) for one in self._delivery.providers()}
        if any(pause.state == "open" for pause in pauses.values()):
            return []
        return [{"name": name, "state": pause.state, **_pause(pause)} for name, pause in pauses.items()]

    async def waits(self, entries: Sequence[QueueEntry]) -> list[str]:
        """What each delivery waits for, beside its next attempt; empty where nothing is in its way."""
        await self._delivery.look_at_quotas()
        return [self._delivery.waits(one) for one in entries]

    async def measure(self, metrics: Metrics) -> None:
        """Moves the gauges of the providers."""
        found = await self._quotas.uses()
        for state in self._delivery.providers():
            uses = found.get(state.name, ())
            pause = _standing(state, uses)
            metrics.update_pause(state.name, pause.state != "open", pause.standing, len(state.domains))
            nearest = max(uses, key=lambda one: one.share, default=None)
            if nearest is not None:
                metrics.update_quota(state.name, nearest.taken, nearest.limit)

    def _one(self, state: ProviderState, uses: Sequence[Use]) -> dict[str, Any]:
        provider, pause = self._providers[state.name], _standing(state, uses)
        last = self._looks.last.get(state.name)
        return {
            "name": provider.name,
            "title": provider.title or provider.name,
            "host": provider.host,
            "login": provider.auth if provider.username else "none",
            "state": pause.state,
            **_pause(pause),
            "port": state.port or None,
            "in_hand": state.in_hand,
            "domains": [{"domain": one.domain, **_pause(one)} for one in state.domains],
            "quotas": [dataclasses.asdict(one) for one in uses],
            "routes": _places(self._routes, provider.name),
            "senders": list(provider.senders),
            "look": last and _look(last),
        }


def _standing(state: ProviderState, uses: Sequence[Use]) -> Pause:
    """Delivery's pause; or that of a quota of which all is used by our own count, which delivery needs no pause for."""
    full = [one for one in uses if one.used >= one.limit]
    if state.state != "open" or not full:
        return Pause(state.state, str(state.standing), state.reason, state.until)
    last = max(full, key=lambda one: one.resets_at)
    return Pause("paused", "used up", f"{last.used:,} of {last.limit:,} recipients {last.span}", last.resets_at)


def _pause(pause: Pause | DomainPause) -> dict[str, Any]:
    until = pause.until if pause.until and math.isfinite(pause.until) else None
    return {"standing": str(pause.standing), "reason": pause.reason, "until": until}


def _places(routes: Routes, name: str) -> list[dict[str, Any]]:
    """Where the provider stands in each route that it is in; the default route comes last, as it is asked last."""
    found = []
    for account, domain, providers, weights in [
        *((one.account, one.domain, one.providers, one.weights) for one in routes.routes),
        ("", "", routes.default, ()),
    ]:
        if name in providers:
            place = providers.index(name)
            weight = weights[place] if weights else 0
            found.append({"account": account, "domain": domain, "place": place + 1, "weight": weight})
    return found


def _look(found: Readiness) -> dict[str, Any]:
    return {
        "at": found.at,
        "ready": found.ready,
        "key": found.key,
        "sentence": found.sentence,
        "ports": [_port(one) for one in found.ports],
    }


def _port(one: PortLook) -> dict[str, Any]:
    return {"port": one.port, "tls": one.tls, "open": one.open, "login": one.login, "sentence": one.sentence}
