"""Our end of the line once a connection to a provider stands: writes commands, and gathers the replies that were
asked for.

Several commands may be on their way at once (PIPELINING, RFC 2920): :meth:`Link.expect` waits for so many replies.
Promises:

- replies are parsed strictly and with bounds: three digits, one code over all lines, lines and their number limited,
  and so is what of the text is handed out;
- a reply that nobody asked for makes the link unusable, so that none is ever taken for the answer to another command;
- a failure (hang-up, reset, time limit, garbage) is kept in :attr:`Link.failure`, and what came before it is still
  handed out;
- one lazy timer a connection, not one a reply.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence

from relay import limits
from relay.delivery.failures import Garbage
from relay.delivery.outcome import Reply

SHUTTING_DOWN = 421  # RFC 5321, 3.8: the provider closes the connection after it, at any time
TOO_MANY = 452  # RFC 5321, 4.5.3.1.10: recipients
_CODES = {b"%d" % code: code for code in range(200, 600)}  # RFC 5321, 4.2.1: 1yz is not used
_TICK = 5.0  # how exactly time limits are kept
_OF_THE_SESSION = re.compile(r"\b(?:session|connection)\b", re.IGNORECASE)  # "450 Mails per session limit exceeded"


class Unasked(ConnectionError):
    """The provider answered what was not asked: nothing after that can be told apart."""


def spent(got: Sequence[Reply], recipients: int) -> bool:
    """Whether the answers to MAIL, each RCPT and DATA, as far as they came, may be owed to the session's age: providers
    that take so many mails a session say anything from 421 to 452, mostly to MAIL; Cloudflare counts recipients, and
    says 452 to the first that is too many. Else a 4xx to RCPT is the recipient's, unless it speaks of the session.
    """
    rcpts, data = got[1 : recipients + 1], got[recipients + 1 :]
    telling = [*got[:1], *(one for one in rcpts if one.code == SHUTTING_DOWN or _OF_THE_SESSION.search(one.text))]
    telling += [one for one in rcpts[:1] if one.code == TOO_MANY]  # no transaction begins with one too many
    if any(one.code < 300 for one in rcpts):  # else DATA is refused for want of recipients
        telling += data
    return any(400 <= one.code < 500 for one in telling)


class Link(asyncio.Protocol):
    """One connection, logged in, with the transport's flow control."""

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport) -> None:
        self._loop = loop
        self._transport = transport
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        self._time = 0.0
        self._wanted = 0
        self._got: list[Reply] = []
        self._lines: list[bytes] = []
        self._rest = b""
        self._paused = False
        self.failure: BaseException | None = None
        self.unasked: Reply | None = None  # what it said of its own accord, e.g. 421 in the middle of the content
        self.messages = 0  # carried so far

    @property
    def usable(self) -> bool:
        """Whether another message may go over this link."""
        return self.failure is None and not self._transport.is_closing()

    # --- what a transaction calls
    def write(self, data: bytes) -> None:
        """Writes ``data``; a broken link shows at the next wait."""
        if self.failure is None:
            self._transport.write(data)

    async def ask(self, commands: bytes, replies: int, seconds: float) -> list[Reply]:
        """Writes ``commands`` and waits for ``replies`` replies, each within ``seconds`` of the one before.

        Fewer come back when the link failed (see :attr:`failure`) or the provider said 421.
        """
        self._wanted += replies
        self.write(commands)
        return await self.expect(seconds)

    async def expect(self, seconds: float) -> list[Reply]:
        """Waits for all replies wanted."""
        if len(self._got) < self._wanted and self.failure is None:
            await self._wait(seconds)
        got, self._got, self._wanted = self._got, [], 0
        return got

    async def flush(self, seconds: float) -> None:
        """Waits until the transport takes more, at most ``seconds``."""
        if self._paused and self.failure is None:
            await self._wait(seconds)

    def fail(self, error: BaseException) -> None:
        """Makes the link unusable and wakes who waits on it; the connection is cut without another word."""
        if self.failure is None:
            self.failure = error
            self._transport.abort()
        self._wake()

    async def quit(self, seconds: float) -> None:
        """Takes leave politely, if the other side still listens, and closes."""
        if self.usable:
            await self.ask(b"QUIT\r\n", 1, seconds)
        self.close()

    def close(self) -> None:
        """Closes the connection; what was written is still sent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.failure is None:
            self.failure = ConnectionError("closed by us")
            self._transport.close()

    # --- waiting
    async def _wait(self, seconds: float) -> None:
        self._time = seconds
        self._deadline = self._loop.time() + seconds
        if self._timer is None:
            self._timer = self._loop.call_later(min(seconds, _TICK), self._tick)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _tick(self) -> None:
        self._timer = None
        if self._waiter is None:
            return
        left = self._deadline - self._loop.time()
        if left <= 0:
            self.fail(TimeoutError())
        else:
            self._timer = self._loop.call_later(min(left, _TICK), self._tick)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # --- what the transport calls
    def data_received(self, data: bytes) -> None:
        if self.failure is not None:
            return
        try:
            self._parse(data)
        except Garbage as error:
            self.fail(error)
            return
        if self.failure is None and self._wanted and len(self._got) >= self._wanted:
            self._wake()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self.failure is None:
            self.failure = exc or ConnectionResetError("the provider closed the connection")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if not self._wanted:
            self._wake()

    # --- parsing
    def _parse(self, data: bytes) -> None:
        buffer = self._rest + data if self._rest else data
        start = 0
        while self.failure is None and (end := buffer.find(b"\n", start)) >= 0:
            self._line(buffer[start : end - 1] if end > start and buffer[end - 1] == 0x0D else buffer[start:end])
            start = end + 1
        self._rest = buffer[start:]
        if len(self._rest) > limits.REPLY_LINE:
            raise Garbage("a line without an end")

    def _line(self, line: bytes) -> None:
        lines = self._lines
        if len(line) > limits.REPLY_LINE or len(lines) >= limits.REPLY_LINES:
            raise Garbage("a reply without an end")
        code, mark = _CODES.get(line[:3]), line[3:4]
        if code is None or mark not in (b" ", b"-", b""):
            raise Garbage(line[:80].decode("ascii", "replace"))
        if lines and lines[0][:3] != line[:3]:
            raise Garbage("two codes in one reply")
        if mark == b"-":
            lines.append(line)
            return
        text = line[4:]
        if lines:
            text = b" ".join([first[4:].strip() for first in lines] + [text])
            self._lines = []
        self._reply(Reply(code, text[: limits.REPLY_SIZE].decode("utf-8", "replace")))

    def _reply(self, reply: Reply) -> None:
        if len(self._got) >= self._wanted:
            self.unasked = reply
            self.fail(Unasked(f"{reply.code} {reply.text}"))
            return
        self._got.append(reply)
        self._deadline = self._loop.time() + self._time
        if reply.code == SHUTTING_DOWN:
            self.fail(ConnectionResetError("the provider is closing the connection"))
