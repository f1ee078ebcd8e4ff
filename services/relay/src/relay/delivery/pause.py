"""How long to leave a provider alone that cannot be reached or refuses our login.

Pure; times are monotonic seconds. With thousands of messages waiting, each would otherwise knock in turn. After a
failure nothing is claimed for a while, then one message probes; each failed probe doubles the pause up to a limit,
and the first success ends it.
"""

from __future__ import annotations

from relay import limits


class Pause:
    """The pause of one provider."""

    def __init__(self, first: float = limits.PAUSE_FIRST, most: float = limits.PAUSE_MOST) -> None:
        self._first, self._most = first, most
        self.failures = 0
        self.until = 0.0

    @property
    def probing(self) -> bool:
        """Whether the provider is not proven well again: one message at a time."""
        return self.failures > 0

    def left(self, now: float) -> float:
        """Seconds until something may be tried; 0.0 when it may."""
        return max(0.0, self.until - now)

    def failed(self, now: float, jitter: float) -> None:
        """A connection or login failed at ``now``. Failures inside a running pause are the same failure. ``jitter``
        in [0, 1).
        """
        if now < self.until:
            return
        length = min(self._first * 2 ** min(self.failures, 16), self._most)
        self.until = now + length * (0.8 + 0.4 * jitter)
        self.failures += 1

    def succeeded(self) -> None:
        """The provider took a login (or a connection, where there is none)."""
        self.failures = 0
        self.until = 0.0
