"""From verdicts to what the spool records: one result and one event per recipient.

Pure. Here alone it is decided that a message has been tried long enough or was in doubt too often, so that no other
place can end one; and here it is decided that it goes on to the next provider.

A *round* is one offer to every provider that is open: what one does not take goes to the next at once, and only when
none is left the message waits as the schedule says. Providers of the round are kept with the recipient
(:attr:`~relay.model.Recipient.tried`). One that will never take this very message, whatever its state (too large for
it, an address that it cannot carry), stays there with a mark over the rounds; when all have said so, it is refused.

A notice is the last word that a sender gets. The provider that failed the message it tells of is asked last, and when
that one refuses the notice too, in whatever words, the reason may well be our account there: it goes on, and is tried
for five days like any mail that waits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from relay import limits
from relay.choice.rounds import LAST, NEVER, for_good
from relay.delivery import schedule
from relay.delivery.onward import Onward, Way
from relay.delivery.outcome import Deferred, Delivered, Doubtful, Outcome, Refused, Verdict, clean
from relay.model import Event, EventKind, Job, Recipient, Result, State
from relay.providers.rules import Standing

_BLOCKED = frozenset({Standing.USED_UP, Standing.NOT_SET_UP})  # pauses whose end is known: no attempt is lost by them


class Moment(NamedTuple):
    """Everything but the verdict that a settlement depends on."""

    provider: str
    now: float
    may_expire: bool  # False soon after the start, and while the clock cannot be trusted
    jitter: Callable[[], float]  # in [0, 1)
    onward: Onward | None = None  # None: no provider but this one
    doubt_wait: float = limits.DOUBT_WAIT  # before a message in doubt is sent again
    title: str = ""  # of the provider, as people call it
    knocked: bool = False  # it probed a paused provider, which failed before it saw anything of the message


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
    results = [_result(one, State.HELD, moment, Deferred(0, sentence), attempts=one.attempts) for one in job.recipients]
    return results, [
        _event(job, one, result, EventKind.HELD, moment) for one, result in zip(job.recipients, results, strict=True)
    ]


def give_up(job: Job, sentence: str, moment: Moment) -> tuple[list[Result], list[Event]]:
    """Ends a job that waited too long for a provider to open; ``sentence`` says what they all waited for."""
    results, events = [], []
    for recipient in job.recipients:
        result, kind = _failed(recipient, State.EXPIRED, Deferred(0, sentence), moment, recipient.attempts)
        results.append(result)
        events.append(_event(job, recipient, result, kind, moment))
    return results, events


def _one_too_many(verdict: Verdict) -> bool:
    """A provider that says so to every recipient of a transaction is not asked again at once: that would never end."""
    return isinstance(verdict.outcome, Deferred) and verdict.outcome.at_once and verdict.outcome.code > 0


def _settle(
    job: Job, recipient: Recipient, verdict: Verdict, moment: Moment, crowded: bool
) -> tuple[Result, EventKind]:
    outcome = verdict.outcome
    match outcome:
        case Delivered():
            delivered = _result(recipient, State.DELIVERED, moment, outcome, attempts=recipient.attempts + 1)
            return delivered, EventKind.DELIVERED
        case Refused() if outcome.code and LAST + moment.provider in recipient.tried:
            return _not_here(job, recipient, verdict, outcome, moment)
        case Refused() if verdict.elsewhere:
            return _never_here(job, recipient, verdict, outcome, moment)
        case Refused():
            return _failed(recipient, State.REFUSED, outcome, moment, recipient.attempts + 1)
        case Doubtful():
            return _in_doubt(recipient, outcome, moment)
        case Deferred(at_once=True) if not crowded:
            return _now(recipient, outcome, moment, recipient.tried), EventKind.DEFERRED
        case Deferred():
            return _not_here(job, recipient, verdict, outcome, moment)


def _in_doubt(recipient: Recipient, outcome: Doubtful, moment: Moment) -> tuple[Result, EventKind]:
    attempts, doubts = recipient.attempts + 1, recipient.doubts + 1
    if doubts > limits.DOUBTS:
        unknown = _result(recipient, State.UNKNOWN, moment, outcome, attempts=attempts, doubts=doubts)
        return unknown, EventKind.UNKNOWN
    again = moment.now + moment.doubt_wait
    due = _result(recipient, State.DUE, moment, outcome, attempts=attempts, doubts=doubts, next_attempt=again)
    return due, EventKind.DOUBTFUL


def _not_here(
    job: Job, recipient: Recipient, verdict: Verdict, outcome: Deferred | Refused, moment: Moment
) -> tuple[Result, EventKind]:
    """It was not taken, for a reason of the provider's or of ours: on to the next, or the round is over."""
    if recipient.doubts and verdict.standing is Standing.KEY_DEAD and verdict.certain:
        return _held(recipient, outcome, moment), EventKind.HELD
    if verdict.ours or moment.onward is None:
        return _put_off(job, recipient, outcome, moment, recipient.tried)
    tried = recipient.tried | {moment.provider}
    way = moment.onward.way(tried)
    if way is Way.OPEN:
        return _now(recipient, outcome, moment, tried), EventKind.DEFERRED
    again = for_good(tried)
    if way is Way.SHUT and moment.knocked and not _too_old(job, recipient, moment):
        return _in_its_place(job, recipient, outcome, moment, again), EventKind.DEFERRED
    if way is Way.SHUT and _blocks_all(verdict) and not _too_old(job, recipient, moment):
        return _now(recipient, outcome, moment, again), EventKind.DEFERRED
    return _put_off(job, recipient, outcome, moment, again)


