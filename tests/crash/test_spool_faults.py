"""Every write, sync and truncate failing in turn, on a broken disk and on a full one."""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from relay import limits
from relay.model import Message, State
from relay.spool import SpoolError, SpoolFailed, SpoolFull, SpoolUnusable
from relay.spool.log import LIMIT
from support import invariants
from support.faulty_disk import FaultyDisk, broken, full
from support.spooling import BODY, Opened, a_message, accepted, eventually, ids, offering, opened, results

LARGE = b"y" * limits.CHUNK


@pytest.fixture
def disk() -> Iterator[FaultyDisk]:
    made = FaultyDisk("faulty")
    yield made
    made.close()


class Load:
    """A little of everything; remembers what was promised."""

    def __init__(self) -> None:
        self.accepted: list[Message] = []
        self.ended: dict[str, State] = {}
        self.errors: list[SpoolError] = []

    async def run(self, one: Opened) -> None:
        for work in (self._small, self._large, self._deliver, self._small, self._verbs, self._deliver):
            try:
                await work(one)
            except SpoolError as error:
                self.errors.append(error)

    async def _small(self, one: Opened) -> None:
        messages = [a_message(account, to=("a@x.example", "b@x.example")) for account in ("anna", "bert", "anna")]
        for message, error in zip(
            messages, await asyncio.gather(*map(one.add, messages), return_exceptions=True), strict=True
        ):
            if not isinstance(error, BaseException):
                self.accepted.append(message)
            elif isinstance(error, SpoolError):
                self.errors.append(error)
            else:
                raise error

    async def _large(self, one: Opened) -> None:
        message = a_message()
        upload = one.spool.upload(message.id)
        try:
            for _ in range(5):
                await upload.write(LARGE)
            await upload.commit(message, b"end", [accepted(message)])
        except SpoolError:
            upload.abort()
            raise
        self.accepted.append(message)

    async def _deliver(self, one: Opened) -> None:
        try:
            jobs = await asyncio.wait_for(one.spool.claim(offering(3)), 0.3)
        except TimeoutError:
            return  # the fault took what there was to claim
        for n, job in enumerate(jobs):
            await one.spool.mark(ids(job), "sink")
            state = State.DELIVERED if n % 2 else State.REFUSED
            await one.spool.record(job, results(job, state), [], () if n % 2 else [(a_message("bert"), BODY, [])])
            self.ended[job.message.id] = state

    async def _verbs(self, one: Opened) -> None:
        await one.spool.hold(account="bert")
        await one.spool.unhold(account="bert")

    def judge(self, folder: Path) -> None:
        kept = invariants.check(folder)
        for message in self.accepted:
            assert message.id in kept, f"{message.id} was accepted and is lost"
        for name, state in self.ended.items():
            assert set(kept[name].deliveries.values()) == {state}


async def test_a_broken_disk_stops_the_spool_at_once_and_loses_nothing(tmp_path: Path, disk: FaultyDisk) -> None:
    step = 0
    seen: set[str] = set()
    stopped = 0
    while True:
        step += 1 if step < 80 else 7
        folder, load, stop = tmp_path / str(step), Load(), 0
        disk.steps, disk.trouble = 0, broken(step)
        disk.log.clear()
        try:
            async with opened(folder, vfs="faulty") as one:
                await load.run(one)
                hit = disk.steps >= step
                stop = disk.steps if one.fatal else 0
                if hit and one.fatal:
                    stopped += 1
                    await _refuses_everything(one, disk)
        except SpoolUnusable:
            hit = True
        if not hit:
            break
        seen.add(disk.log[step - 1][0])
        assert not stop or disk.steps == stop, "something was written on the way out"
        disk.trouble = broken(0)
        async with opened(folder):
            pass
        load.judge(folder)
    assert stopped > 50
    assert {"write", "sync"} <= seen


async def _refuses_everything(one: Opened, disk: FaultyDisk) -> None:
    assert len(one.fatal) == 1
    written = disk.steps
    with pytest.raises(SpoolFailed):
        await one.add()
    with pytest.raises(SpoolFailed):
        await one.spool.claim(offering(1))
    with pytest.raises(SpoolFailed):
        await one.spool.mark([1], "sink")
    with pytest.raises(SpoolFailed):
        await one.spool.drop(a_message().id)
    assert len(one.fatal) == 1
    assert disk.steps == written, "something was written behind a failed write"


