"""A message's way from DATA to its 250: decoded, judged, streamed into the spool, committed.

The header is gathered until its blank line and judged as a whole; the body then goes to the spool in chunks, so that
memory does not grow with the message. What is refused on the way is read to its end all the same, and answered once.
250 is said only after the commit; a client that goes away meanwhile changes nothing about it, for nothing here is
cancelled.
"""

from __future__ import annotations

from relay import header, limits
from relay.accounts import Account
from relay.ids import new_id
from relay.model import Event, EventKind, Message
from relay.refusal import Reason, Refusal
from relay.spool import SpoolFailed, SpoolFull
from relay.submission import policy
from relay.submission.content import FAULTS, Decoder, Fault
from relay.submission.desk import Transaction, Upload
from relay.submission.hello import Hello
from relay.submission.pace import Pace
from relay.submission.prepare import Prepared, Trace, needs_utf8, prepare
from relay.submission.repeats import Fingerprint
from relay.submission.wire import End

NO_ROOM = Refusal(
    "452 4.3.1 There is no room for mail at the moment; it was not taken, send it again later.", Reason.SPOOL_FULL
)
NOT_KEPT = Refusal(
    "451 4.3.0 The mail could not be written to disk; it was not taken, send it again later.", Reason.SPOOL_FAILED
)
CROWDED = Refusal("421 4.3.2 Too many large headers are coming in; it was not taken, send it again.", Reason.TOO_SLOW)


