"""What a provider's answer means: for each recipient, and apart from that for the provider.

Pure. :func:`judge` takes the stage of the transaction, the reply (or the exception in its place) and the provider's
rules, and promises:

- a failure before the content was answered is the provider's matter, whatever its code: ``Deferred``;
- a used-up quota, a dead key, a sender that is not set up there never bounces mail, at whatever stage and with
  whatever code it comes;
- only another 5xx to RCPT or after the content, or a size refused, is the message's own: ``Refused``;
- no answer after the final dot is ``Doubtful``: the message may have been delivered;
- what is not understood is ``Deferred`` (temporary unless proven permanent).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import aiosmtplib

from relay import limits
from relay.delivery import guessing
from relay.delivery.failures import Cut, Garbage, NotOffered, OwnRefusal, explain
from relay.oauth.errors import GrantDead, TokenUnavailable
from relay.providers.rules import Meaning, Rule, Stage, Standing
from relay.spool import SpoolFull


class Reply(NamedTuple):
    """An SMTP reply: its code, and its lines joined by spaces with the enhanced status code left in."""

    code: int
    text: str


@dataclass(frozen=True, slots=True)
class Delivered:
    code: int
    text: str


@dataclass(frozen=True, slots=True)
class Deferred:
    code: int
    text: str
    at_once: bool = False  # no failed attempt: the provider takes so many recipients at a time


@dataclass(frozen=True, slots=True)
class Refused:
    code: int
    text: str


@dataclass(frozen=True, slots=True)
class Doubtful:
    code: int
    text: str


Outcome = Delivered | Deferred | Refused | Doubtful


class Verdict(NamedTuple):
    """What became of one recipient, and what the answer says of the provider."""

    outcome: Outcome
    standing: Standing = Standing.FINE
    certain: bool = True  # False: guessed from words that any provider might use
    elsewhere: bool = False  # refused here only: another provider may take it
    ours: bool = False  # the failure is our own: no provider could have done better
    login: bool = False  # it was the login's: nothing of the message was seen
    crowded: bool = False  # it has more connections of ours than it takes


class Finding(NamedTuple):
    """The answer that decided about one recipient, and where it came."""

    stage: Stage
    answer: Reply | BaseException


_REFUSALS = frozenset({Meaning.REFUSED, Meaning.ELSEWHERE})
_ENHANCED = re.compile(r"\s*([245])\.(\d{1,3})\.(\d{1,3})\b")
_TOO_MANY = re.compile(r"too many recipients", re.IGNORECASE)
# SES says so of senders and, in its sandbox, of recipients.
_WHOSE = re.compile(r"\baddress(?:es)? (?:is|are) not verified", re.IGNORECASE)
_ADDRESS = re.compile(r"""[^\s<>()\[\],;:"'@]{1,64}@[^\s<>()\[\],;:"'@]{1,255}""")
_READ = 2_000  # characters of a reply that are looked through: patterns meet hostile input
_NAMED = 16 * limits.KIB  # likewise, for the addresses that it names: fifty of them and more
_CONTROLS = re.compile(r"[^\S ]+")
_NOT_SENT = (
    "without an id: it sent nothing, since the address is on its suppression list. Take it off that list there, or send"
    " through another provider"
)

_LOGIN_CODES = frozenset(
    {530, 534, 535, 538}
)  # RFC 4954: authentication required, too weak, wrong; never the message's own
_PROTOCOL_CODES = frozenset({500, 502, 503, 504})  # command or order not understood: ours or the provider's fault


def clean(text: str) -> str:
    """``text`` fit to be kept and shown: no control or direction characters, at most ``limits.REPLY_KEPT``
    characters.
    """
    if not text.isprintable():
        text = "".join(c if c.isprintable() else "?" for c in _CONTROLS.sub(" ", text))
    return text[: limits.REPLY_KEPT]


def enhanced(text: str) -> tuple[int, int, int] | None:
    """The enhanced status code (RFC 3463) that ``text`` begins with."""
    match = _ENHANCED.match(text)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def went_well(findings: Iterable[Finding]) -> bool:
    """Whether the provider said yes to everything."""
    return all(isinstance(finding.answer, Reply) and finding.answer.code < 300 for finding in findings)


def judge(
    finding: Finding,
    rules: Iterable[Rule] = (),
    ours: Iterable[str] = (),
    others: Collection[str] = (),
    accepted: re.Pattern[str] | None = None,
) -> Verdict:
    """What ``finding`` means. ``ours`` are addresses and header texts we sent: in a reply they are quotation, not the
    provider's words. ``others`` are the recipients that are not the sender as well. ``accepted`` is found in every 250
    to the content of a provider that says so also where it sends nothing: without it the message was surely not sent.
    """
    stage, answer = finding.stage, finding.answer
    if isinstance(answer, Reply):
        if stage is Stage.FINAL and 200 <= answer.code < 300:
            if accepted is not None and not accepted.search(answer.text, 0, _READ):
                return Verdict(Refused(answer.code, clean(f"{_NOT_SENT} ({answer.text})")), elsewhere=True)
            return Verdict(Delivered(answer.code, clean(answer.text)))
        verdict = _judge_reply(stage, answer, rules, ours)
        if verdict.standing is Standing.NOT_SET_UP and stage is Stage.FINAL and _means(others, answer):
            return Verdict(Refused(answer.code, verdict.outcome.text), elsewhere=True)
        return verdict
    return _judge_error(stage, answer, rules, ours)


def _judge_reply(stage: Stage, reply: Reply, rules: Iterable[Rule], ours: Iterable[str]) -> Verdict:
    code, text = reply.code, clean(reply.text)
    if not 400 <= code < 600:
        if stage is Stage.FINAL:  # 354 or the like: whatever it means, the message is out of our hands
            return Verdict(Doubtful(code, text), Standing.BUSY)
        return Verdict(Deferred(0, f"the provider gave an unexpected answer: {code} {text}"), Standing.BUSY)
    if stage is Stage.RCPT and _takes_no_more(reply):
        return Verdict(Deferred(code, text, at_once=True))
    said = _without(reply.text[:_READ], ours)
    rule = _matching(stage, code, said, rules)
    if rule is not None:
        if rule.meaning in _REFUSALS:
            return Verdict(Refused(code, text), elsewhere=rule.meaning is Meaning.ELSEWHERE)
        standing, certain = rule.meaning.standing, not rule.guess
    else:
        standing, certain = _standing(stage, code, said)
        if standing is Standing.FINE and code >= 500 and _is_the_messages_own(stage, reply):
            if not guessing.again(stage, enhanced(said), said):
                return Verdict(Refused(code, text))
            standing, certain = Standing.BUSY, False
    crowded = standing is Standing.BUSY and guessing.crowded(said)
    return Verdict(Deferred(code, text), standing, certain, login=stage is Stage.LOGIN, crowded=crowded)


def _takes_no_more(reply: Reply) -> bool:
    """Whether this recipient is one too many for one transaction (RFC 5321, 4.5.3.1.10: 452, and 552 from older
    servers).
    """
    status = enhanced(reply.text)
    too_many = status is not None and status[1:] == (5, 3)
    return reply.code in (452, 552) and (too_many or (status is None and bool(_TOO_MANY.search(reply.text))))


def _is_the_messages_own(stage: Stage, reply: Reply) -> bool:
    """Whether a 5xx that says nothing of the provider is about this message or recipient."""
    if reply.code in _LOGIN_CODES or reply.code in _PROTOCOL_CODES:
        return False
    if stage in (Stage.RCPT, Stage.FINAL):
        return True
    if stage in (
        Stage.MAIL,
        Stage.DATA,
    ):  # of what is refused there only the size belongs to the message (RFC 1870, section 6.1)
        return reply.code == 552 or enhanced(reply.text) == (5, 3, 4)
    return False


def _means(others: Collection[str], reply: Reply) -> bool:
    """Whether the address that is not verified is a recipient's, and the sender is not named."""
    if reply.code < 500 or not _WHOSE.search(reply.text, 0, _READ):
        return False
    named = {address.rstrip(".").lower() for address in _ADDRESS.findall(reply.text, 0, _NAMED)}
    return bool(named) and named <= {address.lower() for address in others}


def _matching(stage: Stage, code: int, said: str, rules: Iterable[Rule]) -> Rule | None:
    """The provider's own rule about such a reply: the first that fits. A 4xx is none to refuse mail for, whatever the
    words, unless the rule names it.
    """
    for rule in rules:
        fits = code in rule.codes if rule.codes else code >= 500 or rule.meaning not in _REFUSALS
        if fits and stage in rule.stages and rule.pattern.search(said):
            return rule
    return None


def _standing(stage: Stage, code: int, said: str) -> tuple[Standing, bool]:
    """What a reply without a rule says of the provider, and whether that is certain."""
    if stage in (Stage.CONNECT, Stage.TLS):
        return Standing.BUSY, True
    guess = guessing.guess(stage, enhanced(said), said)
    if code in _LOGIN_CODES or (stage is Stage.LOGIN and code >= 500):
        return (guess, False) if guess in (Standing.USED_UP, Standing.BUSY) else (Standing.KEY_DEAD, True)
    if guess is not Standing.FINE:
        return guess, False
    if code == 421 or stage is Stage.LOGIN:
        return Standing.BUSY, True
    return Standing.FINE, True


def _without(text: str, ours: Iterable[str]) -> str:
    for own in sorted(filter(None, ours), key=len, reverse=True):
        if own in text or own.lower() in text.lower():
            text = re.sub(re.escape(own), " ", text, flags=re.IGNORECASE)
    return text


def _judge_error(stage: Stage, error: BaseException, rules: Iterable[Rule], ours: Iterable[str]) -> Verdict:
    if isinstance(error, NotOffered):
        return Verdict(Deferred(0, clean(str(error))))
    if isinstance(error, OwnRefusal):
        return Verdict(Refused(0, clean(str(error))), elsewhere=True)
    if isinstance(error, GrantDead):
        return Verdict(Deferred(0, clean(str(error))), Standing.KEY_DEAD, login=True)
    if isinstance(error, aiosmtplib.SMTPResponseException) and stage is not Stage.FINAL and error.code > 0:
        at = Stage.LOGIN if isinstance(error, aiosmtplib.SMTPAuthenticationError) else stage
        return _judge_reply(at, Reply(error.code, " ".join(str(error.message).split())), rules, ours)
    sentence = clean(explain(error))
    if isinstance(error, Cut) and stage is not Stage.FINAL:
        return Verdict(Deferred(0, sentence, at_once=True), ours=True)
    if stage is Stage.FINAL:
        return Verdict(Doubtful(0, f"no answer after the final dot: {sentence}"), Standing.BUSY)
    return Verdict(Deferred(0, sentence), Standing.BUSY, ours=_is_ours(error))


def _is_ours(error: BaseException) -> bool:
    """Whether it went wrong on this machine: the disk, a message that cannot be read, a mistake of ours."""
    network = (OSError, aiosmtplib.SMTPException, Garbage, TokenUnavailable)
    return isinstance(error, SpoolFull) or not isinstance(error, network)
