"""Who may look: the page's password, and the names by which it may be called.

The password is asked for by HTTP's Basic scheme (RFC 7617), any user name will do. It is kept as an Argon2 hash; a
password that was good once is recognised by a digest under a key of this process, so that a page costs no second hash,
and cannot be locked out by others who guess. Guesses are slowed down: a few at once for each address (each /64 for
IPv6) and for all together, then one in a while; what comes too early is answered without a look at it. One hash is
computed at a time: a crowd of guessers takes one thread and 19 MiB, not all there is.
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
TRIES_OF_ALL, TRY_OF_ALL_EVERY = 50, 2.0
ADDRESSES = 1_000  # that are remembered; the one longest unseen is forgotten
MOST_PASSWORD = 1_024  # characters
OTHERS = "all"


class Answer(Enum):
    """What a guard says to a request."""

    WELCOME = "welcome"
    WHO_ARE_YOU = "no password, or a wrong one"
    TOO_MANY = "too many wrong ones"


class Guard:
    """Checks passwords; without one everybody is welcome. ``clock`` gives seconds that only grow."""

    def __init__(self, password: str, clock: Callable[[], float], hasher: argon2.PasswordHasher | None = None) -> None:
        self._hasher = hasher or argon2.PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)
        self._hash = password if not password or password.startswith("$argon2") else self._hasher.hash(password)
        self._clock, self._key = clock, os.urandom(32)
        self._good: bytes | None = None
        self._one_at_a_time = asyncio.Lock()
        self._tries: OrderedDict[str, tuple[float, float]] = OrderedDict()  # who: (tries left, as of when)

    async def check(self, authorization: str, address: str) -> Answer:
        """Judge the header ``authorization`` of a request that came from ``address``."""
        if not self._hash:
            return Answer.WELCOME
        password = _password(authorization)
        if password is None:
            return Answer.WHO_ARE_YOU
        digest = hmac.digest(self._key, password.encode("utf-8", "surrogatepass"), hashlib.sha256)
        if self._good and hmac.compare_digest(digest, self._good):
            return Answer.WELCOME
        network = network_of(address)
        if not self._left(network, TRIES, TRY_EVERY) or not self._left(OTHERS, TRIES_OF_ALL, TRY_OF_ALL_EVERY):
            return Answer.TOO_MANY
        self._take(network)
        self._take(OTHERS)
        async with self._one_at_a_time:
            right = await asyncio.to_thread(self._right, password)
        if not right:
            return Answer.WHO_ARE_YOU
        self._good = digest
        self._tries.pop(network, None)
        return Answer.WELCOME

    def _left(self, who: str, most: int, every: float) -> bool:
        """Whether ``who`` may try now; brings the account of tries up to this moment."""
        now = self._clock()
        left, at = self._tries.get(who, (float(most), now))
        left = min(float(most), left + (now - at) / every)
        self._tries[who] = (left, now)
        self._tries.move_to_end(who)
        if OTHERS in self._tries:
            self._tries.move_to_end(OTHERS)  # never forgotten
        while len(self._tries) > ADDRESSES:
            self._tries.popitem(last=False)
        return left >= 1

    def _take(self, who: str) -> None:
        left, at = self._tries[who]
        self._tries[who] = (left - 1, at)

    def _right(self, password: str) -> bool:
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
