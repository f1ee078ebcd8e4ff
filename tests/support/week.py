"""A relay's spool and delivery on a clock of the test's, and a provider that is away until it is told to come back.

Everything is real but the time: days pass as fast as the work in them is done.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, cast

from relay.delivery.dispatcher import Dispatcher
from relay.model import Event, EventKind
from relay.providers.provider import Provider
from relay.spool import Spool
from support.spooling import SetClock, a_message, accepted

AT_ONCE = 500  # messages accepted side by side
DAY = 86_400.0
STALLED = 30.0  # real seconds


class Host:
    """The provider's host: at first nothing listens there. ``taken`` holds each message's first recipient, in order."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.knocked = 0  # connections it answered with 421
        self.well = False
        self.goal = 0
        self.reached = asyncio.Event()
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))  # without listen(): whoever connects is refused
        self.port: int = self._socket.getsockname()[1]
        self._server: asyncio.Server | None = None

    async def listen(self) -> None:
        """Answer from now on: with 421 as long as it is not ``well``."""
        self._server = await asyncio.get_running_loop().create_server(lambda: _Line(self), sock=self._socket)

    async def until(self, count: int) -> None:
        """Return when so many messages have been taken; fails when none comes for a while."""
        self.goal = count
        self.reached.clear()
        before = -1
        while len(self.taken) < count:
            assert len(self.taken) > before, f"{before} of {count} messages came, and no more"
            before = len(self.taken)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.reached.wait(), STALLED)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._socket.close()


class _Line(asyncio.Protocol):
    """One connection to it."""

    def __init__(self, host: Host) -> None:
        self._host, self._buffer, self._content, self._first = host, b"", False, ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are none by inheritance
        if self._host.well:
            self._transport.write(b"220 host\r\n")
        else:
            self._host.knocked += 1
            self._transport.write(b"421 4.3.2 Come back later\r\n")
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n.\r\n" if self._content else b"\r\n")) >= 0:
            block, self._buffer = self._buffer[:end], self._buffer[end + (5 if self._content else 2) :]
            self._transport.write(self._taken() if self._content else self._answer(block))

    def _answer(self, line: bytes) -> bytes:
        verb = line[:4].upper()
        if verb == b"EHLO":
            return b"250-host\r\n250-PIPELINING\r\n250 8BITMIME\r\n"
        if verb == b"DATA":
            self._content = True
            return b"354 go on\r\n"
        if verb == b"RCPT":
            self._first = self._first or line.partition(b"<")[2].partition(b">")[0].decode()
        return b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n"

    def _taken(self) -> bytes:
        host = self._host
        host.taken.append(self._first)
        if len(host.taken) >= host.goal:
            host.reached.set()
        self._content, self._first = False, ""
        return b"250 2.0.0 taken\r\n"


class Journal:
    """Counts attempts, pauses and what was committed."""

    def __init__(self) -> None:
        self.attempts = self.pauses = 0
        self.ended: Counter[EventKind] = Counter()
        self.expired: dict[str, float] = {}  # recipient: when
        self._stirred = asyncio.Event()

    def committed(self, events: Sequence[Event]) -> None:
        for event in events:
            self.ended[event.kind] += 1
            if event.kind is EventKind.EXPIRED:
                self.expired[event.recipient] = event.at

    def attempt(self, provider: str, outcome: str, seconds: float) -> None:
        self.attempts += 1

    def system(self, event: str, **fields: Any) -> None:
        if event == "provider_paused":
            self.pauses += 1
            self._stirred.set()

    async def paused(self, times: int) -> None:
        """Return when the provider has been paused so often."""
        async with asyncio.timeout(60):
            while self.pauses < times:
                self._stirred.clear()
                await self._stirred.wait()


class World:
    """The relay between its clients and the host."""

    def __init__(self, spool: Spool, dispatcher: Dispatcher, journal: Journal, clock: SetClock, host: Host) -> None:
        self.spool, self.dispatcher, self.journal, self.clock, self.host = spool, dispatcher, journal, clock, host

    async def accept(self, account: str, numbers: Sequence[int]) -> None:
        """Messages of ``account`` to its numbers, in this order."""
        for at in range(0, len(numbers), AT_ONCE):
            async with asyncio.TaskGroup() as group:
                for number in numbers[at : at + AT_ONCE]:
                    group.create_task(self._accept(account, number))

    async def _accept(self, account: str, number: int) -> None:
        message = a_message(account, [f"{number}@{account}.example"], self.clock.now)
        await self.spool.upload(message.id).commit(message, b"Subject: news\r\n\r\n", [accepted(message)])

    async def attempt_in_vain(self, seconds: float) -> None:
        """Let so much time pass, more than any pause lasts, until the host has been tried once and is paused again."""
        self.clock.now += seconds
        before = self.journal.pauses
        self.look()
        await self.journal.paused(before + 1)
        await self.dispatcher.sweep()

    def look(self) -> None:
        """What timers do where time passes by itself."""
        self.dispatcher.look()
        self.spool.poke()


@contextlib.asynccontextmanager
async def world(folder: Path, connections: int = 10) -> AsyncIterator[World]:
    """All of it, stopped at the end."""
    host, journal, clock = Host(), Journal(), SetClock()
    spool = await Spool.open(
        folder / "spool", clock=clock, on_committed=journal.committed, on_fatal=print, ballast=0, filesystem="warn"
    )
    provider = Provider(name="host", host="127.0.0.1", ports=((host.port, "none"),), connections=connections)
    dispatcher = Dispatcher(
        [provider],
        spool=spool,
        journal=journal,
        clock=clock,
        hostname="mail.example.org",
        postmaster="postmaster@example.org",
        jitter=lambda: 0.5,
    )
    stop = asyncio.Event()
    running = asyncio.create_task(dispatcher.run(stop))
    try:
        yield World(spool, dispatcher, journal, clock, host)
    finally:
        stop.set()
        try:
            await running
        finally:
            await dispatcher.drain(5.0)
            host.close()
            await spool.close()
