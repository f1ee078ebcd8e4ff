"""Whether an account sends far more than it usually does: what a stolen password looks like before its limits end it.

An hour (by the clock, UTC) is unusual when it has more recipients than :data:`FLOOR`, and than :data:`TIMES` times the
median of those hours of the last week in which the account sent anything. That is told once an hour, with the message
that tips it. For accounts that say ``unusual_volume = "pause"`` nothing more is taken from then on: for a day, or until
the account has a new password or says "report", or until a restart. No other edit of its entry ends a pause: whoever
made it need not have heard of one. After a new password or a day, the hour that caused the pause and the one in hand
count no more, or the burst would be what the account usually sends; who says "report" says that it was.

Pure; the clock's times are given. A week of one account is at most 168 numbers.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import NamedTuple

from relay import limits
from relay.accounts import Account, Accounts

FLOOR = 50  # recipients in an hour: half of the default limit
TIMES = 10
PAUSE = limits.DAY
_WEEK = int(7 * limits.DAY / limits.HOUR)


class Unusual(NamedTuple):
    """What was found: ``recipients`` in this hour where ``usual`` is the median."""

    recipients: int
    usual: int


class Pause(NamedTuple):
    """``password_hash``: the account's when it began; ``hour``: the one that caused it."""

    password_hash: str
    until: float
    hour: int


class Volume:
    """Recipients of each account by the hour, and who is paused. ``on_end(name, why)`` hears of each pause's end."""

    def __init__(self) -> None:
        self.on_end: Callable[[str, str], None] = lambda name, why: None  # noqa: ARG005
        self._hours: dict[str, dict[int, int]] = {}
        self._told: dict[str, int] = {}  # the hour that was last told of
        self._paused: dict[str, Pause] = {}

    def add(self, name: str, count: int, at: float) -> None:
        """Count recipients (negative: take back) that were accepted at the Unix time ``at``."""
        hours, hour = self._hours.setdefault(name, {}), int(at // limits.HOUR)
        hours[hour] = hours.get(hour, 0) + count
        if len(hours) > _WEEK:
            self._hours[name] = {one: held for one, held in hours.items() if one > hour - _WEEK}

    def judge(self, account: Account, now: float) -> Unusual | None:
        """To be asked after :meth:`add`, for an account that is not paused: what is to be told. Pauses it if wanted."""
        hours, hour = self._hours.get(account.name, {}), int(now // limits.HOUR)
        recipients = hours.get(hour, 0)
        if recipients <= FLOOR:
            return None
        others = [held for one, held in hours.items() if hour - _WEEK < one < hour and held > 0]
        usual = int(statistics.median(others)) if others else 0
        if recipients <= TIMES * usual:
            return None
        if account.pause_when_unusual:
            self._paused[account.name] = Pause(account.password_hash, now + PAUSE, hour)
        elif self._told.get(account.name) == hour:
            return None
        self._told[account.name] = hour
        return Unusual(recipients, usual)

    def withdraw(self, name: str, count: int, at: float, *, judged: bool) -> None:
        """What was added was not accepted after all; ``judged``: nor will anybody read what was to be told with it."""
        self.add(name, -count, at)
        if judged:
            self._told.pop(name, None)
            self._paused.pop(name, None)

    def paused_until(self, name: str, now: float) -> float:
        """The Unix time at which the account's pause ends; 0 if it has none."""
        pause = self._paused.get(name)
        if pause is None:
            return 0.0
        if pause.until <= now:
            self._begin_anew(name, now)
            self._end(name, "a day has passed")
            return 0.0
        return pause.until

    def accounts_changed(self, accounts: Accounts, now: float) -> None:
        """End the pauses that these accounts, now in force, end."""
        for name, pause in list(self._paused.items()):
            account = accounts.find(name)
            if account is None:
                continue
            if account.password_hash != pause.password_hash:
                self._begin_anew(name, now)
                self._end(name, "new password")
            elif not account.pause_when_unusual:
                self._end(name, 'unusual_volume = "report"')

    def _begin_anew(self, name: str, now: float) -> None:
        for hour in (self._paused[name].hour, int(now // limits.HOUR)):
            self._hours[name].pop(hour, None)

    def _end(self, name: str, why: str) -> None:
        del self._paused[name]
        self.on_end(name, why)
