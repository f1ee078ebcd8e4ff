"""How fast a client must send its message: slowly is allowed, at a standstill it is not. Pure."""

from __future__ import annotations

from relay import limits

RATE_WINDOW = 60.0  # seconds over which limits.DATA_RATE is averaged


class Pace:
    """Whether a client sends fast enough; times are the loop's."""

    def __init__(self, now: float) -> None:
        self.count = 0  # bytes in this window
        self._window = now + RATE_WINDOW
        self._end = now + limits.DATA_TIME

    @property
    def deadline(self) -> float:
        """When to look again."""
        return min(self._window, self._end)

    def pause(self, seconds: float) -> None:
        """We, not the client, were slow for that long."""
        self._window += seconds
        self._end += seconds

    def kept(self, now: float) -> bool:
        """At :attr:`deadline`: whether the client may go on; begins a new window."""
        fast = self.count >= limits.DATA_RATE * RATE_WINDOW
        self.count, self._window = 0, now + RATE_WINDOW
        return fast and now < self._end
