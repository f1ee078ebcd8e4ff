"""Who may look: the page's password, and the names by which it may be called.

The password is asked for by HTTP's Basic scheme (RFC 7617), any user name will do. A right one is recognised by a
digest under a key of this process; where the setting holds an Argon2 hash, that has to tell it once. From a network (in
IPv6 a /64) where it was right before it always opens, so others who guess lock nobody out. From anywhere else it may be
tried a few times at once, then once in a while; what comes too early is answered without a look at it, right or wrong.
All networks together have two such limits: one for the first try of each, so that many who guess leave a newcomer his,
and one for all further tries. One hash is computed at a time: a crowd of guessers takes one thread and 19 MiB.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import ipaddress
import os
from collections import OrderedDict
from collections.abc import Callable, Iterable
from enum import Enum

import argon2

TRIES, TRY_EVERY = 5, 20.0  # guesses of one address at once; then one in so many seconds
TRIES_OF_ALL, TRY_OF_ALL_EVERY = 50, 2.0  # of all networks, after the first of each
FIRST_TRIES, FIRST_TRY_EVERY = 50, 0.5  # of all networks that have not been wrong lately
ADDRESSES = 1_000  # that are remembered; the one longest unseen is forgotten
MOST_PASSWORD = 1_024  # characters
KNOWN = 100  # networks where the password was right; of them too the one longest unseen is forgotten
OTHERS, FIRST = "all", "first"


class Answer(Enum):
    """What a guard says to a request."""

    WELCOME = "welcome"
    WHO_ARE_YOU = "no password, or a wrong one"
    TOO_MANY = "too many wrong ones"


class Guard:
    """Checks passwords; without one everybody is welcome. ``clock`` gives seconds that only grow."""

    def __init__(self, password: str, clock: Callable[[], float], hasher: argon2.PasswordHasher | None = None) -> None:
        self._hasher = hasher or argon2.PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
        self._clock, self._key = clock, os.urandom(32)
        self._open = not password
        self._hash = password if password.startswith("$argon2") else ""
        self._good = None if self._hash else self._digest(password)
        self._one_at_a_time = asyncio.Lock()
        self._tries: OrderedDict[str, tuple[float, float]] = OrderedDict()  # who: (tries left, as of when)
        self._known: OrderedDict[str, None] = OrderedDict()

    async def check(self, authorization: str, address: str) -> Answer:
        """Judge the header ``authorization`` of a request that came from ``address``."""
        if self._open:
            return Answer.WELCOME
        password = _password(authorization)
        if password is None:
            return Answer.WHO_ARE_YOU
        digest, network = self._digest(password), network_of(address)
        if network not in self._known or not self._is_good(digest):
            if not self._may_try(network):
                return Answer.TOO_MANY
            if not await self._right(password, digest):
                return Answer.WHO_ARE_YOU
        self._tries.pop(network, None)
        self._known[network] = None
        self._known.move_to_end(network)
        if len(self._known) > KNOWN:
            self._known.popitem(last=False)
        return Answer.WELCOME

    def _digest(self, password: str) -> bytes:
        return hmac.digest(self._key, password.encode("utf-8", "surrogatepass"), hashlib.sha256)

    def _is_good(self, digest: bytes) -> bool:
        return self._good is not None and hmac.compare_digest(digest, self._good)

    async def _right(self, password: str, digest: bytes) -> bool:
        if self._good is None:
            async with self._one_at_a_time:
                if self._good is None and await asyncio.to_thread(self._verify, password):
                    self._good = digest
        return self._is_good(digest)

    def _may_try(self, network: str) -> bool:
        """Whether ``network`` may try now; if so, that is counted."""
        own = self._left(network, TRIES, TRY_EVERY)
        if own == TRIES:
            of_all = FIRST, self._left(FIRST, FIRST_TRIES, FIRST_TRY_EVERY)
        else:
            of_all = OTHERS, self._left(OTHERS, TRIES_OF_ALL, TRY_OF_ALL_EVERY)
        if own < 1 or of_all[1] < 1:
            return False
        for who in (network, of_all[0]):
            left, at = self._tries[who]
            self._tries[who] = (left - 1, at)
        return True

    def _left(self, who: str, most: int, every: float) -> float:
        """How many tries ``who`` has now; brings the account of them up to this moment."""
        now = self._clock()
        left, at = self._tries.get(who, (float(most), now))
        left = min(float(most), left + (now - at) / every)
        self._tries[who] = (left, now)
        self._tries.move_to_end(who)
        for kept in (OTHERS, FIRST):
            if kept in self._tries:
                self._tries.move_to_end(kept)  # never forgotten
        while len(self._tries) > ADDRESSES:
            self._tries.popitem(last=False)
        return left

    def _verify(self, password: str) -> bool:
        try:
            return self._hasher.verify(self._hash, password)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError, UnicodeError):
            return False


class Names:
    """The names in the Host header that are ours.

    A page elsewhere that has its own name resolve to our address (DNS rebinding) is told apart by that name. Addresses
    and localhost are always good: no such attack can come without a name.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {"localhost", *names}

    def are_ours(self, host: str) -> bool:
        """Whether ``host``, the header's value, may be answered."""
        name = host.strip().lower()
        if name.startswith("["):
            name = name[1:].partition("]")[0]
        elif name.count(":") == 1:
            name = name.partition(":")[0]
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name.rstrip(".") in self._names
        return True


def _password(authorization: str) -> str | None:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        pair = base64.b64decode(value.strip(), validate=True).decode("utf-8", "surrogateescape")
    except (binascii.Error, ValueError):
        return None
    _, colon, password = pair.partition(":")
    return password if colon and len(password) <= MOST_PASSWORD else None


def network_of(address: str) -> str:
    """What counts as one client: an IPv4 address, an IPv6 household's /64; empty for what is no address."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
