"""Whether a message was kept already: clients that miss our 250 send again, as SMTP tells them to (RFC 5321, 4.5.4.1).

Same means: same account, sender, set of recipients, body, and the same of those header fields that make it that mail
(:mod:`relay.submission.prepare` lists them), as the client wrote them, byte for byte, within the window. Others may
differ: a server that sends again may put another Received field on top. A message that brings no Message-ID is never
taken for a repeat: two equal lines of a cron job are two messages. Nor is one whose Message-ID is the same and whose
Subject or Date is not: there are devices that know one Message-ID and say everything in the subject, or nothing but
when, and to swallow an alarm is worse than to send a mail twice. A Date that we had to add counts for nothing.

A repeat is answered with the id of the first, so that first must still keep what its 250 promised: every delivery of it
is open, or a provider has it. When one was refused, expired, ended as unknown or was dropped by the operator, its story
is over and was told; whoever sends the mail again then means it (the mailbox was full, the drop was a mistake). So it
is kept: at worst somebody gets it twice, where otherwise somebody would never get it.

Who comes second while the first is still being written waits for it. When that fails, one of those who wait becomes the
first.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Set
from hashlib import blake2b

from relay import limits
from relay.clock import Clock
from relay.model import OPEN_STATES, State

SIZE = 16  # bytes: an accident needs 2^64 messages, and whoever forges a collision takes his own mail for a repeat
STANDING = OPEN_STATES | {State.DELIVERED}
_PIECE = 2_047  # hashlib gives the interpreter lock away for more, and has to wait to get it back
_LONG = 32 * limits.KIB  # from here on it gains more by that than it waits

StatesOf = Callable[[str], Awaitable[Set[State]]]


class Fingerprint:
    """Taken while a message passes; takes no more memory for a longer one."""

    __slots__ = ("_hash",)

    def __init__(self, account: str, sender: str, recipients: Iterable[str], seen: bytes) -> None:
        """``seen``: those fields, whole."""
        # What ascii() writes is ASCII without control characters, and no message has a NUL: the parts cannot run
        # into one another. Nor can the fields: each ends in CRLF, and the next line would continue it or is another.
        envelope = ascii((account, sender, sorted(recipients))).encode("ascii")
        self._hash = blake2b(envelope + b"\0" + seen + b"\0", digest_size=SIZE)

    def add(self, body: bytes) -> None:
        """The next bytes of the body; how it is cut makes no difference."""
        if len(body) <= _PIECE or len(body) >= _LONG:
            self._hash.update(body)
            return
        for at in range(0, len(body), _PIECE):
            self._hash.update(body[at : at + _PIECE])

    def digest(self) -> bytes:
        """The fingerprint of all that was added."""
        return self._hash.digest()


class Recent:
    """What was kept in the last ``window`` seconds, at most the last ``most`` of it; what is older is kept again."""

    def __init__(self, clock: Clock, window: float, most: int = limits.REPEATS) -> None:
        self._clock, self._window, self._most = clock, window, most
        self._entries: dict[bytes, tuple[float, bytes, str]] = {}
        self._order: deque[tuple[float, bytes, str]] = deque()

    def __len__(self) -> int:
        return len(self._order)

    def add(self, fingerprint: bytes, message: str, age: float = 0.0) -> None:
        """``message`` was kept ``age`` seconds ago. At the start: oldest first."""
        now = self._clock.monotonic()
        entry = (now - max(0.0, age), fingerprint, message)
        self._entries[fingerprint] = entry
        order, entries = self._order, self._entries
        order.append(entry)
        while len(order) > self._most or order[0][0] <= now - self._window:
            old = order.popleft()
            if entries.get(old[1]) is old:
                del entries[old[1]]
            if not order:
                break

    def find(self, fingerprint: bytes) -> str:
        """The id of the message that was kept; empty: none."""
        entry = self._entries.get(fingerprint)
        return entry[2] if entry is not None and self._clock.monotonic() - entry[0] < self._window else ""


class Repeats:
    """Asked once by each message at its end; serves all listeners, for a client may come back through another one."""

    def __init__(self, recent: Recent, states_of: StatesOf) -> None:
        """``states_of``: the states of a message's deliveries, asked for repeats only."""
        self._recent, self._states_of = recent, states_of
        self._under_way: dict[bytes, asyncio.Future[None] | None] = {}  # who waits for it, if somebody does

    async def first(self, fingerprint: bytes) -> str:
        """The id of the message that this one repeats. Empty: it is the first, and :meth:`ended` must follow."""
        while True:
            if fingerprint in self._under_way:
                await self._wait(fingerprint)
                continue
            known = self._recent.find(fingerprint)
            if not known:
                break
            states = await self._states_of(known)
            if states and states <= STANDING:
                return known
            if fingerprint not in self._under_way and self._recent.find(fingerprint) in ("", known):
                break
        self._under_way[fingerprint] = None
        return ""

    def ended(self, fingerprint: bytes, message: str) -> None:
        """The first was kept as ``message``; empty: it was not."""
        if message:
            self._recent.add(fingerprint, message)
        waiting = self._under_way.pop(fingerprint)
        if waiting is not None:
            waiting.set_result(None)

    async def _wait(self, fingerprint: bytes) -> None:
        waiting = self._under_way[fingerprint]
        if waiting is None:
            waiting = self._under_way[fingerprint] = asyncio.get_running_loop().create_future()
        await asyncio.wait({waiting})  # who is cancelled here must not cancel it for the others
