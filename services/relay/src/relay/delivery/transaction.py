"""One message over one connection: MAIL, RCPT, DATA, the content, the mark, the final dot, the answer.

The order that the promise rests on: the spool commits that these deliveries are *sending* (``mark``) before the final
dot is written, never after. So a crash before the dot repeats nothing that was sent, and a crash after it is known to
be in doubt. The mark is asked for when the provider says 354, so that its commit and the content's way overlap.

The result is one :class:`~.outcome.Finding` per recipient: which answer, at which stage, decided about it. Nothing
here says what it means. Exceptions are only those of the spool.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from relay import limits
from relay.delivery import content
from relay.delivery.connection import Offer, Times
from relay.delivery.content import Stuffer, without_fields
from relay.delivery.failures import NotOffered, OwnRefusal
from relay.delivery.outcome import Finding, Reply
from relay.delivery.replies import Link, spent
from relay.model import Job, Kind
from relay.providers.provider import Provider
from relay.providers.rules import Stage
from relay.spool import SpoolFull

AT_ONCE = 16 * limits.KIB  # content up to this size waits for the mark and goes out in one write with its dot


class Source(Protocol):
    """What a transaction needs of the spool."""

    async def mark(self, deliveries: Sequence[int], provider: str = "") -> None: ...

    def read(self, message_id: str) -> AsyncIterator[bytes]: ...


class Stale(Exception):
    """The kept connection is dead or spent, and of this message nothing was sent: a fresh one is to be used."""


def _lost(link: Link, stage: Stage) -> Finding:
    """What to say when answers are missing."""
    return Finding(stage, link.unasked or link.failure or ConnectionResetError())


class Transaction:
    """Carries one job; used once."""

    __slots__ = (
        "_accepted",
        "_findings",
        "_job",
        "_link",
        "_offer",
        "_provider",
        "_reused",
        "_source",
        "_times",
        "_utf8",
        "dotted",
    )

    def __init__(self, link: Link, offer: Offer, provider: Provider, source: Source, times: Times, job: Job) -> None:
        self._link = link
        self._offer = offer
        self._provider = provider
        self._source = source
        self._times = times
        self._job = job
        self._reused = link.messages > 0
        self._utf8 = False  # whether it is sent with SMTPUTF8 (RFC 6531)
        self.dotted = False  # whether the final dot was written, as far as we know
        self._findings: list[Finding | None] = [None] * len(job.recipients)
        self._accepted: list[int] = []  # indexes of the recipients that RCPT took

    async def run(self) -> list[Finding]:
        """Does it. Raises :class:`Stale` if the link had carried messages before and carries no more, as
        :meth:`_check_session` says; else never for the provider's sake.
        """
        refusal = self._cannot()
        if refusal is not None:
            return self._all(Finding(Stage.MAIL, refusal))
        go_on = await (self._envelope_at_once() if self._offer.pipelining else self._envelope_in_turn())
        if go_on:
            await self._content()
        return [finding or _lost(self._link, Stage.BODY) for finding in self._findings]

    # --- the envelope
    def _cannot(self) -> OwnRefusal | None:
        job = self._job
        addresses = job.message.sender + "".join([recipient.address for recipient in job.recipients])
        if not addresses.isprintable():
            return OwnRefusal("an address contains a control character")
        wide = not addresses.isascii()
        self._utf8 = wide or job.message.smtputf8
        if self._utf8 and not self._offer.smtputf8:
            what = "addresses" if wide else "headers"
            # mail was taken while all offered it; a notice's address comes from the accounts, and may never have a way
            kind = OwnRefusal if job.message.kind is Kind.NOTICE else NotOffered
            return kind(f"the provider takes no {what} with letters beyond ASCII (SMTPUTF8); use ASCII addresses")
        most, size = self._offer.size_limit, self._size()
        if most and size > most:
            return OwnRefusal(f"the message has {size} bytes and the provider takes at most {most}; send it in parts")
        return None

    def _size(self) -> int:
        """Bytes of what is sent, at most: SIZE must not promise less (RFC 1870, section 6.3)."""
        provider, size = self._provider, self._job.message.size
        if provider.headers:
            size += len(content.fields(provider.headers, self._key()))
        return size + content.REFERENCE_ROOM if provider.replaces_message_id else size

    def _key(self) -> str:
        """What names this sending to a provider that suppresses repetitions."""
        recipients = self._job.recipients
        accepted = [recipients[index].address for index in self._accepted]
        return content.idempotency_key(self._job.message.id, accepted)

    def _shaped(self, piece: bytes) -> bytes:
        """The first piece of the content, which holds the whole header, as this provider is to get it."""
        provider = self._provider
        piece = without_fields(piece, provider.strip)
        if provider.replaces_message_id:
            piece = content.with_reference(piece, self._job.message.message_id)
        if provider.field_size:
            piece = content.with_short_fields(piece, provider.field_size)
        return content.fields(provider.headers, self._key()) + piece if provider.headers else piece

    def _mail(self) -> str:
        message, offer = self._job.message, self._offer
        size = f" SIZE={self._size()}" if offer.size else ""
        eightbit = " BODY=8BITMIME" if offer.eightbit else ""
        utf8 = " SMTPUTF8" if self._utf8 else ""
        return f"MAIL FROM:<{message.sender}>{size}{eightbit}{utf8}\r\n"

    async def _envelope_at_once(self) -> bool:
        """MAIL, every RCPT and DATA in one write (RFC 2920). Whether the content is to follow."""
        recipients = self._job.recipients
        lines = [self._mail()]
        lines += [f"RCPT TO:<{recipient.address}>\r\n" for recipient in recipients]
        lines.append("DATA\r\n")
        got = await self._link.ask("".join(lines).encode(), len(lines), self._times.reply)
        self._check_session(got, len(lines))
        if not got:
            return self._no_answer()
        if got[0].code >= 300:
            self._all(Finding(Stage.MAIL, got[0]))
        else:
            self._note_recipients(got[1 : len(recipients) + 1])
        return await self._after_data(got[-1] if len(got) == len(lines) else None)

    async def _envelope_in_turn(self) -> bool:
        """One command at a time, for a provider that does not offer PIPELINING."""
        link, seconds = self._link, self._times.reply
        got = await link.ask(self._mail().encode(), 1, seconds)
        self._check_session(got, 1)
        if not got:
            return self._no_answer()
        if got[0].code >= 300:
            self._all(Finding(Stage.MAIL, got[0]))
            return await self._reset()
        for recipient in self._job.recipients:
            got += await link.ask(f"RCPT TO:<{recipient.address}>\r\n".encode(), 1, seconds)
        self._check_session(got, len(self._findings) + 1)
        replies = got[1:]
        self._note_recipients(replies)
        if len(replies) < len(self._findings):
            self._rest(_lost(link, Stage.RCPT))
            return False
        if not self._accepted:
            return await self._reset()
        answer = await link.ask(b"DATA\r\n", 1, seconds)
        self._check_session(got + answer, len(self._findings) + 2)
        return await self._after_data(answer[0] if answer else None)

    def _check_session(self, got: Sequence[Reply], wanted: int) -> None:
        """Raises :class:`Stale` where a connection that has carried mail before is gone, or may be spent by the answers
        so far: a fresh one is asked, and its answer counts.
        """
        if not self._reused or (len(got) == wanted and max(got).code < 400):
            return
        over = spent(got, len(self._findings))
        if over and got[-1].code == 354:
            self._link.close()  # QUIT would be content now
        if over or len(got) < wanted:
            raise Stale

    def _no_answer(self) -> bool:
        self._all(_lost(self._link, Stage.MAIL))
        return False

    def _note_recipients(self, replies: Sequence[Reply]) -> None:
        for index, reply in enumerate(replies):
            if 200 <= reply.code < 300:
                self._accepted.append(index)
            else:
                self._findings[index] = Finding(Stage.RCPT, reply)

    async def _after_data(self, reply: Reply | None) -> bool:
        """What the reply to DATA leads to."""
        if reply is None:
            self._rest(_lost(self._link, Stage.DATA if self._accepted else Stage.RCPT))
            return False
        if reply.code == 354:
            if self._accepted:
                return True
            # RFC 2920, 3.1: every recipient was refused and DATA accepted all the same. A lone dot ends it; the
            # answer says nothing to us.
            await self._link.ask(b".\r\n", 1, self._times.reply)
            return False
        self._rest(Finding(Stage.DATA, reply))
        return await self._reset()

    async def _reset(self) -> bool:
        """Takes an envelope back that no content follows, so that the connection serves the next message."""
        if self._link.usable:
            await self._link.ask(b"RSET\r\n", 1, self._times.reply)
        return False

    def _all(self, finding: Finding) -> list[Finding]:
        self._findings = [finding] * len(self._findings)
        return [finding] * len(self._findings)

    def _rest(self, finding: Finding) -> None:
        """``finding`` decides about everyone about whom nothing is decided yet."""
        self._findings = [known or finding for known in self._findings]

    # --- the content
    async def _content(self) -> None:
        job = self._job
        if job.body is not None and len(job.body) <= AT_ONCE:
            if not await self._mark():
                return
            stuffer = Stuffer()
            await self._finish(stuffer.stuff(self._shaped(job.body)) + stuffer.end())
            return
        mark = asyncio.ensure_future(self._mark())
        try:
            end = await self._stream()
        finally:
            marked = await mark
        if marked:
            await self._finish(end)

    async def _mark(self) -> bool:
        """Has the spool commit that the dot comes next. Without room for that there is no dot: the connection is
        given up.
        """
        recipients = self._job.recipients
        try:
            await self._source.mark([recipients[index].delivery for index in self._accepted], self._provider.name)
        except SpoolFull as error:
            self._link.fail(error)
            self._rest(Finding(Stage.BODY, error))
            return False
        return True

    async def _stream(self) -> bytes:
        """Writes the content piece by piece, as fast as the provider takes it. Returns what ends it."""
        link, stuffer, first = self._link, Stuffer(), True
        async for piece in self._pieces():
            if first:
                piece = self._shaped(piece)
                first = False
            link.write(stuffer.stuff(piece))
            await link.flush(self._times.block + len(piece) / self._times.rate)
            if link.failure is not None:
                break
        return stuffer.end()

    async def _pieces(self) -> AsyncIterator[bytes]:
        if self._job.body is not None:
            yield self._job.body
            return
        async for piece in content.header_first(self._source.read(self._job.message.id)):
            yield piece

    async def _finish(self, end: bytes) -> None:
        """Writes the final dot, unless the provider is gone already, and waits for what it says."""
        link = self._link
        if not link.usable:
            self._rest(_lost(link, Stage.BODY))
            return
        self.dotted = True
        got = await link.ask(end, 1, self._times.final + self._job.message.size / self._times.rate)
        self._rest(Finding(Stage.FINAL, got[0]) if got else _lost(link, Stage.FINAL))
        if self._reused and got and 400 <= got[0].code < 500:
            link.close()  # the session may be spent: the next message has a fresh one