def _blocks_all(verdict: Verdict) -> bool:
    """Whether a pause keeps all mail from it, so that waiting for the pause's end loses no attempt, and nobody waits
    beyond it when the quota is raised, the domain set up, or the key mended.

    A key that is refused only later than at the login may be this one message's trouble (a relay that takes no mail for
    one recipient says "relay access denied", too): tried with each end of the pause, it would begin the next.
    """
    if verdict.standing is Standing.KEY_DEAD and not verdict.login:
        return False
    return verdict.certain and (verdict.standing in _BLOCKED or verdict.standing is Standing.KEY_DEAD)


def _never_here(
    job: Job, recipient: Recipient, verdict: Verdict, outcome: Refused, moment: Moment
) -> tuple[Result, EventKind]:
    """This provider cannot carry this very message: it is refused only when no other one can either."""
    known = recipient.tried | {moment.provider, NEVER + moment.provider}
    others = moment.onward.allowed() if moment.onward is not None else frozenset()
    if all(NEVER + name in known for name in others):
        return _failed(recipient, State.REFUSED, outcome, moment, recipient.attempts + 1)
    return _not_here(job, recipient._replace(tried=known), verdict, outcome, moment)


def _now(
    recipient: Recipient, outcome: Deferred | Refused, moment: Moment, tried: frozenset[str], place: float | None = None
) -> Result:
    """Due now, and no attempt counted. Where every provider is paused it waits for the first that is not, behind what
    has been due since before ``place`` (by default: this moment).
    """
    return _result(
        recipient,
        State.DUE,
        moment,
        outcome,
        attempts=recipient.attempts,
        next_attempt=moment.now if place is None else place,
        tried=tried,
    )


def _in_its_place(
    job: Job, recipient: Recipient, outcome: Deferred | Refused, moment: Moment, tried: frozenset[str]
) -> Result:
    """As :func:`_now`, and in front of all that was accepted later: in a long outage every message that knocks is its
    account's oldest, and must not be put behind the newer ones for it. What the provider has seen is: if its content
    is what makes the provider fail, it would stay in front for ever.
    """
    return _now(recipient, outcome, moment, tried, min(moment.now, job.message.received_at))


def _held(recipient: Recipient, outcome: Deferred | Refused, moment: Moment) -> Result:
    name = moment.title or moment.provider
    text = clean(
        f"It may have been delivered through {name}, which refuses our login now ({outcome.text}). "
        "`make queue ARGS='retry ID'` sends it again, through any provider."
    )
    return _result(recipient, State.HELD, moment, Deferred(outcome.code, text), attempts=recipient.attempts)


def _put_off(
    job: Job, recipient: Recipient, outcome: Deferred | Refused, moment: Moment, tried: frozenset[str]
) -> tuple[Result, EventKind]:
    attempts = recipient.attempts + 1
    if _too_old(job, recipient, moment):
        return _failed(recipient, State.EXPIRED, outcome, moment, attempts)
    again = moment.now + schedule.delay(attempts, moment.jitter())
    due = _result(recipient, State.DUE, moment, outcome, attempts=attempts, next_attempt=again, tried=tried)
    return due, EventKind.DEFERRED


def _failed(
    recipient: Recipient, state: State, outcome: Deferred | Refused, moment: Moment, attempts: int
) -> tuple[Result, EventKind]:
    """What was once in doubt may have arrived: to say that it did not would be a guess."""
    state = State.UNKNOWN if recipient.doubts else state
    tried = for_good(recipient.tried)
    return _result(recipient, state, moment, outcome, attempts=attempts, tried=tried), EventKind(state.value)


def _too_old(job: Job, recipient: Recipient, moment: Moment) -> bool:
    return moment.may_expire and schedule.expired(job.message.received_at, recipient.held, moment.now)


def _result(
    recipient: Recipient,
    state: State,
    moment: Moment,
    outcome: Outcome,
    *,
    attempts: int,
    doubts: int | None = None,
    next_attempt: float = 0.0,
    tried: frozenset[str] = frozenset(),
) -> Result:
    return Result(
        delivery=recipient.delivery,
        state=state,
        provider=moment.provider,
        reply=outcome.text,
        code=outcome.code,
        next_attempt=next_attempt,
        attempts=attempts,
        doubts=recipient.doubts if doubts is None else doubts,
        tried=" ".join(sorted(tried)) if tried else "",
        consumed=isinstance(outcome, Delivered | Doubtful),
    )


def _event(job: Job, recipient: Recipient, result: Result, kind: EventKind, moment: Moment) -> Event:
    """``delay`` is the time from our 250 to the provider's answer; ``next_attempt`` is there if there will be one."""
    detail: dict[str, str | int | float | bool] = {"delay": round(moment.now - job.message.received_at, 3)}
    if result.next_attempt:
        detail["next_attempt"] = round(max(result.next_attempt, moment.now), 3)
    if result.state is State.DUE and moment.provider in result.tried.split():
        detail["goes_on"] = True  # to another provider
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
