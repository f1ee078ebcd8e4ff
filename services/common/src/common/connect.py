"""Connecting to a host by its name, as RFC 8305 says (Happy Eyeballs): an address that leads nowhere costs a quarter of
a second and not the connection.

asyncio's ``happy_eyeballs_delay`` is not enough: uvloop has none, and neither remembers anything. So the sockets race
here, and the winner is handed on (``create_connection(sock=…)``). Promises:

- addresses are tried in the system's order (RFC 6724, gai.conf), but the families by turns, first that which worked
  last; the next attempt begins after :data:`DELAY`, or at once when one failed;
- a resolver that leaves the question for one family unanswered does not keep us from the other;
- who loses the race is closed; where all lose, the error says what each met.

A connection can stand and still lead nowhere: a tunnel that swallows large packets, a box in the way that answers for
whoever is behind it. :meth:`Dialer.connected` remembers that too.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import os
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from itertools import zip_longest
from typing import NamedTuple

DELAY = 0.25  # seconds until the next address is tried beside the last (RFC 8305, section 8)
PATIENCE = 1.0  # seconds for the resolver to tell all addresses; then it is asked for each family alone
REMEMBERED = 3600.0  # seconds that a family goes first because it worked; then the system's order counts again
MOST = 16  # addresses of a host that are tried: four seconds' worth


class Address(NamedTuple):
    """Where to connect to, as the socket functions want it."""

    family: int
    at: tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]


Resolve = Callable[[str, int, int], Awaitable[Sequence[Address]]]
"""``resolve(host, port, family)``: addresses in order of preference. Raises socket.gaierror."""


async def look_up(host: str, port: int, family: int) -> Sequence[Address]:
    """What the system's resolver says, asked in a thread of its own: one that hangs keeps neither other questions
    waiting, as a pool's would, nor the process from its end.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Sequence[Address]] = loop.create_future()

    def settle(found: Sequence[Address], error: OSError | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(found)

    def ask() -> None:
        found: list[Address] = []
        problem: OSError | None = None
        try:
            found = [Address(row[0], row[4]) for row in socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)]
        except OSError as error:
            problem = error
        except UnicodeError:
            problem = socket.gaierror(socket.EAI_NONAME, "this is no host name")
        try:
            loop.call_soon_threadsafe(settle, found, problem)
        except RuntimeError:
            pass  # the loop has ended: nobody waits any more

    threading.Thread(target=ask, name=f"look up {host}", daemon=True).start()
    return await answer


class NoConnection(OSError):
    """No address could be connected to. The text says what each met: ``2001:db8::1 did not answer, 192.0.2.1 refused
    the connection``.
    """

    def __init__(self, met: Iterable[tuple[str, int]]) -> None:
        """``met``: address, and the number of its error (errno)."""
        addresses: dict[int, list[str]] = {}
        for address, number in met:
            addresses.setdefault(number, []).append(address)
        super().__init__(", ".join(" and ".join(some) + _met_with(number) for number, some in addresses.items()))


def _met_with(number: int) -> str:
    match number:
        case errno.ETIMEDOUT:
            return " did not answer"
        case errno.ECONNREFUSED:
            return " refused the connection"
        case _:
            return f": {os.strerror(number)}"


class Dialer:
    """Connects, and remembers for each host which family worked last."""

    def __init__(
        self,
        *,
        resolve: Resolve = look_up,
        now: Callable[[], float] = time.monotonic,
        delay: float = DELAY,
        patience: float = PATIENCE,
    ) -> None:
        self._resolve, self._now, self._delay, self._patience = resolve, now, delay, patience
        self._last: dict[str, tuple[int, float]] = {}  # family, until when it goes first

    async def connect(self, host: str, port: int, seconds: float) -> socket.socket:
        """A connected, non-blocking socket that is the caller's, within ``seconds``.

        Raises socket.gaierror where the name has no address or the resolver is silent, else :class:`NoConnection`.
        """
        first = self._first(host)
        race = _Race(lambda family: self._resolve(host, port, family), first, self._delay, self._patience)
        won = await race.run(seconds)
        if won.family != first:
            self._last[host] = (won.family, self._now() + REMEMBERED)
        return won

    @contextlib.asynccontextmanager
    async def connected(self, host: str, port: int, seconds: float) -> AsyncIterator[socket.socket]:
        """As :meth:`connect`, for a block that has what is left of ``seconds``. Where the block ends by an error of the
        network, or for want of time, this family led nowhere: the other goes first next time.
        """
        end = asyncio.get_running_loop().time() + seconds
        won = await self.connect(host, port, seconds)
        try:
            async with asyncio.timeout_at(end):
                yield won
        except (OSError, asyncio.CancelledError):
            other = socket.AF_INET if won.family == socket.AF_INET6 else socket.AF_INET6
            self._last[host] = (other, self._now() + REMEMBERED)
            raise

    def _first(self, host: str) -> int:
        family, until = self._last.get(host, (socket.AF_UNSPEC, 0.0))
        return family if self._now() < until else socket.AF_UNSPEC


