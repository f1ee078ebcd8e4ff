"""`tools/domain` on a machine without Docker: from .venv, with the settings of .env and the folders of this tree."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from support.appliance import ROOT


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The verb and what it runs, with an interpreter that tells how it was called."""
    shutil.copytree(ROOT / "tools", tmp_path / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in (
        ("bin/docker", "exit 1"),
        ("tools/venv", "exit 0"),
        (".venv/bin/python", 'echo "$@"; echo $DOMAIN_CONFIG; echo $DOMAIN_BACKUPS; exit 2'),
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)
    return tmp_path


def run(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = f"{tree}/bin:{os.environ['PATH']}"
    return subprocess.run(
        ["tools/domain", *arguments], cwd=tree, env={"PATH": path}, capture_output=True, text=True, check=False
    )


def test_it_runs_from_here_and_keeps_the_exit_code(tree: Path) -> None:
    (tree / ".env").write_text("OWNPOST_DOMAINS=example.org\n")
    done = run(tree, "plan", "--json")
    assert done.returncode == 2
    assert done.stdout.splitlines() == ["-m domain --env .env plan --json", f"{tree}/config", f"{tree}/var/zones"]
    assert (tree / "var/zones").stat().st_mode & 0o777 == 0o700


def test_without_settings_it_says_where_they_go(tree: Path) -> None:
    done = run(tree, "plan")
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.count("\n") == 1
    assert ".env.example" in done.stderr
