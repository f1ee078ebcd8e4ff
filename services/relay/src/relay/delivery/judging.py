"""From what a provider answered to what it means: verdicts on the recipients, and what is held against the provider.

The meaning of one answer is :mod:`~relay.delivery.outcome`'s to say; here is gathered what that depends on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import aiosmtplib

from relay import limits
from relay.delivery import notice
from relay.delivery.failures import OwnRefusal
from relay.delivery.onward import asked
from relay.delivery.outcome import Deferred, Delivered, Doubtful, Finding, Reply, Verdict, judge, went_well
from relay.delivery.pause import Sign
from relay.model import Job, Message
from relay.providers.provider import Provider
from relay.providers.rules import Stage, Standing
from relay.spool import SpoolFailed

QUOTABLE = 8  # a header text shorter than this is more likely a word of the provider's own, or a status code
_TAKING = frozenset({Stage.MAIL, Stage.DATA, Stage.FINAL})  # where a 4xx without a reason is not about a recipient
_BEFORE = frozenset({Stage.CONNECT, Stage.TLS, Stage.LOGIN})
_UNDER_WAY = frozenset({Stage.RCPT, Stage.DATA, Stage.BODY, Stage.FINAL})


class Headers(Protocol):
    """What is needed of the spool."""

    async def header(self, message_id: str) -> bytes: ...


class Journal(Protocol):
    """What is needed of the journal."""

    def system(self, event: str, **fields: str | int | float) -> None: ...


def unseen(findings: Sequence[Finding]) -> bool:
    """Whether it ended before the provider saw anything of the message: then this one had no part in it."""
    return all(finding.stage in _BEFORE for finding in findings)


class Said(NamedTuple):
    """What one attempt says of the provider."""

    sign: Sign | None = None  # against it
    reached: bool = False  # it answered and knew us
    took: bool = False  # it accepted a message, or judged its content
    crowded: bool = False  # it has more connections of ours than it takes


class Judge:
    """Judges what carriers bring back."""

    def __init__(self, spool: Headers, journal: Journal) -> None:
        self._spool, self._journal = spool, journal

    async def verdicts(self, job: Job, findings: Sequence[Finding], provider: Provider) -> list[Verdict]:
        """One for each recipient, of what ``provider`` answered."""
        first = findings[0]
        if len(findings) == 1 and isinstance(first.answer, Reply) and first.answer.code == 250:
            return [judge(first, accepted=provider.accepted)]
        quoted = () if went_well(findings) else await self._quoted(job)
        sender = job.message.sender.lower()
        others = [one.address for one in job.recipients if one.address.lower() != sender]
        verdicts: dict[int, Verdict] = {}  # recipients mostly share a finding
        for finding in findings:
            if id(finding) not in verdicts:
                verdicts[id(finding)] = judge(finding, provider.rules, quoted, others, provider.accepted)
        return [verdicts[id(finding)] for finding in findings]

    async def header(self, job: Job) -> bytes:
        """The message's header; nothing if it cannot be read, since that must keep no outcome from being recorded."""
        if job.body is not None:
            end = job.body.find(b"\r\n\r\n")
            return job.body if end < 0 else job.body[: end + 2]
        try:
            return await self._spool.header(job.message.id)
        except SpoolFailed:
            raise
        except Exception as error:  # a damaged page, whatever SQLite calls it
            self._journal.system(
                "message_unreadable", message=job.message.id, reason=f"{type(error).__name__}: {error}"
            )
            return b""

    async def _quoted(self, job: Job) -> list[str]:
        """What a reply may quote of us: addresses and the values of the header."""
        header = await self.header(job)
        lines = header.split(b"\r\n")  # of a folded field each: who quotes it may have unfolded it in a way of its own
        parts = [line if line.startswith((b" ", b"\t")) else line.partition(b":")[2] for line in lines]
        values = [part.strip().decode("utf-8", "replace") for part in parts]
        subject = notice.subject(header)
        texts = [value for value in (subject, *values) if len(value) >= QUOTABLE]
        return [job.message.sender, *(one.address for one in job.recipients), *texts]


TAKEN = Said(None, True, True)


def said(message: Message, findings: Sequence[Finding], verdicts: Sequence[Verdict]) -> Said:
    """What an attempt at ``message`` says of the provider.

    Something against it outweighs what speaks for it: it may know us, take one recipient, and then have no quota left.
    """
    if all(isinstance(verdict.outcome, Delivered) for verdict in verdicts):
        return TAKEN
    sender = asked(message).sender
    signs = [sign for pair in zip(findings, verdicts, strict=True) if (sign := _sign(message.id, sender, *pair))]
    if signs:
        sign = min(signs, key=lambda sign: sign.needed)
        return Said(sign, crowded=any(verdict.crowded for verdict in verdicts))
    took = any(_took(*pair) for pair in zip(findings, verdicts, strict=True))
    return Said(None, took or any(_reached(*pair) for pair in zip(findings, verdicts, strict=True)), took)


def _sign(message: str, sender: str, finding: Finding, verdict: Verdict) -> Sign | None:
    if verdict.ours:
        return None
    standing, needed = verdict.standing, _needed(finding, verdict)
    if standing is Standing.FINE:
        if needed == 1:
            return None
        standing = Standing.BUSY
    return Sign(
        standing=standing,
        reason=verdict.outcome.text,
        message=message,
        sender=sender,
        needed=needed,
        spoken=finding.stage is not Stage.CONNECT and _replied(finding),
        doubt=isinstance(verdict.outcome, Doubtful),
    )


def _replied(finding: Finding) -> bool:
    answer = finding.answer
    return isinstance(answer, Reply) or (isinstance(answer, aiosmtplib.SMTPResponseException) and answer.code > 0)


def _needed(finding: Finding, verdict: Verdict) -> int:
    """How many different messages must meet such an answer before it stops the others; 1 and fine: it never does."""
    stage, answer, outcome = finding.stage, finding.answer, verdict.outcome
    if verdict.standing is Standing.FINE:
        puts_off = isinstance(outcome, Deferred) and not outcome.at_once and stage in _TAKING
        return limits.RUN_OF_FAILURES if puts_off and not isinstance(answer, OwnRefusal) else 1
    if not verdict.certain:
        return limits.GUESSES
    if verdict.standing is Standing.BUSY and stage in _UNDER_WAY and not isinstance(answer, Reply):
        # one connection broke: that happens to the best; not so ten minutes of silence on a whole message
        return 1 if stage is Stage.FINAL and isinstance(answer, TimeoutError) else limits.GUESSES
    return 1


def _took(finding: Finding, verdict: Verdict) -> bool:
    return (
        finding.stage is Stage.FINAL
        and isinstance(finding.answer, Reply)
        and not isinstance(verdict.outcome, Deferred)
        and verdict.standing is Standing.FINE
    )


def _reached(finding: Finding, verdict: Verdict) -> bool:
    return finding.stage not in _BEFORE and isinstance(finding.answer, Reply) and verdict.standing is Standing.FINE
