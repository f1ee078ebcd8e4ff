"""From verdicts to what the spool records: one result and one event per recipient.

Pure. Here alone it is decided that a message has been tried long enough or was in doubt too often, so that no other
place can end one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from relay import limits
from relay.delivery import schedule
from relay.delivery.outcome import Deferred, Delivered, Doubtful, Refused, Verdict
from relay.model import Event, EventKind, Job, Recipient, Result, State


@dataclass(frozen=True, slots=True)
class Moment:
    """Everything but the verdict that a settlement depends on."""

    provider: str
    now: float
    may_expire: bool  # False while the clock cannot be trusted
    jitter: Callable[[], float]  # in [0, 1)


def settle(job: Job, verdicts: Sequence[Verdict], moment: Moment) -> tuple[list[Result], list[Event]]:
    """Results and events of one attempt; ``verdicts`` are in the order of ``job.recipients``."""
    results: list[Result] = []
    events: list[Event] = []
    crowded = all(_one_too_many(verdict) for verdict in verdicts)
    for recipient, verdict in zip(job.recipients, verdicts, strict=True):
        result, kind = _settle(job, recipient, verdict, moment, crowded)
        results.append(result)
        events.append(_event(job, recipient, result, kind, moment))
    return results, events


def hold(job: Job, sentence: str, moment: Moment) -> tuple[list[Result], list[Event]]:
    """Puts the job aside for the operator, with ``sentence`` to say why."""
    results: list[Result] = []
    events: list[Event] = []
    for recipient in job.recipients:
        result = _result(recipient, State.HELD, moment, 0, sentence, attempts=recipient.attempts)
        results.append(result)
        events.append(_event(job, recipient, result, EventKind.HELD, moment))
    return results, events


def _one_too_many(verdict: Verdict) -> bool:
    """A provider that says so to every recipient of a transaction is not asked again at once: that would never end."""
    return isinstance(verdict.outcome, Deferred) and verdict.outcome.at_once and verdict.outcome.code > 0


def _settle(
    job: Job, recipient: Recipient, verdict: Verdict, moment: Moment, crowded: bool
) -> tuple[Result, EventKind]:
    outcome = verdict.outcome
    attempts = recipient.attempts + 1
    match outcome:
        case Delivered(code, text):
            return _result(recipient, State.DELIVERED, moment, code, text, attempts=attempts), EventKind.DELIVERED
        case Refused(code, text):
            return _result(recipient, State.REFUSED, moment, code, text, attempts=attempts), EventKind.REFUSED
        case Doubtful(code, text):
            return _in_doubt(recipient, code, text, moment)
        case Deferred(code, text, at_once):
            if at_once and not crowded:
                due = _result(
                    recipient, State.DUE, moment, code, text, attempts=recipient.attempts, next_attempt=moment.now
                )
                return due, EventKind.DEFERRED
            return _put_off(job, recipient, code, text, moment)


def _in_doubt(recipient: Recipient, code: int, text: str, moment: Moment) -> tuple[Result, EventKind]:
    attempts, doubts = recipient.attempts + 1, recipient.doubts + 1
    if doubts > limits.DOUBTS:
        unknown = _result(recipient, State.UNKNOWN, moment, code, text, attempts=attempts, doubts=doubts)
        return unknown, EventKind.UNKNOWN
    again = moment.now + schedule.doubt_delay()
    due = _result(recipient, State.DUE, moment, code, text, attempts=attempts, doubts=doubts, next_attempt=again)
    return due, EventKind.DOUBTFUL


def _put_off(job: Job, recipient: Recipient, code: int, text: str, moment: Moment) -> tuple[Result, EventKind]:
    attempts = recipient.attempts + 1
    if moment.may_expire and schedule.expired(job.message.received_at, recipient.held, moment.now):
        # What was once in doubt may have arrived: to say that it did not would be a guess.
        state, kind = (State.UNKNOWN, EventKind.UNKNOWN) if recipient.doubts else (State.EXPIRED, EventKind.EXPIRED)
        return _result(recipient, state, moment, code, text, attempts=attempts), kind
    again = moment.now + schedule.delay(attempts, moment.jitter())
    return _result(recipient, State.DUE, moment, code, text, attempts=attempts, next_attempt=again), EventKind.DEFERRED


def _result(
    recipient: Recipient,
    state: State,
    moment: Moment,
    code: int,
    text: str,
    *,
    attempts: int,
    doubts: int | None = None,
    next_attempt: float = 0.0,
) -> Result:
    return Result(
        delivery=recipient.delivery,
        state=state,
        provider=moment.provider,
        reply=text,
        code=code,
        next_attempt=next_attempt,
        attempts=attempts,
        doubts=recipient.doubts if doubts is None else doubts,
    )


def _event(job: Job, recipient: Recipient, result: Result, kind: EventKind, moment: Moment) -> Event:
    """``delay`` is the time from our 250 to the provider's answer; ``next_attempt`` is there if there will be one."""
    detail: dict[str, str | int | float | bool] = {"delay": round(moment.now - job.message.received_at, 3)}
    if result.next_attempt:
        detail["next_attempt"] = round(result.next_attempt, 3)
    return Event(
        kind=kind,
        at=moment.now,
        message=job.message.id,
        account=job.message.account,
        recipient=recipient.address,
        provider=moment.provider,
        code=result.code,
        reply=result.reply,
        detail=detail,
    )
