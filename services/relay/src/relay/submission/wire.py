"""One connection's incoming bytes as lines and blocks, with time limits, for any asyncio transport.

What asyncio's StreamReader and a timer per command would cost a session is most of what a small message costs, so:

- a line that is already there is returned without suspending; a wait is one future;
- a connection has one timer. A wait only notes its deadline; the timer, when it fires too early, is set anew;
- reading is paused while more than :data:`HIGH_WATER` bytes lie unread, so memory does not grow with what a client
  sends.

A line ends in CRLF and in nothing else (RFC 5321, 2.3.8); what is wrong with one is a :class:`Flaw`, and why there will
be no more is an :class:`End`: values both, for a client's mistake is no exception.
"""

from __future__ import annotations

import asyncio
from enum import Enum

HIGH_WATER = 128 * 1024
TLS_HIGH_WATER = 16 * 1024  # a record: what the TLS layer may hold besides, undecrypted; by default 512 KiB


class End(Enum):
    """Why no more input comes."""

    EOF = "the client has gone"
    TIMEOUT = "the time limit has passed"
    STOPPED = "we are stopping"


class Flaw(Enum):
    """What is wrong with a line; the line itself is gone."""

    BARE_LF = "it ends in LF without CR"
    CONTROL = "it has a bare CR or a NUL in it"
    TOO_LONG = "it is longer than the limit"


class Gone(asyncio.Transport):
    """In the place of a transport that is lost."""

    def abort(self) -> None:
        """It is."""


class Wire:
    """The reading half of one connection, and the wait for its writing half.

    The protocol calls :meth:`feed`, :meth:`eof`, :meth:`block_writing`; the dialogue calls the rest, one call at a
    time.
    """

    __slots__ = (
        "_at", "_blocked", "_buffer", "_deadline", "_end", "_idle", "_loop", "_paused", "_skipping", "_timer",
        "_timer_at", "_transport", "_waiter", "stopping",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self.stopping = False  # a wait for a line ends with End.STOPPED
        self._loop = loop
        self._transport = _bounded(transport)
        self._buffer, self._at = b"", 0
        self._skipping = False  # inside a line that was too long
        self._paused = self._blocked = self._idle = False
        self._end: End | None = None
        self._waiter: asyncio.Future[End | None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = self._deadline = 0.0

    # --- for the protocol ---------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Bytes have arrived."""
        self._buffer = self._buffer[self._at :] + data if self._buffer else data
        self._at = 0
        if len(self._buffer) > HIGH_WATER and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake(None)

    def eof(self) -> None:
        """Nothing more will arrive; what has arrived can still be taken."""
        self._end = End.EOF
        self._blocked = False
        self._wake(End.EOF)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def block_writing(self, blocked: bool) -> None:
        """The transport's buffer is full, or has room again."""
        self._blocked = blocked and self._end is None
        if not self._blocked:
            self._wake(None)

    def attach(self, transport: asyncio.Transport) -> None:
        """Go on with another transport (STARTTLS). What came over the old one is forgotten (CVE-2011-0411)."""
        self._transport = _bounded(transport)
        self._buffer, self._at, self._skipping, self._paused = b"", 0, False, False

    def let_go(self) -> asyncio.Transport:
        """Forget the transport, which is lost, for what keeps it keeps up to 0.3 MiB of its TLS; returns a stand-in."""
        self._transport = Gone()
        return self._transport

    def stop(self) -> None:
        """Ask for no further line: whoever waits for one, now or later, gets ``End.STOPPED``."""
        self.stopping = True
        if self._idle:
            self._wake(End.STOPPED)

    # --- for the dialogue ---------------------------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Whether bytes are there that nobody has asked for."""
        return bool(self._buffer)

    @property
    def blocked(self) -> bool:
        """Whether the client does not take our replies: then await :meth:`drained` before writing more."""
        return self._blocked

    def push_back(self, data: bytes) -> None:
        """Put bytes in front of all others."""
        self._buffer, self._at = data + self._buffer[self._at :], 0

    def take(self, limit: int) -> bytes | Flaw | None:
        """The next line without its CRLF if it is there, else ``None``; ``limit``: the most bytes it may have."""
        buffer, at = self._buffer, self._at
        newline = buffer.find(b"\n", at)
        if newline < 0:
            if len(buffer) - at > limit + 1:
                self._skipping = True
                self._consume(len(buffer))
            return None
        self._consume(newline + 1)
        if self._skipping or newline - at > limit + 1:
            self._skipping = False
            return Flaw.TOO_LONG
        if newline == at or buffer[newline - 1] != 13:
            return Flaw.BARE_LF
        line = buffer[at : newline - 1]
        return Flaw.CONTROL if b"\r" in line or b"\0" in line else line

    async def line(self, limit: int, seconds: float) -> bytes | Flaw | End:
        """The next line; the whole of it must come within ``seconds``."""
        deadline = self._loop.time() + seconds
        while not self.stopping:
            line = self.take(limit)
            if line is not None:
                return line
            if (end := await self.more(deadline)) is not None:
                return end
        return End.STOPPED

    def more(self, deadline: float) -> asyncio.Future[End | None]:
        """To be awaited when :meth:`take` has found no line: ``None`` when something has arrived."""
        self._idle = True
        return self._wait(deadline)

    async def block(self, deadline: float) -> bytes | End:
        """All bytes that are there, at least one; ``deadline`` is a time of the loop's clock."""
        while not self._buffer:
            if (end := await self._wait(deadline)) is not None:
                return end
        block = self._buffer[self._at :] if self._at else self._buffer
        self._consume(len(self._buffer))
        return block

    async def drained(self, seconds: float) -> End | None:
        """Wait until the client has taken enough of our replies."""
        deadline = self._loop.time() + seconds
        while self._blocked:
            if (end := await self._wait(deadline)) is not None:
                return end
        return self._end

    # --- inside -------------------------------------------------------------------------------------------------------

    def _consume(self, to: int) -> None:
        self._at = to
        if to == len(self._buffer):
            self._buffer, self._at = b"", 0
        if self._paused and len(self._buffer) - self._at <= HIGH_WATER // 2:
            self._paused = False
            if self._end is None:
                self._transport.resume_reading()

    def _wait(self, deadline: float) -> asyncio.Future[End | None]:
        """What :meth:`_wake` will resolve."""
        waiter: asyncio.Future[End | None] = self._loop.create_future()
        if self._end is not None:
            waiter.set_result(self._end)
        elif self._loop.time() >= deadline:  # who sends without pause wakes us each time before the timer can
            waiter.set_result(End.TIMEOUT)
        else:
            self._waiter, self._deadline = waiter, deadline
            if self._timer is None or self._timer_at > deadline:
                self._set_timer(deadline)
        return waiter

    def _wake(self, end: End | None) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter, self._idle = None, False
            if not waiter.done():
                waiter.set_result(end)

    def _set_timer(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._expire)

    def _expire(self) -> None:
        self._timer = None
        if self._waiter is None:
            return
        if self._loop.time() >= self._deadline:
            self._wake(End.TIMEOUT)
        else:
            self._set_timer(self._deadline)


def _bounded(transport: asyncio.Transport) -> asyncio.Transport:
    """``transport``; if it is a TLS one, bound in what it reads ahead while we have paused it."""
    set_limits = getattr(transport, "set_read_buffer_limits", None)
    if set_limits is not None:
        set_limits(high=TLS_HIGH_WATER)
    return transport
