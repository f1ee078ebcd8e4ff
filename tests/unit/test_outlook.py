"""What people are told of providers and of mail that waits, and whose sender is told when."""

from __future__ import annotations

import math
from typing import Any

import pytest
from aiosmtplib import SMTPAuthenticationError, SMTPConnectResponseError

from relay.choice.allowance import Allowance
from relay.choice.offer import Closed, Offer, Terms
from relay.choice.quota import Quota
from relay.choice.routes import Routes
from relay.delivery.breaker import Breaker
from relay.delivery.judging import Said, said
from relay.delivery.outcome import Deferred, Delivered, Doubtful, Finding, Outcome, Refused, Reply, Verdict
from relay.delivery.outlook import Delay, delay_of, reasons, state_of, strangers, waits
from relay.delivery.pause import Sign
from relay.model import Message, State
from relay.providers.provider import Provider
from relay.providers.rules import Stage, Standing
from relay.spool import QueueEntry
from support.memory_spool import FakeClock, MemorySpool

NOON = 1_800_014_400.0  # 2027-01-15 12:00 UTC
MIDNIGHT = NOON + 12 * 3600
USED, DEAD, NOT_SET_UP, BUSY = Standing.USED_UP, Standing.KEY_DEAD, Standing.NOT_SET_UP, Standing.BUSY
LOST = ConnectionResetError()


def entry(state: State = State.DUE, doubts: int = 0, provider: str = "", **message: Any) -> QueueEntry:
    return QueueEntry(
        delivery=1,
        message=MemorySpool(FakeClock(NOON)).add(b"x", **message),
        recipient="bob@example.net",
        state=state,
        next_attempt=NOON,
        changed_at=NOON,
        attempts=1,
        doubts=doubts,
        provider=provider,
        code=0,
        reply="",
        held=0.0,
        delay_noticed=False,
        acknowledged=False,
        tried=frozenset(),
    )


def offer(closed: dict[str, Closed] | None = None, senders: tuple[str, ...] = (), **more: Any) -> Offer:
    quotas = (Quota(limit=10, period="day"),)
    terms = {name: Terms(name, senders, quotas=quotas, title=name.title()) for name in ("brevo", "ses")}
    return Offer(terms, Routes(("brevo", "ses")), {"brevo": 1, "ses": 1}, closed or {}, **more)


def left(used: dict[str, int] | None = None) -> Allowance:
    counts = used or {}
    return Allowance(offer().terms, NOON, lambda name, _: [(NOON, counts.get(name, 0))], dict)


# --- what waiting mail waits for
@pytest.mark.parametrize(
    ("closed", "used", "sentence"),
    [
        ({}, {}, ""),
        ({"brevo": Closed(NOON + 60, "Brevo is in trouble")}, {}, ""),  # the other takes it
        ({}, {"brevo": 10}, ""),
        (
            {},
            {"brevo": 10, "ses": 10},
            "waits until 2027-01-16 00:00 UTC: Brevo's quota is used up; Ses's quota is used up",
        ),
        (
            {"brevo": Closed(NOON + 60, "Brevo refused the login: no")},
            {"ses": 10},
            "waits until 2027-01-15 12:01 UTC: Brevo refused the login: no; Ses's quota is used up",
        ),
        (
            {
                "brevo": Closed(math.inf, "Brevo is being tried again with one message"),
                "ses": Closed(math.inf, "so is Ses"),
            },
            {},
            "waits: Brevo is being tried again with one message; so is Ses",
        ),
    ],
)
def test_what_a_delivery_waits_for(closed: dict[str, Closed], used: dict[str, int], sentence: str) -> None:
    assert waits(entry(), offer(closed), left(used)) == sentence


def test_mail_in_doubt_waits_for_its_own_provider() -> None:
    closed = {"brevo": Closed(NOON + 60, "Brevo is in trouble")}
    tied = entry(doubts=1, provider="brevo")
    assert waits(tied, offer(closed), left()) == "waits until 2027-01-15 12:01 UTC: Brevo is in trouble"
    assert waits(entry(doubts=1, provider="ses"), offer(closed), left()) == ""


def test_a_full_lane_is_nothing_to_tell() -> None:
    busy = Offer(offer().terms, Routes(("brevo",)), {"brevo": 0}, patient=frozenset({"brevo"}))
    assert waits(entry(), busy, left()) == ""


@pytest.mark.parametrize("state", [State.HELD, State.CLAIMED, State.DELIVERED])
def test_only_what_is_due_waits(state: State) -> None:
    assert waits(entry(state), offer({"brevo": Closed(NOON, "x"), "ses": Closed(NOON, "y")}), left()) == ""


def test_a_sender_that_nobody_serves_is_named() -> None:
    found = offer(senders=("*@example.com",))
    assert waits(entry(), found, left()) == "waits: No provider is set up for mail from anna@example.org."
    assert reasons(entry().message, found, left()) == ("No provider is set up for mail from anna@example.org.",)


