"""When a delivery is tried again, and when it ends: tables of numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import limits
from relay.delivery.schedule import ClockWatch, delay, expired

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("attempts", "minutes"), [(1, 1), (2, 5), (3, 15), (4, 30), (5, 60), (6, 120), (7, 120), (64, 120), (10_000, 120)]
)
def test_delays(attempts: int, minutes: int) -> None:
    assert delay(attempts, 0.5) == minutes * 60


@given(st.integers(1, 1000), st.floats(0, 1, exclude_max=True))
def test_jitter_spreads_by_a_tenth(attempts: int, jitter: float) -> None:
    plain = delay(attempts, 0.5)
    assert plain * 0.9 <= delay(attempts, jitter) <= plain * 1.1


def test_five_days_are_about_64_attempts() -> None:
    at, attempts = 0.0, 0
    while at <= limits.LIFETIME:
        attempts += 1
        at += delay(attempts, 0.5)
    assert attempts == 65


@pytest.mark.parametrize(
    ("age", "held", "over"),
    [
        (0, 0, False),
        (limits.LIFETIME, 0, False),
        (limits.LIFETIME + 1, 0, True),
        (limits.LIFETIME + 1, 1, False),  # held mail does not age
        (30 * limits.DAY, 26 * limits.DAY, False),
        (-limits.DAY, 0, False),  # accepted before the clock was set back
    ],
)
def test_expiry(age: float, held: float, over: bool) -> None:
    assert expired(NOW - age, held, NOW) is over


# --- the clock
def test_mail_that_grew_old_while_the_relay_was_off_is_tried_for_hours_before_it_may_expire() -> None:
    watch = ClockWatch(NOW, 100.0)
    assert watch.look(NOW + 5000, 5100.0) == 0.0
    assert not watch.may_expire(100.0 + limits.EXPIRY_AFTER_START - 1)
    assert watch.may_expire(100.0 + limits.EXPIRY_AFTER_START)
    tries, at = 1, 0.0
    while (at := at + delay(tries + 5, 0.5)) <= limits.EXPIRY_AFTER_START:  # after the first try, as before the pause
        tries += 1
    assert tries >= 3


@pytest.mark.parametrize("jump", [limits.CLOCK_JUMP + 1, -limits.CLOCK_JUMP - 1, 365 * limits.DAY])
def test_a_jump_suspends_expiry_for_five_days(jump: float) -> None:
    watch = ClockWatch(NOW, 0.0)
    assert watch.look(NOW + jump + 10, 10.0) == jump
    assert not watch.may_expire(10.0)
    assert watch.look(NOW + jump + 20, 20.0) == 0.0  # told once
    assert not watch.may_expire(10.0 + limits.LIFETIME - 1)
    assert watch.may_expire(10.0 + limits.LIFETIME)


def test_an_hour_is_no_jump() -> None:
    watch = ClockWatch(NOW, 0.0)
    later = limits.EXPIRY_AFTER_START
    assert watch.look(NOW + later + limits.CLOCK_JUMP, later) == 0.0
    assert watch.may_expire(later)
