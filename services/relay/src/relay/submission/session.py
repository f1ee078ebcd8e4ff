"""The verbs of a message: MAIL, RCPT, DATA.

Judgements come from ``address`` and ``policy`` as values; here they become replies, each one sentence that tells the
person what to change. aiosmtpd's own would answer ``MAIL FROM:<...> AUTH=<>``, which every Postfix null client sends,
with 555, and keep the whole body in memory, several times.
"""

from __future__ import annotations

from relay import limits
from relay.accounts import Account, Accounts
from relay.refusal import Reason, Refusal
from relay.spool import SpoolFull
from relay.submission import paths, policy, prepare
from relay.submission.hello import Hello
from relay.submission.intake import NO_ROOM, Intake
from relay.submission.prepare import Trace
from relay.submission.wire import End


class Session(Hello):
    """A client's session, from its greeting to its messages."""

    _dismissal: Refusal | None = None

    def accounts_changed(self, accounts: Accounts) -> None:
        """Others are in force: whose login they end is hung up on before the next command, or judged after the dot.

        Or whoever had the old password would keep the account's share of the connections, with a NOOP now and then.
        """
        if self.desk.lan is None and self.account is not None:
            refusal = policy.check_session(self.account, accounts)
            if refusal is not None:
                self._dismissal = refusal
                self.wire.stop()

    def no_more(self, end: End) -> None:
        if end is End.STOPPED and self._dismissal is not None:
            self.refuse(self._dismissal.reply, self._dismissal.reason)
            self.closing = True
        else:
            super().no_more(end)

    def _set_rset_state(self) -> None:
        """On the LAN's port a client holds a place of its account's while a message is under way, and else nobody's."""
        if self.desk.lan is not None and self.envelope.mail_from is not None:
            self.desk.limiter.log_out(self.peer, self)
        super()._set_rset_state()

    async def smtp_MAIL(self, arg: bytes) -> None:  # noqa: N802
        account = self._acting()
        if account is None:
            return
        if self.envelope.mail_from is not None:
            self.protest("503 5.5.1 A message is under way; end it with DATA or RSET.", Reason.SEQUENCE)
            return
        lenient = self._lenient(account)
        mail = paths.read_mail(arg, smtputf8=self.smtputf8, lenient=lenient, rewrite=account.rewrite)
        if isinstance(mail, Refusal):
            self.protest(mail.reply, mail.reason)
            return
        limit, refusal = self._check_sender(account, mail.sender, mail.size)
        if refusal is not None:
            self.refuse(refusal.reply, refusal.reason)
            return
        try:
            reservation = self.desk.spool.reserve(mail.size)
        except SpoolFull:
            self.refuse(NO_ROOM.reply, NO_ROOM.reason)
            return
        if self.desk.lan is not None and (refusal := self.desk.limiter.log_in(self.peer, self, account.name)):
            reservation.release()
            self.refuse(refusal.reply, refusal.reason)
            self.closing = True
            return
        self.envelope.reservation = reservation
        self.envelope.mail_from, self.envelope.smtp_utf8, self.envelope.account = mail.sender, mail.smtputf8, account
        self.envelope.size_limit, self.envelope.data_by = limit, self.loop.time() + limits.TIME_BEFORE_DATA
        self.reply("250 2.1.0 Sender accepted.")

    def _lenient(self, account: Account) -> bool:
        """Whether what devices get wrong is mended: on the LAN's port, and where the sender is rewritten anyway."""
        return account.rewrite or self.desk.lan is not None

    def _check_sender(self, account: Account, sender: str, size: int) -> tuple[int, Refusal | None]:
        """How large the message may be, and what stands in its way."""
        desk = self.desk
        travels_as = prepare.envelope_sender(account, sender, f"postmaster@{desk.domain}")
        limit = min(desk.size_limit, desk.reach.size_limit_of(account.name, travels_as))
        refusal = policy.check_size(size, desk.size_limit) or policy.check_sender(account, sender)
        refusal = refusal or policy.check_served(account, travels_as, desk.reach) or policy.check_size(size, limit)
        return limit, refusal

    def _acting(self) -> Account | None:
        """For whom a message may be sent now; ``None`` when the client has been told why not."""
        if self.session.host_name is None and self.desk.lan is None:
            self.protest("503 5.5.1 Send EHLO first.", Reason.SEQUENCE)
            return None
        accounts = self.desk.accounts.current
        if self._accounts is accounts and self.account is not None:
            return self.account
        if self.desk.lan is not None:
            self.account = accounts.find(self.desk.lan.account)
            if self.account is None:
                self.refuse(
                    "451 4.3.5 The account that this port acts for is gone; the operator must set RELAY_LAN_ACCOUNT.",
                    Reason.ACCOUNT_CHANGED,
                )
                return None
        if self.account is None:
            if self.secure:
                self.protest("530 5.7.0 Log in first: AUTH PLAIN or AUTH LOGIN.", Reason.AUTH_REQUIRED)
            else:
                self.protest("530 5.7.0 Send STARTTLS first, then log in.", Reason.TLS_REQUIRED)
            return None
        refusal = policy.check_session(self.account, accounts)
        if refusal is not None:
            self.refuse(refusal.reply, refusal.reason)
            self.closing = True
            return None
        self.account, self._accounts = accounts.find(self.account.name), accounts
        return self.account

    async def smtp_RCPT(self, arg: bytes) -> None:  # noqa: N802
        envelope = self.envelope
        if envelope.mail_from is None or envelope.account is None:
            self.protest("503 5.5.1 Send MAIL first.", Reason.SEQUENCE)
            return
        lenient = self._lenient(envelope.account)
        recipient = paths.read_rcpt(arg, smtputf8=envelope.smtp_utf8, lenient=lenient)
        if isinstance(recipient, Refusal):
            self.protest(recipient.reply, recipient.reason)
            return
        if recipient in envelope.rcpt_tos:
            self.reply("250 2.1.5 Recipient accepted; it was named before.")
            return
        refusal = self._check_recipient(envelope.account, recipient, len(envelope.rcpt_tos) + 1)
        if refusal is not None:
            self.refuse(refusal.reply, refusal.reason)
            return
        envelope.rcpt_tos.append(recipient)
        self.reply("250 2.1.5 Recipient accepted.")

    def _check_recipient(self, account: Account, recipient: str, count: int) -> Refusal | None:
        desk = self.desk
        refusal = policy.check_recipient_count(count, desk.recipients_limit)
        if refusal is None and desk.lan is not None:
            refusal = policy.check_lan_recipient(desk.lan.recipients, recipient)
        if refusal is not None:
            return refusal
        for budget in (account,) if desk.lan is None else (account, desk.lan.budget):
            exceeded = desk.limiter.check(budget, count)
            if exceeded is not None:
                return policy.limit_reached(budget, exceeded, "" if budget is account else policy.LAN_LIMIT)
        return None

    async def smtp_DATA(self, arg: bytes) -> None:  # noqa: N802
        envelope = self.envelope
        if arg.strip():
            self.protest("501 5.5.4 DATA stands alone on its line.", Reason.SYNTAX)
        elif envelope.mail_from is None or envelope.account is None:
            self.protest("503 5.5.1 Send MAIL first.", Reason.SEQUENCE)
        elif not envelope.rcpt_tos:
            self.protest("554 5.5.1 No recipient was accepted, so there is nobody to send to.", Reason.NO_RECIPIENTS)
        elif (account := self._still_acting(envelope.account, envelope.mail_from)) and not self.too_early():
            self.reply("354 Go on; end with a line that holds a single dot.")
            self.flush()
            trace = self._traced().in_utf8() if envelope.smtp_utf8 else self._traced()
            await Intake(self, envelope, account, trace).run()
            self._set_rset_state()

    def _still_acting(self, before: Account, sender: str) -> Account | None:
        """As :meth:`_acting`, for a transaction that was begun for ``before`` and may have waited for long."""
        account = self._acting()
        if account is None or account is before:
            return account
        _, refusal = self._check_sender(account, sender, 0)
        if refusal is None:
            return account
        self.refuse(refusal.reply, refusal.reason)
        return None

    def _traced(self) -> Trace:
        """What our Received field says of this session; made once."""
        if self._trace is None:
            protocol = "ESMTP" if self.session.extended_smtp else "SMTP"
            if self.session.extended_smtp:
                protocol += ("S" if self.secure else "") + ("A" if self.desk.lan is None else "")
            self._trace = Trace.make(
                hostname=self.hostname,
                domain=self.desk.domain,
                client_name=self.session.host_name or "",
                client_address=self.peer,
                protocol=protocol,
                show_address=self.desk.client_address_in_received,
            )
        return self._trace