# --- who is told of a delay, and when
def breakers(reset: float = 7000.0, times: int = 1, **standings: Standing | None) -> dict[str, Breaker]:
    """``reset``: in how many seconds a quota begins anew, if that is known; ``times``: pauses in a row."""
    found = {"brevo": Breaker(), "ses": Breaker()}
    for name, standing in standings.items():
        for time in range(times if standing is not None else 0):
            assert standing is not None
            sign = Sign(standing=standing, reason="so", sender="anna@example.org")
            assert found[name].failed(sign, time * 7000.0, reset=reset)
    return found


@pytest.mark.parametrize(
    ("brevo", "ses", "used", "delay"),
    [
        (None, None, {}, Delay.ORDINARY),
        (USED, USED, {}, Delay.QUOTA),
        (USED, None, {"ses": 10}, Delay.QUOTA),
        (None, None, {"brevo": 10, "ses": 10}, Delay.QUOTA),
        (USED, DEAD, {}, Delay.ORDINARY),
        (USED, None, {}, Delay.ORDINARY),
        (NOT_SET_UP, NOT_SET_UP, {}, Delay.NOT_SET_UP),
        (NOT_SET_UP, USED, {}, Delay.ORDINARY),
        (NOT_SET_UP, None, {}, Delay.ORDINARY),
    ],
)
def test_when_a_sender_is_told_of_a_delay(
    brevo: Standing | None, ses: Standing | None, used: dict[str, int], delay: Delay
) -> None:
    assert delay_of(entry(), offer(), left(used), breakers(brevo=brevo, ses=ses)) is delay


@pytest.mark.parametrize(
    ("reset", "times", "used", "delay"),
    [
        (7000.0, 1, {}, Delay.QUOTA),
        (0.0, 1, {}, Delay.ORDINARY),  # used up, and no clock known: perhaps for good
        (7000.0, 2, {}, Delay.ORDINARY),  # its clock was not ours
        (7000.0, 2, {"brevo": 10}, Delay.ORDINARY),
        (0.0, 2, {"ses": 10}, Delay.QUOTA),  # through the other one it has a known end
    ],
)
def test_silence_is_for_a_reset_that_is_known(reset: float, times: int, used: dict[str, int], delay: Delay) -> None:
    known = breakers(reset, times, brevo=USED, ses=None if "ses" in used else USED)
    assert delay_of(entry(), offer(), left(used), known) is delay


@pytest.mark.parametrize(
    ("rounds", "certain", "delay"),
    [
        ({"brevo": 1, "ses": 1}, None, Delay.ORDINARY),  # one odd round may be a fault of that moment
        ({"brevo": 2, "ses": 1}, None, Delay.ORDINARY),
        ({"brevo": 2}, None, Delay.ORDINARY),
        ({"brevo": 2, "ses": 2}, None, Delay.NOT_SET_UP),
        ({"brevo": 2}, "ses", Delay.NOT_SET_UP),
        ({"brevo": 1}, "ses", Delay.ORDINARY),
    ],
)
def test_what_all_seem_not_to_know_is_told_soon_when_they_have_said_it_twice(
    rounds: dict[str, int], certain: str | None, delay: Delay
) -> None:
    known, one = breakers(**{certain: NOT_SET_UP} if certain else {}), entry()
    for name, times in rounds.items():
        for _ in range(times):
            guess = Sign(
                standing=NOT_SET_UP, reason="550 no", message=one.message.id, sender="anna@example.org", needed=3
            )
            assert known[name].failed(guess, 0.0) is None
    assert delay_of(one, offer(), left(), known) is delay
    told = strangers(one.message, offer(), left(), known)
    assert bool(told) is (delay is Delay.NOT_SET_UP)
    if told:
        assert told[0] == "Brevo does not seem to know anna@example.org as a sender: 550 no"
        assert waits(one, offer(), left(), told) == f"waits: {'; '.join(told)}"


def test_a_quota_that_ends_only_after_the_five_days_is_told_of() -> None:
    month = Quota(limit=10, period="month")
    terms = {name: Terms(name, quotas=(month,)) for name in ("brevo", "ses")}
    found = Allowance(terms, NOON, lambda name, _: [(NOON, 10)], dict)
    assert delay_of(entry(), offer(), found, breakers()) is Delay.ORDINARY
    terms["ses"] = Terms("ses", quotas=(Quota(limit=10, period="day"),))
    found = Allowance(terms, NOON, lambda name, _: [(NOON, 10)], dict)
    assert delay_of(entry(), offer(), found, breakers()) is Delay.QUOTA


def test_another_domain_is_not_in_that_trouble() -> None:
    other = entry(sender="anna@example.com")
    assert delay_of(other, offer(), left(), breakers(brevo=NOT_SET_UP, ses=NOT_SET_UP)) is Delay.ORDINARY


