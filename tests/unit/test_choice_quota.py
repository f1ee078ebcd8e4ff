"""Quota clocks: when a day, a month and a rolling window begin and end, through a year with all that clocks do."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.choice.allowance import SOON, Allowance
from relay.choice.offer import Terms
from relay.choice.quota import BUCKET, Quota, bucket_of, resets_at, since, used

HOUR = 3600.0
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe")


def at(text: str, zone: str = "UTC") -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


@pytest.mark.parametrize(
    ("zone", "now", "began", "ends"),
    [
        ("UTC", "2027-06-01T12:00", "2027-06-01T00:00", "2027-06-02T00:00"),
        ("UTC", "2027-06-01T00:00", "2027-06-01T00:00", "2027-06-02T00:00"),
        ("UTC", "2028-02-28T23:59", "2028-02-28T00:00", "2028-02-29T00:00"),  # a leap day
        ("UTC", "2028-02-29T23:59", "2028-02-29T00:00", "2028-03-01T00:00"),
        ("Europe/Berlin", "2027-01-15T00:30", "2027-01-14T23:00", "2027-01-15T23:00"),
        ("Europe/Berlin", "2027-03-28T12:00", "2027-03-27T23:00", "2027-03-28T22:00"),  # 23 hours
        ("Europe/Berlin", "2027-10-31T12:00", "2027-10-30T22:00", "2027-10-31T23:00"),  # 25 hours
        ("America/New_York", "2027-03-14T12:00", "2027-03-14T05:00", "2027-03-15T04:00"),
        ("America/New_York", "2027-11-07T12:00", "2027-11-07T04:00", "2027-11-08T05:00"),
        ("Asia/Kolkata", "2027-06-01T18:29", "2027-05-31T18:30", "2027-06-01T18:30"),
        ("Asia/Kolkata", "2027-06-01T18:30", "2027-06-01T18:30", "2027-06-02T18:30"),
        ("America/Santiago", "2027-09-05T12:00", "2027-09-05T04:00", "2027-09-06T03:00"),  # 00:00 does not exist
        ("America/Havana", "2027-11-07T04:30", "2027-11-07T04:00", "2027-11-08T05:00"),  # 00:30 is there twice
        ("America/Havana", "2027-11-07T05:30", "2027-11-07T04:00", "2027-11-08T05:00"),
    ],
)
def test_a_day_begins_and_ends_at_midnight_where_the_provider_counts(
    zone: str, now: str, began: str, ends: str
) -> None:
    quota = Quota(limit=300, period="day", zone=zone)
    assert since(quota, at(now)) == at(began)
    assert resets_at(quota, at(now), ()) == at(ends)


@pytest.mark.parametrize(
    ("zone", "now", "began", "ends"),
    [
        ("UTC", "2027-12-31T23:59", "2027-12-01T00:00", "2028-01-01T00:00"),
        ("UTC", "2028-02-29T12:00", "2028-02-01T00:00", "2028-03-01T00:00"),
        ("UTC", "2027-01-31T12:00", "2027-01-01T00:00", "2027-02-01T00:00"),
        ("America/New_York", "2027-03-01T04:30", "2027-02-01T05:00", "2027-03-01T05:00"),
        ("America/New_York", "2027-03-20T00:00", "2027-03-01T05:00", "2027-04-01T04:00"),
    ],
)
def test_a_month_begins_on_its_first_day_where_the_provider_counts(zone: str, now: str, began: str, ends: str) -> None:
    quota = Quota(limit=3000, period="month", zone=zone)
    assert since(quota, at(now)) == at(began)
    assert resets_at(quota, at(now), ()) == at(ends)


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("period", ["day", "month"])
def test_windows_of_a_year_and_a_half_follow_each_other_without_gap_and_begin_with_a_bucket(
    zone: str, period: str
) -> None:
    quota = Quota(limit=1, period="day" if period == "day" else "month", zone=zone)
    now, end, windows = since(quota, at("2027-01-01T12:00")), at("2028-07-01T00:00", zone), 0
    while now < end:
        assert now == bucket_of(now)
        assert since(quota, now) == now
        assert since(quota, now - 1) < now
        local = datetime.fromtimestamp(now, ZoneInfo(zone))
        assert (local.hour, local.minute) == (0, 0)
        assert period == "day" or local.day == 1
        after = resets_at(quota, now, ())
        assert resets_at(quota, after - 1, ()) == after
        now, windows = after, windows + 1
    assert windows == (547 if period == "day" else 18)


def test_a_rolling_window_opens_when_enough_of_it_has_left() -> None:
    quota = Quota(limit=10, period="rolling", hours=24)
    start = at("2027-06-01T00:00")
    buckets = [(start, 4), (start + 2 * HOUR, 3), (start + 5 * HOUR, 3)]
    now = start + 6 * HOUR
    assert used(quota, now, buckets) == 10
    opens = resets_at(quota, now, buckets)
    assert opens == start + 24 * HOUR + BUCKET
    assert used(quota, opens - 1, buckets) == 10
    assert used(quota, opens, buckets) == 6
    over = [(start, 4), (start + 2 * HOUR, 3), (start + 5 * HOUR, 9)]  # the limit was lowered since
    assert resets_at(quota, now, over) == start + 26 * HOUR + BUCKET


def test_a_rolling_window_that_somebody_else_has_filled_opens_when_ours_begins_to_leave_or_all_of_it_has() -> None:
    quota = Quota(limit=10, period="rolling", hours=24)
    now = at("2027-06-01T12:00")
    assert resets_at(quota, now, [(now - 3600, 1)]) == now - 3600 + 24 * HOUR + BUCKET
    assert resets_at(quota, now, ()) == now + 24 * HOUR


@given(st.floats(0, 4e9), st.integers(1, 72))
def test_a_rolling_window_never_forgets_too_early(now: float, hours: int) -> None:
    quota = Quota(limit=1, period="rolling", hours=hours)
    first = since(quota, now)
    assert first <= now - hours * HOUR < first + BUCKET + 1e-3
    assert used(quota, now, [(bucket_of(now - hours * HOUR + 1e-3), 1)]) == 1


# --- what is left
def allowance(terms: Terms, now: float, buckets: list[tuple[float, int]], in_hand: int = 0) -> Allowance:
    return Allowance({terms.name: terms}, now, lambda name, first: buckets, lambda: {terms.name: in_hand})


def test_what_is_in_hand_and_what_was_just_taken_counts_like_what_was_used() -> None:
    now = at("2027-06-01T12:00")
    terms = Terms("brevo", quotas=(Quota(limit=300, period="day"),), reserve=0)
    one = allowance(terms, now, [(now - HOUR, 100), (now - 24 * HOUR, 300)], in_hand=20)
    assert one.left("brevo", False) == 180
    one.take("brevo", 80)
    assert one.left("brevo", False) == 100
    assert not one.reserved


def test_a_tenth_is_kept_for_accounts_of_high_priority() -> None:
    now = at("2027-06-01T12:00")
    one = allowance(Terms("brevo", quotas=(Quota(limit=300, period="day"),)), now, [(now - HOUR, 265)])
    assert (one.left("brevo", False), one.left("brevo", True)) == (5, 35)
    small = allowance(Terms("brevo", quotas=(Quota(limit=5, period="day"),)), now, [])
    assert (small.left("brevo", False), small.left("brevo", True)) == (5, 5)


def test_of_several_quotas_the_tightest_holds_and_the_last_to_open_opens() -> None:
    now = at("2027-06-10T12:00")
    terms = Terms("resend", quotas=(Quota(limit=100, period="day"), Quota(limit=150, period="month")), reserve=0)
    yesterday, today = now - 24 * HOUR, now - HOUR
    assert allowance(terms, now, [(yesterday, 40), (today, 60)]).left("resend", False) == 40
    assert allowance(terms, now, [(yesterday, 80), (today, 60)]).left("resend", False) == 10
    day = allowance(terms, now, [(today, 100)])
    assert (day.left("resend", False), day.resets("resend", False)) == (0, at("2027-06-11T00:00"))
    both = allowance(terms, now, [(yesterday, 50), (today, 100)])
    assert (both.left("resend", False), both.resets("resend", False)) == (0, at("2027-07-01T00:00"))


def test_what_is_only_in_hand_may_come_back_soon() -> None:
    now = at("2027-06-01T12:00")
    one = allowance(Terms("brevo", quotas=(Quota(limit=10, period="day"),), reserve=0), now, [(now, 4)], in_hand=6)
    assert one.left("brevo", False) == 0
    assert one.resets("brevo", False) == now + SOON
    assert one.reserved


def test_a_quota_lowered_below_what_was_used_is_simply_used_up() -> None:
    now = at("2027-06-01T12:00")
    one = allowance(Terms("brevo", quotas=(Quota(limit=10, period="day"),), reserve=0), now, [(now, 40)])
    assert one.left("brevo", False) < 0
    assert one.resets("brevo", False) == at("2027-06-02T00:00")


def test_one_without_a_quota_is_never_asked_of_the_spool() -> None:
    def never(*_: object) -> list[tuple[float, int]]:
        raise AssertionError

    one = Allowance({"ses": Terms("ses")}, 0.0, never, lambda: dict[str, int](never()))
    assert one.left("ses", False) > 1_000_000
