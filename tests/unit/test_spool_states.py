"""The state table of docs/spool.md, held against the code: each step that exists, and each that does not."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relay.limits import DOUBT_WAIT
from relay.model import Event, EventKind, Job, State
from relay.spool import changes, recovery, verbs
from relay.spool.changes import Change
from relay.spool.recovery import Opened
from support import invariants
from support.spooling import NOW, a_message, accepted, ids, results, seize

DOC = Path(__file__).resolve().parents[2] / "docs/spool.md"
Step = Callable[[Opened, Job], Change]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    made = recovery.open_store(tmp_path / "spool", NOW)
    yield made
    made.close()


def add(opened: Opened) -> Job:
    """A message with one recipient, claimed by the commit that accepted it; the caller gives it the state it wants."""
    message = a_message()
    key = opened.numbers.key()
    change = changes.add(opened.numbers, key, message, b"S: s\r\n\r\nx\r\n", [accepted(message)])
    (job,) = seize(opened.store, 1, NOW, change)
    return job


def put(opened: Opened, job: Job, state: State) -> None:
    """Bring it into ``state`` the way mail gets there."""
    if state is State.CLAIMED:
        return
    if state in (State.DUE, State.HELD, State.DROPPED):
        opened.store.apply([changes.release([job])], NOW)
        if state is not State.DUE:
            kind = {State.HELD: EventKind.HELD, State.DROPPED: EventKind.DROPPED}[state]
            opened.store.apply([verbs.verb(kind, opened.numbers, NOW, message_id=job.message.id)], NOW)
        return
    opened.store.apply([changes.mark(ids(job), "sink")], NOW)
    if state is not State.SENDING:
        opened.store.apply([changes.record(opened.numbers, job, results(job, state), [], (), NOW)], NOW)


def state_of(opened: Opened, job: Job) -> State:
    found = opened.store.connection.execute("SELECT state FROM delivery WHERE id = ?", (ids(job)[0],)).get
    return State(str(found))


def by_verb(kind: EventKind) -> Step:
    return lambda opened, job: verbs.verb(kind, opened.numbers, NOW + 1, message_id=job.message.id)


def by_result(state: State) -> Step:
    return lambda opened, job: changes.record(opened.numbers, job, results(job, state, at=NOW + 60), [], (), NOW + 1)


STEPS: dict[str, Step] = {
    "mark": lambda opened, job: changes.mark(ids(job), "sink"),
    "release": lambda opened, job: changes.release([job]),
    "retry": lambda opened, job: verbs.retry(opened.numbers, job.message.id, NOW + 1),
    "retry anyway": lambda opened, job: verbs.retry(opened.numbers, job.message.id, NOW + 1, anyway=True),
    "hold": by_verb(EventKind.HELD),
    "unhold": by_verb(EventKind.RELEASED),
    "drop": by_verb(EventKind.DROPPED),
    **{
        f"record {state}": by_result(state)
        for state in (State.DUE, State.DELIVERED, State.REFUSED, State.EXPIRED, State.UNKNOWN, State.HELD)
    },
}
RECORDED = {f"record {state}": state for state in State if f"record {state}" in STEPS}
TABLE: dict[State, dict[str, State]] = {
    State.DUE: {"hold": State.HELD, "drop": State.DROPPED},
    State.CLAIMED: {"mark": State.SENDING, "release": State.DUE, **RECORDED},
    State.SENDING: RECORDED,
    State.HELD: {"retry": State.DUE, "retry anyway": State.DUE, "unhold": State.DUE, "drop": State.DROPPED},
    **{state: {"retry": State.DUE, "retry anyway": State.DUE} for state in (State.REFUSED, State.EXPIRED)},
    State.UNKNOWN: {"retry anyway": State.DUE},  # it may have arrived: somebody has to say so
    **{state: {} for state in (State.DELIVERED, State.DROPPED)},
}


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("step", list(STEPS))
def test_a_step_leads_where_the_table_says_and_otherwise_nowhere(opened: Opened, state: State, step: str) -> None:
    job = add(opened)
    put(opened, job, state)
    opened.store.apply([STEPS[step](opened, job)], NOW + 1)
    assert state_of(opened, job) == TABLE[state].get(step, state)
    opened.store.connection.execute("PRAGMA wal_checkpoint")
    invariants.check(Path(opened.store.connection.filename).parent)


def test_only_what_is_due_is_claimed(opened: Opened) -> None:
    jobs = {state: add(opened) for state in State}
    for state, job in jobs.items():
        put(opened, job, state)
    claimed = seize(opened.store, 100, NOW)
    assert [job.message.id for job in claimed] == [jobs[State.DUE].message.id]


@pytest.mark.parametrize("state", list(State))
def test_what_a_crash_leaves_in_each_state_and_what_the_next_start_makes_of_it(tmp_path: Path, state: State) -> None:
    opened = recovery.open_store(tmp_path / "spool", NOW)
    job = add(opened)
    put(opened, job, state)
    opened.close()
    again = recovery.open_store(tmp_path / "spool", NOW + 5, doubt_wait=120)
    row = again.store.connection.execute(
        "SELECT state, attempts, doubts, next_attempt, provider FROM delivery"
    ).fetchall()[0]
    if state is State.CLAIMED:
        assert row[:3] == (State.DUE, 0, 0)
        assert row[3] <= NOW + 5
    elif state is State.SENDING:
        assert row == (State.DUE, 1, 1, NOW + 5 + 120, "sink")
        assert [event.kind for event in again.events] == [EventKind.DOUBTFUL, EventKind.RECOVERED]
        (tied,) = seize(again.store, 1, NOW + 5 + 120)
        assert tied.tied_to == "sink"
        assert tied.body == b"S: s\r\n\r\nx\r\n"
    else:
        assert row[0] == state
        assert again.events == []
    again.close()


OTHER_MODE = {
    State.DUE: State.HELD,
    State.CLAIMED: State.HELD,  # it was not sent yet
    State.SENDING: State.HELD,  # in doubt, as after any crash
}


@pytest.mark.parametrize("state", list(State))
def test_what_a_start_in_the_other_mode_makes_of_each_state_and_what_the_way_back(tmp_path: Path, state: State) -> None:
    folder = tmp_path / "spool"
    opened = recovery.open_store(folder, NOW)
    job = add(opened)
    put(opened, job, state)
    opened.close()
    other = recovery.open_store(folder, NOW + 5, trial=True)
    assert state_of(other, job) == OTHER_MODE.get(state, state)
    assert seize(other.store, 10, NOW + 1e6) == []
    other.close()
    again = recovery.open_store(folder, NOW + 10)
    assert state_of(again, job) == (State.DUE if state in OTHER_MODE else state)
    again.close()
    invariants.check(folder)


def test_in_doubt_a_third_time_it_waits_for_delivery_to_end_it(tmp_path: Path) -> None:
    folder, now = tmp_path / "spool", NOW
    opened = recovery.open_store(folder, now)
    job = add(opened)
    opened.store.apply([changes.mark(ids(job), "sink")], now)
    opened.close()
    now += DOUBT_WAIT
    opened = recovery.open_store(folder, now)
    (job,) = seize(opened.store, 1, now + DOUBT_WAIT)
    assert (job.recipients[0].doubts, job.recipients[0].attempts) == (1, 1)
    assert opened.stuck == ()
    unanswered = changes.record(opened.numbers, job, results(job, State.DUE, at=now, doubts=1), [], (), now)
    opened.store.apply([changes.mark(ids(job), "sink"), unanswered], now)
    (job,) = seize(opened.store, 1, now + DOUBT_WAIT)
    opened.store.apply([changes.mark(ids(job), "sink")], now)
    for _ in range(2):  # until it is recorded it comes again, and is not sent meanwhile
        opened.close()
        opened = recovery.open_store(folder, now)
        (stuck,) = opened.stuck
        assert (stuck.message.id, stuck.body, stuck.tied_to) == (job.message.id, job.body, "sink")
        assert seize(opened.store, 10, now + 1e6) == []
    ended = changes.record(opened.numbers, stuck, results(stuck, State.UNKNOWN), [], (), now)
    opened.store.apply([ended], now)
    opened.close()
    opened = recovery.open_store(folder, now)
    assert opened.stuck == ()
    opened.close()
    assert invariants.check(folder)[job.message.id].deliveries == {"someone@example.net": State.UNKNOWN}


def test_an_upload_that_was_cut_off_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    opened = recovery.open_store(folder, NOW)
    whole, cut = a_message(), opened.numbers.key()
    opened.store.apply([changes.chunk(cut, 0, b"a" * 1000), changes.chunk(cut, 1, b"b" * 1000)], NOW)
    key = opened.numbers.key()
    opened.store.apply([changes.chunk(key, 0, b"a" * 1000)], NOW)
    opened.store.apply([changes.add(opened.numbers, key, whole, b"end", [], written=1, size=1000)], NOW)
    opened.close()
    opened = recovery.open_store(folder, NOW)
    assert opened.events[-1].detail["uploads"] == 1
    assert opened.store.connection.execute("SELECT count(*) FROM chunk").get == 2
    assert opened.numbers.key() > key
    opened.close()
    assert invariants.check(folder)[whole.id].body == b"a" * 1000 + b"end"


def test_a_group_is_written_whole_or_not_at_all(opened: Opened) -> None:
    job = add(opened)
    twice = a_message()
    good = changes.add(opened.numbers, opened.numbers.key(), twice, b"x", [accepted(twice)])
    bad = changes.add(opened.numbers, opened.numbers.key(), twice, b"y", [])  # the same id again
    with pytest.raises(Exception, match="UNIQUE"):
        opened.store.apply([good, changes.mark(ids(job), "sink"), bad], NOW)
    assert state_of(opened, job) is State.CLAIMED
    assert opened.store.connection.execute("SELECT count(*) FROM message").get == 1
    opened.store.apply([good], NOW)


def test_a_failure_and_its_notice_are_one_commit(opened: Opened) -> None:
    job, notice = add(opened), a_message()
    queued = Event(kind=EventKind.NOTICE_QUEUED, at=NOW, message=job.message.id)
    change = changes.record(
        opened.numbers, job, results(job, State.REFUSED), [], [(notice, b"x", [queued, accepted(notice)])], NOW
    )
    opened.store.apply([change], NOW)
    kept = invariants.check(Path(opened.store.connection.filename).parent)
    assert kept[job.message.id].events == ["accepted", "notice_queued"]
    assert kept[notice.id].events == ["accepted"]
    assert change.told == [queued, accepted(notice)]
    (claimed,) = seize(opened.store, 5, NOW)
    assert claimed.message.id == notice.id


def test_the_document_names_every_state() -> None:
    rows = set(re.findall(r"^\| `([a-z]+)` \|", DOC.read_text(), re.MULTILINE))
    assert {state.value for state in State} <= rows
