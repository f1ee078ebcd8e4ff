"""Whose containers and whose spool: what tools/installation decides from what Docker and var/installation say."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.appliance import ROOT

OURS, OTHER = "0123456789abcdef", "fedcba9876543210"


@dataclass
class Engine:
    """A Docker that knows one relay's container, made in ``folder``, and what its spool's file says."""

    tree: Path

    def knows(self, folder: Path | str = "", spool: str = "", path: Path | str = "/srv/ownpost") -> None:
        listed = f"echo 'c1 relay {folder}'; echo 'c2 exporter {folder}'" if folder else ":"
        text = f"id={spool}\nhostname=mail.example.net\nfolder={path}\n".encode() if spool else b""
        with tarfile.open(self.tree / "spool.tar", "w") as archive:
            if text:
                entry = tarfile.TarInfo("installation")
                entry.size = len(text)
                archive.addfile(entry, io.BytesIO(text))
        answers = (
            f"ps) {listed};; cp) cat {self.tree}/spool.tar;; inspect) echo image;; create) echo c3;; exec) exit 1;;"
        )
        docker = self.tree / "bin/docker"
        docker.parent.mkdir(exist_ok=True)
        docker.write_text(f'#!/bin/sh\necho "$@" >> {self.tree}/asked\ncase "$1" in {answers} esac\n')
        docker.chmod(0o755)

    def asks(self, *words: str, tool: str = "tools/installation") -> subprocess.CompletedProcess[str]:
        environ = {"PATH": f"{self.tree / 'bin'}:/usr/bin:/bin"}
        # Without the power to read and write what its mode forbids, where the tests run as root.
        drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
        return subprocess.run(
            [*drop, tool, *words], cwd=self.tree, env=environ, capture_output=True, text=True, check=False
        )


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    tree = tmp_path / "tree"
    shutil.copytree(ROOT / "tools", tree / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "compose.yaml", tree)
    return Engine(tree)


def kept(folder: Path, name: str = OURS) -> Path:
    (folder / "var").mkdir(parents=True, exist_ok=True)
    (folder / "var/installation").write_text(f"RELAY_INSTALLATION={name}\n")
    return folder


def test_an_id_is_made_once_and_follows_its_folder(engine: Engine, tmp_path: Path) -> None:
    assert engine.asks("make").returncode == 0
    file = engine.tree / "var/installation"
    made = file.read_text()
    (name,) = re.findall(r"^RELAY_INSTALLATION=([0-9a-f]{16})$", made, re.MULTILINE)
    assert f"RELAY_INSTALLATION_FOLDER='{engine.tree}'\n" in made
    engine.asks("make")
    assert file.read_text() == made
    moved = Engine(engine.tree.rename(tmp_path / "it's moved"))
    moved.asks("make")
    again = (moved.tree / "var/installation").read_text()
    assert f"RELAY_INSTALLATION={name}\n" in again
    assert again.endswith("/its moved'\n"), "no quote in it: Compose reads this file"
    moved.asks("new")
    assert name not in (moved.tree / "var/installation").read_text()


def test_nothing_is_in_the_way_of_a_first_start_and_of_each_later_one(engine: Engine) -> None:
    engine.knows()
    assert engine.asks("check").returncode == 0
    kept(engine.tree)
    engine.knows(engine.tree, OURS)
    assert (engine.asks("check").returncode, engine.asks("check", "--containers").returncode) == (0, 0)
    engine.knows(engine.tree)  # its spool is of an earlier version
    assert engine.asks("check").returncode == 0


@pytest.mark.parametrize("spool", [OTHER, ""])
@pytest.mark.parametrize("verb", [("check",), ("check", "--containers")])
def test_another_folders_are_refused(engine: Engine, tmp_path: Path, spool: str, verb: tuple[str, ...]) -> None:
    other = kept(tmp_path / "other", OTHER)
    engine.knows(other, spool)
    for known in (False, True):
        if known:
            kept(engine.tree)
        done = engine.asks(*verb)
        assert done.returncode == 1
        for words in (f"in {other}", f"cd {other} && make up", "COMPOSE_PROJECT_NAME", "make up ARGS=--take-over"):
            assert words in done.stderr
        assert ("(mail.example.net)" in done.stderr) is bool(spool)


def test_so_is_a_spool_whose_containers_are_gone(engine: Engine) -> None:
    kept(engine.tree)
    engine.knows(spool=OTHER)
    done = engine.asks("check")
    assert (done.returncode, "in /srv/ownpost (mail.example.net)" in done.stderr) == (1, True)
    assert "cd /srv/ownpost" not in done.stderr, "there is no such folder here"


def test_a_folder_that_moved_is_the_same_and_a_copy_beside_it_is_not(engine: Engine, tmp_path: Path) -> None:
    kept(engine.tree)
    engine.knows(tmp_path / "before", OURS)
    assert engine.asks("check").returncode == 0
    kept(tmp_path / "before")  # it is there still: then one of them was copied from the other
    done = engine.asks("check")
    assert (done.returncode, "This folder is a copy" in done.stderr) == (1, True)


def test_a_release_beside_the_last_one_that_shares_its_var_is_no_copy(engine: Engine, tmp_path: Path) -> None:
    kept(tmp_path / "last")
    (engine.tree / "var").symlink_to(tmp_path / "last/var")
    engine.knows(tmp_path / "last", OURS)
    assert engine.asks("check").returncode == 0


def test_a_folder_made_anew_where_the_last_one_was_is_not_sent_to_itself(engine: Engine) -> None:
    kept(engine.tree)  # as `make try` has made it
    engine.knows(engine.tree, OTHER, engine.tree)
    done = engine.asks("check")
    assert (done.returncode, "of this very folder" in done.stderr, "--take-over" in done.stderr) == (1, True, True)
    assert f"cd {engine.tree}" not in done.stderr


def test_what_cannot_be_read_or_written_is_told_with_what_to_do(engine: Engine) -> None:
    """As after one `sudo make up`, or where Docker itself made `var/`."""
    engine.knows()
    (engine.tree / "var").mkdir()
    (engine.tree / "var").chmod(0o555)
    made = engine.asks("make")
    assert (made.returncode, "sudo chown" in made.stderr) == (77, True)
    (engine.tree / ".env").touch(0o000)
    checked = engine.asks("check")
    assert (checked.returncode, "put sudo before the command" in checked.stderr) == (77, True)


def test_nothing_that_another_one_calls_itself_reaches_the_terminal_raw(engine: Engine) -> None:
    engine.knows(spool=OTHER, path="/srv/\x1b[2J/\\0033[2J")
    done = engine.asks("check")
    assert (done.returncode, "in /srv/[2J/\\0033[2J (" in done.stderr) == (1, True)


def test_whose_spool_it_is_comes_before_who_made_the_containers(engine: Engine, tmp_path: Path) -> None:
    """A second clone's plain `docker compose up` replaced them, and its relay refused: the first takes them back."""
    kept(engine.tree)
    engine.knows(kept(tmp_path / "second", OTHER), OURS)
    assert engine.asks("check").returncode == 0


