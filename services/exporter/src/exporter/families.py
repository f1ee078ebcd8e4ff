"""Several programs' metrics as one page, and as values to ask for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import exposition
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from .exposition import PREFIX

OPENMETRICS = "application/openmetrics-text"


class Merged(Collector):
    """Families of several programs as one registry; of two with one name the first wins."""

    def __init__(self, parts: Iterable[Iterable[Metric]]) -> None:
        self._families: dict[str, Metric] = {}
        for part in parts:
            for family in part:
                self._families.setdefault(family.name, family)

    def collect(self) -> Iterator[Metric]:
        return iter(self._families.values())

    def page(self, accept: str) -> tuple[str, bytes]:
        """Media type and text: OpenMetrics, with exemplars, if ``accept`` names it, else Prometheus' own."""
        if OPENMETRICS in accept:
            return openmetrics.CONTENT_TYPE_LATEST, openmetrics.generate_latest(self)  # type: ignore[no-untyped-call]
        return exposition.CONTENT_TYPE_LATEST, exposition.generate_latest(self)


class Values:
    """Looks values up by a sample's name and labels."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }

    def get(self, name: str, **labels: str) -> float | None:
        """The value of ``ownpost_NAME`` with exactly these labels; None if there is none."""
        return self._samples.get((PREFIX + name, frozenset(labels.items())))

    def label(self, name: str, label: str) -> list[str]:
        """Every value that ``label`` has among the samples called ``ownpost_NAME``."""
        found = [dict(labels).get(label, "") for sample, labels in self._samples if sample == PREFIX + name]
        return sorted(set(filter(None, found)))
