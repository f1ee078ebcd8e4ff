"""The last 24 hours as bars, an hour each: numbers in, places on a drawing out. The template draws them as SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .history import KINDS, Slot
from .words import plural

HOUR, HOURS = 3_600.0, 24
WIDTH, HEIGHT, FLOOR = 720, 150, 126  # of the drawing; bars stand on FLOOR
TOP = 14
GAP = 6


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle; ``kind`` says which colour it gets."""

    kind: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn, and the same in words for those who cannot see it."""

    bars: tuple[Bar, ...]
    marks: tuple[tuple[float, str], ...]  # (x, hour) below the floor
    highest: int
    words: str


def draw(slots: Sequence[Slot], now: float) -> Chart:
    """Bars for the 24 hours that end with the one of ``now``."""
    first = now - now % HOUR - (HOURS - 1) * HOUR
    hours = [_sum(slots, first + number * HOUR) for number in range(HOURS)]
    highest = max(max(one["accepted"], one["delivered"] + one["failed"]) for one in hours)
    bars = [bar for number, one in enumerate(hours) for bar in _bars(number, one, highest)]
    step = WIDTH / HOURS
    marks = [
        (number * step + step / 2, f"{int((first + number * HOUR) // HOUR) % 24:02d}:00")
        for number in range(2, HOURS, 6)
    ]
    total = {kind: sum(one[kind] for one in hours) for kind in KINDS}
    words = (
        f"{plural(total['accepted'], 'message')} accepted, {plural(total['delivered'], 'delivery', 'deliveries')} "
        f"taken by a provider, {total['failed']:,} failed"
    )
    return Chart(tuple(bars), tuple(marks), highest, words)


def _sum(slots: Sequence[Slot], start: float) -> dict[str, int]:
    inside = [slot for slot in slots if start <= slot.start < start + HOUR]
    return {kind: sum(slot.counts[kind] for slot in inside) for kind in KINDS}


def _bars(number: int, counts: dict[str, int], highest: int) -> list[Bar]:
    """Accepted on the left; delivered, and on its head failed, on the right."""
    if not highest:
        return []
    step = WIDTH / HOURS
    width, x = (step - GAP) / 2, number * step + GAP / 2
    scale = (FLOOR - TOP) / highest
    delivered, failed = counts["delivered"] * scale, counts["failed"] * scale
    bars = [
        Bar("accepted", x, FLOOR - counts["accepted"] * scale, width, counts["accepted"] * scale),
        Bar("delivered", x + width, FLOOR - delivered, width, delivered),
        Bar("failed", x + width, FLOOR - delivered - failed, width, failed),
    ]
    return [bar for bar in bars if bar.height > 0]
