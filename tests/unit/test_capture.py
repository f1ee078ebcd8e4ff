"""The trial's provider: files that hold exactly what would have been sent, whole or not at all, and not too many."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.delivery.capture import CaptureCarrier, CaptureFolder
from relay.delivery.content import field_pattern
from relay.delivery.outcome import Deferred, Delivered, judge
from relay.ids import new_id
from support.delivering import BODY
from support.disk_trouble import FAULTS, failing
from support.memory_spool import FakeClock, MemorySpool
from support.spooling import offering

NOW = 1_800_000_000.0


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for piece in data:
        yield piece


async def keep(folder: CaptureFolder, number: int, data: bytes = b"x") -> str:
    return (await folder.keep(new_id(NOW + number), pieces(data))).name


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


async def test_a_message_is_a_file_with_exactly_its_bytes(tmp_path: Path) -> None:
    number = new_id(NOW)
    path = await CaptureFolder(tmp_path / "captured").keep(number, pieces(b".dot\r\n", b"\x00\xff", b"\r\n"))
    assert path == tmp_path / "captured" / f"{number}.eml"
    assert path.read_bytes() == b".dot\r\n\x00\xff\r\n"
    assert names(tmp_path / "captured") == [f"{number}.eml"]


async def test_nobody_but_the_owner_reads_the_mail(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = await CaptureFolder(tmp_path / "captured").keep(new_id(NOW), pieces(b"private"))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


async def test_the_oldest_go_first_when_there_are_too_many(tmp_path: Path) -> None:
    folder = CaptureFolder(tmp_path, files=3)
    kept = [await keep(folder, n) for n in range(3)]
    assert names(tmp_path) == kept
    kept.append(await keep(folder, 3))
    assert names(tmp_path) == kept[1:]


async def test_the_oldest_go_first_when_they_are_too_large(tmp_path: Path) -> None:
    folder = CaptureFolder(tmp_path, size=100)
    first, second = await keep(folder, 1, b"x" * 50), await keep(folder, 2, b"x" * 50)
    assert names(tmp_path) == [first, second]
    third = await keep(folder, 3, b"x")
    assert names(tmp_path) == [second, third]


async def test_what_an_earlier_run_left_counts_by_age(tmp_path: Path) -> None:
    for age, name in enumerate(["C.eml", "A.eml", "B.eml"]):
        (tmp_path / name).write_bytes(b"x")
        os.utime(tmp_path / name, (NOW - age, NOW - age))
    (tmp_path / "notes.txt").write_text("mine")
    kept = await keep(CaptureFolder(tmp_path, files=3), 1)
    assert names(tmp_path) == sorted(["A.eml", "C.eml", kept, "notes.txt"])


async def test_files_removed_by_hand_do_not_disturb(tmp_path: Path) -> None:
    folder = CaptureFolder(tmp_path, files=1)
    (tmp_path / await keep(folder, 1)).unlink()
    second = await keep(folder, 2)
    assert names(tmp_path) == [second]


async def test_the_same_message_again_is_one_file(tmp_path: Path) -> None:
    folder = CaptureFolder(tmp_path, files=1)
    await keep_same(folder, b"one")
    path = await keep_same(folder, b"two")
    assert path.read_bytes() == b"two"
    assert len(names(tmp_path)) == 1


async def keep_same(folder: CaptureFolder, data: bytes) -> Path:
    return await folder.keep("01JDA0000000000000000000AA", pieces(data))


@pytest.mark.parametrize("number", ["../../etc/passwd", "", "01JDA0000000000000000000A/", "x" * 26])
async def test_only_an_id_of_ours_becomes_a_name(tmp_path: Path, number: str) -> None:
    with pytest.raises(ValueError, match="id"):
        await CaptureFolder(tmp_path).keep(number, pieces(b"x"))
    assert names(tmp_path) == []


async def test_a_failure_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        await CaptureFolder(tmp_path).keep(new_id(NOW), broken())
    assert names(tmp_path) == []


@pytest.mark.parametrize(("call", "error"), FAULTS)
async def test_a_file_that_cannot_be_put_in_its_place_leaves_nothing(tmp_path: Path, call: str, error: int) -> None:
    folder = CaptureFolder(tmp_path)
    with failing(call, error), pytest.raises(OSError, match=os.strerror(error)):
        await keep_same(folder, b"one")
    assert names(tmp_path) == []
    assert (await keep_same(folder, b"one")).read_bytes() == b"one"


@pytest.mark.parametrize(("call", "error", "number"), [("replace", errno.EIO, 1), ("fsync", errno.EIO, 2)])
async def test_what_such_a_failure_leaves_still_counts(tmp_path: Path, call: str, error: int, number: int) -> None:
    """The first file stays, old or new: a folder that forgot it would grow over its limit."""
    folder = CaptureFolder(tmp_path, files=2)
    path = await keep_same(folder, b"one")
    with failing(call, error, number), pytest.raises(OSError, match=os.strerror(error)):
        await keep_same(folder, b"two")
    assert path.read_bytes() == (b"one" if call == "replace" else b"two")
    os.utime(path, (NOW, NOW))
    assert names(tmp_path) == [path.name]
    kept = [await keep(folder, 1), await keep(folder, 2)]
    assert names(tmp_path) == sorted(kept)


# --- as a provider
async def carried(spool: MemorySpool, folder: Path, strip: tuple[str, ...] = ()) -> list[Deferred | Delivered]:
    job = (await spool.claim(offering(1)))[0]
    carrier = CaptureCarrier(CaptureFolder(folder), spool, field_pattern(strip))
    return [judge(finding).outcome for finding in await carrier.carry(job)]  # type: ignore[misc]


@pytest.mark.parametrize("inline", [1, 10_000_000])
async def test_small_and_large_messages_are_delivered_to_every_recipient(tmp_path: Path, inline: int) -> None:
    spool = MemorySpool(FakeClock(), piece=1000, inline=inline)
    body = BODY + b"line\r\n" * 5000
    message = spool.add(body, ["a@example.net", "b@example.net"])
    outcomes = await carried(spool, tmp_path)
    assert outcomes == [Delivered(250, f"2.0.0 written to {message.id}.eml")] * 2
    assert (tmp_path / f"{message.id}.eml").read_bytes() == body


@pytest.mark.parametrize("piece", [1000, 20, 3])
async def test_control_fields_are_taken_out_here_as_they_would_be(tmp_path: Path, piece: int) -> None:
    spool = MemorySpool(FakeClock(), piece=piece, inline=1)
    message = spool.add(BODY.replace(b"Subject", b"X-Steer: x\r\nSubject", 1))
    await carried(spool, tmp_path, ("X-Steer",))
    assert (tmp_path / f"{message.id}.eml").read_bytes() == BODY


async def test_a_folder_that_cannot_be_written_defers_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    spool = MemorySpool(FakeClock())
    spool.add(BODY)
    (outcome,) = await carried(spool, tmp_path / "file")
    assert isinstance(outcome, Deferred)
    assert "could not be written" in outcome.text