# --- how a provider stands
def test_how_a_provider_stands() -> None:
    clock, breaker = FakeClock(NOON), Breaker()
    provider = Provider(name="brevo", title="Brevo", host="h", ports=((587, "starttls"),))
    assert state_of(provider, breaker, clock, 3, 587).state == "open"
    breaker.failed(Sign(standing=NOT_SET_UP, reason="who?", sender="anna@example.org"), clock.monotonic())
    breaker.failed(Sign(standing=DEAD, reason="no"), clock.monotonic())
    found = state_of(provider, breaker, clock, 3, 587)
    assert (found.name, found.title, found.state, found.standing, found.reason) == (
        "brevo",
        "Brevo",
        "paused",
        "key dead",
        "no",
    )
    assert found.until == pytest.approx(NOON + 300, abs=5)
    assert [(one.domain, one.standing, one.reason) for one in found.domains] == [
        ("anna@example.org", "not set up", "who?")
    ]
    clock.passed += 301
    assert state_of(provider, breaker, clock, 3, 587).state == "probing"


# --- what an attempt says of the provider
def attempt(*parts: tuple[Stage, Reply | BaseException, Outcome, Standing], **more: Any) -> Said:
    findings = [Finding(stage, answer) for stage, answer, _, _ in parts]
    return said(message(), findings, [Verdict(outcome, standing, **more) for _, _, outcome, standing in parts])


def message() -> Message:
    return entry().message


OK = Reply(250, "ok")
FINE = Standing.FINE


@pytest.mark.parametrize(
    ("stage", "answer", "outcome", "standing", "needed", "reached", "took"),
    [
        (Stage.FINAL, OK, Delivered(250, ""), FINE, 0, True, True),
        (Stage.FINAL, Reply(550, "spam"), Refused(550, ""), FINE, 0, True, True),
        (Stage.FINAL, Reply(451, "later"), Deferred(451, ""), FINE, 10, False, False),
        (Stage.MAIL, Reply(451, "later"), Deferred(451, ""), FINE, 10, False, False),
        (Stage.RCPT, Reply(450, "grey"), Deferred(450, ""), FINE, 0, True, False),
        (Stage.RCPT, Reply(452, "too many"), Deferred(452, "", at_once=True), FINE, 0, True, False),
        (Stage.RCPT, Reply(550, "unknown"), Refused(550, ""), FINE, 0, True, False),
        (Stage.LOGIN, Reply(535, "no"), Deferred(535, ""), DEAD, 1, False, False),
        (Stage.CONNECT, LOST, Deferred(0, ""), BUSY, 1, False, False),
        (Stage.MAIL, LOST, Deferred(0, ""), BUSY, 1, False, False),
        (Stage.BODY, LOST, Deferred(0, ""), BUSY, 3, False, False),
        (Stage.FINAL, LOST, Doubtful(0, ""), BUSY, 3, False, False),
        (Stage.FINAL, TimeoutError(), Doubtful(0, ""), BUSY, 1, False, False),  # ten minutes of silence
        (Stage.BODY, TimeoutError(), Deferred(0, ""), BUSY, 3, False, False),
        (Stage.FINAL, Reply(421, "bye"), Deferred(421, ""), BUSY, 1, False, False),
    ],
)
def test_what_one_answer_says_of_the_provider(
    stage: Stage,
    answer: Reply | BaseException,
    outcome: Outcome,
    standing: Standing,
    needed: int,
    reached: bool,
    took: bool,
) -> None:
    found = attempt((stage, answer, outcome, standing))
    assert (found.sign.needed if found.sign else 0) == needed
    assert (found.reached, found.took) == (reached, took)


def test_a_guess_needs_three_and_our_own_failure_says_nothing() -> None:
    guess = (Stage.FINAL, Reply(451, "quota"), Deferred(451, ""), USED)
    found = attempt(guess, certain=False)
    assert found.sign is not None
    assert found.sign.needed == 3
    assert attempt(guess, ours=True).sign is None


@pytest.mark.parametrize(
    ("stage", "answer", "spoken", "doubt"),
    [
        (Stage.MAIL, Reply(421, "busy"), True, False),
        (Stage.LOGIN, SMTPAuthenticationError(454, "later"), True, False),
        (Stage.CONNECT, SMTPConnectResponseError(421, "not now"), False, False),  # one connection too many, it may be
        (Stage.MAIL, LOST, False, False),
        (Stage.CONNECT, TimeoutError(), False, False),
        (Stage.FINAL, TimeoutError(), False, True),
        (Stage.FINAL, LOST, False, True),
    ],
)
def test_whether_it_said_so_itself(stage: Stage, answer: Reply | BaseException, spoken: bool, doubt: bool) -> None:
    outcome: Outcome = Doubtful(0, "") if doubt else Deferred(0, "")
    found = attempt((stage, answer, outcome, BUSY))
    assert found.sign is not None
    assert (found.sign.spoken, found.sign.doubt) == (spoken, doubt)


def test_what_is_against_it_outweighs_what_speaks_for_it() -> None:
    refused = (Stage.RCPT, Reply(550, "unknown"), Refused(550, ""), FINE)
    used_up = (Stage.FINAL, Reply(550, "credits"), Deferred(550, "credits"), USED)
    found = attempt(refused, used_up)
    assert found.sign is not None
    assert (found.sign.standing, found.sign.reason, found.sign.sender) == (USED, "credits", "anna@example.org")
