"""What the renewer can say of itself: for people as JSON, for Prometheus as metrics. One record, two views of it.

Metrics are there from the start, at 0; times are Unix seconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import assert_never

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .outcome import Failed, Kept, Kind, Offered, Outcome
from .pair import Facts

RESULTS = ("published", "kept", "failed")


class Status:
    """The attempts so far and the certificate in force. Only the loop writes it."""

    def __init__(self, mode: str, hostname: str, now: Callable[[], float]) -> None:
        self._mode, self._hostname, self._now = mode, hostname, now
        self._results = Counter(dict.fromkeys(RESULTS, 0))
        self._failures = Counter(dict.fromkeys(Kind, 0))
        self._last_attempt = self._last_success = self._next_attempt = 0.0
        self.last_error = ""
        self._certificate: Facts | None = None

    def certificate(self, facts: Facts | None) -> None:
        """What ``certs/current`` holds now."""
        self._certificate = facts

    def record(self, outcome: Outcome) -> None:
        """An attempt has ended; ``Offered`` means that it was published."""
        self._last_attempt, self._next_attempt = self._now(), outcome.next_attempt
        match outcome:
            case Failed(kind, sentence):
                self.last_error = sentence
                self._results["failed"] += 1
                self._failures[kind] += 1
            case Offered() | Kept():
                self.last_error = ""
                self._last_success = self._last_attempt
                self._results["published" if isinstance(outcome, Offered) else "kept"] += 1
            case _:
                assert_never(outcome)

    def as_json(self) -> dict[str, object]:
        """The answer of ``/status.json``; its format stands in docs/architecture.md."""
        facts = self._certificate
        return {
            "mode": self._mode,
            "hostname": self._hostname,
            "last_attempt": self._last_attempt or None,
            "last_success": self._last_success or None,
            "next_attempt": self._next_attempt or None,
            "last_error": self.last_error,
            "certificate": facts
            and {
                "serial": facts.serial,
                "names": list(facts.names),
                "issuer": facts.issuer,
                "not_before": facts.not_before,
                "not_after": facts.not_after,
                "days_left": round(facts.days_left(self._now()), 2),
            },
        }

    def metrics(self) -> Iterator[Metric]:
        attempts = CounterMetricFamily(
            "ownpost_renewer_attempts", "Attempts to get a certificate, by what they came to.", labels=["result"]
        )
        for result, number in self._results.items():
            attempts.add_metric([result], number)
        yield attempts
        failures = CounterMetricFamily(
            "ownpost_renewer_failures", "Failed attempts, by what stood in the way.", labels=["kind"]
        )
        for kind, number in self._failures.items():
            failures.add_metric([kind], number)
        yield failures
        not_after = self._certificate.not_after if self._certificate else 0.0
        for name, meaning, value in (
            ("last_attempt_timestamp_seconds", "When the last attempt ended; 0: none yet.", self._last_attempt),
            ("last_success_timestamp_seconds", "When an attempt last succeeded; 0: never.", self._last_success),
            ("next_attempt_timestamp_seconds", "When the next attempt is due.", self._next_attempt),
            ("last_attempt_failed", "1 if the last attempt failed.", float(bool(self.last_error))),
            ("certificate_not_after_timestamp_seconds", "When the published certificate ends; 0: none.", not_after),
        ):
            yield GaugeMetricFamily(f"ownpost_renewer_{name}", meaning, value)


class _View(Collector):
    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        return self._status.metrics()


def registry_of(status: Status) -> CollectorRegistry:
    """A registry of this status alone: nothing here is global."""
    registry = CollectorRegistry()
    registry.register(_View(status))
    return registry