async def test_a_disk_that_is_full_for_a_moment_refuses_that_and_goes_on(tmp_path: Path, disk: FaultyDisk) -> None:
    refused, opening = 0, 100  # more steps than opening takes
    for step in [*range(opening + 1, opening + 70), *range(opening + 70, opening + 640, 29)]:
        folder, load = tmp_path / str(step), Load()
        disk.steps, disk.trouble = 0, full(step, step + 3)
        async with opened(folder, vfs="faulty") as one:
            assert disk.steps < opening
            disk.steps = opening
            await load.run(one)
            assert not one.fatal, f"at step {step}: {one.fatal}"
            assert all(isinstance(error, SpoolFull) for error in load.errors), load.errors
            refused += len(load.errors)
            disk.trouble = full(0, 0)
            load.accepted.append(await one.add())
        load.judge(folder)
    assert refused > 20


async def test_outcomes_get_through_on_a_full_disk_by_giving_up_the_ballast(tmp_path: Path, disk: FaultyDisk) -> None:
    folder = tmp_path / "spool"
    async with opened(folder, vfs="faulty", ballast=limits.MIB) as one:
        message = await one.add()
        (job,) = await one.spool.claim(offering(1))
        ballast = folder / "ballast"
        assert ballast.stat().st_blocks * 512 >= limits.MIB
        disk.trouble = lambda step, what, path: full(0, 10**9)(step, what, path) if ballast.exists() else 0
        adding = asyncio.gather(*(one.add() for _ in range(3)), return_exceptions=True)
        await one.spool.mark(ids(job), "sink")
        assert not ballast.exists()
        assert not any(isinstance(error, SpoolFull) for error in await adding)  # the room it gave is there for all
        await one.spool.record(job, results(job, State.DELIVERED), [])
    assert set(invariants.check(folder)[message.id].deliveries.values()) == {State.DELIVERED}
    async with opened(folder, ballast=limits.MIB):
        assert ballast.exists()


async def test_new_mail_alone_never_costs_the_ballast(tmp_path: Path, disk: FaultyDisk) -> None:
    async with opened(tmp_path / "spool", vfs="faulty", ballast=limits.MIB) as one:
        disk.trouble = full(0, 10**9)
        with pytest.raises(SpoolFull):
            await one.add()
        assert (tmp_path / "spool" / "ballast").exists()
        disk.trouble = full(0, 0)
        await one.add()


async def test_one_big_message_that_does_not_fit_is_refused_without_the_small_ones(
    tmp_path: Path, disk: FaultyDisk
) -> None:
    async with opened(tmp_path / "spool", vfs="faulty") as one:
        room = 60

        def trouble(step: int, what: str, path: Path) -> int:
            writes = [entry for entry in disk.log if entry[0] == "write"]
            return full(0, step)(step, what, path) if len(writes) > room else 0

        big = a_message()
        disk.log.clear()
        disk.trouble = trouble
        first = asyncio.gather(one.add(big, b"z" * 200_000), one.add(), return_exceptions=True)
        answers = await first
        assert isinstance(answers[0], SpoolFull)
        disk.log.clear()
        assert isinstance(await one.add(), Message)
    assert big.id not in invariants.check(tmp_path / "spool")


async def test_the_last_commit_of_an_upload_syncs_and_its_chunks_do_not(tmp_path: Path, disk: FaultyDisk) -> None:
    async with opened(tmp_path / "spool", vfs="faulty") as one:
        await one.add()
        message = a_message()
        upload = one.spool.upload(message.id)
        disk.log.clear()
        for _ in range(6):
            await upload.write(LARGE)
        await eventually(lambda: not upload._flying)
        before = [entry for entry in disk.log if entry[0] == "sync"]
        await upload.commit(message, b"end", [])
        after = [entry for entry in disk.log if entry == ("sync", "spool.db-wal")]
    assert before == []
    assert len(after) == 1
    last_write = max(n for n, entry in enumerate(disk.log) if entry == ("write", "spool.db-wal"))
    assert disk.log.index(after[0]) > last_write


