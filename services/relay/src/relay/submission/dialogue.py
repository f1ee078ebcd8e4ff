"""The dialogue with one client: lines in, verbs called, replies out. What the verbs do is in ``session``.

A subclass of aiosmtpd's ``SMTP`` that keeps its shape (a protocol with a method ``smtp_VERB`` for each command, its
``Session`` and ``Envelope``) and replaces its machinery, for three reasons. *Cost*: upstream inspects all members for
each connection, arms a timer and calls the log several times for each command, and writes each reply by itself: 0.28 ms
for a message, most of our whole budget. *Safety*: it logs what clients send, passwords among it; tells clients the text
of exceptions; ends lines at LF; takes whatever was pipelined where that is forbidden. *Grace*: it cancels its task when
the client goes, also in mid-commit. Here nothing is cancelled but the wait until a password's turn comes: a client that
goes is an :class:`~relay.submission.wire.End` that the dialogue meets when it next asks for input.

Replies to pipelined commands travel in one write (RFC 2920): they are flushed when no complete further line is there,
and before anything that may take long.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any, ClassVar, cast

from aiosmtpd.smtp import SMTP
from aiosmtpd.smtp import Session as Greeting

from relay import limits
from relay.refusal import Reason, Refusal
from relay.submission.desk import Desk, Journal, Transaction
from relay.submission.wire import End, Flaw, Wire

# aiosmtpd's: at INFO it holds command lines, at DEBUG passwords and bodies
logging.getLogger("mail.log").disabled = True
log = logging.getLogger(__name__)

Verb = Callable[[Any, bytes], Awaitable[None]]
HTTP = frozenset({b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"OPTIONS", b"CONNECT", b"TRACE", b"PATCH", b"HOST:"})
CRITICAL = frozenset({b"DATA", b"AUTH", b"STARTTLS"})  # after a failure in these we cannot know what the client sends
FLAWS = {
    Flaw.BARE_LF: "500 5.5.2 Lines must end in CRLF, not in LF alone.",
    Flaw.CONTROL: "500 5.5.2 A line must hold neither NUL nor a bare CR.",
    Flaw.TOO_LONG: "500 5.5.2 That line is too long.",
}
TALKER = Refusal(
    f"421 4.7.0 {limits.COMMANDS_BEFORE_AUTH} commands came without a login; connect again and log in first.",
    Reason.AUTH_REQUIRED,
)
EARLY = Refusal("554 5.5.0 The client must wait for our answer here before it sends more.", Reason.PIPELINING)


class Dialogue(SMTP):
    """One connection, from 220 to its end."""

    VERBS: ClassVar[dict[bytes, Verb]] = {}  # upper-case name to method, once for each subclass; none of upstream's

    transport: asyncio.Transport
    session: Greeting
    envelope: Transaction

    def __init_subclass__(cls) -> None:
        own = (
            name for name in dir(cls) if name.startswith("smtp_") and getattr(cls, name) is not getattr(SMTP, name, 0)
        )
        cls.VERBS = {name[5:].encode(): getattr(cls, name) for name in own}

    def __init__(self, desk: Desk, loop: asyncio.AbstractEventLoop, peer: str) -> None:
        """Sets only what is used here; upstream's own initialisation is most of what a connection would cost."""
        self.desk, self.loop, self.peer = desk, loop, peer
        self.hostname = desk.hostname
        self.secure = False  # under TLS
        self.lost = False  # the transport is gone
        self.closing = False  # no further command is read
        self.errors = self.refusals = 0
        self._in_a_row = 0  # commands since the others had their turn
        self._out: list[str] = []
        self._deadline = 0.0  # by which the next line must have come
        self.commands_left: float = limits.COMMANDS_BEFORE_AUTH  # without a limit for whom we know
        self.login_by = loop.time() + limits.TIME_BEFORE_AUTH
        self._gone: asyncio.Future[None] | None = None  # resolved when the transport is
        self.task: asyncio.Task[None] | None = None

    # --- the protocol's side ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self.secure = transport.get_extra_info("ssl_object") is not None
        self.wire = Wire(self.loop, self.transport)
        self.session = Greeting(self.loop)
        self.session.peer = self.peer
        self.envelope = Transaction()
        self.task = self.loop.create_task(self._handle_client())

    def data_received(self, data: bytes) -> None:
        self.wire.feed(data)

    def eof_received(self) -> bool:
        self.wire.eof()
        return not self.secure  # the answers to what has arrived can still be sent, except through TLS

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002
        self.lost = self.closing = True
        self.wire.eof()
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)

    def pause_writing(self) -> None:
        self.wire.block_writing(True)

    def resume_writing(self) -> None:
        self.wire.block_writing(False)

    # --- replies ------------------------------------------------------------------------------------------------------

    def reply(self, line: str) -> None:
        """Answer the command in hand; sent with the next flush."""
        self._out.append(line)

    def protest(self, line: str, reason: Reason = Reason.SYNTAX) -> None:
        """Answer what no well-made client does; too many such end the session."""
        self.errors += 1
        if self.errors > limits.PROTOCOL_ERRORS:
            self.hang_up("421 4.7.0 Too many errors on this connection; look at what the client sends.")
        else:
            self.reply(line)
        self.desk.journal.refused(self.desk.listener, self.peer, self.account_name, reason, line)

    def refuse(self, line: str, reason: Reason, account: str = "") -> None:
        """Answer what policy does not allow to ``account``; who goes on against it for ever is sent away."""
        self.refusals += 1
        if self.refusals > limits.REFUSALS:
            line = "421 4.7.0 Too much was refused on this connection; change what the answers say, then connect again."
            self.hang_up(line)
        else:
            self.reply(line)
        self.desk.journal.refused(self.desk.listener, self.peer, account or self.account_name, reason, line)

    def hang_up(self, line: str) -> None:
        """Answer and end the session."""
        self.reply(line)
        self.closing = True

    def too_early(self) -> bool:
        """Whether the client has sent something before it could know our answer; it is then told so and hung up on.

        To be asked before each reply that RFC 2920 makes a client wait for. A proxy or attacker that puts commands
        behind such a point would have them read in another state than the client's.
        """
        if not self.wire.pending:
            return False
        self.hang_up(EARLY.reply)
        self.desk.journal.refused(self.desk.listener, self.peer, self.account_name, EARLY.reason, EARLY.reply)
        return True

    def flush(self) -> None:
        """Send the replies gathered so far in one write."""
        if self._out:
            data = ("\r\n".join(self._out) + "\r\n").encode("ascii", "backslashreplace")
            self._out.clear()
            if not self.lost:
                self.transport.write(data)

    @property
    def account_name(self) -> str:
        """Who is logged in, for the journal."""
        raise NotImplementedError

    @property
    def patience(self) -> float:
        """How many seconds the client may take for its next line."""
        raise NotImplementedError

    # --- the loop -----------------------------------------------------------------------------------------------------

    async def _handle_client(self) -> None:
        try:
            if not self.too_early():
                self.reply(f"220 {self.hostname} ESMTP Ownpost")
            while not self.closing:
                if self._in_a_row >= limits.COMMANDS_IN_A_ROW:
                    await self._pause()
                    continue
                line = None if self.wire.stopping else self.wire.take(limits.AUTH_LINE)
                if line is None:
                    self.flush()
                    self._in_a_row = 0
                    await self._wait()
                    continue
                self._in_a_row += 1
                self._deadline = 0.0
                if isinstance(line, Flaw):
                    self.protest(FLAWS[line])
                else:
                    await self._command(line)
            self.flush()
        finally:
            await self._end()

    async def _pause(self) -> None:
        """Let the others have their turn, and the client take its answers: it may have sent thousands of commands."""
        self._in_a_row = 0
        self.flush()
        if self.wire.blocked:
            self.closing = await self.wire.drained(self.patience) is not None
        await asyncio.sleep(0)
        if self.loop.time() >= self.envelope.data_by:
            self.no_more(End.TIMEOUT)

    async def _wait(self) -> None:
        """Until more has arrived, or there is a reason why nothing will: the client is told that."""
        wire, patience = self.wire, self.patience
        if not self._deadline:  # for the whole of the next line
            self._deadline = min(self.loop.time() + patience, self.login_by, self.envelope.data_by)
        if wire.blocked and await wire.drained(patience) is not None:
            self.closing = True
            return
        end = End.STOPPED if wire.stopping else await wire.more(self._deadline)
        if end is not None:
            self.no_more(end)

    def no_more(self, end: End) -> None:
        """No further line comes: say why, if anybody hears it, and end the session."""
        if end is End.EOF:
            self.closing = True
        elif end is End.STOPPED:
            self.hang_up("421 4.3.2 The server is being restarted; send again in a minute.")
        elif self.loop.time() >= self.login_by:
            passed = f"{limits.TIME_BEFORE_AUTH:.0f} seconds have passed without a login"
            self.hang_up(f"421 4.4.2 {passed}; connect again and log in first.")
        elif self.loop.time() >= self.envelope.data_by:
            passed = f"{limits.TIME_BEFORE_DATA:.0f} seconds have passed since MAIL without DATA"
            self.hang_up(f"421 4.4.2 {passed}; send the message again.")
        else:
            self.hang_up(f"421 4.4.2 Nothing was heard for {self.patience:.0f} seconds.")

    async def _command(self, line: bytes) -> None:
        word, _, rest = line.partition(b" ")
        verb = self.VERBS.get(word)
        if verb is None:  # in small letters, perhaps behind a space or before a tab
            first, _, rest = line.replace(b"\t", b" ").lstrip().partition(b" ")
            verb = self.VERBS.get(word := first.upper())
        self.commands_left -= 1
        if self.commands_left < 0:
            self.hang_up(TALKER.reply)
            self.desk.journal.refused(self.desk.listener, self.peer, "", TALKER.reason, TALKER.reply)
        elif verb is None:
            self._unknown(word)
        elif len(line) > limits.COMMAND_LINE and word != b"AUTH":
            self.protest(FLAWS[Flaw.TOO_LONG])
        else:
            try:
                await verb(self, rest)
            except Exception as error:
                self._failed(word, error)

    def _unknown(self, word: bytes) -> None:
        if word in HTTP:
            line = "554 5.5.0 This is a mail server; it does not speak HTTP."
            self.hang_up(line)
            self.desk.journal.refused(self.desk.listener, self.peer, self.account_name, Reason.UNKNOWN_COMMAND, line)
        else:
            self.protest("500 5.5.1 That is no command of this server; HELP lists them.", Reason.UNKNOWN_COMMAND)

    def _failed(self, word: bytes, error: Exception) -> None:
        """The client learns that it may try again, and nothing else."""
        own_mistake(self.desk.journal, error)
        self.reply("451 4.3.0 Something went wrong here that is not your fault; send again later.")
        self._set_rset_state()
        self.closing = self.closing or word in CRITICAL

    def _set_rset_state(self) -> None:
        """Forget the transaction and what was reserved for it."""
        if self.envelope.mail_from is not None:
            if self.envelope.reservation is not None:
                self.envelope.reservation.release()
            self.envelope = Transaction()

    def trust(self) -> None:
        """The client is known: what it may say and how long it may stay has no limit any more but its patience."""
        self.commands_left = self.login_by = inf

    async def _end(self) -> None:
        """Close, and see to it that it is closed: a connection that nobody counts must not live on.

        A transport closes only when the client has taken what was written and, under TLS, answered our close_notify.
        """
        self._set_rset_state()
        if not self.lost and not self.wire.blocked:
            self.transport.close()
            if not self.secure and not self.transport.get_write_buffer_size():
                return
            self._gone = self.loop.create_future()
            await asyncio.wait((self._gone,), timeout=limits.CLOSING_TIME)
        if not self.lost:
            self.transport.abort()


def own_mistake(journal: Journal, error: BaseException) -> None:
    """Tell where it happened, and nothing of what the client sent: the exception's text might quote it."""
    log.error("%s in a session:\n%s", type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
    journal.system("internal_error", error=type(error).__name__)
