"""When a delivery is tried again, and when it has been tried long enough.

Pure; times are Unix seconds. Strategy: a few quick tries, because most failures are short (grey-listing, a provider's
restart), then one every two hours for five days, each with some jitter, so that what failed together does not return
together. A delivery expires only directly after an attempt, and not in the first hours after a start: a relay that was
switched off for a week tries first, and one bad moment of the provider's just then is not the end of all that waited.
Time spent held is not age. While the clock cannot be trusted nothing expires.
"""

from __future__ import annotations

from relay import limits

DELAYS = (1 * limits.MINUTE, 5 * limits.MINUTE, 15 * limits.MINUTE, 30 * limits.MINUTE, 60 * limits.MINUTE)
LATER = 2 * limits.HOUR
SPREAD = 0.2  # a delay is up to a tenth shorter or longer


def delay(attempts: int, jitter: float) -> float:
    """Seconds from the ``attempts``-th attempt (1 = the first) to the next; ``jitter`` in [0, 1)."""
    plain = DELAYS[attempts - 1] if attempts <= len(DELAYS) else LATER
    return plain * (1 + SPREAD * (jitter - 0.5))


def expired(received_at: float, held: float, now: float) -> bool:
    """Whether an attempt that failed at ``now`` was the last, for a delivery that was ``held`` seconds in the
    operator's hands.
    """
    return now - received_at - held > limits.LIFETIME


class ClockWatch:
    """Knows since when ages can be believed. Notices that the wall clock was set, by comparing it with one that cannot
    be.

    Made at the start, it lets nothing expire for ``limits.EXPIRY_AFTER_START``: age says how long a message has been
    here, not how long it was tried.

    After a jump of more than ``limits.CLOCK_JUMP`` ages mean nothing, so nothing expires until ``limits.LIFETIME``
    has passed by the monotonic clock: by then every message has had its five days, whatever the wall clock says of
    them.
    """

    def __init__(self, wall: float, monotonic: float) -> None:
        self._offset = wall - monotonic
        self._trusted_from = monotonic + limits.EXPIRY_AFTER_START

    def look(self, wall: float, monotonic: float) -> float:
        """Seconds the wall clock has jumped since the last look; 0.0 for anything too small to matter."""
        offset = wall - monotonic
        jump, self._offset = offset - self._offset, offset
        if abs(jump) <= limits.CLOCK_JUMP:
            return 0.0
        self._trusted_from = monotonic + limits.LIFETIME
        return jump

    def may_expire(self, monotonic: float) -> bool:
        """Whether what is old enough may expire."""
        return monotonic >= self._trusted_from
