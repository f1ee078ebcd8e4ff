"""What `.env` says is the same to Docker Compose, to our own reader and to the person who wrote it; or it is told."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from domain import dotenv
from support.appliance import ROOT
from support.env_lines import PASSWORD, SAME, TOLD


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools/env", tmp_path / "tools")
    return tmp_path


def write(folder: Path, text: str) -> None:
    (folder / ".env").write_text(text, newline="")


def judged(folder: Path, *name: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([folder / "tools/env", *name], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("written", "sentence"), [row[:2] for row in TOLD], ids=[row[0] for row in TOLD])
def test_what_would_be_read_otherwise_has_one_sentence(folder: Path, written: str, sentence: str) -> None:
    write(folder, f"# ours\r\nOWNPOST_DOMAINS=example.org\n{PASSWORD}{written}\n")
    done = judged(folder)
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.startswith(f"ownpost: .env, line 3: {sentence}")
    assert done.stderr.count("\n") == 1
    assert "defghij" not in done.stderr


def test_all_of_it_is_told_at_once(folder: Path) -> None:
    write(folder, "A=$b\nC='d\ne' f\n\nG=h\nI=${j}\n")
    lines = judged(folder).stderr.splitlines()
    assert [line.partition(" ")[2][:15] for line in lines] == [".env, line 1: A", ".env, line 2: C", ".env, line 6: I"]


def test_what_is_not_told_of_our_reader_reads(folder: Path) -> None:
    text = "\ufeff" + "".join(f"export N{number}{written}\n" for number, (written, _) in enumerate(SAME))
    text += "# N1=x\n  # N2=x\nTWICE='1'\nTWICE=2"
    write(folder, text)
    assert (judged(folder).returncode, judged(folder).stderr) == (0, "")
    assert dotenv.read(str(folder / ".env")) == {f"N{n}": meant for n, (_, meant) in enumerate(SAME)} | {"TWICE": "2"}


@pytest.mark.parametrize(
    "line", ["OWNPOST_UID=12\r", "export OWNPOST_UID = '12' # ours", 'OWNPOST_UID=1\nOWNPOST_UID="12"']
)
def test_a_tool_reads_one_setting_as_compose_does(folder: Path, line: str) -> None:
    write(folder, f"OWNPOST_UIDS=3\n{line}\n#OWNPOST_UID=4\n")
    assert judged(folder, "OWNPOST_UID").stdout == "12\n"
    assert judged(folder, "OWNPOST_GID").stdout == "\n"


def test_the_example_is_read_alike(folder: Path) -> None:
    shutil.copy(ROOT / ".env.example", folder / ".env")
    assert judged(folder).returncode == 0
