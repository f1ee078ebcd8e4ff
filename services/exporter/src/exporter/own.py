"""The exporter's own metrics: how its collectors fare, what it makes of it all, and what no other program counts.

Everything is there from the start; labels have the values that are listed here, and no others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from . import __version__
from .collectors import Collector
from .snapshot import Snapshot
from .verdict import Level, Verdict

RESULTS = ("sent", "failed")
FINDINGS = ("good", "advice", "wrong", "unknown")


class Own:
    """Counts what this process does, and describes the rest when asked."""

    def __init__(self) -> None:
        self._process = CollectorRegistry()
        ProcessCollector(namespace="ownpost_exporter", registry=self._process)
        self._notifications = dict.fromkeys(RESULTS, 0)

    def notified(self, *, well: bool) -> None:
        """A notification was sent, or could not be."""
        self._notifications["sent" if well else "failed"] += 1

    def families(
        self, collectors: Sequence[Collector[Any]], snapshot: Snapshot, verdict: Verdict, *, ready: bool
    ) -> Iterator[Metric]:
        """Everything, as of ``snapshot``."""
        yield from self._process.collect()
        yield from _collectors(collectors)
        yield from _judged(verdict, ready=ready)
        yield from _certificate(snapshot)
        yield from _domain(snapshot)
        sent = CounterMetricFamily("ownpost_notifications", "Words sent to EXPORTER_NOTIFY_URL.", labels=["result"])
        for result, number in self._notifications.items():
            sent.add_metric([result], number)
        yield sent


def _collectors(collectors: Sequence[Collector[Any]]) -> Iterator[Metric]:
    build = GaugeMetricFamily("ownpost_exporter_build_info", "The version that runs, as a label.", labels=["version"])
    build.add_metric([__version__], 1)
    yield build
    success = GaugeMetricFamily("ownpost_collector_success", "1 if it learned what it asked.", labels=["collector"])
    seconds = GaugeMetricFamily("ownpost_collector_duration_seconds", "Its last question.", labels=["collector"])
    for one in collectors:
        success.add_metric([one.name], float(one.last.value is not None))
        seconds.add_metric([one.name], one.last.seconds)
    yield success
    yield seconds


def _judged(verdict: Verdict, *, ready: bool) -> Iterator[Metric]:
    yield GaugeMetricFamily("ownpost_ready", "1 while mail can be accepted.", float(ready))
    yield GaugeMetricFamily(
        "ownpost_verdict", "The page's verdict. 0: well, 1: warning, 2: critical.", max(0, verdict.level)
    )
    checks = GaugeMetricFamily(
        "ownpost_check", "The page's checklist. 0: well or not known, 1: warning, 2: critical.", labels=["check"]
    )
    for check in verdict.checks:
        checks.add_metric([check.name], max(Level.GOOD, check.level))
    yield checks


def _certificate(snapshot: Snapshot) -> Iterator[Metric]:
    certificate = snapshot.relay.certificate if snapshot.relay else None
    lifetime = certificate.not_after - certificate.not_before if certificate else 0.0
    yield GaugeMetricFamily(
        "ownpost_tls_certificate_lifetime_seconds", "From its first day to its last; 0: no certificate.", lifetime
    )


def _domain(snapshot: Snapshot) -> Iterator[Metric]:
    report = snapshot.domain
    yield GaugeMetricFamily(
        "ownpost_domain_check_timestamp_seconds",
        "When the domain was last checked; 0: never.",
        report.checked_at if report else 0.0,
    )
    found = GaugeMetricFamily("ownpost_domain_check_findings", "What it found.", labels=["verdict"])
    for verdict in FINDINGS:
        found.add_metric([verdict], report.count(verdict) if report else 0)
    yield found
