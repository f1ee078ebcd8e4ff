"""`make try` on a machine without Docker: a fresh copy, an ordinary user, a real terminal, Ctrl-C."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.appliance import eventually
from support.exporter import fetch
from support.peers import need
from support.ports import free_port
from support.tree import copy_tree, first_mail, without_added_fields

NOBODY_IN_PARTICULAR = 23456  # a user id that owns nothing
RESIDENT = 200 * 1024**2  # bytes that the idle appliance may have in all
pytestmark = pytest.mark.timeout(400)


class Terminal:
    """A command in a terminal of its own, as in a window: what it prints, keys to press, its exit code."""

    def __init__(self, command: list[str], folder: Path, environ: dict[str, str]) -> None:
        self.text = ""
        self.code: int | None = None  # 128 + n when a signal ended it, as a shell shows it
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execvpe(command[0], command, environ)

    def look(self) -> None:
        """Take what has been printed, and the exit code if there is one."""
        if select.select([self.master], [], [], 0.05)[0]:
            try:
                self.text += os.read(self.master, 65536).decode(errors="replace").replace("\r\n", "\n")
            except OSError:  # Linux: the last process has closed it
                time.sleep(0.01)
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            code = os.waitstatus_to_exitcode(status)
            self.code = None if pid == 0 else code if code >= 0 else 128 - code

    def until(self, words: str, seconds: float) -> None:
        """Wait until ``words`` have been printed."""

        def found() -> bool:
            self.look()
            return words in self.text or self.code is not None

        eventually(found, words, seconds)
        assert words in self.text, f"ended with {self.code}:\n{self.text}"

    def press(self, key: bytes) -> None:
        os.write(self.master, key)

    def wait(self, seconds: float) -> int:
        """The exit code."""

        def over() -> bool:
            self.look()
            return self.code is not None

        eventually(over, "the end of the command", seconds)
        os.close(self.master)
        assert self.code is not None
        return self.code


class Trial:
    """A fresh copy of the repository that an ordinary user owns, and what that user does in it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.tls_port, self.page_port = folder, free_port(), free_port(), free_port()
        self.prefix: list[str] = []
        if os.getuid() == 0:
            ids = str(NOBODY_IN_PARTICULAR)
            self.prefix = [need("setpriv"), f"--reuid={ids}", f"--regid={ids}", "--clear-groups"]
            copy_tree(folder, NOBODY_IN_PARTICULAR)
        else:
            copy_tree(folder)
        kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "LANG"))}
        self.environ = kept | {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder), "TERM": "dumb"}
        self.environ |= {"RELAY_CONNECTIONS": "nonsense of the caller's own environment"}
        (folder / ".env").write_text("OWNPOST_PROVIDERS=nonsense of an .env that the trial must not read\n")
        self.shipped = {path.relative_to(folder) for path in folder.rglob("*")}

    def make(self, *words: str) -> list[str]:
        return [*self.prefix, "make", *words]

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.prefix, *command],
            cwd=self.folder, env=self.environ, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip

    def start(self) -> Terminal:
        words = ("try", f"PORT={self.port}", f"TLS_PORT={self.tls_port}", f"PAGE_PORT={self.page_port}")
        return Terminal(self.make(*words), self.folder, self.environ)

    def captured(self) -> list[bytes]:
        return [file.read_bytes() for file in sorted((self.folder / "var/captured").glob("*.eml"))]


@pytest.fixture(scope="module")
def trial() -> Iterator[Trial]:
    folder = Path(tempfile.mkdtemp(prefix="ownpost-try-"))  # pytest's own temporary folders are for its own user only
    folder.chmod(0o755)
    yield Trial(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def terminal(trial: Trial) -> Iterator[Terminal]:
    need("curl")
    terminal = trial.start()
    terminal.until("Its story: make trace", 300)
    yield terminal
    terminal.press(b"\x03")
    code = terminal.wait(60)
    assert code == 0, f"make try ended with {code} after Ctrl-C:\n{terminal.text}"


def test_the_printed_line_sends_a_first_mail(trial: Trial, terminal: Terminal) -> None:
    sent = trial.run("sh", "-c", first_mail(terminal.text))
    assert (sent.returncode, sent.stderr) == (0, "")
    (mail,) = eventually(trial.captured, "the mail in var/captured")
    assert without_added_fields(mail) == (
        b"From: Demo <demo@example.org>\r\nTo: you@example.net\r\nSubject: First mail\r\n\r\nIt works.\r\n"
    )


def test_the_page_says_that_all_is_well_and_tells_of_that_mail(trial: Trial, terminal: Terminal) -> None:
    assert f"http://127.0.0.1:{trial.page_port}/" in terminal.text

    def well() -> bool:
        page = fetch(f"http://127.0.0.1:{trial.page_port}/")[1]
        told = "y…@example.net" in page and "1 message accepted, 1 delivery taken by a provider" in page
        return "All is well." in page and told and f"<code>{trial.port}</code>" in page

    eventually(well, "the page to say so", 90)
    assert "ownpost_messages_accepted_total" in fetch(f"http://127.0.0.1:{trial.page_port}/metrics")[1]


def test_the_verbs_tell_of_that_mail(trial: Trial, terminal: Terminal) -> None:
    trace = trial.run("make", "trace", "TO=you@example.net")
    assert trace.returncode == 0, trace.stderr
    assert "handed over" in trace.stdout
    queue = trial.run("make", "queue")
    assert queue.returncode == 0, queue.stderr


def test_a_new_account_of_the_trial_may_log_in(trial: Trial, terminal: Terminal) -> None:
    added = trial.run("make", "account", "ARGS=add anna --sender anna@example.org")
    assert added.returncode == 0, added.stderr
    listed = trial.run("make", "account", "ARGS=list")
    assert "anna@example.org" in listed.stdout
    assert (trial.folder / "var/try/config/accounts.toml").exists()
    assert not (trial.folder / "config/accounts.toml").exists()


def test_a_second_try_in_the_same_folder_is_one_sentence(trial: Trial, terminal: Terminal) -> None:
    second = trial.run("make", "try", f"PORT={free_port()}", f"TLS_PORT={free_port()}")
    assert second.returncode != 0
    assert [line for line in second.stderr.splitlines() if not line.startswith("make")] == [
        "ownpost: `make try` already runs in this folder; end it with Ctrl-C where it runs."
    ]


def test_the_idle_appliance_is_small(trial: Trial, terminal: Terminal) -> None:
    assert 0 < sum(resident(pid) for pid in family(terminal.pid)) < RESIDENT


def test_what_it_writes_is_below_var_certs_and_the_venv(trial: Trial, terminal: Terminal) -> None:
    new = {path.relative_to(trial.folder) for path in trial.folder.rglob("*")} - trial.shipped
    assert {path.parts[0] for path in new} <= {"var", "certs", ".venv", ".cache"}  # pip's own cache lies in the home


def family(root: int) -> list[int]:
    """A process and all that descend from it."""
    parents = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            stat = Path("/proc", name, "stat").read_text()
        except OSError:
            continue  # it has ended meanwhile
        parents[int(name)] = int(stat.rsplit(")", 1)[1].split()[1])
    found = [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def resident(pid: int) -> int:
    """Bytes of memory that a process has resident, its share of what several have in common."""
    text = Path("/proc", str(pid), "smaps_rollup").read_text()
    found = re.search(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)
    assert found, text
    return int(found[1]) * 1024
