"""Reads what our programs write for Prometheus, in its own form or in OpenMetrics.

``prometheus_client``'s parsers take 20 to 50 ms for the relay's page, which is half of what a scrape may take. This one
knows what our programs use (no timestamps, no units, exemplars with one label), takes a tenth of that, and refuses
everything else: what is wrong here would spoil the whole scrape.
"""

from __future__ import annotations

import re

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar, Sample

PREFIX = "ownpost_"
EXEMPLARS = ("_bucket", "_total")  # samples that may carry one
MOST_SAMPLES = 20_000  # of one program: a label that was not bounded must not flood Prometheus
_NAME = r"[a-zA-Z_][a-zA-Z0-9_]*"
_LABEL = rf'({_NAME})="((?:[^"\\]|\\.)*)"'
_LABELS = re.compile(_LABEL)
_SAMPLE = re.compile(rf"({_NAME})(?:\{{({_LABEL}(?:,{_LABEL})*,?)?\}})? (\S+)(?: # \{{{_LABEL}\}} (\S+))?")
_TYPE = re.compile(rf"# TYPE ({_NAME}) (counter|gauge|histogram|summary|info|unknown|untyped)")
_HELP = re.compile(rf"# HELP ({_NAME}) (.*)")
_ESCAPE = re.compile(r"\\(.)")


def parse(text: str) -> list[Metric]:
    """The families called ``ownpost_…`` in ``text``. Raises ValueError when it is not well-formed, or far too much."""
    reading = _Reading()
    for line in text.split("\n"):
        if line.startswith("#"):
            reading.comment(line)
        elif line:
            reading.sample(line)
    found = [family for family in reading.families.values() if family.name.startswith(PREFIX)]
    if not found:
        raise ValueError("no metrics of ours")
    return found


class _Reading:
    """What was read so far."""

    def __init__(self) -> None:
        self.families: dict[str, Metric] = {}
        self._family: Metric | None = None
        self._help = ("", "")
        self._seen: set[tuple[str, str]] = set()

    def comment(self, line: str) -> None:
        """A line of metadata: a family begins with its type."""
        if found := _HELP.fullmatch(line):
            self._help = (found[1], _unescaped(found[2]))
        elif found := _TYPE.fullmatch(line):
            kind = found[2]
            name = found[1].removesuffix("_total") if kind == "counter" else found[1]
            if name in self.families:
                raise ValueError(f"{name} comes twice")
            text = self._help[1] if self._help[0] == found[1] else ""
            self._family = self.families[name] = Metric(name, text, kind)
        elif line.startswith(("# HELP", "# TYPE")):
            raise ValueError(f"no such metadata: {line[:80]!a}")

    def sample(self, line: str) -> None:
        """A line of the family that began last."""
        found, family = _SAMPLE.fullmatch(line), self._family
        if found is None or family is None or not found[1].startswith(family.name):
            raise ValueError(f"no sample of a known family: {line[:80]!a}")
        name, labels, value, message, id_, amount = found[1], found[2] or "", *found.group(7, 8, 9, 10)
        if (name, labels) in self._seen or len(self._seen) >= MOST_SAMPLES:
            raise ValueError(f"{line[:80]!a} comes twice" if len(self._seen) < MOST_SAMPLES else "too many series")
        self._seen.add((name, labels))
        pairs = {label: _unescaped(text) for label, text in _LABELS.findall(labels)}
        if message and not name.endswith(EXEMPLARS):
            raise ValueError(f"no place for an exemplar: {line[:80]!a}")
        exemplar = Exemplar({message: _unescaped(id_)}, float(amount)) if message else None
        family.samples.append(Sample(name, pairs, float(value), None, exemplar))


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda found: "\n" if found[1] == "n" else found[1], text) if "\\" in text else text