async def test_a_small_disk_that_fills_and_empties_again(small_disk: Path) -> None:
    folder = small_disk / "spool"
    async with opened(folder, message_size_limit=limits.MIB, ballast=limits.BALLAST) as one:
        assert one.spool.room() < 128 * limits.MIB
        kept = [await _accept_until_full(one)]
        assert len(kept[0]) > 100
        delivered = 0
        while delivered < len(kept[0]):
            for job in await one.spool.claim(offering(100)):
                await one.spool.mark(ids(job), "sink")
                await one.spool.record(job, results(job, State.DELIVERED), [])
                delivered += 1
        assert not one.fatal
        assert not (folder / "ballast").exists()
        kept.append(await _accept_until_full(one))
        assert len(kept[1]) > 100
    assert set(kept[0] + kept[1]) <= set(invariants.check(folder))


async def test_bodies_of_failed_mail_yield_to_new_mail_on_a_disk_that_is_really_full(small_disk: Path) -> None:
    folder, failed = small_disk / "spool", list[str]()
    async with opened(folder, message_size_limit=limits.MIB, ballast=limits.BALLAST) as one:
        for _ in range(40):
            failed.append((await one.add(body=b"z" * 200_000)).id)
            (job,) = await one.spool.claim(offering())
            await one.spool.record(job, results(job, State.REFUSED), [])
        other = small_disk / "other"
        _take_the_rest(other)
        os.truncate(other, other.stat().st_size - 40 * limits.MIB)
        kept = await _accept_while_there_is_room(one)
        assert len(kept) > 50
        assert not one.fatal
        assert (folder / "ballast").exists(), "that one is for outcomes"
    found = invariants.check(folder)
    assert set(kept) <= set(found)
    assert [name for name in failed if found[name].body is not None] == []


async def test_what_the_ballast_gives_is_for_the_log_which_may_be_as_long_as_it_gets(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.spool.log.PAGES", LIMIT - 100)  # as where copying is slower than what comes in
    folder = small_disk / "spool"
    async with opened(folder, message_size_limit=limits.MIB, ballast=limits.BALLAST) as one:
        log, kept = folder / "spool.db-wal", 0
        while log.stat().st_size < 50 * limits.MIB:
            await one.add(body=b"z" * 200_000)
            kept += 1
        _take_the_rest(small_disk / "other")
        assert (folder / "ballast").exists()
        for _ in range(14):
            for job in await one.spool.claim(offering(100)):
                await one.spool.mark(ids(job), "sink")
                await one.spool.record(job, results(job, State.DUE), [])
        assert not one.fatal
        assert not (folder / "ballast").exists()
    async with opened(folder, message_size_limit=limits.MIB) as one:  # the other program's file is still there
        assert len(await one.spool.queue()) == kept


def _take_the_rest(file: Path) -> None:
    with suppress(OSError), file.open("wb", buffering=0) as out:
        while out.write(bytes(4096)):
            pass


async def test_a_disk_that_is_full_at_the_start_costs_the_ballast(tmp_path: Path, disk: FaultyDisk) -> None:
    folder = tmp_path / "spool"
    async with opened(folder, vfs="faulty", ballast=limits.MIB) as one:
        kept = await one.add()
    disk.trouble = lambda step, what, path: full(0, 10**9)(step, what, path) if (folder / "ballast").exists() else 0
    async with opened(folder, vfs="faulty") as one:
        assert not (folder / "ballast").exists()
        assert [entry.message.id for entry in await one.spool.queue()] == [kept.id]
    disk.trouble = full(0, 10**9)
    with pytest.raises(SpoolUnusable, match="is full"):
        async with opened(folder, vfs="faulty"):
            pass


async def _accept_until_full(one: Opened) -> list[str]:
    kept = []
    while True:
        try:
            kept.append((await one.add(body=b"z" * 200_000)).id)
        except SpoolFull:
            return kept


async def _accept_while_there_is_room(one: Opened) -> list[str]:
    """As a session does: no byte is taken without room for the whole."""
    kept = []
    while True:
        one.clock.now += 1.0  # the disk is asked once a second
        try:
            reservation = one.spool.reserve(200_000)
        except SpoolFull:
            return kept
        kept.append((await one.add(body=b"z" * 200_000)).id)
        reservation.release()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 192 MiB."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0 or libc.mount(b"none", bytes(tmp_path), b"tmpfs", 0, b"size=192m") != 0:
        pytest.skip("a small disk can only be mounted by root")
    yield tmp_path
    libc.umount2(bytes(tmp_path), 2)  # MNT_DETACH
