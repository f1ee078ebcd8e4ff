"""What is recorded of an attempt: states, counts and times as a table; rounds over several providers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from relay import limits
from relay.choice.offer import Closed, Offer, Terms
from relay.choice.quota import Quota
from relay.choice.routes import Routes
from relay.delivery.onward import Onward
from relay.delivery.outcome import Deferred, Delivered, Doubtful, Refused, Verdict
from relay.delivery.settlement import Moment, give_up, hold, settle
from relay.model import Event, EventKind, Job, Message, Recipient, Result, State
from relay.providers.rules import Standing

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
        (Refused(550, "no"), {"doubts": 1}, 60, State.UNKNOWN, EventKind.UNKNOWN, 1, 1, None),  # it may have arrived
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


# --- rounds
PROVIDERS = ("one", "two", "three")
FAULT = Verdict(Deferred(421, "later"), Standing.BUSY)
USED_UP = Verdict(Deferred(451, "credits"), Standing.USED_UP)
GUESSED = Verdict(Deferred(451, "quota"), Standing.USED_UP, certain=False)
NEVER = Verdict(Refused(0, "too large for it"), elsewhere=True)
OURS = Verdict(Deferred(0, "the disk is full"), ours=True)
DEAD = Verdict(Deferred(535, "no"), Standing.KEY_DEAD, login=True)
DENIED = Verdict(Deferred(554, "relay access denied"), Standing.KEY_DEAD)  # to one recipient: perhaps that one's matter
NOT_SET_UP = Verdict(Deferred(550, "verify it"), Standing.NOT_SET_UP)
CLOSED = Closed(NOW + 60, "paused")


def at(
    provider: str,
    verdict: Verdict,
    closed: Sequence[str] = (),
    *,
    used_up: Sequence[str] = (),
    age: float = 60.0,
    tied: bool = False,
    knocked: bool = False,
    **recipient: Any,
) -> tuple[Result, Event]:
    """What is recorded of an attempt at ``provider`` while some are paused (``closed``) or ``used_up`` by count."""
    terms = {name: Terms(name, quotas=(Quota(limit=1, period="day"),)) for name in PROVIDERS}
    shut = dict.fromkeys(closed, CLOSED)
    offer = Offer(terms, Routes(PROVIDERS), dict.fromkeys(PROVIDERS, 0), shut)
    work = job(recipient, age=age)
    onward = Onward(work.message, offer, lambda name, _: 0 if name in used_up else 9, provider if tied else "")
    results, events = settle(work, [verdict], Moment(provider, NOW, True, lambda: 0.5, onward, knocked=knocked))
    return results[0], events[0]


def test_a_provider_that_fails_hands_on_at_once_and_no_attempt_is_counted() -> None:
    result, event = at("one", FAULT, ["one"], attempts=3)
    assert (result.state, result.next_attempt, result.attempts, result.tried) == (State.DUE, NOW, 3, "one")
    assert event.detail["goes_on"] is True


def test_a_round_offers_to_each_once_and_then_the_schedule_waits() -> None:
    second, _ = at("two", FAULT, ["one", "two"], tried=frozenset({"one"}))
    assert (second.next_attempt, second.tried) == (NOW, "one two")
    last, event = at("three", FAULT, ["one", "two", "three"], tried=frozenset({"one", "two"}))
    assert (last.next_attempt, last.attempts, last.tried) == (NOW + 60, 1, "")
    assert "goes_on" not in event.detail


@pytest.mark.parametrize(("closed", "used_up"), [(["one", "two", "three"], []), (["one"], ["two", "three"])])
@pytest.mark.parametrize("verdict", [USED_UP, DEAD, NOT_SET_UP])
def test_what_a_pause_answers_for_waits_for_its_end_and_counts_no_attempt(
    verdict: Verdict, closed: list[str], used_up: list[str]
) -> None:
    result, _ = at("one", verdict, closed, used_up=used_up, attempts=2)
    assert (result.state, result.next_attempt, result.attempts, result.tried) == (State.DUE, NOW, 2, "")


@pytest.mark.parametrize("verdict", [GUESSED, FAULT, DENIED, DEAD._replace(certain=False)])
def test_what_is_guessed_or_may_pass_at_any_time_waits_as_the_schedule_says(verdict: Verdict) -> None:
    assert at("one", verdict, PROVIDERS)[0].next_attempt == NOW + 60


def test_who_only_knocks_at_a_paused_provider_keeps_its_place_until_it_is_too_old() -> None:
    result, event = at("one", FAULT, PROVIDERS, knocked=True, attempts=2, age=3600.0)
    assert (result.state, result.next_attempt, result.attempts) == (State.DUE, NOW - 3600, 2)
    assert event.detail["next_attempt"] == NOW, "people are told no time that is past"
    assert at("one", FAULT, PROVIDERS, knocked=True, age=OLD)[0].state is State.EXPIRED
    assert at("one", FAULT, ["one"], knocked=True)[0].tried == "one", "another provider takes it"


def test_an_open_provider_that_was_tried_is_tried_again_after_a_while_and_not_at_once() -> None:
    result, _ = at("two", USED_UP, ["two", "three"], tried=frozenset({"one"}))
    assert (result.next_attempt, result.attempts, result.tried) == (NOW + 60, 1, "")


def test_an_old_message_expires_only_when_nobody_is_left() -> None:
    assert at("one", FAULT, ["one"], age=OLD)[0].state is State.DUE
    assert at("one", FAULT, PROVIDERS, age=OLD)[0].state is State.EXPIRED
    assert at("one", USED_UP, PROVIDERS, age=OLD)[0].state is State.EXPIRED
    assert at("one", DEAD, PROVIDERS, age=OLD)[0].state is State.EXPIRED


def test_a_failure_of_our_own_asks_no_other_provider() -> None:
    result, _ = at("one", OURS, tried=frozenset({"two"}))
    assert (result.next_attempt, result.tried) == (NOW + 60, "two")


def test_a_message_that_no_provider_can_carry_is_refused_when_all_have_said_so() -> None:
    tried = frozenset[str]()
    for name in PROVIDERS[:2]:
        result, _ = at(name, NEVER, tried=tried)
        assert (result.state, result.next_attempt) == (State.DUE, NOW)
        tried = frozenset(result.tried.split())
    assert at("three", NEVER, tried=tried)[0].state is State.REFUSED


def test_a_provider_that_can_never_carry_it_is_not_asked_again_in_the_next_round() -> None:
    first, _ = at("one", NEVER)
    second, _ = at("two", FAULT, ["two", "three"], tried=frozenset(first.tried.split()))
    assert second.next_attempt == NOW + 60
    assert frozenset(second.tried.split()) == {"one", "!one"}, "those that only failed are asked again"


def test_a_message_in_doubt_never_goes_on() -> None:
    for verdict in (FAULT, USED_UP):
        result, _ = at("one", verdict, ["one"], tied=True, doubts=1)
        assert (result.state, result.tried) == (State.DUE, "")
    held, event = at("one", DEAD, ["one"], tied=True, doubts=1)
    assert (held.state, event.kind, held.attempts) == (State.HELD, EventKind.HELD, 0)
    assert "may have been delivered" in held.reply


@pytest.mark.parametrize(
    ("outcome", "consumed"),
    [(Delivered(250, "ok"), True), (Doubtful(0, "?"), True), (Refused(550, "no"), False), (LATER, False)],
)
def test_what_uses_a_quota(outcome: Any, consumed: bool) -> None:
    assert one(outcome, {})[0].consumed is consumed
    assert one(outcome, {"doubts": 2})[0].consumed is consumed


def test_what_no_provider_could_be_tried_for_ends_with_the_reason() -> None:
    (result,), (event,) = give_up(job({"attempts": 2}, age=OLD), "all are paused", moment())
    assert (result.state, event.kind, result.attempts) == (State.EXPIRED, EventKind.EXPIRED, 2)
    assert result.reply == "all are paused"
    (result,), _ = give_up(job({"doubts": 1}, age=OLD), "all are paused", moment())
    assert result.state is State.UNKNOWN
