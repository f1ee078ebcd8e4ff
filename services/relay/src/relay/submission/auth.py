"""Passwords: what AUTH PLAIN and LOGIN carry, and whether it is right.

Promises. Argon2 runs in two threads, never in the event loop, and one address has at most as many of its guesses there
as there are threads, so that a flood from one place does not keep others waiting. A wrong answer takes the same work
and the same time whether the account exists, is disabled, or has another password. Failed answers come later and later,
for the address and for the account; right ones are never delayed, and an account's own address is not slowed down by
what others try on that account. Tables are bounded. Nothing here logs.

Whose turn has not come can leave. Once a password is judged, its answer takes its time, and counts, whoever is still
there to hear it: or hanging up would be a guesser's way around both.

Good logins are remembered by an HMAC under a key of this process, together with the hash they were checked against: a
phone that logs in for every mail costs microseconds, and a changed password or a removed account counts at once.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import os
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, NamedTuple, TypeVar

from argon2.exceptions import VerificationError
from argon2.low_level import Type, verify_secret

from relay import limits
from relay.accounts import Account, Accounts
from relay.accounts_rules import HOUSE_COST
from relay.address import fold, login_name
from relay.clients import address_key
from relay.clock import Clock
from relay.refusal import Reason, Refusal, refuse

FIRST_DELAY, MOST_DELAY = 1.0, 30.0  # seconds; doubled from one failure to the next
FORGET_FAILURES = limits.HOUR
TABLE_SIZE = 10_000  # entries of each table; the oldest leave first
# What keyboards and clipboards put around a name: white space of all kinds, and what nobody sees.
_AROUND = "".join(chr(code) for code in range(0x3001) if chr(code).isspace())
_AROUND += "\u00ad\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\ufeff"

_EMPTY = "user name or password is empty; fill in both"

V = TypeVar("V")


class Credentials(NamedTuple):
    """What a client logs in with, as bytes: neither need be UTF-8."""

    login: bytes
    password: bytes


def decode_plain(encoded: bytes) -> Credentials | Refusal:
    """The response of AUTH PLAIN (RFC 4616): base64 of ``authzid NUL login NUL password``."""
    message = _decode(encoded)
    if isinstance(message, Refusal):
        return message
    parts = message.split(b"\0")
    if len(parts) != 3:
        return _malformed("AUTH PLAIN carries: nothing, NUL, user name, NUL, password")
    authzid, login, password = parts
    if authzid and _name(authzid) != _name(login):
        return refuse(
            Reason.AUTH_MALFORMED,
            "535 5.7.8 One account cannot act for another; leave the authorization identity empty.",
        )
    if len(login) > limits.PASSWORD_BYTES or len(password) > limits.PASSWORD_BYTES:
        return _too_long()
    return credentials(login, password)


def credentials(login: bytes, password: bytes) -> Credentials | Refusal:
    """The two together: the password as it is; the name without spaces around it, a domain in it as accounts have it.

    Here, before anything is asked: failures are counted by name, and each spelling would be a name of its own.
    """
    name = _name(login)
    return Credentials(name, password) if name and password else _malformed(_EMPTY)


def decode_login(encoded: bytes) -> bytes | Refusal:
    """One response of AUTH LOGIN (draft-murchison-sasl-login): base64 of the user name, then of the password."""
    value = _decode(encoded)
    if isinstance(value, Refusal):
        return value
    if not value:
        return _malformed(_EMPTY)
    return value if len(value) <= limits.PASSWORD_BYTES else _too_long()


def _name(login: bytes) -> bytes:
    try:
        return login_name(login.decode().strip(_AROUND)).encode()
    except UnicodeDecodeError:
        return login.strip()


def _decode(encoded: bytes) -> bytes | Refusal:
    """``=`` is an empty initial response and ``*`` gives up (RFC 4954, section 4)."""
    encoded = encoded.strip()
    if encoded == b"*":
        return refuse(Reason.AUTH_CANCELLED, "501 5.7.0 The login was given up, as the client asked.")
    if encoded == b"=":
        return b""
    if len(encoded) > limits.AUTH_LINE:
        return _too_long()
    try:
        decoded = binascii.a2b_base64(encoded, strict_mode=True)
    except ValueError:
        decoded = b""
    # Python's strict mode lets a "=" too many pass.
    return decoded if binascii.b2a_base64(decoded, newline=False) == encoded else _malformed("this is not base64")


def _malformed(why: str) -> Refusal:
    return refuse(Reason.AUTH_MALFORMED, f"501 5.5.2 The login cannot be read: {why}.")


def _too_long() -> Refusal:
    why = f"500 5.5.6 User name and password may have {limits.PASSWORD_BYTES} bytes each; use shorter ones."
    return refuse(Reason.AUTH_MALFORMED, why)


class Table(Generic[V]):
    """A mapping that drops what was not used for longest when it grows beyond ``size``."""

    def __init__(self, size: int = TABLE_SIZE) -> None:
        self._entries: OrderedDict[object, V] = OrderedDict()
        self._size = size

    def get(self, key: object) -> V | None:
        """The value, or ``None``; reading counts as use."""
        if key not in self._entries:
            return None
        self._entries.move_to_end(key)
        return self._entries[key]

    def put(self, key: object, value: V) -> None:
        """Set the value."""
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def __len__(self) -> int:
        return len(self._entries)


class Failures:
    """How long the next failed answer waits: per key, growing, forgotten after an hour without a failure."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._table: Table[tuple[int, float]] = Table()

    def count(self, key: str) -> float:
        """Count one failure of ``key``; returns the seconds that its answer has to wait."""
        now = self._clock.monotonic()
        before, at = self._table.get(key) or (0, now)
        if now - at > FORGET_FAILURES:
            before = 0
        self._table.put(key, (before + 1, now))
        return min(FIRST_DELAY * 2.0 ** min(before, 16), MOST_DELAY)


