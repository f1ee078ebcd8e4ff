"""How long a provider is left alone, and what ends that: tables of numbers, and what must hold whatever happens."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import limits
from relay.choice.quota import Quota
from relay.delivery.breaker import Breaker, reset_in
from relay.delivery.pause import ALL, Sign
from relay.providers.rules import Standing

BUSY, DEAD, USED, NOT_SET_UP = Standing.BUSY, Standing.KEY_DEAD, Standing.USED_UP, Standing.NOT_SET_UP
HERE = "example.org"
ANNA, BOB, CAROL, DAVE, ERIN = (f"{name}@{HERE}" for name in ("anna", "bob", "carol", "dave", "erin"))
ELSEWHERE = "anna@example.net"


def sign(standing: Standing, message: str = "m1", sender: str = ANNA, needed: int = 1, **more: Any) -> Sign:
    return Sign(
        **{"standing": standing, "reason": "because", "message": message, "sender": sender, "needed": needed, **more}
    )


def paused(breaker: Breaker) -> set[str]:
    """For whom."""
    return {pause.sender for pause in breaker}


@pytest.mark.parametrize(
    ("standing", "lengths"),
    [
        (BUSY, [5, 10, 20, 40, 80, 160, 300, 300]),
        (DEAD, [300, 600, 1200, 2400, 3600, 3600]),
        (USED, [3600, 3600]),
        (NOT_SET_UP, [3600, 3600]),
    ],
)
def test_pauses_by_reason(standing: Standing, lengths: list[float]) -> None:
    breaker, now = Breaker(), 100.0
    for length in lengths:
        pause = breaker.failed(sign(standing), now)
        assert pause is not None
        assert pause.until == now + length
        assert pause.left(now) == length
        assert pause.left(now + length) == 0
        now = pause.until  # the probe fails at once


def test_a_used_up_quota_waits_for_its_clock_and_then_is_asked_every_hour() -> None:
    breaker = Breaker()
    first = breaker.failed(sign(USED), 0.0, reset=7000.0)
    assert first is not None
    assert first.until == 7000.0
    again = breaker.failed(sign(USED), 7000.0, reset=86400.0)
    assert again is not None
    assert again.until == 7000.0 + 3600.0, "its day begins later than we believed: that must not cost a day"
    soon = breaker.failed(sign(USED), 10_600.0, reset=600.0)
    assert soon is not None
    assert soon.until == 10_600.0 + 600.0


MORNING = 1_800_000_000.0  # 2027-01-15 08:00 UTC


@pytest.mark.parametrize(
    ("quotas", "seconds"),
    [
        ([], 0),
        ([Quota(limit=300, period="day")], 16 * 3600 + 60),
        ([Quota(limit=300, period="day", zone="Europe/Berlin")], 15 * 3600 + 60),
        ([Quota(limit=100, period="month")], 86_400),
        ([Quota(limit=100, period="rolling")], 3600),
        ([Quota(limit=1000, period="month"), Quota(limit=200, period="day")], 16 * 3600 + 60),
    ],
)
def test_when_a_quota_that_is_called_used_up_may_allow_more(quotas: list[Quota], seconds: float) -> None:
    assert reset_in(quotas, MORNING) == seconds


@pytest.mark.parametrize(
    ("needed", "reason", "length"),
    [
        (1, "Daily quota exceeded", 85_000),
        (3, "Daily quota exceeded", 3600),  # guessed from words that any provider may use
        (1, "You have exceeded your hourly sending limit", 3600),
        (1, "too many messages per minute", 3600),
    ],
)
def test_a_guess_and_a_limit_of_an_hour_stop_nobody_for_a_day(needed: int, reason: str, length: float) -> None:
    breaker = Breaker()
    for message in ("m1", "m2", "m3")[:needed]:
        breaker.failed(sign(USED, message, needed=needed, reason=reason), 0.0, reset=85_000.0)
    pause = breaker.pause()
    assert pause is not None
    assert pause.until == length
    assert pause.known is (length == 85_000)


def test_a_run_of_silences_after_the_dot_pauses_for_longer_than_other_failures() -> None:
    """Each that tries costs a message in doubt."""
    breaker, now, lengths = Breaker(), 0.0, []
    for _ in range(12):
        pause = breaker.failed(sign(BUSY, doubt=True), now)
        assert pause is not None
        lengths.append(pause.until - now)
        now = pause.until
    assert lengths[:3] == [5, 10, 20]
    assert lengths[-3:] == [2560, 3600, 3600]


@given(st.floats(0, 1, exclude_max=True), st.sampled_from([BUSY, DEAD, NOT_SET_UP]))
def test_jitter_keeps_providers_from_being_probed_in_step(jitter: float, standing: Standing) -> None:
    plain = Breaker().failed(sign(standing), 0.0)
    shaken = Breaker().failed(sign(standing), 0.0, jitter)
    assert plain is not None
    assert shaken is not None
    assert plain.until * 0.8 <= shaken.until <= plain.until * 1.2


def test_failures_inside_a_pause_are_the_same_failure() -> None:
    breaker = Breaker()
    assert breaker.failed(sign(BUSY), 0.0) is not None
    assert breaker.failed(sign(BUSY, "m2"), 4.9) is None
    probe = breaker.failed(sign(BUSY), 5.0)
    assert probe is not None
    assert probe.until == 15.0


def test_a_worse_reason_takes_the_place_of_a_shorter_pause() -> None:
    breaker = Breaker()
    breaker.failed(sign(BUSY), 0.0)
    worse = breaker.failed(sign(DEAD), 1.0)
    assert worse is not None
    assert worse.standing is DEAD
    assert breaker.failed(sign(BUSY), 2.0) is None
    assert breaker.pause() is worse


def test_a_sender_that_is_not_set_up_pauses_no_other() -> None:
    breaker = Breaker()
    assert breaker.failed(sign(NOT_SET_UP), 0.0) is not None
    assert paused(breaker) == {ANNA}


# --- what ends a pause
@pytest.mark.parametrize(
    ("standing", "took", "sender", "at", "ends"),
    [
        (BUSY, False, ANNA, 1.0, True),  # a slow connection among ten others that work
        (BUSY, True, ANNA, 1.0, True),
        (DEAD, False, ANNA, 1.0, False),  # was under way when the key was refused
        (DEAD, False, ANNA, 4000.0, True),
        (USED, False, ANNA, 4000.0, False),  # a login says nothing of a quota
        (USED, True, ANNA, 1.0, False),  # was under way
        (USED, True, ANNA, 4000.0, True),
        (NOT_SET_UP, False, ANNA, 4000.0, False),
        (NOT_SET_UP, True, ANNA, 1.0, False),
        (NOT_SET_UP, True, ELSEWHERE, 4000.0, False),
        (NOT_SET_UP, True, ANNA, 4000.0, True),
    ],
)
def test_what_ends_a_pause(standing: Standing, took: bool, sender: str, at: float, ends: bool) -> None:
    breaker = Breaker()
    pause = breaker.failed(sign(standing), 0.0)
    assert breaker.reached(at, took=took, sender=sender) == ([pause] if ends else [])
    assert (list(breaker) == []) is ends


def test_what_was_under_way_does_not_end_the_pause_of_a_provider_that_says_it_is_busy() -> None:
    breaker = Breaker()
    pause = breaker.failed(sign(BUSY, spoken=True), 0.0)
    assert breaker.reached(4.9, took=True) == []
    assert breaker.reached(5.0, took=True) == [pause]


def test_after_an_end_the_next_pause_is_short_again() -> None:
    breaker = Breaker()
    for now in (0.0, 5.0, 15.0):
        breaker.failed(sign(BUSY), now)
    breaker.reached(40.0, took=False)
    pause = breaker.failed(sign(BUSY), 50.0)
    assert pause is not None
    assert pause.left(50.0) == 5


@pytest.mark.parametrize(
    ("standing", "key", "at", "ends"),
    [
        (DEAD, True, 1.0, True),
        (DEAD, False, 4000.0, False),  # it could be reached, and our login was not tried
        (DEAD, None, 1.0, False),
        (DEAD, None, 4000.0, True),  # there is no login: nothing else would ever end it
        (BUSY, True, 1.0, False),
        (BUSY, True, 5.0, True),
        (BUSY, False, 5.0, True),
        (USED, True, 1.0, False),
        (USED, True, 3600.0, True),
        (NOT_SET_UP, True, 4000.0, False),
    ],
)
def test_a_look_ends_a_pause_for_a_dead_key_at_once_and_of_others_those_whose_time_is_over(
    standing: Standing, key: bool | None, at: float, ends: bool
) -> None:
    breaker = Breaker()
    breaker.failed(sign(standing), 0.0)
    assert bool(breaker.found_ready(at, key=key)) is ends


@pytest.mark.parametrize(("standing", "next_one"), [(BUSY, 20), (USED, 3600)])
def test_a_look_proves_less_than_mail_so_that_the_next_pause_is_a_longer_one_all_the_same(
    standing: Standing, next_one: float
) -> None:
    breaker = Breaker()
    breaker.failed(sign(standing), 0.0)
    breaker.failed(sign(standing), 3600.0)
    assert breaker.found_ready(7200.0, key=True)
    again = breaker.failed(sign(standing), 7200.0, reset=86_400.0)
    assert again is not None
    assert again.left(7200.0) == next_one


def test_mail_that_is_taken_ends_the_count_that_a_look_has_left() -> None:
    for standing, length in ((BUSY, 5), (USED, 7000)):
        breaker = Breaker()
        for now in (0.0, 3600.0):
            breaker.failed(sign(standing), now)
        breaker.found_ready(7200.0, key=True)
        assert not breaker.quiet
        breaker.reached(7200.0, took=True)
        assert breaker.quiet
        again = breaker.failed(sign(standing), 9000.0, reset=7000.0)
        assert again is not None
        assert again.left(9000.0) == length


# --- guesses
def test_a_guess_counts_from_three_different_messages_on() -> None:
    breaker = Breaker()
    assert [breaker.failed(sign(USED, message, needed=3), 0.0) for message in ("m1", "m1", "m2", "m1")] == [None] * 4
    pause = breaker.failed(sign(USED, "m3", needed=3), 0.0)
    assert pause is not None
    assert pause.standing is USED


def test_a_message_that_was_taken_refutes_the_guesses_about_its_domain_and_the_provider() -> None:
    breaker = Breaker()
    for standing in (USED, NOT_SET_UP):
        for message in ("m1", "m2"):
            breaker.failed(sign(standing, message, needed=3), 0.0)
            breaker.failed(sign(standing, message, sender=ELSEWHERE, needed=3), 0.0)
    breaker.reached(1.0, took=True, sender=ANNA)
    assert breaker.failed(sign(USED, "m3", needed=3), 1.0) is None
    assert breaker.failed(sign(NOT_SET_UP, "m3", needed=3), 1.0) is None
    assert breaker.failed(sign(NOT_SET_UP, "m3", sender=ELSEWHERE, needed=3), 1.0) is not None


def test_a_login_refutes_no_guess() -> None:
    breaker = Breaker()
    for message in ("m1", "m2"):
        breaker.failed(sign(USED, message, needed=3), 0.0)
    breaker.reached(1.0, took=False)
    assert breaker.failed(sign(USED, "m3", needed=3), 1.0) is not None


def test_guesses_of_unlike_kinds_and_of_different_days_are_no_run() -> None:
    breaker = Breaker()
    for number in range(2):
        assert breaker.failed(sign(BUSY, f"m{number}", needed=10), 0.0) is None
    assert breaker.failed(sign(BUSY, "m2", needed=3), 0.0) is None, "two that put mail off, and one that broke"
    for day in range(3, 9):
        assert breaker.failed(sign(BUSY, f"m{day}", needed=3), day * 86_400.0) is None
    breaker.lapse(10 * 86_400.0)
    assert breaker.quiet


def test_while_a_pause_is_probed_one_guess_is_enough() -> None:
    breaker = Breaker()
    breaker.failed(sign(USED), 0.0)
    assert breaker.failed(sign(USED, needed=3), 3600.0) is not None


def test_a_guess_of_another_kind_begins_no_pause_while_one_is_probed() -> None:
    """A provider was busy for five seconds, and the mail that tries it looks like spam: that must not cost an hour."""
    breaker = Breaker()
    breaker.failed(sign(BUSY), 0.0)
    for message in ("m1", "m2"):
        assert breaker.failed(sign(USED, message, needed=3), 10.0) is None
    longer = breaker.failed(sign(USED, "m3", needed=3), 10.0)
    assert longer is not None
    assert longer.standing is USED


def test_quiet_is_a_breaker_that_has_nothing_to_end() -> None:
    breaker = Breaker()
    assert breaker.quiet
    breaker.failed(sign(USED, needed=3), 0.0)
    assert not breaker.quiet
    breaker.reached(0.0, took=True)
    assert breaker.quiet


# --- senders
def test_a_provider_seems_not_to_know_a_sender_once_one_message_was_told_so_twice() -> None:
    breaker, guess = Breaker(), sign(NOT_SET_UP, needed=3)
    senders = breaker.senders
    assert senders.domains() == frozenset()
    for told in (None, (ANNA, "because"), (ANNA, "because")):
        assert breaker.failed(guess, 0.0) is None
        assert senders.stranger(ANNA, "m1") == told
    assert senders.stranger(ANNA, "m2") is None
    assert senders.stranger(BOB, "m1") is None
    assert senders.domains() == {HERE}
    breaker.reached(1.0, took=True, sender=BOB)
    assert senders.stranger(ANNA, "m1"), "somebody else's mail says nothing of hers"
    breaker.reached(1.0, took=True, sender=ANNA)
    assert senders.stranger(ANNA, "m1") is None
    assert senders.domains() == frozenset()


def test_what_a_provider_is_known_to_say_is_believed_for_all_mail_of_the_sender() -> None:
    breaker = Breaker()
    breaker.failed(sign(BUSY), 0.0)
    breaker.failed(sign(NOT_SET_UP), 0.0)
    assert breaker.senders.stranger(ANNA, "m9") == (ANNA, "because")
    assert breaker.senders.stranger(BOB, "m9") is None
    assert breaker.senders.domains() == {HERE}


def test_one_may_ask_at_once_whether_a_sender_is_known_by_now() -> None:
    breaker = Breaker()
    breaker.failed(sign(DEAD), 0.0)
    breaker.failed(sign(NOT_SET_UP), 0.0)
    assert not breaker.senders.try_now(BOB, 10.0)
    assert breaker.senders.try_now(ANNA, 10.0)
    assert not breaker.senders.try_now(ANNA, 10.0)
    pause = breaker.pause(ANNA)
    assert pause is not None
    assert pause.left(10.0) == 0
    again = breaker.failed(sign(NOT_SET_UP, needed=3), 11.0)
    assert again is not None, "it is still not known there"
    assert again.left(11.0) == 3600


def strangers(*senders: str) -> Breaker:
    breaker = Breaker()
    for number, sender in enumerate(senders):
        breaker.failed(sign(NOT_SET_UP, f"m{number}", sender), float(number))
    return breaker


def test_what_two_addresses_met_is_the_domains_matter() -> None:
    assert paused(strangers(BOB, BOB, ELSEWHERE)) == {BOB, ELSEWHERE}
    breaker = strangers(BOB, CAROL, ELSEWHERE)
    assert paused(breaker) == {BOB, CAROL, HERE, ELSEWHERE}
    assert breaker.senders.stranger(ANNA, "m9") == (HERE, "because")


def test_an_address_that_met_it_before_anothers_mail_was_taken_says_nothing_of_the_domain() -> None:
    breaker = strangers(BOB)
    assert breaker.reached(1.0, took=True, sender=ANNA) == []
    breaker.failed(sign(NOT_SET_UP, "m2", CAROL), 2.0)
    assert paused(breaker) == {BOB, CAROL}
    for hours in range(1, 50):  # bob's printer and carol's scanner never give up
        breaker.failed(sign(NOT_SET_UP, "m1", BOB), hours * 3700.0)
        breaker.failed(sign(NOT_SET_UP, "m2", CAROL), hours * 3700.0)
        assert paused(breaker) == {BOB, CAROL}


def test_mail_of_another_address_ends_a_domains_pause_at_once_and_leaves_those_of_the_others() -> None:
    breaker = strangers(BOB, CAROL)
    domain = breaker.pause(HERE)
    assert breaker.reached(5.0, took=True, sender=ANNA) == [domain]
    assert paused(breaker) == {BOB, CAROL}


def test_when_a_domain_is_asked_about_again_those_that_met_it_are_not_the_first() -> None:
    breaker, now, lengths = strangers(BOB, CAROL), 1.0, []
    for number in range(6):
        domain = breaker.pause(HERE)
        assert domain is not None
        lengths.append(domain.until - now)
        now = domain.until
        assert all(one.left(now) > 0 for one in breaker if one.sender != HERE)
        breaker.failed(sign(NOT_SET_UP, f"m{number}", f"{number}@{HERE}"), now)
    assert lengths == [300, 600, 1200, 2400, 2700, 2700]
    breaker.reached(now, took=True, sender=ANNA)
    breaker.failed(sign(NOT_SET_UP, "m8", DAVE), now)
    breaker.failed(sign(NOT_SET_UP, "m9", ERIN), now)
    domain = breaker.pause(HERE)
    assert domain is not None
    assert domain.left(now) == 300


@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.99])
def test_those_that_met_it_ask_again_in_turn(jitter: float) -> None:
    """One of them may have been set up meanwhile, and only its own mail shows that."""
    breaker, asked = Breaker(), [BOB, CAROL, DAVE]
    for number, sender in enumerate(asked):
        breaker.failed(sign(NOT_SET_UP, sender, sender), float(number), jitter)
    for _ in range(30):
        first = min((one for one in breaker if one.sender != HERE), key=lambda one: one.until)
        domain = breaker.pause(HERE)
        assert domain is not None
        assert domain.until < first.until
        breaker.failed(sign(NOT_SET_UP, first.sender, first.sender), first.until, jitter)
        asked.append(first.sender)
    assert asked == [BOB, CAROL, DAVE] * 11


def test_a_domain_that_was_set_up_meanwhile_is_open_to_all_of_its_addresses() -> None:
    breaker = strangers(BOB, CAROL)
    assert breaker.senders.try_now(BOB, 100.0)
    assert {one.sender for one in breaker.reached(101.0, took=True, sender=BOB)} == {BOB, CAROL, HERE}
    assert breaker.quiet


def test_a_new_address_in_each_mail_fills_no_memory() -> None:
    assert len(list(strangers(*(f"bounce-{number}@{HERE}" for number in range(300))))) == limits.STRANGERS
    guesses = Breaker()
    begun = [guesses.failed(sign(NOT_SET_UP, f"m{n}", f"b{n}@{HERE}", needed=3), 0.0) for n in range(4)]
    assert [one and one.sender for one in begun] == [None, None, f"b2@{HERE}", HERE]


@pytest.mark.parametrize("needed", [1, 3])
def test_a_new_address_in_each_mail_of_an_unknown_domain_is_tried_as_seldom_as_ever(needed: int) -> None:
    breaker, tries = Breaker(), [0] * 6
    for minute in range(6 * 1440):
        now, sender = minute * 60.0, f"bounce-{minute}@{HERE}"
        breaker.lapse(now)
        if not any((pause := breaker.pause(who)) and pause.left(now) for who in (sender, HERE)):
            tries[minute // 1440] += 1
            breaker.failed(sign(NOT_SET_UP, sender, sender, needed), now)
    assert max(tries[1:]) <= 33
    assert len(list(breaker)) <= limits.STRANGERS


def test_where_too_many_are_not_known_an_address_goes_first_whose_domain_is_paused_anyway() -> None:
    breaker = strangers(ELSEWHERE, *(f"bounce-{number}@{HERE}" for number in range(2)))
    now = 5.0
    for number in range(2, 2 * limits.STRANGERS):
        domain = breaker.pause(HERE)
        assert domain is not None
        assert breaker.pause(ELSEWHERE), "it ends first of all, and nothing else keeps its mail from trying"
        now = domain.until
        breaker.failed(sign(NOT_SET_UP, "m", f"bounce-{number}@{HERE}"), now)


def test_guesses_of_ever_new_domains_take_neither_memory_nor_what_was_guessed_last() -> None:
    breaker = Breaker()
    for number in range(3000):
        breaker.failed(sign(NOT_SET_UP, "m1", f"anna@{number}.example", needed=3), number / 10)
    assert len(breaker.senders.domains()) == limits.STRANGERS
    breaker.failed(sign(NOT_SET_UP, "m2", "anna@2999.example", needed=3), 300.0)
    assert breaker.failed(sign(NOT_SET_UP, "m3", "anna@2999.example", needed=3), 300.0) is not None


def test_one_odd_reply_to_anna_and_two_to_bob_stop_nobody() -> None:
    breaker = Breaker()
    for message, sender in (("m1", BOB), ("m2", BOB), ("m3", ANNA)):
        assert breaker.failed(sign(NOT_SET_UP, message, sender, 3), 0.0) is None
    assert breaker.failed(sign(NOT_SET_UP, "m4", BOB, 3), 0.0) is not None
    assert paused(breaker) == {BOB}


def test_a_pause_that_no_mail_asks_about_lapses_an_hour_after_its_end() -> None:
    breaker = strangers(BOB, CAROL)
    assert breaker.lapse(301.0 + 3599.0) == []
    assert [one.sender for one in breaker.lapse(301.0 + 3600.0)] == [HERE]
    assert {one.sender for one in breaker.lapse(3601.0 + 3600.0)} == {BOB, CAROL}
    assert breaker.quiet
    breaker.failed(sign(NOT_SET_UP, "m1", CAROL), 8000.0)
    assert paused(breaker) == {CAROL}, "it begins anew"


# --- whatever happens
WHO = st.sampled_from([ANNA, BOB, CAROL, ELSEWHERE])
STEP = st.one_of(
    st.tuples(st.just("failed"), st.sampled_from([BUSY, DEAD, USED, NOT_SET_UP]), st.integers(1, 4), WHO),
    st.tuples(st.just("reached"), st.booleans(), WHO),
    st.tuples(st.just("lapse")),
    st.tuples(st.just("looked"), st.booleans()),
    st.tuples(st.just("wait"), st.floats(0.0, 5000.0)),
)


@given(st.lists(STEP, max_size=40))
def test_every_pause_ends_and_a_message_that_is_taken_at_the_probe_ends_it(steps: list[tuple[Any, ...]]) -> None:
    breaker, now = Breaker(), 0.0
    for step in steps:
        if step[0] == "failed":
            begun = breaker.failed(sign(step[1], f"m{step[2]}", step[3], step[2]), now)
            assert begun is None or begun.until > now, "a pause without length would be asked again at once"
        elif step[0] == "reached":
            breaker.reached(now, took=step[1], sender=step[2])
        elif step[0] == "lapse":
            breaker.lapse(now)
        elif step[0] == "looked":
            breaker.found_ready(now, key=step[1])
        else:
            now += step[1]
        assert all(pause.left(now) <= limits.PAUSE_KEY_MOST * 1.2 for pause in breaker)
    for sender in (ANNA, BOB, CAROL, ELSEWHERE):
        breaker.reached(now + 2 * limits.PAUSE_KEY_MOST, took=True, sender=sender)
    assert breaker.quiet
    assert breaker.pause(ALL) is None
