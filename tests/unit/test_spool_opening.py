"""Opening: what is refused, with which sentence, and that nothing is changed by a refusal."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from relay.spool import SpoolUnusable, filesystem, recovery, schema
from relay.spool.errors import is_full
from relay.spool.store import connect
from support.spooling import NOW, a_message, opened


async def test_a_second_relay_is_refused_and_may_open_it_after_the_first(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool"):
        with pytest.raises(SpoolUnusable, match="Another relay"):
            async with opened(tmp_path / "spool"):
                pass
    async with opened(tmp_path / "spool"):
        pass


def seen_from_outside(folder: Path) -> int:
    """How many messages another program finds; it closes the database afterwards, which matters."""
    look = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); "
    look += "print(c.execute('SELECT count(*) FROM message').fetchone()[0]); c.close()"
    return int(
        subprocess.run([sys.executable, "-c", look, folder / "spool.db"], capture_output=True, check=True).stdout
    )


def copied(folder: Path, to: Path) -> Path:
    """What a kill would leave now. Not by this process, whose locks would go with the copying's descriptors."""
    subprocess.run(["cp", "-r", folder, to], check=True)
    return to


async def test_a_look_from_outside_does_not_take_the_log_away(tmp_path: Path) -> None:
    """Any program may read the database (`sqlite3 spool.db`); the last one to leave deletes the log, and we are still
    there."""
    async with opened(tmp_path / "spool") as one:
        for n in (1, 2):
            await one.add()
            assert seen_from_outside(copied(tmp_path / "spool", tmp_path / f"copy{n}")) == n, "mail was lost"
            assert seen_from_outside(tmp_path / "spool") == n


async def test_the_names_of_all_folders_above_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: set[Path] = set()
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.add(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    folder = tmp_path / "var" / "try" / "spool"
    async with opened(folder):
        pass
    assert {folder, *folder.parents[:3]} <= synced  # all that were made, and the one that holds the first of them


@pytest.mark.parametrize("code", [apsw.SQLITE_IOERR_WRITE, apsw.SQLITE_IOERR_TRUNCATE, apsw.SQLITE_IOERR_SHMOPEN])
def test_a_step_that_finds_no_room_is_no_broken_disk(code: int) -> None:
    assert is_full(apsw.exception_for(code), errno.ENOSPC)
    assert is_full(apsw.exception_for(code), errno.EDQUOT)
    assert not is_full(apsw.exception_for(code), errno.EIO)
    assert not is_full(apsw.exception_for(apsw.SQLITE_IOERR_FSYNC), errno.ENOSPC)


async def test_the_folder_is_made_private(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "spool"
    folder.mkdir(mode=0o755, parents=True)
    async with opened(folder):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


async def test_somebody_elses_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: uid + 1)
    with pytest.raises(SpoolUnusable, match=f"belongs to uid {uid}"):
        recovery.prepare_folder(tmp_path)


async def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolUnusable, match="cannot be used"):
        async with opened(tmp_path / "file" / "spool"):
            pass


async def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as one:
        await one.add()
    path = tmp_path / "spool" / "spool.db"
    connection = apsw.Connection(str(path))
    connection.pragma("user_version", schema.VERSION + 1)
    connection.close()
    before = path.read_bytes()
    with pytest.raises(SpoolUnusable, match="newer Ownpost"):
        async with opened(tmp_path / "spool"):
            pass
    assert path.read_bytes() == before


async def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir(mode=0o700)
    path = tmp_path / "spool" / "spool.db"
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(SpoolUnusable, match="another program"):
        async with opened(tmp_path / "spool"):
            pass
    assert path.read_bytes() == before


