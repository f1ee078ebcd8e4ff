"""Quotas are exact: in any order of claims, outcomes and crashes, against a list of what was sent; and for a year."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from relay.choice.offer import Closed, Offer, Terms
from relay.choice.quota import Quota
from relay.choice.routes import Route, Routes
from relay.limits import DOUBT_WAIT
from relay.model import Job, Result, State
from relay.spool import changes, recovery
from support.scratch import scratch_folder
from support.spooling import NOW, a_message, ids, seize

HOUR, DAY = 3600.0, 86400.0


@dataclass(frozen=True)
class Spent:
    """Recipients that a provider took, or may have taken."""

    provider: str
    at: float
    recipients: int


def local_day(at: float, zone: str) -> tuple[int, int, int]:
    local = datetime.fromtimestamp(at, ZoneInfo(zone))
    return local.year, local.month, local.day


def window(quota: Quota, spent: list[Spent], provider: str, now: float) -> int:
    """What counts in the window at ``now``, told in the plainest way."""
    mine = [one for one in spent if one.provider == provider]
    if quota.period == "rolling":
        return sum(one.recipients for one in mine if now - quota.hours * HOUR < one.at <= now)
    parts = 3 if quota.period == "day" else 2
    today = local_day(now, quota.zone)[:parts]
    return sum(one.recipients for one in mine if local_day(one.at, quota.zone)[:parts] == today)


QUOTAS = {
    "brevo": (Quota(limit=12, period="day", zone="Europe/Berlin"),),
    "infomaniak": (Quota(limit=9, period="rolling", hours=3),),
    "resend": (Quota(limit=7, period="day"), Quota(limit=15, period="month")),
}
NAMES = tuple(QUOTAS)
RESERVE = 0.25


class QuotaMachine(RuleBasedStateMachine):
    """The store beside a list of what was sent and a set of what is in hand."""

    def __init__(self) -> None:
        super().__init__()
        self.parent = scratch_folder()
        self.folder = Path(self.parent.name) / "spool"
        self.now = NOW
        self.opened = recovery.open_store(self.folder, self.now)
        self.spent: list[Spent] = []
        self.jobs: list[Job] = []
        self.marked: set[int] = set()

    def teardown(self) -> None:
        self.opened.close()
        self.parent.cleanup()

    def _in_hand(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for job in self.jobs:
            found[job.provider] += len(job.recipients)
        return found

    def _left(self, provider: str, high: bool) -> int:
        in_hand = self._in_hand()[provider]
        limits = [
            (quota.limit if high else quota.limit - math.floor(quota.limit * RESERVE))
            - window(quota, self.spent, provider, self.now)
            for quota in QUOTAS[provider]
        ]
        return min(limits) - in_hand

    @rule(
        accounts=st.lists(st.sampled_from(["anna", "app"]), min_size=1, max_size=4),
        to=st.integers(1, 6),
        room=st.integers(1, 4),
        shut=st.sets(st.sampled_from(NAMES)),
        at_once=st.booleans(),
    )
    def accept(self, accounts: list[str], to: int, room: int, shut: set[str], at_once: bool) -> None:
        numbers = self.opened.numbers
        messages = [a_message(account, [f"r{n}@x.example" for n in range(to)], self.now) for account in accounts]
        group = [changes.add(numbers, numbers.key(), message, b"b", []) for message in messages]
        if at_once:
            self._took(self.opened.store.apply(group, self.now, self._offer(room, shut)))
        else:
            self.opened.store.apply(group, self.now)

    def _offer(self, room: int, shut: set[str]) -> Offer:
        return Offer(
            {name: Terms(name, quotas=quotas, reserve=RESERVE, recipients=4) for name, quotas in QUOTAS.items()},
            Routes(NAMES),
            dict.fromkeys(NAMES, room),
            {name: Closed(math.inf, "it is shut") for name in shut},
            high=frozenset({"app"}),
        )

    @rule(room=st.integers(1, 4), shut=st.sets(st.sampled_from(NAMES)))
    def claim(self, room: int, shut: set[str]) -> None:
        before = {(name, high): self._left(name, high) for name in NAMES for high in (False, True)}
        jobs = seize(self.opened.store, self._offer(room, shut), self.now)
        self._took(jobs)
        assert all(job.provider not in shut for job in jobs)
        if not jobs:
            self._nothing_could_be_taken(shut, before)

    def _took(self, jobs: list[Job]) -> None:
        for job in jobs:  # in the order in which they were chosen for
            self.jobs.append(job)
            assert job.provider in NAMES
            assert len(job.recipients) <= 4
            if job.message.account == "anna":
                assert self._left(job.provider, False) >= 0, "the reserve was touched"

    def _nothing_could_be_taken(self, shut: set[str], left: dict[tuple[str, bool], int]) -> None:
        due = self.opened.store.connection.execute(
            "SELECT account, tried FROM delivery WHERE state = 'due' AND next_attempt <= ? AND NOT EXISTS (SELECT 1 "
            "FROM delivery WHERE tried GLOB '^^*' AND state IN ('due', 'claimed', 'sending'))",  # tried alone: all wait
            (self.now,),
        )
        for account, tried in due:
            tried = tried.lstrip("^")
            untried = set(NAMES) - set(tried.split()) or set(NAMES)
            names = {tried[1:]} if tried.startswith("=") else untried
            for name in (
                names - shut - {"infomaniak"}
            ):  # its window opens up to a quarter of an hour later than it could
                assert left[name, account == "app"] <= 0, f"{name} could have taken it"

    @rule(which=st.integers(0, 9))
    def mark(self, which: int) -> None:
        if self.jobs:
            job = self.jobs[which % len(self.jobs)]
            self.opened.store.apply([changes.mark(ids(job), job.provider)], self.now)
            self.marked.update(ids(job))

    @rule(
        which=st.integers(0, 9),
        outcomes=st.lists(st.sampled_from(["delivered", "refused", "elsewhere", "in doubt"]), min_size=6, max_size=6),
    )
    def record(self, which: int, outcomes: list[str]) -> None:
        if not self.jobs:
            return
        job = self.jobs.pop(which % len(self.jobs))
        some = []
        for recipient, outcome in zip(job.recipients, outcomes, strict=False):
            state = {"delivered": State.DELIVERED, "refused": State.REFUSED}.get(outcome, State.DUE)
            one = Result(delivery=recipient.delivery, state=state, provider=job.provider, next_attempt=self.now)
            if outcome == "elsewhere":
                one = one._replace(tried=" ".join(recipient.tried | {job.provider}), doubts=recipient.doubts)
            elif outcome == "in doubt":
                one = one._replace(doubts=recipient.doubts + 1, next_attempt=self.now + DOUBT_WAIT)
            consumed = outcome in ("delivered", "in doubt")
            some.append(one._replace(consumed=consumed))
            if consumed:
                self.spent.append(Spent(job.provider, self.now, 1))
        self.opened.store.apply([changes.record(self.opened.numbers, job, some, [], (), self.now)], self.now)
        self.marked.difference_update(ids(job))

    @rule(which=st.integers(0, 9))
    def release(self, which: int) -> None:
        if self.jobs:
            job = self.jobs.pop(which % len(self.jobs))
            if self.marked & set(ids(job)):
                self.jobs.append(job)
            else:
                self.opened.store.apply([changes.release([job])], self.now)

    @rule(hours=st.sampled_from([0.1, 1.0, 3.0, 7.5, 24.0, 24.0 * 20]))
    def time_passes(self, hours: float) -> None:
        self.now += hours * HOUR

    @rule(in_order=st.booleans())
    def end(self, in_order: bool) -> None:
        self.opened.close(in_order=in_order)
        self.opened = recovery.open_store(self.folder, self.now)
        stuck = {one.delivery for job in self.opened.stuck for one in job.recipients}
        for job in self.jobs:
            lost = [one for one in ids(job) if one in self.marked and one not in stuck]
            if lost:
                self.spent.append(Spent(job.provider, self.now, len(lost)))
        self.jobs = list(self.opened.stuck)
        self.marked = stuck

    @invariant()
    def no_quota_is_exceeded_by_what_was_sent_and_may_be_sent(self) -> None:
        in_hand = self._in_hand()
        for name, quotas in QUOTAS.items():
            for quota in quotas:
                assert window(quota, self.spent, name, self.now) + in_hand[name] <= quota.limit

    @invariant()
    def the_spool_counts_what_was_sent(self) -> None:
        found = self.opened.store.connection.execute("SELECT provider, sum(used) FROM quota GROUP BY provider")
        counted: Counter[str] = Counter()
        for one in self.spent:
            counted[one.provider] += one.recipients
        assert dict(found) == dict(counted)


QuotaMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestQuotaMachine = QuotaMachine.TestCase


# --- a year
CLOCKS = {
    "berlin": Quota(limit=6, period="day", zone="Europe/Berlin"),
    "newyork": Quota(limit=6, period="day", zone="America/New_York"),
    "kolkata": Quota(limit=6, period="day", zone="Asia/Kolkata"),
    "month": Quota(limit=20, period="month", zone="America/New_York"),
    "rolling": Quota(limit=6, period="rolling", hours=24),
}
BEGIN, END = datetime(2027, 10, 1, tzinfo=ZoneInfo("UTC")), datetime(2028, 11, 20, tzinfo=ZoneInfo("UTC"))


def test_for_a_year_each_window_is_used_up_and_none_exceeded_and_the_spool_wakes_when_the_next_begins(
    scratch: Path,
) -> None:
    """Winter and summer time, in both directions, and the leap day 2028. Each provider has an account that always has
    more mail than its quota; time is what the spool says that it waits for, with some minutes between."""
    now, opened = BEGIN.timestamp(), recovery.open_store(scratch / "spool", BEGIN.timestamp())
    given = Offer(
        {name: Terms(name, quotas=(quota,), reserve=0) for name, quota in CLOCKS.items()},
        Routes((), tuple(Route((name,), account=name) for name in CLOCKS)),
        dict.fromkeys(CLOCKS, 20),
        {},
    )
    waiting: Counter[str] = Counter()
    spent: list[Spent] = []
    reopened = 0
    while now < END.timestamp():
        for name in CLOCKS:
            group = []
            while waiting[name] < 25:  # of 4 recipients each: so windows are used up in parts
                message = a_message(name, [f"r{n}@x.example" for n in range(4)], now)
                group.append(changes.add(opened.numbers, opened.numbers.key(), message, b"b", []))
                waiting[name] += 4
            opened.store.apply(group, now)
        jobs = seize(opened.store, given, now)
        assert jobs, "the spool woke for nothing"
        records = []
        for job in jobs:
            waiting[job.provider] -= len(job.recipients)
            spent.append(Spent(job.provider, now, len(job.recipients)))
            some = [
                Result(delivery=one, state=State.DELIVERED, provider=job.provider, consumed=True) for one in ids(job)
            ]
            records.append(changes.record(opened.numbers, job, some, [], (), now))
        assert opened.store.apply(records, now, given) == []
        seize(opened.store, given, now)
        if local_day(now, "UTC")[2] == 1 and reopened < local_day(now, "UTC")[1]:
            opened.close()
            opened = recovery.open_store(scratch / "spool", now)
            assert seize(opened.store, given, now) == []
            reopened += 1
        now = opened.store.next_due
    opened.close()
    _judge(spent)


def _judge(spent: list[Spent]) -> None:
    for name in ("berlin", "newyork", "kolkata"):
        zone = CLOCKS[name].zone
        days = Counter[tuple[int, int, int]]()
        for one in spent:
            if one.provider == name:
                days[local_day(one.at, zone)] += one.recipients
                local = datetime.fromtimestamp(one.at, ZoneInfo(zone))
                assert one.at == BEGIN.timestamp() or (local.hour, local.minute) == (0, 0), f"{name} at {local}"
        first, last = min(days), max(days)
        between = (datetime(*last, tzinfo=ZoneInfo(zone)).date() - datetime(*first, tzinfo=ZoneInfo(zone)).date()).days
        assert len(days) == between + 1, "a day was left out"
        assert set(days.values()) == {6}
        assert (2028, 2, 29) in days
    months = Counter[tuple[int, ...]]()
    for one in spent:
        if one.provider == "month":
            months[local_day(one.at, "America/New_York")[:2]] += one.recipients
    assert len(months) == 15  # with September 2027, which it still is in New York when the year begins
    assert set(months.values()) == {20}
    rolling = [one for one in spent if one.provider == "rolling"]
    for one in rolling:
        assert window(CLOCKS["rolling"], rolling, "rolling", one.at) <= 6
    mean = sum(one.recipients for one in rolling) / ((END - BEGIN) / timedelta(days=1))
    assert 5.9 < mean < 6.1  # a quarter of an hour is lost at each turn at most
