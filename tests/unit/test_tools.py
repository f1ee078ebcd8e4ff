"""What the verbs say on a machine that lacks something."""

from __future__ import annotations

import os
import pty
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from support.appliance import ROOT
from support.peers import PACKAGES

AN_HOUR = 3600  # after the beginning of 1970: long before any start


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The verbs and what they read, in a folder of its own."""
    for name in ("tools", "services/supervision", "config"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.toml", "__pycache__"))
    for name in ("Makefile", "compose.yaml", "services/relay/requirements.txt", "tests/requirements.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def program(folder: Path, name: str, text: str) -> Path:
    """An executable shell script."""
    file = folder / name
    folder.mkdir(exist_ok=True)
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


def run(tree: Path, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run one verb without a Docker engine in sight."""
    program(tree / "bin", "docker", "exit 1")
    path = f"{tree / 'bin'}:/usr/bin:/bin"
    return subprocess.run(
        command, cwd=tree, env={"PATH": path, "LANG": "C.UTF-8"} | environ, capture_output=True, text=True, check=False
    )


def test_what_the_tests_need_is_what_tools_peers_brings() -> None:
    """Else `make test-all` on a new machine skips what it could have run. A Docker engine is not for it to install."""
    brought = set(re.findall(r"^need \S+ (\S+)$", (ROOT / "tools/peers").read_text(), re.MULTILINE))
    texts = [file.read_text() for file in (ROOT / "tests").rglob("*.py")]
    needed = {program for text in texts for program in re.findall(r'\bneed\("(\S+)"\)', text)} - {"docker"}
    assert {"prometheus", "promtool", "postfix"} <= needed
    assert {PACKAGES.get(program, program) for program in needed | PACKAGES.keys()} <= brought


def test_a_python_that_is_too_old_is_one_line(tree: Path) -> None:
    old = program(tree / "bin", "old", 'case "$1" in -V) echo "Python 3.9.2";; *) exit 1;; esac')
    result = run(tree, "tools/venv", PYTHON=str(old))
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        f"ownpost: Python 3.11 or later is needed; {old} is Python 3.9.2. PYTHON=/path/to/python names another."
    ]


def test_a_missing_venv_module_is_one_line_that_names_the_package(tree: Path) -> None:
    bare = program(tree / "bin", "bare", f'case "$2" in *ensurepip*) exit 1;; esac; exec {sys.executable} "$@"')
    result = run(tree, "tools/venv", PYTHON=str(bare))
    assert result.returncode == 1
    assert result.stderr.splitlines() == ["ownpost: Python's venv module is missing: apt-get install python3-venv"]


def test_without_an_engine_up_names_try_in_one_line_and_leaves_no_settings_behind(tree: Path) -> None:
    result = run(tree, "tools/up")
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "ownpost: no Docker engine answers here; `make try` runs Ownpost without one."
    ]
    assert not (tree / ".env").exists()


DENIED = "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock"


def why(tree: Path, **answers: str) -> list[str]:
    """What is said of a start that failed; ``answers`` of the engine to compose's ps, start and logs."""
    cases = " ".join(f"*' {word} '*) cat <<'END'\n{text}\nEND\n;;" for word, text in answers.items())
    docker = program(tree / "engine", "docker", f'case " $* " in {cases} esac')
    (tree / ".env").write_text("OWNPOST_SUBMISSIONS_PORT=41999\n")
    environ = {"PATH": f"{docker.parent}:/usr/bin:/bin"}
    return subprocess.run(
        ["tools/why"], cwd=tree, env=environ, capture_output=True, text=True, check=True
    ).stderr.splitlines()


def test_a_start_that_failed_ends_with_the_sentence_that_says_why(tree: Path) -> None:
    problem = "relay: SENDGIRD_HOST: missing. Did you mean sendgrid?"
    logs = "\n".join(["2026-11-30T03:00:00Z relay starting", *[f"\x1b[2K{problem}"] * 3])
    ps = "exporter running healthy\nrelay restarting starting"
    headline, sentence, mail = why(tree, ps=ps, logs=logs)
    assert (headline, sentence) == ("ownpost: it did not become healthy:", problem)
    assert "no mail is accepted; what it has accepted is safe" in mail


