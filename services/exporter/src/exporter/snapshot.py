"""All that is known at one moment: the last answer of every collector, put side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .collectors import Learned
from .facts import Delivery, DomainCheck, Relay, Renewer, Summary
from .families import Values
from .history import History, Slot
from .providers import Provider
from .sources import Sources

DAY = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """``now`` is Unix seconds. What could not be learned is None, or empty, and its ``*_error`` says why."""

    now: float
    relay: Relay | None
    relay_error: str
    renewer: Renewer | None
    renewer_error: str
    providers: Sequence[Provider]
    accounts_good: bool
    queue: Sequence[Delivery]
    queue_error: str
    failed: Sequence[Delivery]
    failed_error: str
    latest: Sequence[Summary]
    latest_error: str
    domain: DomainCheck | None
    domain_error: str
    slots: Sequence[Slot]


def take(sources: Sources, history: History, now: float) -> Snapshot:
    """From what the collectors last learned; asks nobody."""
    relay, renewer, domain = sources.relay_status.last, sources.renewer_status.last, sources.domain_check.last
    metrics = sources.relay_metrics.last.value
    values = Values(metrics) if metrics else None
    return Snapshot(
        now=now,
        relay=relay.value,
        relay_error=relay.error,
        renewer=renewer.value,
        renewer_error=renewer.error,
        providers=providers(values, relay),
        accounts_good=values is None or values.get("accounts_last_reload_successful") != 0,
        queue=sources.queue.last.value or (),
        queue_error=sources.queue.last.error,
        failed=sources.failed.last.value or (),
        failed_error=sources.failed.last.error,
        latest=sources.latest.last.value or (),
        latest_error=sources.latest.last.error,
        domain=domain.value,
        domain_error=domain.error,
        slots=history.since(now - DAY),
    )


def providers(values: Values | None, relay: Learned[Relay]) -> list[Provider]:
    """In the order of preference; while the relay does not say, their names are all that is known."""
    values = values or Values(())
    named = [Provider(name=name) for name in values.label("provider_paused", "provider")]
    return [
        replace(told, last_success=values.get("provider_last_success_timestamp_seconds", provider=told.name) or 0.0)
        for told in (relay.value.providers if relay.value else named)
    ]


def totals(values: Values) -> dict[str, int]:
    """The counters that :class:`History` follows."""

    def count(*events: str) -> int:
        return int(sum(values.get("mail_events_total", event=event) or 0 for event in events))

    return {
        "accepted": count("accepted"),
        "delivered": count("delivered"),
        "failed": count("refused", "expired", "unknown"),
    }
