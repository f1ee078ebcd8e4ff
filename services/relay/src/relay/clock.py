"""Time as an argument.

Nothing in the relay asks the operating system for the time by itself: it is given a :class:`Clock`, so that tests can
let five days pass in a microsecond. Wall time (``time``) is what is stored and shown; ``monotonic`` is for intervals,
which a stepped clock must not distort.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """A source of time; both values are seconds as floats."""

    def time(self) -> float:
        """Seconds since 1970-01-01 UTC; may jump when the machine's clock is set."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment; never goes back."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()
