"""Quotas and their clocks: when a window began, and when it lets something through again.

Pure. Times are Unix seconds. What was used is kept in buckets of a quarter of an hour, because every zone of today
begins its day at a multiple of that (Asia/Kolkata at a half hour, Asia/Kathmandu at a quarter). A rolling window counts
a bucket until all of it has left: so it may wait a quarter of an hour too long and never allows one too many.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

BUCKET: Final = 900.0  # seconds
HOUR: Final = 3600.0
LONGEST: Final = 31 * 86400.0 + HOUR  # no window is longer: a month with the hour that a change of clocks may add


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """How many recipients a provider takes in a window of time."""

    limit: int  # recipients
    period: Literal["day", "month", "rolling"]
    zone: str = "UTC"  # IANA name of the zone whose midnight begins a day or a month
    hours: int = 24  # of a rolling window


def bucket_of(at: float) -> int:
    """The beginning of the bucket that holds ``at``."""
    return int(at // BUCKET) * int(BUCKET)


def since(quota: Quota, now: float) -> float:
    """The beginning of the first bucket that counts at ``now``."""
    if quota.period == "rolling":
        return float(bucket_of(now - quota.hours * HOUR))
    zone = ZoneInfo(quota.zone)
    today = datetime.fromtimestamp(now, zone).date()
    return _midnight(today if quota.period == "day" else today.replace(day=1), zone)


def resets_at(quota: Quota, now: float, buckets: Sequence[tuple[float, int]]) -> float:
    """When the window lets something through again, supposing that it is full at ``now``.

    A day or a month: its end. A rolling window: when so many of ``buckets`` (beginning, recipients used) have left that
    less than the limit remains; when they do not explain that it is full (someone else sends through the same account),
    when the first of them has left; without any, when all of the window has passed.
    """
    if quota.period == "rolling":
        return _rolls_at(quota, now, sorted(buckets))
    zone = ZoneInfo(quota.zone)
    today = datetime.fromtimestamp(now, zone).date()
    if quota.period == "day":
        return _midnight(today + timedelta(days=1), zone)
    return _midnight((today.replace(day=1) + timedelta(days=32)).replace(day=1), zone)


def used(quota: Quota, now: float, buckets: Sequence[tuple[float, int]]) -> int:
    """Recipients that count in the window at ``now``."""
    first = since(quota, now)
    return sum(number for at, number in buckets if at >= first)


def allowed(quota: Quota, reserve: float, high: bool) -> int:
    """What an account may use up to: all of the quota if ``high``, else all but the reserve (a share, rounded down)."""
    return quota.limit if high else quota.limit - math.floor(quota.limit * reserve)


def _rolls_at(quota: Quota, now: float, buckets: Sequence[tuple[float, int]]) -> float:
    first = since(quota, now)
    counting = [(at, number) for at, number in buckets if at >= first and number > 0]
    if not counting:
        return now + quota.hours * HOUR
    staying, leaves = sum(number for _, number in counting), now
    for at, number in counting:
        staying, leaves = staying - number, at + BUCKET + quota.hours * HOUR
        if staying < quota.limit:
            break
    return leaves


def _midnight(day: date, zone: ZoneInfo) -> float:
    """When ``day`` begins in ``zone``: where clocks are put forward at midnight, the moment they are (PEP 495)."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()
