"""Whether an account sends far more than it usually does: what a stolen password looks like before its limits end it.

An hour (by the clock, UTC) is unusual when it has more recipients than :data:`FLOOR`, and than :data:`TIMES` times the
median of those hours of the last week in which the account sent anything. That is told once an hour, with the message
that tips it. For accounts that say ``unusual_volume = "pause"`` nothing more is taken from then on: for a day, or until
the account's entry in ``accounts.toml`` changes (a new password does that), or until a restart.

Pure; the clock's times are given. A week of one account is at most 168 numbers.
"""

from __future__ import annotations

import statistics
from typing import NamedTuple

from relay import limits
from relay.accounts import Account

FLOOR = 50  # recipients in an hour: half of the default limit
TIMES = 10
PAUSE = limits.DAY
_WEEK = int(7 * limits.DAY / limits.HOUR)


class Unusual(NamedTuple):
    """What was found: ``recipients`` in this hour where ``usual`` is the median."""

    recipients: int
    usual: int


class Volume:
    """Recipients of each account by the hour, and who is paused."""

    def __init__(self) -> None:
        self._hours: dict[str, dict[int, int]] = {}
        self._told: dict[str, int] = {}  # the hour that was last told of
        self._paused: dict[str, tuple[Account, float]] = {}  # the entry as it was, and until when

    def add(self, name: str, count: int, at: float) -> None:
        """Count recipients (negative: take back) that were accepted at the Unix time ``at``."""
        hours, hour = self._hours.setdefault(name, {}), int(at // limits.HOUR)
        hours[hour] = hours.get(hour, 0) + count
        if len(hours) > _WEEK:
            self._hours[name] = {one: held for one, held in hours.items() if one > hour - _WEEK}

    def judge(self, account: Account, now: float) -> Unusual | None:
        """To be asked after :meth:`add`: what is unusual and not told yet. Pauses the account if that is wanted."""
        hours, hour = self._hours.get(account.name, {}), int(now // limits.HOUR)
        recipients = hours.get(hour, 0)
        if recipients <= FLOOR or self._told.get(account.name) == hour:
            return None
        others = [held for one, held in hours.items() if hour - _WEEK < one < hour and held > 0]
        usual = int(statistics.median(others)) if others else 0
        if recipients <= TIMES * usual:
            return None
        self._told[account.name] = hour
        if account.pause_when_unusual:
            self._paused[account.name] = account, now + PAUSE
        return Unusual(recipients, usual)

    def paused_until(self, account: Account, now: float) -> float:
        """The Unix time at which the account's pause ends; 0 if it has none."""
        entry, until = self._paused.get(account.name, (account, 0.0))
        if until and (until <= now or entry != account):
            del self._paused[account.name]
            return 0.0
        return until