DIALER = Dialer()
"""The one that a process uses: what one of its parts has learned serves the others."""


def connect_now(host: str, port: int, seconds: float, dialer: Dialer = DIALER) -> socket.socket:
    """As :meth:`Dialer.connect`, for programs without an event loop: a blocking socket, limited to ``seconds`` too."""
    won = asyncio.run(dialer.connect(host, port, seconds))
    won.settimeout(seconds)
    return won


def by_turns(addresses: Sequence[Address], first: int = socket.AF_UNSPEC) -> list[Address]:
    """``addresses``, their families by turns, beginning with ``first`` if it is among them (RFC 8305, section 4)."""
    if not any(one.family == first for one in addresses):
        first = addresses[0].family if addresses else first
    ours = [one for one in addresses if one.family == first]
    others = [one for one in addresses if one.family != first]
    return [one for pair in zip_longest(ours, others) for one in pair if one is not None]


class _Race:
    """One connection's attempts; used once."""

    def __init__(
        self, resolve: Callable[[int], Awaitable[Sequence[Address]]], first: int, delay: float, patience: float
    ) -> None:
        self._resolve, self._first, self._delay, self._patience = resolve, first, delay, patience
        self._questions: list[asyncio.Task[Sequence[Address]]] = []
        self._known: set[Address] = set()
        self._untried: list[Address] = []
        self._attempts: dict[asyncio.Task[socket.socket], Address] = {}
        self._met: list[tuple[str, int]] = []
        self._unresolved: OSError = socket.gaierror(socket.EAI_AGAIN, "no answer in time")

    async def run(self, seconds: float) -> socket.socket:
        try:
            async with asyncio.timeout(seconds):
                return await self._run()
        except TimeoutError:
            self._met += [(str(address.at[0]), errno.ETIMEDOUT) for address in self._attempts.values()]
            raise self._failure() from None
        finally:
            self._end()

    async def _run(self) -> socket.socket:
        now = asyncio.get_running_loop().time
        self._ask(socket.AF_UNSPEC)
        ask_alone, go_on = now() + self._patience, 0.0
        while True:
            if self._untried and (not self._attempts or now() >= go_on):
                self._try(self._untried.pop(0))
                go_on = now() + self._delay
            if not self._questions and not self._attempts:
                raise self._failure()
            alarms = [go_on] if self._untried else []
            alarms += [ask_alone] if ask_alone < math.inf and not self._known else []
            await asyncio.wait(
                [*self._questions, *self._attempts],
                timeout=max(0.0, min(alarms) - now()) if alarms else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            failed = len(self._met)
            if (won := self._over()) is not None:
                return won
            if len(self._met) > failed:
                go_on = 0.0
            self._answered()
            if self._questions and not self._known and now() >= ask_alone:
                self._ask(socket.AF_INET6)
                self._ask(socket.AF_INET)
                ask_alone = math.inf

    # --- addresses
    def _ask(self, family: int) -> None:
        async def addresses() -> Sequence[Address]:
            return await self._resolve(family)

        self._questions.append(asyncio.ensure_future(addresses()))

    def _answered(self) -> None:
        """Takes in what the resolver has said meanwhile."""
        for question in [one for one in self._questions if one.done()]:
            self._questions.remove(question)
            try:
                found = question.result()
            except OSError as error:
                self._unresolved = error
                continue
            new = [one for one in by_turns(found, self._first)[:MOST] if one not in self._known]
            self._known.update(new)
            self._untried = by_turns([*self._untried, *new], self._first)

    # --- attempts
    def _try(self, address: Address) -> None:
        self._attempts[asyncio.ensure_future(_connected(address))] = address

    def _over(self) -> socket.socket | None:
        """The winner, if there is one; what failed is noted."""
        for attempt in [one for one in self._attempts if one.done()]:
            address = self._attempts.pop(attempt)
            try:
                return attempt.result()
            except OSError as error:
                self._met.append((str(address.at[0]), error.errno or errno.EIO))
        return None

    def _failure(self) -> OSError:
        return NoConnection(self._met) if self._met else self._unresolved

    def _end(self) -> None:
        for question in self._questions:
            question.cancel()
        for attempt in self._attempts:
            attempt.cancel()
            attempt.add_done_callback(_close)


async def _connected(address: Address) -> socket.socket:
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, address.at)
    except BaseException:
        sock.close()
        raise
    return sock


def _close(attempt: asyncio.Task[socket.socket]) -> None:
    """One that came second."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()