class Intake:
    """One message. ``run`` reads it to its end and answers."""

    def __init__(self, dialogue: Hello, transaction: Transaction, account: Account, trace: Trace) -> None:
        desk = dialogue.desk
        self._dialogue, self._transaction, self._account, self._trace = dialogue, transaction, account, trace
        self._desk, self._gathering = desk, desk.limiter.gathering
        self._lenient = account.rewrite or desk.lan is not None  # devices that nobody can change
        self._decoder = Decoder(transaction.size_limit, normalize=account.normalize_newlines or desk.lan is not None)
        self._id = new_id(desk.clock.time())
        self._refusal: Refusal | None = None
        self._prepared: Prepared | None = None
        self._fingerprint: Fingerprint | None = None  # None: it is not looked whether it was sent before
        self._head = bytearray()
        self._pieces: list[bytes] = []  # of the message as it travels, not yet handed to the spool
        self._waiting = 0  # bytes in them
        self._written = 0
        self._upload: Upload | None = None

    async def run(self) -> None:
        """Read, keep, answer. When the client breaks off, nothing is kept and the dialogue ends."""
        wire, decoder, loop = self._dialogue.wire, self._decoder, self._dialogue.loop
        pace = Pace(loop.time())
        try:
            while not decoder.done:
                block = await wire.block(pace.deadline)
                if isinstance(block, End):
                    if block is End.TIMEOUT and pace.kept(loop.time()):
                        continue
                    self._broken_off(block)
                    return
                pace.count += len(block)
                self._add(decoder.feed(block))
                if self._waiting >= limits.PART:
                    least = limits.CHUNK if self._gathering.body(self) else limits.PART
                    if self._waiting >= least:
                        before = loop.time()
                        await self._write(least)
                        pace.pause(loop.time() - before)
            if decoder.rest:
                wire.push_back(decoder.rest)
            await self._finish()
        finally:
            self._gathering.leave(self)
            if self._upload is not None:
                self._upload.abort()

    def _broken_off(self, end: End) -> None:
        if end is not End.EOF:
            self._dialogue.refuse("421 4.4.2 The message came too slowly; send it again.", Reason.TOO_SLOW)
        self._dialogue.closing = True

    # --- what arrives -------------------------------------------------------------------------------------------------

    def _add(self, piece: bytes) -> None:
        if self._decoder.fault is not None:
            self._drop()
        elif self._refusal is None and piece:
            if self._prepared is not None:
                self._pieces.append(piece)
                self._waiting += len(piece)
                if len(self._pieces) > limits.PIECES:
                    self._pieces = [b"".join(self._pieces)]
                if self._fingerprint is not None:
                    self._fingerprint.add(piece)
            else:
                self._add_to_header(piece)

    def _add_to_header(self, piece: bytes) -> None:
        seen = len(self._head)
        if self._lenient and not seen:
            piece = piece.lstrip(b"\r\n")
        if not seen and (end := header.end(piece)) >= 0:  # nearly always: no copy then
            self._judge(piece[:end], piece[end:])
            return
        self._head += piece
        end, size = header.end(self._head, seen), len(self._head)
        if end >= 0 or size > limits.HEADER_SIZE:  # which is too large, unless it is found to be text
            self._gathering.leave(self)
            end = end if end >= 0 else size
            self._judge(bytes(self._head[:end]), bytes(self._head[end:]))
        elif size >= limits.PART > seen:
            self._gathering.header(self, self._account.name, self._make_way)

    def _make_way(self) -> None:
        self._refuse(CROWDED)  # whatever comes before the connection is cut
        self._desk.journal.refused(
            self._desk.listener, self._dialogue.peer, self._account.name, CROWDED.reason, CROWDED.reply
        )
        self._dialogue.make_way(CROWDED.reply)

    def _judge(self, head: bytes, body: bytes) -> None:
        sender, now, who = self._transaction.mail_from or "", self._desk.clock.time(), self._account
        prepared = prepare(
            head, account=who, sender=sender, trace=self._trace, message_id=self._id, now=now, lenient=self._lenient
        )
        if isinstance(prepared, Refusal):
            self._refuse(prepared)
            return
        body = prepared.text + body if prepared.text else body
        self._prepared, self._head = prepared, bytearray()
        self._pieces = [prepared.header, body]
        self._waiting = len(prepared.header) + len(body)
        if prepared.seen and self._desk.repeats is not None:
            self._fingerprint = Fingerprint(who.name, sender, self._transaction.rcpt_tos, prepared.seen)
            self._fingerprint.add(body)

    def _refuse(self, refusal: Refusal) -> None:
        self._refusal = refusal
        self._drop()

    def _drop(self) -> None:
        """Keep nothing of a message that is going to be refused."""
        self._gathering.leave(self)
        self._head, self._pieces, self._waiting = bytearray(), [], 0
        if self._upload is not None:
            self._upload.abort()
            self._upload = None

    # --- into the spool -----------------------------------------------------------------------------------------------

    async def _write(self, least: int) -> None:
        """Hand chunks of at least so many bytes to the spool; returns when it has taken them."""
        if self._upload is None:
            self._upload = self._desk.spool.upload(self._id)
        rest = b"".join(self._pieces)
        self._pieces, self._waiting = [], 0
        try:
            while len(rest) >= least:
                # Only these two are alive while the spool is waited for: fifty clients make fifty of each.
                chunk, rest = rest[: limits.CHUNK], rest[limits.CHUNK :]
                await self._upload.write(chunk)
                self._written += len(chunk)
        except SpoolFull:
            self._refuse(NO_ROOM)
        except SpoolFailed:
            self._refuse(NOT_KEPT)
        else:
            self._pieces, self._waiting = [rest], len(rest)

    async def _finish(self) -> None:
        ended = self._desk.clock.monotonic()
        refusal = self._refusal_at_the_end() or self._account_changed()
        desk, size = self._desk, self._written + self._waiting
        kept = await self._keep_once(size) if refusal is None else refusal
        if isinstance(kept, Refusal):
            self._dialogue.refuse(kept.reply, kept.reason)
            return
        self._dialogue.reply(f"250 2.0.0 Kept safe as {kept}")
        if kept == self._id:
            desk.journal.accepted_timing(desk.listener, desk.clock.monotonic() - ended, size, kept)
        else:
            desk.journal.repeated(desk.listener, self._dialogue.peer, self._account.name, kept)

    async def _keep_once(self, size: int) -> Refusal | str:
        """Keep it, unless it was kept before; returns as which message."""
        repeats, fingerprint, kept = self._desk.repeats, self._fingerprint, False
        if repeats is None or fingerprint is None:
            return await self._keep(size, b"") or self._id
        digest = fingerprint.digest()
        if earlier := await repeats.first(digest):
            return earlier
        try:
            refusal = await self._keep(size, digest)
            kept = refusal is None
        finally:
            repeats.ended(digest, self._id if kept else "")
        return refusal or self._id

    async def _keep(self, size: int, fingerprint: bytes) -> Refusal | None:
        return self._take_from_budgets() or await self._commit(size, fingerprint)

    def _refusal_at_the_end(self) -> Refusal | None:
        fault = self._decoder.fault
        if fault is Fault.TOO_BIG:
            return policy.check_size(self._decoder.size, self._transaction.size_limit)
        if fault is not None:
            return FAULTS[fault]
        if self._refusal is None and self._prepared is None:
            self._judge(bytes(self._head), b"")  # the message ended with its header
        return self._refusal

    def _account_changed(self) -> Refusal | None:
        """What the account may not do any more: hours may have passed, and whoever changed it meant this mail too."""
        before, accounts = self._account, self._desk.accounts.current
        now = accounts.find(before.name)
        # Nobody logged in at the LAN's port, so a new password changes nothing there.
        refusal = policy.check_session(now or before if self._desk.lan is not None else before, accounts)
        if refusal is not None or now is None:
            self._dialogue.closing = True
            return refusal
        self._account = now
        if now is before:
            return None
        return policy.check_sender(now, self._transaction.mail_from or "") or policy.check_senders_kept(before, now)

    def _take_from_budgets(self) -> Refusal | None:
        """Count the recipients, for good: two sessions of an account must not pass the same gap at once."""
        limiter, count = self._desk.limiter, len(self._transaction.rcpt_tos)
        for at, budget in enumerate(self._budgets()):
            exceeded = limiter.take(budget, count)
            if exceeded is not None:
                for taken in self._budgets()[:at]:
                    limiter.give_back(taken.name, count)
                return policy.limit_reached(budget, exceeded, "" if budget is self._account else policy.LAN_LIMIT)
        return None

    def _budgets(self) -> tuple[Account, ...]:
        return (self._account,) if self._desk.lan is None else (self._account, self._desk.lan.budget)

    async def _commit(self, size: int, fingerprint: bytes) -> Refusal | None:
        upload = self._upload or self._desk.spool.upload(self._id)
        message, event = self._records(size, fingerprint)
        unusual = self._unusual(event)
        last = b"".join(self._pieces)
        self._pieces, self._upload = [], None
        self._dialogue.flush()
        try:
            await upload.commit(message, last, (event, *unusual))
        except (SpoolFull, SpoolFailed) as error:
            upload.abort()
            for budget in self._budgets():
                self._desk.limiter.give_back(budget.name, len(message.recipients))
            count, volume = len(message.recipients), self._desk.limiter.volume
            volume.withdraw(self._account.name, count, event.at, judged=bool(unusual))
            return NO_ROOM if isinstance(error, SpoolFull) else NOT_KEPT
        return None

    def _unusual(self, accepted: Event) -> tuple[Event, ...]:
        """Counts the message among what its account sends, and the event if that has become unusual."""
        account, volume = self._account, self._desk.limiter.volume
        volume.add(account.name, len(self._transaction.rcpt_tos), accepted.at)
        unusual = volume.judge(account, accepted.at)
        if unusual is None:
            return ()
        detail = {**unusual._asdict(), "paused": account.pause_when_unusual}
        return (accepted._replace(kind=EventKind.UNUSUAL, detail=detail),)

    def _records(self, size: int, fingerprint: bytes) -> tuple[Message, Event]:
        assert self._prepared is not None
        now, account, prepared = self._desk.clock.time(), self._account, self._prepared
        message = Message(
            id=self._id,
            account=account.name,
            sender=prepared.sender,
            recipients=tuple(self._transaction.rcpt_tos),
            size=size,
            received_at=now,
            message_id=prepared.message_id,
            null_sender=prepared.null_sender,
            smtputf8=self._transaction.smtp_utf8 and needs_utf8(prepared, self._transaction.rcpt_tos),
            notify=account.notify or ("" if prepared.null_sender else prepared.sender),
            fingerprint=fingerprint,
        )
        detail: dict[str, str | int | float | bool] = {
            "listener": self._desk.listener,
            "peer": self._dialogue.peer,
            "sender": prepared.sender,
            "recipients": len(message.recipients),
            "size": size,
        }
        event = Event(kind=EventKind.ACCEPTED, at=now, message=self._id, account=account.name, detail=detail)
        return message, event
