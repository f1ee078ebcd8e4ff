"""What `.env` says is the same to Docker Compose and to our own reader."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from domain import dotenv
from support.env_lines import SAME, TOLD
from support.peers import need


def compose(folder: Path, text: str) -> dict[str, str]:
    """What a container is handed of a `.env`, by name and whole."""
    (folder / ".env").write_text(text, newline="")
    names = sorted({line.partition("=")[0] for line in text.split("\n") if line.startswith("N")})
    services = {"whole": {"image": "x", "env_file": ".env"}, "named": {"image": "x", "environment": names}}
    (folder / "compose.yaml").write_text(json.dumps({"name": "alike", "services": services}))
    done = subprocess.run(
        ["docker", "compose", "config", "--format", "json"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout)["services"]
    whole, named = (
        {name: value.replace("$$", "$") for name, value in read[one]["environment"].items()} for one in services
    )
    assert {name: whole[name] for name in names} == named
    return whole


def test_compose_reads_it_alike(tmp_path: Path) -> None:
    """As `tests/unit/test_env_file.py` says that we do. Compose 2.26 and later; it needs no engine for that."""
    need("docker")
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("`docker compose version` fails: install Docker's Compose plugin")
    text = "".join(f"N{number}={written[1:]}\n" for number, (written, _) in enumerate(SAME) if written[0] == "=")
    assert compose(tmp_path, "\ufeff" + text) == dotenv.parse(text)
    told = {f"N{number}": row for number, row in enumerate(TOLD) if row[2] is not None}
    made = compose(tmp_path, "".join(f"{name}{written}\n" for name, (written, *_) in told.items()))
    assert made == {name: expected for name, (_, _, expected) in told.items()}
