"""Which providers a message may go through, and in which order.

Pure. The order of a weighted route is drawn for each message by a hash of its key: the same at every try, so that a
second look never changes what the first one chose.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Route:
    """Providers for an account's messages from a sender domain."""

    providers: tuple[str, ...]  # in order of preference
    weights: tuple[int, ...] = ()  # one for each provider: how the messages are shared out; empty: always this order
    account: str = ""  # empty: any
    domain: str = ""  # of the sender, in lower case; empty: any


@dataclass(frozen=True)
class Routes:
    """All routes; the first that fits counts."""

    default: tuple[str, ...]  # in order of preference, where no route fits
    routes: tuple[Route, ...] = ()
    _default: Route = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Keep the default as a route, since it is asked for with every message."""
        object.__setattr__(self, "_default", Route(self.default))

    def of(self, account: str, domain: str) -> Route:
        """The route of the account's messages from that sender domain."""
        for route in self.routes:
            if route.account in ("", account) and route.domain in ("", domain):
                return route
        return self._default


def order(route: Route, key: str) -> tuple[str, ...]:
    """The providers of ``route`` in the order in which the message ``key`` tries them.

    Weighted: a provider comes first for a share of the keys that is its share of the weights, and the rest likewise
    (Efraimidis and Spirakis, 2006).
    """
    if not route.weights:
        return route.providers
    drawn = zip(route.providers, route.weights, strict=True)
    return tuple(name for _, name in sorted((_draw(name, key, weight), name) for name, weight in drawn))


def _draw(name: str, key: str, weight: int) -> float:
    if weight <= 0:
        return math.inf
    number = int.from_bytes(hashlib.blake2b(f"{key} {name}".encode(), digest_size=8).digest(), "big")
    return -math.log((number + 1) / 2**64) / weight
