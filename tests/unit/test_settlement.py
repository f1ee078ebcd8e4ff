"""What is recorded of an attempt: states, counts and times as a table; who decides that it was tried long enough."""

from __future__ import annotations

from typing import Any

import pytest

from relay import limits
from relay.delivery.outcome import Deferred, Delivered, Doubtful, Refused, Verdict
from relay.delivery.settlement import Moment, hold, settle
from relay.model import EventKind, Job, Message, Recipient, Result, State

NOW = 1_800_000_000.0
LATER = Deferred(451, "4.3.0 later")
CROWDED = Deferred(452, "4.5.3 too many", at_once=True)
STOPPED = Deferred(0, "the relay was stopped", at_once=True)


def job(*recipients: dict[str, Any], age: float = 60.0) -> Job:
    message = Message(
        id="01JDA0000000000000000000AA",
        account="anna",
        sender="anna@example.org",
        recipients=(),
        size=1,
        received_at=NOW - age,
        message_id="<x@example.org>",
    )
    known = {"address": "bob@example.net", "attempts": 0, "doubts": 0}
    to = tuple(Recipient(delivery=n, **{**known, **one}) for n, one in enumerate(recipients or ({},), 1))
    return Job(message=message, recipients=to, body=b"", chunks=1)


def moment(may_expire: bool = True) -> Moment:
    return Moment("p", NOW, may_expire, lambda: 0.5)


def one(
    outcome: Any, recipient: dict[str, Any], age: float = 60.0, may_expire: bool = True
) -> tuple[Result, EventKind]:
    results, events = settle(job(recipient, age=age), [Verdict(outcome)], moment(may_expire))
    return results[0], events[0].kind


OLD = limits.LIFETIME + 1


@pytest.mark.parametrize(
    ("outcome", "recipient", "age", "state", "kind", "attempts", "doubts", "wait"),
    [
        (Delivered(250, "ok"), {}, 60, State.DELIVERED, EventKind.DELIVERED, 1, 0, None),
        (Delivered(250, "ok"), {"doubts": 2, "attempts": 5}, OLD, State.DELIVERED, EventKind.DELIVERED, 6, 2, None),
        (Refused(550, "no"), {}, 60, State.REFUSED, EventKind.REFUSED, 1, 0, None),
        (LATER, {}, 60, State.DUE, EventKind.DEFERRED, 1, 0, 60),
        (LATER, {"attempts": 1}, 60, State.DUE, EventKind.DEFERRED, 2, 0, 300),
        (LATER, {"attempts": 40}, limits.LIFETIME, State.DUE, EventKind.DEFERRED, 41, 0, 7200),
        (LATER, {"attempts": 60}, OLD, State.EXPIRED, EventKind.EXPIRED, 61, 0, None),
        (LATER, {"attempts": 0}, 99 * OLD, State.EXPIRED, EventKind.EXPIRED, 1, 0, None),
        (LATER, {"held": 2.0}, OLD, State.DUE, EventKind.DEFERRED, 1, 0, 60),
        (LATER, {"doubts": 1}, OLD, State.UNKNOWN, EventKind.UNKNOWN, 1, 1, None),
        (LATER, {"doubts": 1}, 60, State.DUE, EventKind.DEFERRED, 1, 1, 60),
        (Doubtful(0, "?"), {}, 60, State.DUE, EventKind.DOUBTFUL, 1, 1, 900),
        (Doubtful(0, "?"), {"doubts": 1}, 60, State.DUE, EventKind.DOUBTFUL, 1, 2, 900),
        (Doubtful(0, "?"), {"doubts": 2}, 60, State.UNKNOWN, EventKind.UNKNOWN, 1, 3, None),
        (Doubtful(0, "?"), {}, OLD, State.DUE, EventKind.DOUBTFUL, 1, 1, 900),
        (STOPPED, {"attempts": 3}, OLD, State.DUE, EventKind.DEFERRED, 3, 0, 0),
        (CROWDED, {"attempts": 3}, 60, State.DUE, EventKind.DEFERRED, 4, 0, 1800),  # everyone: so not at once
    ],
)
def test_one_recipient(
    outcome: Any,
    recipient: dict[str, Any],
    age: float,
    state: State,
    kind: EventKind,
    attempts: int,
    doubts: int,
    wait: float | None,
) -> None:
    result, event = one(outcome, recipient, age)
    assert (result.state, event, result.attempts, result.doubts) == (state, kind, attempts, doubts)
    assert result.next_attempt == (0.0 if wait is None else NOW + wait)
    assert (result.provider, result.code, result.reply) == ("p", outcome.code, outcome.text)


def test_nothing_expires_while_the_clock_cannot_be_trusted() -> None:
    assert one(LATER, {}, 99 * OLD, may_expire=False)[0].state is State.DUE


def test_those_who_were_too_many_are_due_at_once_when_others_were_not() -> None:
    results, events = settle(job({}, {}, {}), [Verdict(Delivered(250, "")), Verdict(CROWDED), Verdict(LATER)], moment())
    assert [result.state for result in results] == [State.DELIVERED, State.DUE, State.DUE]
    assert [result.next_attempt for result in results] == [0.0, NOW, NOW + 60]
    assert [result.attempts for result in results] == [1, 0, 1]
    assert [event.recipient for event in events] == ["bob@example.net"] * 3


def test_what_is_put_aside_keeps_its_counts() -> None:
    (result,), (event,) = hold(job({"attempts": 4, "doubts": 1}), "because", moment())
    assert (result.state, result.attempts, result.doubts, result.reply) == (State.HELD, 4, 1, "because")
    assert event.kind is EventKind.HELD


def test_events_carry_what_log_and_metrics_need() -> None:
    _, (event,) = settle(job({}, age=12.5), [Verdict(LATER)], moment())
    assert (event.message, event.account, event.recipient) == ("01JDA0000000000000000000AA", "anna", "bob@example.net")
    assert (event.provider, event.code, event.reply, event.at) == ("p", 451, "4.3.0 later", NOW)
    assert event.detail == {"delay": 12.5, "next_attempt": NOW + 60}