def test_a_folder_that_lost_its_var_is_known_by_its_spool(engine: Engine) -> None:
    engine.knows(engine.tree, OTHER, engine.tree)
    assert engine.asks("check").returncode == 0
    assert f"RELAY_INSTALLATION={OTHER}\n" in (engine.tree / "var/installation").read_text()


@pytest.mark.parametrize("name", ["down", "queue", "account"])
def test_verbs_for_containers_of_another_folder_are_refused(engine: Engine, tmp_path: Path, name: str) -> None:
    engine.knows(kept(tmp_path / "other", OTHER), OTHER)
    done = engine.asks(name, tool="tools/ask")
    assert (done.returncode, f"cd {tmp_path / 'other'} && make up" in done.stderr) == (1, True)
    asked = (engine.tree / "asked").read_text()
    assert "compose" not in "".join(line.split()[0] for line in asked.splitlines())


def test_the_name_is_that_of_env_else_that_of_compose_yaml(engine: Engine) -> None:
    engine.knows()
    engine.asks("check")
    (engine.tree / ".env").write_text('A=b\nCOMPOSE_PROJECT_NAME="second"\n')
    engine.asks("check")
    asked = re.findall(r"com\.docker\.compose\.project=(\S+)", (engine.tree / "asked").read_text())
    assert asked == [(re.findall(r"^name: (\S+)$", (ROOT / "compose.yaml").read_text(), re.MULTILINE))[0], "second"]
