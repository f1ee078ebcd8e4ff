"""Counters and histograms as plain numbers, shown to Prometheus when it asks.

``prometheus_client``'s own take a lock for every increment and two for an observation, which adds up to several
microseconds a message. All of ours are counted by one thread each, so a number in a dictionary will do. Both are
collectors in the sense of that library.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import product

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.samples import Exemplar

OTHER = "other"


class Count:
    """A counter with a closed set of values for each label; all of their combinations are there from the start, at 0.

    A value outside of its label's set is counted as ``other``, which must then be in the set.
    """

    def __init__(self, registry: CollectorRegistry, name: str, text: str, labels: dict[str, Sequence[str]]) -> None:
        self._name, self._text, self._labels = name, text, tuple(labels)
        self._known = tuple(frozenset(values) for values in labels.values())
        self._numbers = dict.fromkeys(product(*(map(str, values) for values in labels.values())), 0)
        registry.register(self)

    def inc(self, *values: str) -> None:
        """One more, with these values of the labels in their order."""
        if values not in self._numbers:
            values = tuple(value if value in known else OTHER for value, known in zip(values, self._known, strict=True))
        self._numbers[values] += 1

    def collect(self) -> Iterator[Metric]:
        """For the registry."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for values, number in self._numbers.items():
            family.add_metric(values, number)
        yield family


class Spread:
    """A histogram, with at most one label; values outside of its set are not counted.

    Each bucket remembers the last message that fell into it: its exemplar, shown to those who ask for OpenMetrics.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        name: str,
        text: str,
        bounds: Sequence[float],
        label: str = "",
        values: Sequence[str] = ("",),
    ) -> None:
        self._name, self._text, self._label = name, text, label
        self._bounds = tuple(bounds)
        self._buckets = {value: [0] * (len(bounds) + 1) for value in values}
        self._sums = dict.fromkeys(values, 0.0)
        self._last: dict[str, dict[int, tuple[str, float]]] = {value: {} for value in values}
        registry.register(self)

    def observe(self, amount: float, value: str = "", message: str = "") -> None:
        """Count ``amount``; ``value`` is the label's, ``message`` the id of the message that took so much."""
        buckets = self._buckets.get(value)
        if buckets is not None:
            bucket = bisect_left(self._bounds, amount)
            buckets[bucket] += 1
            self._sums[value] += amount
            if message:
                self._last[value][bucket] = (message, amount)

    def collect(self) -> Iterator[Metric]:
        """For the registry."""
        family = HistogramMetricFamily(self._name, self._text, labels=[self._label] if self._label else [])
        names = [*map(str, map(float, self._bounds)), "+Inf"]
        for value, counts in self._buckets.items():
            cumulated = [(name, float(sum(counts[: n + 1])), self._exemplar(value, n)) for n, name in enumerate(names)]
            family.add_metric([value] if self._label else [], cumulated, self._sums[value])  # type: ignore[arg-type]
        yield family

    def _exemplar(self, value: str, bucket: int) -> Exemplar | None:
        found = self._last[value].get(bucket)
        return found and Exemplar({"message": found[0]}, found[1])
