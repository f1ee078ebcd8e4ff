"""The disk that forgets: what it keeps after a cut is what was synced, and nothing that was not is certain."""

from __future__ import annotations

import pickle
import random
from pathlib import Path

import pytest

from support.power.disk import PAGE, ROOT, SECTOR, Disk, Loss
from support.power.replay import Recording


@pytest.fixture
def disk() -> Disk:
    return Disk()


def left(disk: Disk, folder: Path, loss: Loss = Loss.ALL, seed: int = 0) -> dict[str, bytes]:
    """Every file that a cut leaves, by its path."""
    target = folder / f"{loss}-{seed}"
    disk.leave(target, loss, seed)
    return {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}


def test_a_file_needs_its_own_sync_and_its_folder_s(disk: Disk, tmp_path: Path) -> None:
    file = disk.create(ROOT, "file", 0o600)
    disk.write(file, 0, b"data")
    assert left(disk, tmp_path, seed=1) == {}
    disk.sync(file)
    assert left(disk, tmp_path, seed=2) == {}
    disk.sync(ROOT)
    assert left(disk, tmp_path, seed=3) == {"file": b"data"}
    disk.write(file, 2, b"more")
    assert left(disk, tmp_path, seed=4) == {"file": b"data"}
    assert left(disk, tmp_path, Loss.NONE) == {"file": b"damore"}


def test_a_folder_is_lost_with_all_in_it_until_the_one_above_is_synced(disk: Disk, tmp_path: Path) -> None:
    folder = disk.mkdir(ROOT, "a", 0o700)
    disk.sync(disk.create(folder, "file", 0o600))
    disk.sync(folder)
    assert left(disk, tmp_path, seed=1) == {}
    disk.sync(ROOT)
    assert left(disk, tmp_path, seed=2) == {"a/file": b""}


def test_an_unsynced_rename_leaves_the_old_name(disk: Disk, tmp_path: Path) -> None:
    for name in ("old", "new"):
        file = disk.create(ROOT, name, 0o600)
        disk.write(file, 0, name.encode())
        disk.sync(file)
    disk.sync(ROOT)
    disk.rename(ROOT, "new", ROOT, "old")
    assert left(disk, tmp_path) == {"old": b"old", "new": b"new"}
    found = {tuple(sorted(left(disk, tmp_path, Loss.PAGES, seed).items())) for seed in range(20)}
    assert found == {(("new", b"new"), ("old", b"old")), (("old", b"new"),)}  # never neither, never both


def test_random_losses_keep_any_part_and_torn_ones_any_sector(disk: Disk, tmp_path: Path) -> None:
    file = disk.create(ROOT, "file", 0o600)
    disk.write(file, 0, b"a" * PAGE * 4)
    disk.sync(file)
    disk.sync(ROOT)
    disk.write(file, 0, b"b" * PAGE * 4)
    whole = {left(disk, tmp_path, Loss.PAGES, seed)["file"] for seed in range(40)}
    assert len(whole) > 5
    assert {piece for one in whole for piece in pieces(one, PAGE)} == {b"a" * PAGE, b"b" * PAGE}
    torn = {left(disk, tmp_path, Loss.TORN, seed)["file"] for seed in range(40)}
    assert any(len(set(piece)) == 2 for one in torn for piece in pieces(one, PAGE))
    assert {len(set(piece)) for one in torn for piece in pieces(one, SECTOR)} == {1}


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def test_no_page_overtakes_a_truncation(disk: Disk, tmp_path: Path) -> None:
    file = disk.create(ROOT, "file", 0o600)
    disk.write(file, 0, b"a" * 2 * PAGE)
    disk.sync(file)
    disk.sync(ROOT)
    disk.truncate(file, 0)
    disk.write(file, 0, b"b" * PAGE)
    found = {left(disk, tmp_path, Loss.PAGES, seed)["file"] for seed in range(40)}
    assert found == {b"a" * 2 * PAGE, b"", b"b" * PAGE}


def test_a_failed_sync_forgets_what_is_still_to_be_seen(disk: Disk, tmp_path: Path) -> None:
    file = disk.create(ROOT, "file", 0o600)
    disk.sync(ROOT)
    disk.write(file, 0, b"a" * PAGE)
    disk.fail_sync(file)
    disk.write(file, PAGE, b"b" * PAGE)
    disk.sync(file)
    assert disk.file(file).read(0, PAGE) == b"a" * PAGE
    assert left(disk, tmp_path, Loss.NONE) == {"file": bytes(PAGE) + b"b" * PAGE}
    disk.write(file, 10, b"c")
    disk.sync(file)
    assert left(disk, tmp_path)["file"][:PAGE] == b"a" * 10 + b"c" + b"a" * (PAGE - 11)


def test_reading_is_what_was_written_at_any_offset(disk: Disk) -> None:
    dice, file, truth = random.Random(5), disk.create(ROOT, "file", 0o600), bytearray()
    for _ in range(500):
        at, size = dice.randrange(5 * PAGE), dice.choice([1, 24, PAGE, dice.randrange(3 * PAGE)])
        if dice.random() < 0.1:
            disk.truncate(file, at)
            truth = truth[:at].ljust(at, b"\0")
        elif dice.random() < 0.6:
            data = dice.randbytes(size)
            disk.write(file, at, data)
            truth = truth.ljust(at, b"\0") if data else truth
            truth[at : at + size] = data
        assert disk.file(file).read(at, size) == truth[at : at + size]
        assert disk.file(file).size == len(truth)


def test_what_is_loaded_is_synced(disk: Disk, tmp_path: Path) -> None:
    (tmp_path / "from/deep").mkdir(parents=True)
    (tmp_path / "from/deep/file").write_bytes(b"x" * 5000)
    assert left(Disk.load(tmp_path / "from"), tmp_path) == {"deep/file": b"x" * 5000}


def test_a_recording_comes_back_moment_by_moment(tmp_path: Path) -> None:
    operations = [
        ("create", ROOT, "f", 0o600),
        ("sync", ROOT),
        ("write", 2, 0, b"a"),
        ("sync", 2),
        ("write", 2, 0, b"b"),
    ]
    (tmp_path / "recording").write_bytes(pickle.dumps(operations))
    recording = Recording(tmp_path / "recording")
    assert recording.moments() == [0, 1, 2, 3, 4, 5]
    found = {
        moment: [path.read_bytes() for path in image.iterdir()]
        for moment, _, image in recording.cuts(recording.moments(), tmp_path / "image", [Loss.ALL], 0)
    }
    assert found == {0: [], 1: [], 2: [b""], 3: [b""], 4: [b"a"], 5: [b"a"]}
