"""The exporter's settings: every mistake has its sentence, all come at once, and the example file tells the truth."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import argon2
import pytest

from common.settings import Reader, SettingsError
from exporter.settings import Settings, read, read_all
from relay.settings_names import OF_COMPOSE, OF_EXPORTER
from support.appliance import ROOT, sources

PASSWORD = "correct horse"


def nobody(urls: Sequence[str]) -> list[int]:
    return [number for number, url in enumerate(urls) if url.startswith("nobody")]


def of(**environ: str) -> Settings:
    return read(environ, nobody)


def refused(**environ: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        of(**environ)
    return caught.value.problems


def test_nothing_needs_to_be_set() -> None:
    settings = of(OWNPOST_DOMAINS="example.org")
    assert (settings.bind, settings.listen, settings.port, settings.inside_port) == ("127.0.0.1", "127.0.0.1", 9325, 0)
    assert settings.socket == Path("/run/ownpost/exporter/exporter.sock")
    assert settings.hosts == ("mail.example.org",)
    assert (settings.password, settings.notify, settings.show_addresses) == ("", (), False)


def test_all_mistakes_are_told_at_once_and_no_secret_with_them() -> None:
    problems = refused(
        EXPORTER_BIND="here",
        EXPORTER_PORT="0",
        EXPORTER_HOSTS="good.example, ba_d",
        EXPORTER_PASSWORD="hunter2",
        EXPORTER_SHOW_ADDRESSES="maybe",
        EXPORTER_NOTIFY_URL="ntfys://ntfy.sh/t nobody://token@host",
        EXPORTER_RUN="run",
    )
    names = [problem.partition(":")[0] for problem in problems]
    assert names == [
        "EXPORTER_BIND",
        "EXPORTER_PORT",
        "EXPORTER_RUN",
        "EXPORTER_HOSTS",
        "EXPORTER_PASSWORD",
        "EXPORTER_NOTIFY_URL",
        "EXPORTER_SHOW_ADDRESSES",
    ]
    assert not re.search("hunter2|token", str(problems))


@pytest.mark.parametrize("bind", ["0.0.0.0", "192.168.1.2", "[::]"])
def test_a_page_for_others_needs_a_password(bind: str) -> None:
    (problem,) = refused(EXPORTER_BIND=bind)
    assert problem.startswith("EXPORTER_PASSWORD: missing")
    assert of(EXPORTER_BIND=bind, EXPORTER_PASSWORD=PASSWORD).password == PASSWORD


@pytest.mark.parametrize("bind", ["127.0.0.1", "127.8.8.8", "::1"])
def test_on_loopback_none_is_needed(bind: str) -> None:
    assert of(EXPORTER_BIND=bind).password == ""


def test_inside_a_container_the_published_address_decides() -> None:
    settings = of(EXPORTER_BIND="127.0.0.1", EXPORTER_LISTEN="0.0.0.0")
    assert (settings.listen, settings.password) == ("0.0.0.0", "")


def test_a_hash_that_compose_has_spoiled_is_told() -> None:
    good = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)
    assert of(EXPORTER_PASSWORD=f"'{good}'").password == good
    (problem,) = refused(EXPORTER_PASSWORD=good.replace("$v=19$", "=19"))
    assert "single quotes" in problem


def test_values_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(PASSWORD + "\n")
    (tmp_path / "password").chmod(0o600)
    settings = of(EXPORTER_PASSWORD_FILE=str(tmp_path / "password"))
    assert (settings.password, settings.warnings) == (PASSWORD, ())
    both = of(EXPORTER_PASSWORD_FILE=str(tmp_path / "password"), EXPORTER_PASSWORD="another one")
    assert both.password == PASSWORD
    assert both.warnings == ("EXPORTER_PASSWORD: given together with EXPORTER_PASSWORD_FILE; the file is used.",)
    assert "cannot be read" in refused(EXPORTER_PASSWORD_FILE=str(tmp_path / "none"))[0]
    (tmp_path / "empty").touch()
    assert "is empty" in refused(EXPORTER_PASSWORD_FILE=str(tmp_path / "empty"), EXPORTER_BIND="0.0.0.0")[0]


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True)])
def test_a_secret_that_everybody_can_read_is_warned_of(tmp_path: Path, mode: int, warned: bool) -> None:
    file = tmp_path / "secret"
    file.write_text("ntfys://ntfy.sh/t\n")
    file.chmod(mode)
    settings = of(EXPORTER_PASSWORD_FILE=str(file), EXPORTER_NOTIFY_URL_FILE=f"'{file}'")
    told = [
        f"{name}: {str(file)!r} can be read by every user of this machine; chmod 640 or 600 mends it."
        for name in ("EXPORTER_PASSWORD_FILE", "EXPORTER_NOTIFY_URL_FILE")
    ]
    assert settings.warnings == (tuple(told) if warned else ())


def test_no_secret_is_in_its_representation() -> None:
    shown = repr(of(EXPORTER_PASSWORD=PASSWORD, EXPORTER_NOTIFY_URL="ntfys://token@ntfy.sh/t"))
    assert PASSWORD not in shown
    assert "token" not in shown


def test_the_relay_knows_every_name_and_the_example_shows_its_default() -> None:
    reader = Reader({})
    usual = read_all(reader, nobody)
    ours = {name for name in reader.asked if not name.endswith("_FILE")}
    assert {name for name in ours if name.startswith("EXPORTER_")} == OF_EXPORTER
    assert {name for name in ours if name.endswith("_PORT") and name.startswith("OWNPOST_")} <= OF_COMPOSE
    lines = re.findall(r"^#?([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    shown = {name: value for name, value in lines if name in ours and not name.startswith("OWNPOST_")}
    assert set(shown) == OF_EXPORTER
    assert replace(read(shown, nobody), hosts=()) == replace(usual, hosts=())


def check(**environ: str) -> subprocess.CompletedProcess[str]:
    base = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": sources("exporter"),
    }
    command = [sys.executable, "-m", "exporter", "--check"]
    return subprocess.run(command, env=base | environ, capture_output=True, text=True, check=False, timeout=60)


def test_check_ends_with_78_and_all_problems_or_with_0() -> None:
    wrong = check(EXPORTER_PORT="x", EXPORTER_NOTIFY_URL="gopher://secret-token@host/")
    assert wrong.returncode == 78
    assert [line.partition(":")[0] for line in wrong.stderr.splitlines()] == ["EXPORTER_PORT", "EXPORTER_NOTIFY_URL"]
    assert "secret-token" not in wrong.stderr + wrong.stdout
    right = check(EXPORTER_NOTIFY_URL="ntfys://ntfy.sh/topic https://hc-ping.example/uuid")
    assert (right.returncode, right.stderr) == (0, "")
