"""The verbs before a message: greeting, small talk, STARTTLS, AUTH.

Replaces aiosmtpd's, which offer no AUTH on implicit TLS, know mechanisms in capitals only, log passwords, and take
bytes that were injected before STARTTLS or a challenge. Passwords are judged by ``auth``, in threads.
"""

from __future__ import annotations

import asyncio
import ssl

from aiosmtpd.smtp import Session as Greeting

from relay import limits
from relay.accounts import Account, Accounts
from relay.refusal import Reason, Refusal
from relay.submission import auth
from relay.submission.desk import Desk
from relay.submission.dialogue import EARLY, FLAWS, Dialogue
from relay.submission.prepare import Trace
from relay.submission.wire import End, Flaw

HELP = "214 2.0.0 This server takes mail from its account holders: EHLO STARTTLS AUTH MAIL RCPT DATA RSET NOOP QUIT."


class Hello(Dialogue):
    """A session up to its login. Verbs take bytes, for an address is judged byte by byte."""

    def __init__(self, desk: Desk, loop: asyncio.AbstractEventLoop, peer: str) -> None:
        super().__init__(desk, loop, peer)
        self.account: Account | None = None  # who is logged in; on the LAN listener, for whom it acts
        self.failed_logins = 0
        self._shaking_hands = False
        self._checks = self._queues = self._left_queue = False  # a password; until that is judged
        self._accounts: Accounts | None = None  # against which `account` was last judged
        self._trace: Trace | None = None
        self.smtputf8 = False  # it was offered by the last EHLO
        if desk.lan is not None:
            self.trust()

    @property
    def account_name(self) -> str:
        return "" if self.account is None else self.account.name

    @property
    def patience(self) -> float:
        known = self.account is not None or self.desk.lan is not None
        return limits.IDLE_AFTER_AUTH if known else limits.IDLE_BEFORE_AUTH

    # --- greeting and small talk --------------------------------------------------------------------------------------

    async def smtp_EHLO(self, arg: bytes) -> None:  # noqa: N802
        self._greet(arg, extended=True)
        lines = [self.hostname, f"SIZE {self.desk.size_limit}", "8BITMIME", "PIPELINING", "ENHANCEDSTATUSCODES"]
        if self.smtputf8:
            lines.append("SMTPUTF8")
        if self._tls_context() is not None:
            lines.append("STARTTLS")
        if self.secure and self.desk.lan is None:
            lines.append("AUTH PLAIN LOGIN")
        for line in lines[:-1]:
            self.reply("250-" + line)
        self.reply("250 " + lines[-1])

    async def smtp_HELO(self, arg: bytes) -> None:  # noqa: N802
        self._greet(arg, extended=False)
        self.reply("250 " + self.hostname)

    def _greet(self, name: bytes, *, extended: bool) -> None:
        """``name`` may be missing: there are devices that know none, and all it is good for is our Received field."""
        self._set_rset_state()
        self.session.host_name = name.strip().decode("utf-8", "backslashreplace")
        self.session.extended_smtp = extended
        self.smtputf8 = extended and self.desk.smtputf8()
        self._trace = None

    async def smtp_NOOP(self, arg: bytes) -> None:  # noqa: N802, ARG002
        self.reply("250 2.0.0 Still here.")

    async def smtp_RSET(self, arg: bytes) -> None:  # noqa: N802, ARG002
        self._set_rset_state()
        self.reply("250 2.0.0 Forgotten.")

    async def smtp_HELP(self, arg: bytes) -> None:  # noqa: N802, ARG002
        self.reply(HELP)

    async def smtp_VRFY(self, arg: bytes) -> None:  # noqa: N802, ARG002
        self.reply("252 2.1.5 Addresses are not looked up here; send, and the provider will tell.")

    async def smtp_EXPN(self, arg: bytes) -> None:  # type: ignore[override] # noqa: N802, ARG002
        self.protest("502 5.5.1 There are no lists here.", Reason.UNKNOWN_COMMAND)

    async def smtp_QUIT(self, arg: bytes) -> None:  # noqa: N802, ARG002
        self.hang_up("221 2.0.0 Goodbye.")

    def make_way(self, line: str) -> None:
        """End at once, for somebody else to have the place; amid a handshake without a word, else saying why."""
        if not (self.lost or self._shaking_hands or self.wire.blocked):
            self.reply(line)
            self.flush()
        self.closing = True
        self.loop.call_soon(self.transport.abort)  # in the loop's next turn, when the line is with the kernel

    # --- TLS ----------------------------------------------------------------------------------------------------------

    def _tls_context(self) -> ssl.SSLContext | None:
        """What STARTTLS would be answered with now; ``None`` where it is not offered."""
        offered = not self.secure and not self.desk.implicit_tls and self.desk.certificate is not None
        return self.desk.certificate.context if offered and self.desk.certificate else None

    async def smtp_STARTTLS(self, arg: bytes) -> None:  # noqa: N802
        context = self._tls_context()
        if arg.strip():
            self.protest("501 5.5.4 STARTTLS stands alone on its line.", Reason.SYNTAX)
        elif context is None:
            self.protest("503 5.5.1 STARTTLS is not offered here and now; see the answer to EHLO.", Reason.SEQUENCE)
        elif self.envelope.mail_from is not None:
            self.protest("503 5.5.1 STARTTLS must come before MAIL.", Reason.SEQUENCE)
        elif not self.too_early():
            await self._start_tls(context)

    async def _start_tls(self, context: ssl.SSLContext) -> None:
        """On the raw transport, paused: what was sent in clear can never be read as if it had come under TLS."""
        self.transport.pause_reading()
        self.reply("220 2.0.0 Begin TLS now.")
        self.flush()
        self._shaking_hands = True
        try:
            transport = await self.loop.start_tls(
                self.transport, self, context, server_side=True, ssl_handshake_timeout=limits.TLS_HANDSHAKE_TIME
            )
        except OSError as error:  # ssl.SSLError among them
            self.lost = self.closing = True
            self.transport.abort()
            self.desk.journal.tls_handshake(self.desk.listener, self.peer, "", False, tls_trouble(error))
            return
        finally:
            self._shaking_hands = False
        if transport is None:  # the client went away while the handshake ended
            self.lost = self.closing = True
            return
        self.transport = transport
        self.wire.attach(transport)
        self.secure = True
        self.session = Greeting(self.loop)  # RFC 3207, 4.2: what was said before TLS is forgotten
        self.session.peer = self.peer
        self.smtputf8 = False
        version = transport.get_extra_info("ssl_object").version()
        self.desk.journal.tls_handshake(self.desk.listener, self.peer, version, True)

    # --- login --------------------------------------------------------------------------------------------------------

    async def smtp_AUTH(self, arg: bytes) -> None:  # noqa: N802
        if self._login_is_out_of_place() or self.too_early():  # AUTH ends a group of commands (RFC 4954, section 4)
            return
        word, _, initial = arg.strip().partition(b" ")
        mechanism = word.upper().decode("ascii", "replace")
        if mechanism == "PLAIN":
            answer = initial.strip() or await self._challenge("")
            credentials = None if answer is None else auth.decode_plain(answer)
        elif mechanism == "LOGIN":
            credentials = await self._ask_login(initial.strip())
        else:
            self.protest("504 5.5.4 Choose the mechanism PLAIN or LOGIN.", Reason.AUTH_MALFORMED)
            return
        if isinstance(credentials, Refusal):
            self.protest(credentials.reply, credentials.reason)
        elif credentials is not None:
            await self._log_in(credentials, mechanism)

    def _login_is_out_of_place(self) -> bool:
        if self.desk.lan is not None:
            self.protest("502 5.5.1 No login is needed on this port; send MAIL.", Reason.SEQUENCE)
        elif not self.secure:
            line = "538 5.7.11 Log in only after STARTTLS; the password just sent went over the net in clear."
            self.refuse(line, Reason.TLS_REQUIRED)
            self.closing = True
        elif not self.session.extended_smtp:
            self.protest("503 5.5.1 Send EHLO before AUTH.", Reason.SEQUENCE)
        elif self.account is not None:
            self.protest("503 5.5.1 You are logged in already.", Reason.SEQUENCE)
        else:
            return False
        return True

    async def _ask_login(self, initial: bytes) -> auth.Credentials | Refusal | None:
        answers = []
        for given, challenge in ((initial, "VXNlcm5hbWU6"), (b"", "UGFzc3dvcmQ6")):  # Username:, Password:
            answer = given or await self._challenge(challenge)
            if answer is None:
                return None
            decoded = auth.decode_login(answer)
            if isinstance(decoded, Refusal):
                return decoded
            answers.append(decoded)
        return auth.credentials(*answers)

    async def _challenge(self, text: str) -> bytes | None:
        if self.too_early():
            return None
        self.reply("334 " + text)
        self.flush()
        seconds = min(self.patience, self.login_by - self.loop.time())
        line = await self.wire.line(limits.AUTH_LINE, seconds)
        if isinstance(line, End):
            self.no_more(line)
        elif isinstance(line, Flaw):
            self.protest(FLAWS[line])
        else:
            return line
        return None

    async def _check(self, credentials: auth.Credentials) -> Account | None:
        """Whom they open the door to; nobody, and ``_left_queue``, if that is not waited for any more."""
        if self.lost:
            self._left_queue = True
            return None
        self._checks = self._queues = True
        try:
            return await self.desk.passwords.check(*credentials, self.peer, self._judging)
        except asyncio.CancelledError:
            if not self._left_queue:
                raise
            return None
        finally:
            self._checks = self._queues = False

    def _judging(self) -> None:
        self._queues = False

    def data_received(self, data: bytes) -> None:
        if not self._checks:
            self.wire.feed(data)
        elif not self.closing:  # or each guess would take 0.3 MiB along; paused, the layers below would read on
            self.desk.journal.refused(self.desk.listener, self.peer, "", EARLY.reason, EARLY.reply)
            self.make_way(EARLY.reply)

    def connection_lost(self, error: Exception | None) -> None:
        """Ends the wait for a turn, or strangers who were sent away would stand in the owners' way, and in memory.

        Not what comes after it: a guesser who need not wait for the answer would try another connection, untold.
        """
        super().connection_lost(error)
        if self._queues:
            self._leave_queue()
        self.transport = self.wire.let_go()  # a guess that was judged may wait for half a minute yet

    def abandon(self) -> None:
        """Cuts the connection; a login's answer is not waited for, however long it is put off."""
        self.transport.abort()
        if self._checks:
            self._leave_queue()

    def _leave_queue(self) -> None:
        if self.task is not None:
            self._left_queue = True
            self.task.cancel()

    async def _log_in(self, credentials: auth.Credentials, mechanism: str) -> None:
        if self.too_early():  # behind the answer to a challenge
            return
        self.flush()
        account = await self._check(credentials)
        if self._left_queue:
            return
        if account is not None:
            self._let_in(account, mechanism)
            return
        self.failed_logins += 1
        self.reply("535 5.7.8 User name or password is wrong.")
        name = self._name_to_tell(credentials.login)
        self.desk.journal.login(self.desk.listener, self.peer, name, mechanism, False, Reason.AUTH_FAILED)
        if self.failed_logins >= limits.AUTH_FAILURES:
            self.hang_up("421 4.7.0 Too many failed logins; correct the password, then connect again.")

    def _name_to_tell(self, login: bytes) -> str:
        """An account's own name; of any other only its length, for people type passwords into the wrong field."""
        account = self.desk.accounts.current.find(login)
        return account.name if account else f"(unknown, {len(login.decode('utf-8', 'replace'))} characters)"

    def _let_in(self, account: Account, mechanism: str) -> None:
        refusal = self.desk.limiter.log_in(self.peer, self, account.name)
        if refusal is not None:
            self.refuse(refusal.reply, refusal.reason, account.name)
            self.closing = True
            return
        self.account, self._accounts, self._trace = account, None, None
        self.session.authenticated = True
        self.trust()
        self.reply("235 2.7.0 Welcome.")
        self.desk.journal.login(self.desk.listener, self.peer, account.name, mechanism, True)


def tls_trouble(error: OSError) -> str:
    """A handshake's failure in a few words for the journal: OpenSSL's reason or the name of the error."""
    reason = getattr(error, "reason", None)
    return str(reason).lower() if reason else type(error).__name__
