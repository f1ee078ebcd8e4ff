"""A real relay on a disk that fails once: a write, an fsync, a truncation, a change of names, one after the other.

After a failure that can mean damage (EIO) the relay ends by itself; its successor starts on the same disk, where the
failed fsync's pages are still to be seen but will never be written, takes more mail, and then the power goes: the worst
that the kernel's "the next fsync succeeds" can do. After a want of room (ENOSPC) it goes on. In either case what got a
250 is there, whole, once. ``test_spool_faults.py`` does the same to the spool alone, at every step of SQLite's.

CRASH_FAULTS says how many of each list are tried.
"""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.appliance import Appliance, eventually
from support.figures import figures
from support.judge import judge
from support.power.mount import PowerDisk
from support.traffic import KIB, LAN, ExactSink, Mix, Traffic

FAULTS = int(os.environ.get("CRASH_FAULTS", "5"))
Place = tuple[str, str, int, bool]  # what, end of the file's name, n-th; whether at the second start
MIX = Mix(sizes=(KIB, 20 * KIB, 600 * KIB), recipients=(1, 3))


def places(errors: str) -> list[Place]:
    """Where a disk can fail: all syncs first of all, then the rest."""
    both = (False, True)
    found = [("sync", "", n, late) for n in range(1, 60) for late in both]
    found += [("write", end, n, late) for end in ("-wal", ".db") for n in (*range(1, 12), 40, 400) for late in both]
    found += [(what, "", n, late) for what in ("create", "mkdir", "remove") for n in range(1, 7) for late in both]
    found += [("truncate", "", n, late) for n in range(1, 9) for late in both]
    found += [("write", "-shm", n, late) for n in (1, 2, 3) for late in both]
    if errors == "ENOSPC":  # a first start may fail for want of room: there is no mail yet
        found = [place for place in found if place[0] == "write" or (place[0] in ("create", "truncate") and place[3])]
    random.Random(errors).shuffle(found)
    return found[:FAULTS]


@dataclass
class Life:
    """One relay with its disk, clients and provider."""

    relay: Appliance
    disk: PowerDisk
    traffic: Traffic
    sink: ExactSink

    def end_of(self, more: int) -> int | None:
        """The relay's exit code when it ends by itself; None as soon as ``more`` messages have got through instead."""
        process, goal = self.relay.process, len(self.traffic.acknowledged) + more
        assert process is not None
        eventually(lambda: process.poll() is not None or len(self.traffic.acknowledged) >= goal, "an end, or mail", 90)
        return process.poll()


@contextmanager
def life(folder: Path) -> Iterator[Life]:
    folder.mkdir()
    sink = ExactSink()
    try:
        with PowerDisk(folder / "disk") as disk:
            relay = Appliance(folder, sink.settings, {"RELAY_SPOOL": str(disk.mount / "spool"), **LAN})
            sink.traffic = traffic = Traffic(relay, mix=MIX)
            try:
                yield Life(relay, disk, traffic, sink)
            finally:
                traffic.close()
                if relay.process is not None and relay.process.poll() is None:
                    relay.kill()
    finally:
        sink.close()
    assert sink.problems == []


def suffer(one: Life, place: Place, error: int) -> tuple[bool, int | None]:
    """Let it happen; whether it did, and the exit code of a relay that ended by it."""
    what, ending, number, late = place
    if late:
        one.relay.start()
        one.traffic.wait_for(3)
        one.relay.kill()
    one.disk.plan((what, ending, number, error))
    one.relay.spawn()
    code = one.end_of(15)
    happened = one.disk.plan() == [0]
    if code is None and happened:  # perhaps just now: the 250s of before are still coming in
        code = one.end_of(10)
    return happened, code


def losses(where: str, spool: Path, one: Life) -> list[str]:
    """What is lost or torn in ``spool``, a sentence for each; every other broken promise raises."""
    try:
        verdict = judge(spool, one.traffic, one.sink)
    except AssertionError as wrong:
        raise AssertionError(f"{where}: {wrong}") from wrong
    return [f"{where}: {sentence}" for sentence in verdict.lost + verdict.torn]


@pytest.mark.timeout(7200)
def test_a_disk_that_fails_once_and_then_loses_its_power_loses_nothing(tmp_path: Path) -> None:
    happened, ended, promised = 0, 0, 0
    lost: list[str] = []
    for n, place in enumerate(places("EIO")):
        with life(tmp_path / str(n)) as one:
            hit, code = suffer(one, place, errno.EIO)
            assert code is None or (hit and code != 0), f"{place}: it ended with {code}, and nothing had failed"
            if code is not None:
                one.relay.start()
            one.traffic.wait_for(3)
            one.traffic.close()
            one.relay.kill()
            one.disk.leave(tmp_path / "image")
            lost += losses(f"{place}, ended with {code}", tmp_path / "image/spool", one)
            happened, ended, promised = (
                happened + hit,
                ended + (code is not None),
                promised + len(one.traffic.acknowledged),
            )
        clear(tmp_path / "image")
    figures(
        "disk failures, each with a power cut",
        failures=happened,
        ended_the_relay=ended,
        acknowledged=promised,
        lost=len(lost),
    )
    assert not lost
    assert happened


@pytest.mark.timeout(7200)
def test_a_disk_without_room_for_a_moment_stops_nobody_and_loses_nothing(tmp_path: Path) -> None:
    happened, refused, promised = 0, 0, 0
    lost: list[str] = []
    for n, place in enumerate(places("ENOSPC")):
        with life(tmp_path / str(n)) as one:
            hit, code = suffer(one, place, errno.ENOSPC)
            if code is not None:
                said = one.relay.log.read_text()
                assert f"The disk that holds the spool in {one.disk.mount}/spool is full" in said, f"{place}: {said}"
                one.relay.start()
            one.traffic.wait_for(3)
            one.traffic.close()
            one.relay.kill()
            one.disk.leave(tmp_path / "image")
            lost += losses(f"{place}, ended with {code}", tmp_path / "image/spool", one)
            happened, promised = happened + hit, promised + len(one.traffic.acknowledged)
            refused += one.traffic.refused.total()
        clear(tmp_path / "image")
    figures("moments without room", moments=happened, refused=refused, acknowledged=promised, lost=len(lost))
    assert not lost
    assert happened


def clear(folder: Path) -> None:
    """Remove an image."""
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