def test_a_port_that_is_taken_is_named_with_its_setting(tree: Path) -> None:
    """Docker's own words name neither the setting nor what to do."""
    start = "Error response from daemon: driver failed: listen tcp4 127.0.0.1:41999: bind: address already in use"
    said = why(tree, ps="relay created \nexporter running healthy", start=start)
    assert len(said) == 3
    assert "relay: port 41999 is taken by another program" in said[1]
    assert "give OWNPOST_SUBMISSIONS_PORT another port" in said[1]


@pytest.mark.parametrize("command", [["tools/up"], ["tools/ask", "queue"], ["tools/ask", "account", "list"]])
def test_who_may_not_use_docker_is_told_so(tree: Path, command: list[str]) -> None:
    """Not that nothing runs: everything may."""
    docker = program(tree / "engine", "docker", f'echo "{DENIED}" >&2; exit 1')
    (tree / ".env").touch()
    path = f"{docker.parent}:/usr/bin:/bin"
    done = subprocess.run(command, cwd=tree, env={"PATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("ownpost: Docker is here, but you may not use it: put sudo before the command")


def test_a_machine_without_a_way_to_pypi_says_so(tree: Path) -> None:
    environ = {"PIP_INDEX_URL": "http://127.0.0.1:1/simple", "PIP_RETRIES": "1", "PIP_CONFIG_FILE": "/dev/null"}
    result = run(tree, "tools/venv", PYTHON=getattr(sys, "_base_executable", sys.executable), **environ)
    assert result.returncode == 1
    assert "cannot be reached from here" in result.stderr.splitlines()[-1]


def test_settings_that_the_relay_refuses_do_not_end_the_one_that_runs(tree: Path) -> None:
    """Whoever mistypes a provider's name in the evening must not have closed the house for the night."""
    problem = "relay: SENDGIRD_HOST: missing. Did you mean sendgrid?"
    answers = f'*Health*) echo healthy;; *--check) echo " Container x  Created"; echo "{problem}"; exit 78;;'
    docker = program(tree / "engine", "docker", f'echo "$@" >> asked\ncase "$*" in {answers} esac')
    (tree / ".env").write_text(f"OWNPOST_UID={os.getuid()}\nOWNPOST_GID={os.getgid()}\n")
    (tree / ".env").chmod(0o600)
    path = f"{docker.parent}:/usr/bin:/bin"
    done = subprocess.run(["tools/up"], cwd=tree, env={"PATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 78
    assert done.stderr.splitlines() == [
        problem,
        "ownpost: nothing was changed: the relay runs on as it was. Mend that, then make up.",
    ]
    asked = (tree / "asked").read_text()
    assert not re.search(r"^compose (up|stop|down)", asked, re.MULTILINE)


def test_a_certificate_that_cannot_be_had_is_told_while_it_is_waited_for(tree: Path) -> None:
    """Five minutes of silence, and then the relay's complaint about the old one, told nobody of a wrong token."""
    docker = program(tree / "engine", "docker", 'case "$*" in *exec*) echo "The token was refused.";; esac')
    path = f"{docker.parent}:/usr/bin:/bin"
    done = subprocess.run(
        ["tools/waiting", str(os.getpid())], cwd=tree, env={"PATH": path}, capture_output=True, text=True, check=True
    )
    told, then = done.stderr.splitlines()
    assert told.startswith("ownpost: there is no certificate yet")
    assert told.endswith(": The token was refused.")
    assert "tried again by itself" in then


@pytest.mark.parametrize("changed", ["config/providers.toml", "secrets/relay/key", "secrets/exporter/password", ""])
def test_up_takes_up_files_that_changed_since_the_start(tree: Path, changed: str) -> None:
    """Compose by itself starts nothing anew for them."""
    for name in ("config/providers.toml", "config/accounts.toml", "secrets/relay/key", "secrets/exporter/password"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch()
        os.utime(tree / name, (AN_HOUR, AN_HOUR) if name != changed else None)
    (tree / ".env").write_text(f"OWNPOST_UID={os.getuid()}\nOWNPOST_GID={os.getgid()}\n")
    answers = (
        'case "$*" in *"ps --quiet"*) echo id;; inspect*) echo 2020-01-01T00:00:00.5Z;; *port*) echo 127.0.0.1:1;;'
    )
    docker = program(tree / "engine", "docker", f'echo "$@" >> asked\n{answers} esac')
    path = f"{docker.parent}:/usr/bin:/bin"
    done = subprocess.run(["tools/up"], cwd=tree, env={"PATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    asked = (tree / "asked").read_text().splitlines()
    service = "exporter" if "exporter" in changed else "relay"
    assert [one for one in asked if "stop" in one] == ([f"compose stop {service}"] if changed else [])
    assert (f"{changed} has changed: the {service} starts anew." in done.stderr) is bool(changed)
    assert any("up --detach" in one for one in asked[asked.index("compose build --quiet") :])


@pytest.mark.parametrize(
    ("version", "fits"),
    [("v2.9.0", False), ("2.20.1", False), ("2.24.0", True), ("v2.26.1-desktop.1", True), ("5.0.1", True)],
)
def test_a_compose_that_cannot_read_our_file_is_told_in_our_words(tree: Path, version: str, fits: bool) -> None:
    docker = program(
        tree / "engine", "docker", f'[ "$*" != "compose version" ] || echo Docker Compose version {version}'
    )
    path = f"{docker.parent}:/usr/bin:/bin"
    done = subprocess.run(["tools/engine"], cwd=tree, env={"PATH": path}, capture_output=True, text=True, check=False)
    assert (done.returncode == 0, "2.24 or later is needed" in done.stderr) == (fits, not fits)


@pytest.mark.parametrize("command", [["tools/up"], ["tools/domain", "plan"]])
def test_a_password_that_compose_would_cut_is_told_once_and_before_anything_is_touched(
    tree: Path, command: list[str]
) -> None:
    docker = program(tree / "engine", "docker", 'echo "$@" >> asked; echo "The \\"def\\" variable is not set." >&2')
    (tree / ".env").write_text("OWNPOST_DOMAINS=example.org\nSENDGRID_PASSWORD=SG.abc$def\n")
    before = {file.relative_to(tree) for file in tree.rglob("*")}
    path = f"{docker.parent}:/usr/bin:/bin"
    done = subprocess.run(command, cwd=tree, env={"PATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 78
    told, *more = done.stderr.splitlines()
    assert told.startswith("ownpost: .env, line 2: SENDGRID_PASSWORD holds a $: Docker Compose would read what follows")
    assert more in ([], ["ownpost: nothing was changed; what ran runs on. Mend .env, then make up."])
    assert {file.relative_to(tree) for file in tree.rglob("*")} - before <= {Path("asked")}
    assert "OWNPOST_UID" not in (tree / ".env").read_text()
    asked = (tree / "asked").read_text() if (tree / "asked").exists() else ""
    assert {one for one in asked.splitlines() if one.startswith("compose")} <= {"compose version"}


def test_an_editor_of_windows_that_lets_everybody_read_does_not_stop_up(tree: Path) -> None:
    docker = program(tree / "engine", "docker", 'case "$*" in *port*) echo 127.0.0.1:1;; esac')
    text = f"OWNPOST_DOMAINS=example.org\r\nOWNPOST_UID={os.getuid()}\r\nOWNPOST_GID={os.getgid()}\r\n"
    (tree / ".env").write_text(text, newline="")
    path = f"{docker.parent}:/usr/bin:/bin"
    done = subprocess.run(["tools/up"], cwd=tree, env={"PATH": path}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert "could read .env" in done.stderr
    assert (tree / ".env").stat().st_mode & 0o007 == 0
    assert (tree / ".env").read_bytes().decode() == text


@pytest.mark.parametrize("verb", ["queue", "trace", "send-test", "account", "logs", "down"])
def test_a_verb_says_that_no_relay_runs(tree: Path, verb: str) -> None:
    result = run(tree, "tools/ask", verb, "x")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("ownpost: no relay runs here: neither `make up`'s nor `make try`'s. Either starts one")


def test_down_says_that_mail_is_kept(tree: Path) -> None:
    """Docker's own last word is "Removed"."""
    said = subprocess.run(
        ["tools/ask", "down"], cwd=tree, env={"PATH": engine(tree)}, capture_output=True, text=True, check=True
    )
    asked, last = said.stdout.splitlines()
    assert (asked, "Mail that waits is kept" in last) == ("compose down", True)


def test_oauth_without_containers_says_what_it_is_for(tree: Path) -> None:
    result = run(tree, "tools/ask", "oauth", PROVIDER="gmail")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("ownpost: this is for the containers of `make up`")


def engine(tree: Path) -> str:
    """A PATH with an engine in whose containers the relay runs, and which says what it is asked."""
    (tree / ".env").touch()
    docker = program(tree / "engine", "docker", 'case "$1 $2" in "compose ps") echo id;; ps*) ;; *) echo "$@";; esac')
    return f"{docker.parent}:/usr/bin:/bin"


def test_oauth_runs_in_a_container_of_its_own_that_a_browser_here_can_come_back_to(tree: Path) -> None:
    path = engine(tree)
    command = ["tools/ask", "oauth", "--print"]
    environ = {"PATH": path, "PROVIDER": "gmail", "OAUTH_PORT": "8500"}
    said = subprocess.run(command, cwd=tree, env=environ, capture_output=True, text=True, check=True).stdout
    assert said == (
        "compose run --rm --no-deps --no-TTY --publish 127.0.0.1:8500:8500 --entrypoint python relay"
        " -m relay.operator oauth --listen 0.0.0.0 --port 8500 gmail --print\n"
    )


@pytest.mark.parametrize("verb", ["oauth", "account", "queue"])
def test_a_verb_at_a_terminal_has_a_terminal_in_its_container(tree: Path, verb: str) -> None:
    """What is pasted for a grant stays hidden only so: the program switches off the echo of the terminal it has."""
    here, there = pty.openpty()
    said = subprocess.run(
        ["tools/ask", verb], cwd=tree, env={"PATH": engine(tree)}, stdin=there, stdout=there, check=False
    )
    os.close(there)
    words = os.read(here, 4096).decode().split()
    os.close(here)
    assert said.returncode == 0
    assert words[:2] in (["compose", "run"], ["compose", "exec"])
    assert "--no-TTY" not in words


def test_try_refuses_a_port_that_is_taken_and_names_another(tree: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = run(tree, sys.executable, "tools/trial.py", "--port", str(port), "--tls-port", "0", "--page-port", "1")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert f"port {port} on 127.0.0.1 cannot be had (Address already in use)" in line
    assert "make try PORT=1" in line
    assert "TLS_PORT=0" in line, "what was asked for beside it is kept"


def test_try_leaves_the_trial_of_another_folder_alone(tree: Path) -> None:
    """Copied along with the folder's files, mail and all."""
    spool = tree / "var/try/spool"
    spool.mkdir(parents=True)
    (spool / "installation").write_text("id=0123456789abcdef\nhostname=mail.example.org\nfolder=/home/me/ownpost\n")
    shutil.copy(ROOT / "config/accounts.toml.example", tree / "config")
    ports = ("--port", "0", "--tls-port", "0", "--page-port", "0")
    result = run(tree, sys.executable, "tools/trial.py", *ports)
    assert result.returncode == 1
    assert result.stderr.splitlines() == [
        "ownpost: var/try is the trial of another folder (/home/me/ownpost); remove var/try to begin a new one here."
    ]


def test_try_where_it_cannot_write_is_one_line(tree: Path) -> None:
    (tree / "var").write_text("no folder, so that root cannot write into it either")
    result = run(tree, sys.executable, "tools/trial.py")
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "must be yours to write" in line


def test_make_alone_lists_every_verb(tree: Path) -> None:
    listed = run(tree, "make").stdout
    verbs = "try up down logs account queue trace send-test oauth test check integration e2e crash fuzz soak bench lock"
    for verb in [*verbs.split(), "test-all", "peers", "bench-serve", "audit", "sbom"]:
        assert f"make {verb} " in listed
