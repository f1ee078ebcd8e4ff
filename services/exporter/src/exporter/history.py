"""The last 24 hours in numbers: the relay's counters, looked at every minute or sooner, by quarters of an hour.

Kept in memory only. The relay's own counters begin anew when it starts, which is noticed; what happened while nobody
looked, and since then began anew, is not known. After a start of the exporter the chart grows from empty again: what
the relay had counted by then may be older than the day, unless it started not long before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

SLOT = 900.0  # seconds
SLOTS = 96
KINDS = ("accepted", "delivered", "failed")


@dataclass(slots=True)
class Slot:
    """A quarter of an hour that began at ``start`` (Unix seconds)."""

    start: float
    counts: dict[str, int]


class History:
    """Sums of what happened, by slots."""

    def __init__(self) -> None:
        self.slots: deque[Slot] = deque(maxlen=SLOTS)
        self._before: Mapping[str, int] | None = None

    def add(self, now: float, totals: Mapping[str, int], *, all_of_it: bool = False) -> None:
        """The counters stand at ``totals`` now; ``all_of_it``: they began within the time that is told of."""
        start = now - now % SLOT
        if not self.slots or self.slots[-1].start != start:
            self.slots.append(Slot(start, dict.fromkeys(KINDS, 0)))
        before = self._before
        self._before = totals
        if before is None:
            before = dict.fromkeys(KINDS, 0) if all_of_it else totals
        began_anew = any(totals[kind] < before[kind] for kind in KINDS)
        for kind in KINDS:
            self.slots[-1].counts[kind] += totals[kind] - (0 if began_anew else before[kind])

    def since(self, start: float) -> list[Slot]:
        """The slots that began at ``start`` or later, oldest first."""
        return [slot for slot in self.slots if slot.start >= start]
