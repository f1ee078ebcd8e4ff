"""When a delivery is tried again, when it ends, and how long a provider is left alone: tables of numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import limits
from relay.delivery.pause import Pause
from relay.delivery.schedule import ClockWatch, delay, doubt_delay, expired

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


def test_a_doubt_waits_a_quarter_of_an_hour() -> None:
    assert doubt_delay() == 15 * 60


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
def test_a_clock_that_runs_may_expire_mail() -> None:
    watch = ClockWatch(NOW, 100.0)
    assert watch.look(NOW + 5000, 5100.0) == 0.0
    assert watch.may_expire(5100.0)


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
    assert watch.look(NOW + limits.CLOCK_JUMP, 0.0) == 0.0
    assert watch.may_expire(0.0)


# --- the pause
def test_a_pause_grows_to_its_limit_and_ends_with_the_first_success() -> None:
    pause, now, lengths = Pause(), 0.0, []
    for _ in range(9):
        assert not pause.left(now)
        pause.failed(now, 0.5)
        lengths.append(pause.left(now))
        now += pause.left(now)
    assert lengths == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    assert pause.probing
    pause.succeeded()
    assert not pause.probing
    assert pause.left(now) == 0.0
    pause.failed(now, 0.5)
    assert pause.left(now) == 5


def test_failures_inside_a_pause_are_the_same_failure() -> None:
    pause = Pause()
    for _ in range(10):
        pause.failed(1.0, 0.5)
    assert pause.left(1.0) == 5
    assert pause.failures == 1


@given(st.floats(0, 1, exclude_max=True), st.integers(1, 100))
def test_a_pause_is_never_longer_than_its_limit_and_jitter(jitter: float, failures: int) -> None:
    pause, now = Pause(), 0.0
    for _ in range(failures):
        pause.failed(now, jitter)
        assert 0.8 * limits.PAUSE_FIRST <= pause.left(now) <= 1.2 * limits.PAUSE_MOST
        now = pause.until