@pytest.mark.parametrize("damage", ["text", "middle"])
async def test_what_cannot_be_read_is_refused_and_never_deleted(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "spool" / "spool.db"
    if damage == "text":
        path.parent.mkdir(mode=0o700)
        path.write_bytes(b"not a database, and long enough to be looked at. " * 200)
    else:
        async with opened(tmp_path / "spool") as one:
            await one.add()
        content = bytearray(path.read_bytes())
        content[100:8192] = b"\xff" * 8092
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(SpoolUnusable, match="cannot be read"):
        async with opened(tmp_path / "spool"):
            pass
    assert path.read_bytes() == before


async def test_the_file_is_set_up_as_promised(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as one:
        pragma = one.spool._opened.store.connection.pragma
        names = ("page_size", "auto_vacuum", "journal_mode", "synchronous", "application_id", "user_version")
        assert [pragma(name) for name in names] == [4096, 2, "wal", 2, schema.APPLICATION_ID, schema.VERSION]


async def test_an_older_schema_is_brought_up_step_by_step(tmp_path: Path) -> None:
    recovery.open_store(tmp_path / "spool", NOW).close()
    connection = connect(tmp_path / "spool" / "spool.db")
    steps = (*schema.MIGRATIONS, "CREATE TABLE more (x)", "INSERT INTO more VALUES (1)")
    schema.migrate(connection, steps)
    assert connection.pragma("user_version") == schema.VERSION + 2
    assert connection.execute("SELECT count(*) FROM more").get == 1
    broken = (*steps, "INSERT INTO more VALUES (2); SELECT nothing FROM nowhere")
    with pytest.raises(apsw.SQLError):
        schema.migrate(connection, broken)
    assert connection.pragma("user_version") == schema.VERSION + 2
    assert connection.execute("SELECT count(*) FROM more").get == 1
    connection.close()


async def test_event_numbers_grow_over_restarts_even_if_the_clock_goes_back(tmp_path: Path) -> None:
    first = recovery.open_store(tmp_path / "spool", NOW)
    number = first.numbers.event()
    first.close()
    second = recovery.open_store(tmp_path / "spool", NOW - 1e6)
    assert second.numbers.event() > number
    second.close()


async def test_message_keys_are_never_used_twice(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as one:
        await one.add()
        upload = one.spool.upload("")
        await upload.write(b"left behind")
        await one.add()
    async with opened(tmp_path / "spool") as one:
        message = await one.add(a_message())
        assert len(await one.spool.queue()) == 3
        assert b"".join([data async for data in one.spool.read(message.id)]).startswith(b"Subject")


@pytest.mark.parametrize(
    ("fs_type", "word"),
    [
        ("overlay", "compose.yaml"),
        ("tmpfs", "memory"),
        *((name, "local disk") for name in ("nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs")),
    ],
)
def test_file_systems_that_lose_mail_are_named(fs_type: str, word: str) -> None:
    sentence = filesystem.problem(fs_type)
    assert sentence is not None
    assert word in sentence


@pytest.mark.parametrize("fs_type", ["ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", ""])
def test_file_systems_that_keep_it_are_not(fs_type: str) -> None:
    assert filesystem.problem(fs_type) is None


MOUNTS = r"""
22 28 0:20 / / rw,relatime shared:1 - overlay overlay rw
30 22 8:1 / /var/spool rw,relatime shared:5 master:2 - ext4 /dev/sda1 rw
31 22 0:44 / /mnt/my\040disk rw - nfs4 server:/x rw
32 30 0:45 / /var/spool/ownpost rw - btrfs /dev/sdb rw
33 32 0:46 / /var/spool/ownpost rw - 9p host rw
34 22 8:1 / /var/spoolish rw - xfs /dev/sdc rw
half a line
"""


@pytest.mark.parametrize(
    ("folder", "fs_type"),
    [
        ("/home", "overlay"),
        ("/var/spool", "ext4"),
        ("/var/spool/other", "ext4"),
        ("/var/spool/ownpost/deep/er", "9p"),
        ("/mnt/my disk/spool", "nfs4"),
        ("/var/spoolish", "xfs"),
    ],
)
def test_the_mount_that_holds_a_folder_is_found(folder: str, fs_type: str) -> None:
    assert filesystem.type_of(Path(folder), MOUNTS) == fs_type


async def test_a_bad_file_system_is_refused_or_kept_for_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relay.spool.spool.problem_of", lambda folder: "It is bad.")
    with pytest.raises(SpoolUnusable, match=r"^It is bad\.$"):
        async with opened(tmp_path / "spool", filesystem="refuse"):
            pass
    assert not (tmp_path / "spool").exists()
    async with opened(tmp_path / "spool", filesystem="warn") as one:
        assert one.spool.filesystem_problem == "It is bad."


def test_where_the_system_does_not_tell_there_is_no_problem(tmp_path: Path) -> None:
    assert filesystem.problem_of(tmp_path, tmp_path / "no such file") is None