class Gates:
    """At most ``most`` passers at a time for each key; the others wait in the order in which they came."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._gates: dict[str, tuple[asyncio.Semaphore, int]] = {}

    @contextmanager
    def at(self, key: str) -> Iterator[asyncio.Semaphore]:
        """The gate of ``key``, kept for as long as anybody waits at it or is inside."""
        gate, users = self._gates.get(key) or (asyncio.Semaphore(self._most), 0)
        self._gates[key] = gate, users + 1
        try:
            yield gate
        finally:
            gate, users = self._gates.pop(key)
            if users > 1:
                self._gates[key] = gate, users - 1


class Authenticator:
    """Checks logins against the accounts in force.

    ``accounts`` gives those; ``gateways`` are addresses behind which all clients may hide: they are not slowed down,
    and nobody is known by them.
    ``sleep`` waits for the given seconds. :meth:`close` ends the threads.
    """

    def __init__(
        self,
        accounts: Callable[[], Accounts],
        *,
        clock: Clock,
        gateways: frozenset[str] = frozenset(),
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._accounts, self._sleep = accounts, sleep
        self._exempt = frozenset(address_key(gateway) for gateway in gateways)
        self._pool = ThreadPoolExecutor(limits.PASSWORD_CHECKS_AT_ONCE, thread_name_prefix="passwords")
        self._place = asyncio.Semaphore(limits.PASSWORD_CHECKS_AT_ONCE)
        self._gates = Gates(limits.PASSWORD_CHECKS_AT_ONCE)
        self._key = os.urandom(32)
        self._good: Table[str] = Table()
        self._known: Table[bool] = Table()
        self._of_address, self._of_account = Failures(clock), Failures(clock)

    def close(self) -> None:
        """Let go of the threads; what they are at ends by itself within a fraction of a second."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def check(
        self, login: bytes, password: bytes, peer: str, judging: Callable[[], None] = lambda: None
    ) -> Account | None:
        """The account that ``login`` and ``password`` open, else ``None``, and that only after the delay.

        ``judging`` is called when it is their turn; until then, and only then, to be cancelled if the client goes.
        """
        account, address = self._usable(login), address_key(peer)
        key = self._digest(login, password)
        if account is None or self._good.get(key) != account.password_hash:
            stored = account.password_hash if account else self._dummy()
            delay = await self._queue(key, stored, login, password, address, judging)
            if delay or account is None:
                await self._sleep(delay)
                return None
        if address not in self._exempt:  # or every guesser there would be taken for the owner
            self._known.put((account.name, address), True)
        # Meanwhile the file may have been read again: what counts is what is in force now.
        now = self._usable(login)
        return now if now and now.password_hash == account.password_hash else None

    def _usable(self, login: bytes) -> Account | None:
        account = self._accounts().find(login)
        return account if account and account.password_hash and not account.disabled else None

    def _digest(self, login: bytes, password: bytes) -> bytes:
        message = len(login).to_bytes(4, "big") + login + password
        return hmac.digest(self._key, message, hashlib.sha256)

    def _dummy(self) -> str:
        """A hash that nothing opens, as costly as the dearest of the accounts'."""
        costs = self._accounts().costs or [HOUSE_COST]
        salt, value = (base64.b64encode(os.urandom(size)).decode().rstrip("=") for size in (16, 32))
        return f"$argon2id$v=19${costs[-1]}${salt}${value}"

    async def _queue(
        self, key: bytes, stored: str, login: bytes, password: bytes, address: str, judging: Callable[[], None]
    ) -> float:
        """One check in its turn: seconds that the answer has to wait, 0 if the password is right.

        Who waits for a turn is bounded by the limit of connections, because whoever loses the connection leaves the
        queue. Who waits for an answer is bounded by that and, of those who were sent away for others meanwhile, by what
        Argon2 judges in :data:`MOST_DELAY`: some 2,000 at 30 ms each and two at a time, 8 KiB each.
        """
        with self._gates.at(address) as gate:
            async with gate, self._place:
                if self._good.get(key) == stored:  # the same login was ahead: after a start all clients come at once
                    return 0.0
                judging()
                return await self._judge(key, stored, login, password, address)

    async def _judge(self, key: bytes, stored: str, login: bytes, password: bytes, address: str) -> float:
        loop = asyncio.get_running_loop()
        if not await loop.run_in_executor(self._pool, verify, stored, password):
            return self._delay(login, address)
        self._good.put(key, stored)
        return 0.0

    def _delay(self, login: bytes, address: str) -> float:
        name = fold(login[: limits.PASSWORD_BYTES].decode("utf-8", "replace"))
        delay = self._of_account.count(name)
        account = self._accounts().find(login)
        if account and self._known.get((account.name, address)):
            delay = FIRST_DELAY
        return delay if address in self._exempt else max(delay, self._of_address.count(address))


def verify(stored: str, password: bytes) -> bool:
    """Whether ``password`` opens the Argon2id hash ``stored``; a broken hash is opened by nothing."""
    try:
        return verify_secret(stored.encode("ascii"), password, Type.ID)
    except VerificationError:
        return False
