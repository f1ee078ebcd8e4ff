"""A spool belongs to one installation, and no other relay touches it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import apsw
import pytest

from common.settings import Reader
from relay.model import Installation
from relay.operator.take_over import take_over
from relay.settings import SettingsError, read
from relay.spool import SpoolUnusable, installation, recovery
from support.spooling import NOW, opened

OURS = Installation("0123456789abcdef", "mail.example.net", "/srv/ownpost")
CLONE = Installation("fedcba9876543210", "mail.example.org", "/home/me/ownpost")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the log's index, which any reader makes anew. Read by another process, for the locks' sake."""
    look = "import pathlib, sys; [print(p.name, p.read_bytes().hex()) for p in pathlib.Path(sys.argv[1]).iterdir()]"
    lines = subprocess.run([sys.executable, "-c", look, folder], capture_output=True, check=True, text=True).stdout
    files = (line.partition(" ")[::2] for line in lines.splitlines())
    return {name: bytes.fromhex(data) for name, data in files if not name.endswith("-shm")}


@pytest.fixture
async def spool(tmp_path: Path) -> Path:
    """Ours, and one message waits in it."""
    async with opened(tmp_path / "spool", installation=OURS) as one:
        await one.add()
    return tmp_path / "spool"


async def test_a_new_spool_and_one_of_an_earlier_version_become_that_of_who_uses_them(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    async with opened(folder) as one:
        await one.add()
    assert installation.read(folder) is None
    recovery.open_store(folder, NOW, installation=OURS).close()
    assert installation.read(folder) == OURS


async def test_a_folder_that_moved_or_has_another_name_is_the_same_installation(spool: Path) -> None:
    moved = OURS._replace(hostname="smtp.example.net", folder="/opt/ownpost")
    recovery.open_store(spool, NOW, installation=moved).close()
    assert installation.read(spool) == moved


@pytest.mark.parametrize("who", [CLONE, None])
async def test_another_one_is_refused_with_all_that_one_needs_to_know_and_nothing_is_changed(
    spool: Path, who: Installation | None
) -> None:
    before = contents(spool)
    with pytest.raises(SpoolUnusable) as caught:
        recovery.open_store(spool, NOW, installation=who)
    said = str(caught.value)
    for words in (
        "another installation of Ownpost (mail.example.net, /srv/ownpost); 1 message waits in it.",
        "Nothing was changed",
        "COMPOSE_PROJECT_NAME",
        "make up ARGS=--take-over",
    ):
        assert words in said
    assert ("was not told whose it is" in said) is (who is None)
    assert contents(spool) == before


async def test_it_is_refused_while_the_other_one_runs_and_before_an_upgrade(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool", installation=OURS):
        with pytest.raises(SpoolUnusable, match="another installation"):
            recovery.open_store(tmp_path / "spool", NOW, installation=CLONE)
    connection = apsw.Connection(str(tmp_path / "spool" / "spool.db"))
    connection.pragma("user_version", 999)
    connection.close()
    with pytest.raises(SpoolUnusable, match="another installation"):
        recovery.open_store(tmp_path / "spool", NOW, installation=CLONE)


async def test_a_relay_that_has_to_go_before_it_began_leaves_a_new_spool_to_the_other(tmp_path: Path) -> None:
    """The lock decides who was first."""
    async with opened(tmp_path / "spool"):  # of a version that does not know of installations
        with pytest.raises(SpoolUnusable, match="Another relay"):
            recovery.open_store(tmp_path / "spool", NOW, installation=CLONE)
    assert installation.read(tmp_path / "spool") is None


@pytest.mark.parametrize("broken", ["replace", "fsync"])
def test_a_write_that_is_cut_off_leaves_the_old_file_whole(
    tmp_path: Path, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation.adopt(tmp_path, OURS)

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(*((Path, "replace") if broken == "replace" else (os, "fsync")), fail)
    with pytest.raises(SpoolUnusable, match="cannot be written: Input/output error"):
        installation.adopt(tmp_path, CLONE)
    assert installation.read(tmp_path) == OURS
    assert [one.name for one in tmp_path.iterdir()] == ["installation"]


def test_a_full_disk_keeps_no_relay_from_starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        installation.adopt(tmp_path, OURS)
    assert installation.read(tmp_path) is None
    recovery.open_store(tmp_path, NOW, installation=OURS).close()
    assert installation.read(tmp_path) == OURS


async def test_whoever_takes_over_has_the_mail_and_the_other_one_is_refused_then(spool: Path) -> None:
    told = {"RELAY_SPOOL": str(spool), "RELAY_INSTALLATION": CLONE.id, "RELAY_INSTALLATION_FOLDER": CLONE.folder}
    async with opened(spool, installation=OURS):
        with pytest.raises(SpoolUnusable, match="Another relay uses the spool"):
            take_over(Reader(told))
    assert take_over(Reader(told)) == (
        "The spool of mail.example.net, /srv/ownpost belongs to this folder now. 1 message waits in it."
    )
    with pytest.raises(SpoolUnusable, match="another installation"):
        recovery.open_store(spool, NOW, installation=OURS)
    async with opened(spool, installation=CLONE) as one:
        assert (await one.spool.stats()).messages == 1


def test_an_id_that_is_none_is_told(tmp_path: Path) -> None:
    environ = {"OWNPOST_DOMAINS": "example.org", "RELAY_SPOOL": str(tmp_path)}
    assert read(environ).installation is None
    ours = read(environ | {"RELAY_INSTALLATION": OURS.id, "RELAY_INSTALLATION_FOLDER": OURS.folder}).installation
    assert ours == OURS._replace(hostname="mail.example.org")
    with pytest.raises(SettingsError, match="RELAY_INSTALLATION: 'mine' is not an installation's id"):
        read(environ | {"RELAY_INSTALLATION": "mine"})
    with pytest.raises(SettingsError, match="RELAY_INSTALLATION: missing"):
        take_over(Reader(environ))
