"""Any order of everything that can be done to a spool, against a dictionary that says what ought to be there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from relay.limits import DOUBT_WAIT, DOUBTS
from relay.model import FAILED_STATES, OPEN_STATES, EventKind, Job, State
from relay.spool import changes, kept, recovery, verbs
from support import invariants
from support.scratch import scratch_folder
from support.spooling import NOW, a_message, accepted, ids, results, seize

ENDS = (State.DELIVERED, State.REFUSED, State.EXPIRED, State.UNKNOWN)


@dataclass
class Row:
    state: State
    next_attempt: float
    account: str
    doubts: int = 0
    attempts: int = 0
    ends: int = 0  # unclean ends of the relay at which it was in hand, since its last attempt
    acknowledged: bool = False

    @property
    def in_hand(self) -> bool:
        return self.state in (State.CLAIMED, State.SENDING)

    @property
    def suspect(self) -> bool:
        return self.ends > 1

    @property
    def failed(self) -> bool:
        return self.state in FAILED_STATES and not self.acknowledged


class SpoolMachine(RuleBasedStateMachine):
    """The store beside its model: {message id: {recipient: Row}}."""

    def __init__(self) -> None:
        super().__init__()
        self.parent = scratch_folder()
        self.folder = Path(self.parent.name) / "spool"
        self.now = NOW
        self.opened = recovery.open_store(self.folder, self.now)
        self.model: dict[str, dict[str, Row]] = {}
        self.bodies: dict[str, bytes] = {}
        self.kept: dict[str, float] = {}  # failed messages whose bodies are kept: when they ended
        self.jobs: list[Job] = []

    def teardown(self) -> None:
        self.opened.close()
        self.parent.cleanup()

    def _apply(self, *some: changes.Change, claim: int = 0) -> list[Job]:
        if claim:
            return seize(self.opened.store, claim, self.now, *some)
        return self.opened.store.apply(list(some), self.now)

    def _rows(self, job: Job) -> list[Row]:
        return [self.model[job.message.id][one.address] for one in job.recipients]

    def _took(self, jobs: list[Job], limit: int) -> None:
        assert len({job.message.id for job in jobs}) <= limit
        suspects = [row.suspect for job in jobs for row in self._rows(job)]
        every = [row for rows in self.model.values() for row in rows.values()]
        alone = any(row.in_hand and row.suspect for row in every)
        if any(suspects):
            assert all(suspects), "a suspect is tried alone"
            assert not alone, "one suspect at a time"
            assert len({job.message.id for job in jobs}) == 1, "one message at a time"
        for job in jobs:
            assert job.body == (self.bodies[job.message.id] if job.chunks <= 1 else None)
            for one, row in zip(job.recipients, self._rows(job), strict=True):
                assert row.state is State.DUE
                assert row.next_attempt <= self.now
                assert (one.attempts, one.doubts) == (row.attempts, row.doubts)
                row.state = State.CLAIMED
        self.jobs += jobs
        taken = {job.message.id for job in jobs}
        for name in taken:
            assert not any(
                row.state is State.DUE and row.next_attempt <= self.now and row.suspect == suspects[0]
                for row in self.model[name].values()
            ), "some that were due were left"
        if not jobs and not alone and not any(row.suspect for row in every):
            assert not any(
                row.state is State.DUE and row.next_attempt <= self.now
                for rows in self.model.values()
                for row in rows.values()
            ), "nothing was claimed although something was due"

    @rule(
        account=st.sampled_from(["anna", "bert"]),
        to=st.integers(1, 3),
        size=st.sampled_from([0, 1, 5_000]),
        copies=st.integers(1, 3),
        claim=st.integers(0, 4),
    )
    def accept(self, account: str, to: int, size: int, copies: int, claim: int) -> None:
        group = []
        for _ in range(copies):
            message = a_message(account, [f"r{n}@x.example" for n in range(to)], self.now)
            self.bodies[message.id] = b"b" * size
            group.append(
                changes.add(self.opened.numbers, self.opened.numbers.key(), message, b"b" * size, [accepted(message)])
            )
            self.model[message.id] = {address: Row(State.DUE, self.now, account) for address in message.recipients}
        jobs = self._apply(*group, claim=claim)
        if claim:
            self._took(jobs, claim)

    @rule(chunks=st.integers(1, 3), give_up=st.booleans())
    def upload(self, chunks: int, give_up: bool) -> None:
        key, piece = self.opened.numbers.key(), b"c" * 1000
        for n in range(chunks):
            self._apply(changes.chunk(key, n, piece))
        if give_up:
            self._apply(changes.forget(key))
            return
        message = a_message(at=self.now)
        self._apply(
            changes.add(self.opened.numbers, key, message, b"end", [], written=chunks, size=len(piece) * chunks)
        )
        self.bodies[message.id] = piece * chunks + b"end"
        self.model[message.id] = {message.recipients[0]: Row(State.DUE, self.now, "anna")}

    @rule()
    def cut_off(self) -> None:
        self._apply(changes.chunk(self.opened.numbers.key(), 0, b"left behind"))

    @rule(limit=st.integers(1, 5))
    def claim(self, limit: int) -> None:
        self._took(self._apply(claim=limit), limit)

    @rule(which=st.integers(0, 10))
    def mark(self, which: int) -> None:
        if self.jobs:
            job = self.jobs[which % len(self.jobs)]
            self._apply(changes.mark(ids(job), "sink"))
            for row in self._rows(job):
                row.state = State.SENDING

    @rule(which=st.integers(0, 10))
    def release(self, which: int) -> None:
        if self.jobs:
            job = self.jobs.pop(which % len(self.jobs))
            self._apply(changes.release([job]))
            for row in self._rows(job):
                if row.state is State.SENDING:  # only what was not marked goes back; this one the next start finds
                    continue
                row.state = State.DUE

    @rule(which=st.integers(0, 10), state=st.sampled_from([State.DUE, State.HELD, *ENDS]), doubt=st.booleans())
    def record(self, which: int, state: State, doubt: bool) -> None:
        if not self.jobs:
            return
        job = self.jobs.pop(which % len(self.jobs))
        notices = []
        if state is State.REFUSED:
            notice = a_message("anna", at=self.now)
            notices.append((notice, b"failed", [accepted(notice)]))
            self.bodies[notice.id] = b"failed"
            self.model[notice.id] = {notice.recipients[0]: Row(State.DUE, self.now, "anna")}
        later = self.now + 60
        outcome = results(job, state, at=later, doubts=int(doubt))
        self._apply(changes.record(self.opened.numbers, job, outcome, [], notices, self.now))
        for row in self._rows(job):
            row.state, row.next_attempt = state, later
            row.attempts, row.doubts, row.ends = row.attempts + 1, row.doubts + doubt, 0
        self._ended(job.message.id)

    def _ended(self, name: str) -> None:
        rows = self.model[name].values()
        if not any(row.state in OPEN_STATES for row in rows) and any(row.failed for row in rows):
            self.kept[name] = self.now

    @rule(
        kind=st.sampled_from([EventKind.HELD, EventKind.RELEASED, EventKind.DROPPED]),
        account=st.sampled_from(["anna", "bert"]),
    )
    def verb(self, kind: EventKind, account: str) -> None:
        change = verbs.verb(kind, self.opened.numbers, self.now, account=account)
        self._apply(change)
        changed, ended = 0, set[str]()
        of_account = [(name, row) for name, rows in self.model.items() for row in rows.values()]
        for name, row in ((name, row) for name, row in of_account if row.account == account):
            if kind is EventKind.HELD and row.state is State.DUE:
                row.state = State.HELD
            elif kind is EventKind.RELEASED and row.state is State.HELD:
                row.state, row.next_attempt = State.DUE, self.now
            elif kind is EventKind.DROPPED and row.state in (State.DUE, State.HELD):
                row.state = State.DROPPED
                ended.add(name)
            else:
                continue
            changed += 1
        assert change.answer == changed == len(change.told)
        for name in self.model:
            if name in ended:
                self._ended(name)

    @rule(which=st.integers(0, 20), anyway=st.booleans())
    def retry(self, which: int, anyway: bool) -> None:
        if not self.model:
            return
        name = list(self.model)[which % len(self.model)]
        rows = self.model[name].values()
        change = verbs.retry(self.opened.numbers, name, self.now, anyway=anyway)
        self._apply(change)
        there = name in self.kept or any(row.state in OPEN_STATES for row in rows)
        failed = any(row.state in FAILED_STATES for row in rows)
        assert (change.answer.gone_at is not None) == (failed and not there)
        changed = 0
        for row in rows if there else ():
            again = row.failed and (anyway or row.state is not State.UNKNOWN)
            if row.state in (State.DUE, State.HELD) or again:
                row.state, row.next_attempt, row.doubts, row.ends = State.DUE, self.now, 0, 0
                row.attempts = 0 if again else row.attempts
                changed += 1
        assert change.answer.changed == changed == len(change.told)
        assert change.answer.unsure == (sum(row.failed and row.state is State.UNKNOWN for row in rows) if there else 0)
        if changed:
            self.kept.pop(name, None)

    @rule(which=st.integers(0, 20))
    def acknowledge(self, which: int) -> None:
        if not self.model:
            return
        name = list(self.model)[which % len(self.model)]
        self._apply(verbs.verb(EventKind.ACKNOWLEDGED, self.opened.numbers, self.now, message_id=name))
        for row in self.model[name].values():
            row.acknowledged = row.acknowledged or row.state in FAILED_STATES
        self.kept.pop(name, None)

    @rule(size=st.sampled_from([1, 3_000, 10_000_000]))
    def give_up(self, size: int) -> None:
        change = kept.give_up(size, self.now)
        self._apply(change)
        given = 0
        for name in sorted(self.kept, key=lambda name: (self.kept[name], len(self.bodies[name]))):
            if given < size:
                given += len(self.bodies[name])
                del self.kept[name]
        assert change.answer[:2] == (given, sum(len(self.bodies[name]) for name in self.kept))

    @rule(seconds=st.sampled_from([1, 61, DOUBT_WAIT]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def copy_the_log(self) -> None:
        self.opened.store.checkpoint()

    @rule(in_order=st.sampled_from([True, False, False, False]))
    def end(self, in_order: bool) -> None:
        self.opened.close(in_order=in_order)
        self.opened = recovery.open_store(self.folder, self.now)
        self.jobs = []
        for rows in self.model.values():
            for row in rows.values():
                if row.in_hand and row.suspect and not in_order:
                    sent = row.state is State.SENDING
                    row.state, row.attempts, row.doubts = State.HELD, row.attempts + sent, row.doubts + sent
                row.ends += row.in_hand and not in_order
                if row.state is State.CLAIMED:
                    row.state = State.DUE
                elif row.state is State.SENDING and row.doubts < DOUBTS:
                    row.state, row.next_attempt = State.DUE, self.now + DOUBT_WAIT
                    row.attempts, row.doubts = row.attempts + 1, row.doubts + 1
        for job in self.opened.stuck:
            assert all(row.state is State.SENDING for row in self._rows(job))
            self.jobs.append(job)

    @invariant()
    def it_is_as_the_model_says(self) -> None:
        found = invariants.check(self.folder)
        assert {name: one.deliveries for name, one in found.items()} == {
            name: {address: row.state for address, row in rows.items()} for name, rows in self.model.items()
        }
        for name, one in found.items():
            there = name in self.kept or any(row.state in OPEN_STATES for row in self.model[name].values())
            assert one.body == (self.bodies[name] if there else None)


SpoolMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
TestSpoolMachine = SpoolMachine.TestCase
