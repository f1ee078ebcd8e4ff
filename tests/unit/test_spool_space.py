"""How much may be accepted, and what is forgotten and given back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.limits import DAY, GIB, MIB
from relay.model import EventKind, Job, State
from relay.spool import SpoolFull, changes, recovery, verbs
from relay.spool.pruning import MESSAGES, Pruner
from relay.spool.recovery import Opened
from relay.spool.space import INODES, Ballast, Disk, Space, floor, look
from support import invariants
from support.spooling import NOW, SetClock, a_message, accepted, ids, results, seize


@pytest.mark.parametrize(
    ("limit", "disk", "expected"),
    [
        (50 * MIB, 10 * GIB, 512 * MIB),
        (50 * MIB, 500 * GIB, GIB),
        (50 * MIB, 1 * GIB, 75 * MIB),
        (50 * MIB, 0, 75 * MIB),
        (1 * MIB, 40 * MIB, 2 * MIB),
    ],
)
def test_the_floor(limit: int, disk: int, expected: int) -> None:
    assert floor(limit, disk) == expected


class ScriptedDisk:
    """A file system that says what it is told to say, and counts how often it was asked."""

    def __init__(self, free: int, inodes: int | None = None) -> None:
        self.disk = Disk(size=GIB, free=free, inodes=inodes)
        self.asked = 0

    def __call__(self, folder: Path) -> Disk:
        self.asked += 1
        return self.disk


def space(disk: ScriptedDisk, clock: SetClock | None = None) -> Space:
    return Space(Path("/"), clock or SetClock(), 50 * MIB, disk)


def test_room_is_what_is_above_the_floor_and_free_pages_count() -> None:
    one = space(ScriptedDisk(100 * MIB))
    assert one.room() == 25 * MIB
    one.free_inside = 10 * MIB
    assert one.room() == 35 * MIB
    one.taken = 34 * MIB
    assert one.room() == 1 * MIB
    with pytest.raises(SpoolFull):
        one.reserve(1 * MIB)
    one.reserve(1 * MIB - 1)
    assert one.room() == 1


def test_the_room_of_a_ballast_that_was_given_up_is_not_for_mail(tmp_path: Path) -> None:
    clock, stone = SetClock(), Ballast(tmp_path / "ballast", 20 * MIB)
    stone.make(Disk(size=GIB, free=GIB, inodes=None), 75 * MIB)
    one = Space(tmp_path, clock, 50 * MIB, ScriptedDisk(100 * MIB), stone)
    assert one.room() == 25 * MIB
    stone.give_up()
    clock.now += 1
    assert one.room() == 5 * MIB


def test_room_is_never_negative_and_nothing_is_reserved_without_it() -> None:
    one = space(ScriptedDisk(0))
    assert one.room() == 0
    with pytest.raises(SpoolFull):
        one.reserve(0)


def test_the_file_system_is_asked_once_a_second() -> None:
    clock, disk = SetClock(), ScriptedDisk(100 * MIB)
    one = space(disk, clock)
    for _ in range(100):
        one.room()
    assert disk.asked == 1
    one.taken = 5 * MIB
    disk.disk = Disk(size=GIB, free=95 * MIB, inodes=None)
    clock.now += 1.0
    assert one.room() == 20 * MIB
    assert (disk.asked, one.taken) == (2, 0)


@pytest.mark.parametrize(("inodes", "room"), [(INODES - 1, 0), (INODES, 25 * MIB), (None, 25 * MIB)])
def test_inodes_count_only_where_they_are_counted(inodes: int | None, room: int) -> None:
    assert space(ScriptedDisk(100 * MIB, inodes)).room() == room


def test_a_real_file_system_can_be_asked(tmp_path: Path) -> None:
    disk = look(tmp_path)
    assert 0 < disk.free <= disk.size


def test_the_ballast_takes_room_only_where_there_is_plenty(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path / "ballast", MIB)
    ballast.make(Disk(size=GIB, free=100 * MIB + 2 * MIB - 1, inodes=None), 100 * MIB)
    assert not ballast.there()
    assert ballast.give_up() is False
    ballast.make(Disk(size=GIB, free=100 * MIB + 2 * MIB, inodes=None), 100 * MIB)
    assert (tmp_path / "ballast").stat().st_size == MIB
    assert ballast.give_up() is True
    assert not ballast.there()


# --- pruning


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    made = recovery.open_store(tmp_path / "spool", NOW)
    yield made
    made.close()


def ended(opened: Opened, state: State, at: float, body: bytes = b"x") -> Job:
    message = a_message(at=at)
    change = changes.add(opened.numbers, opened.numbers.key(), message, body, [accepted(message)])
    (job,) = seize(opened.store, 1, at, change)
    opened.store.apply([changes.mark(ids(job), "sink")], at)
    opened.store.apply([changes.record(opened.numbers, job, results(job, state, at=NOW + 1000 * DAY), [], (), at)], at)
    return job


def prune(opened: Opened, pruner: Pruner, now: float) -> bool:
    change = changes.Change(work=lambda store: pruner.turn(store, now))
    opened.store.apply([change], now)
    return bool(change.answer)


def test_only_what_ended_long_ago_and_was_seen_is_forgotten(opened: Opened, tmp_path: Path) -> None:
    old = ended(opened, State.DELIVERED, NOW)
    unseen, seen = ended(opened, State.REFUSED, NOW), ended(opened, State.EXPIRED, NOW)
    waiting = ended(opened, State.DUE, NOW)
    young = ended(opened, State.DELIVERED, NOW + 5 * DAY)
    opened.store.apply([verbs.verb(EventKind.ACKNOWLEDGED, opened.numbers, NOW, message_id=seen.message.id)], NOW)
    assert prune(opened, Pruner(30 * DAY), NOW + 31 * DAY) is False
    kept = invariants.check(tmp_path / "spool")
    assert set(kept) == {job.message.id for job in (unseen, waiting, young)}
    assert old.message.id not in kept


def test_pruning_goes_little_by_little_and_over_what_stays(opened: Opened) -> None:
    ended(opened, State.DUE, NOW)  # held up at the front for ever
    for _ in range(MESSAGES + 10):
        ended(opened, State.DELIVERED, NOW)
    count = opened.store.connection.execute
    pruner = Pruner(DAY)
    assert prune(opened, pruner, NOW + 2 * DAY) is True
    assert count("SELECT count(*) FROM message").get == 11
    assert prune(opened, pruner, NOW + 2 * DAY) is False
    assert count("SELECT count(*) FROM message").get == 1
    assert count("SELECT count(*) FROM event").get == 1


def test_events_of_no_message_are_forgotten_too(opened: Opened) -> None:
    count = opened.store.connection.execute
    opened.store.write_events(
        opened.store.connection, opened.numbers.event_rows([accepted(a_message(at=at)) for at in (NOW, NOW + DAY)], 0)
    )
    prune(opened, Pruner(DAY), NOW + 1.5 * DAY)
    assert count("SELECT count(*) FROM event").get == 1


def test_free_pages_are_given_back_but_for_some(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relay.spool.pruning.KEEP_FREE", 100)
    for _ in range(10):
        ended(opened, State.DELIVERED, NOW, b"z" * 1_000_000)
    free = opened.store.free_bytes()
    assert free > 100 * 4096
    pruner = Pruner(DAY)
    while prune(opened, pruner, NOW):
        assert opened.store.free_bytes() < free
        free = opened.store.free_bytes()
    assert free == 100 * 4096
