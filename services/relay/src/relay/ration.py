"""How many lines of the log strangers may cause: some for each address and minute, and of the rest their number.

The number is told in the next minute in which a client connects, or is turned away, and at the end. Metrics count
each event all the same. Memory is bounded: beyond :data:`ADDRESSES` in a minute, the others share one allowance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from math import inf

from relay import limits
from relay.clients import address_key
from relay.clock import Clock
from relay.log import Value

LINES = 10  # of one event for one address and minute: fail2ban wants five in ten minutes
ADDRESSES = 100  # so one event is 1,111 lines a minute at most, with the numbers of the minute before
OTHERS = "others"


class Ration:
    """Hands events on to ``tell``, as long as their address has not used up its lines."""

    def __init__(self, tell: Callable[[str, Mapping[str, Value]], None], clock: Clock) -> None:
        self._tell, self._clock = tell, clock
        self._counts: Counter[tuple[str, str]] = Counter()  # of this minute, by event and address
        self._until = -inf

    def event(self, event: str, peer: str, fields: Mapping[str, Value]) -> None:
        """Something that ``peer`` has caused."""
        self.tell_rest()
        key = event, address_key(peer)
        if key not in self._counts and len(self._counts) >= ADDRESSES:
            key = event, OTHERS
        self._counts[key] += 1
        if self._counts[key] <= LINES:
            self._tell(event, fields)

    def tell_rest(self) -> None:
        """If the minute is over: what was not told in it."""
        now = self._clock.monotonic()
        if now >= self._until:
            self.end()
            self._until = now + limits.MINUTE

    def end(self) -> None:
        """What was not told so far."""
        for (event, address), count in self._counts.items():
            if count > LINES:
                self._tell(event, {"peer": address, "more": count - LINES})
        self._counts.clear()
