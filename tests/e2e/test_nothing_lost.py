"""Mail outlives its containers: an upgrade, `docker compose down` in mid-DATA, kill -9 from outside the container.

One appliance for all tests, in their order. Its provider is away most of the time, so that what was accepted waits; at
the end it comes back, and gets every message once.
"""

from __future__ import annotations

import re
import smtplib
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from relay.spool.schema import VERSION
from support.appliance import PASSWORD, ROOT, account, eventually, toml
from support.project import Project
from support.traffic import ID

pytestmark = pytest.mark.timeout(400)
ACCOUNTS = {name: account([f"{name}@example.org"]) for name in ("anna", "bert", "crowd")}
FOLDER = "/var/lib/ownpost/spool/relay"
WORDS = str.maketrans("ILOU", "110V")  # letters that no id has
LEAVE_A_SPOOL = f"""
import apsw, os, sys, time
os.makedirs("{FOLDER}", 0o700, exist_ok=True)
for name in os.listdir("{FOLDER}"):
    os.remove(f"{FOLDER}/{{name}}")
spool = apsw.Connection("{FOLDER}/spool.db")
spool.execute(sys.stdin.read())
later = time.time() - 1_800_001_000  # the dump's clock stands at 1,800,000,000: let that be 1,000 seconds ago
for column in ("delivery.next_attempt", "delivery.changed_at", "message.received_at", "message.ended_at", "event.at"):
    table, name = column.split(".")
    spool.execute(f"UPDATE {{table}} SET {{name}} = {{name}} + ? WHERE {{name}} > 0", (later,))
for number, name in spool.execute("SELECT key, id FROM message").fetchall():  # the dump's ids are words
    spool.execute("UPDATE message SET id = ? WHERE key = ?", ("0" + name[:-1].translate({WORDS}), number))
spool.execute("UPDATE delivery SET provider = 'generic' WHERE provider = 'sendgrid'")
"""
OF_ANOTHER_VERSION = f"""
import apsw, sys
print(apsw.Connection("{FOLDER}/spool.db").pragma("user_version", *map(int, sys.argv[1:])))
"""
KILL = """
import os, sys
pid = int(sys.argv[1])
if sys.argv[2] == "shim":
    pid = int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
    assert b"shim" in open(f"/proc/{pid}/cmdline", "rb").read()
os.kill(pid, 9)
"""


@pytest.fixture(scope="module")
def up(project: Project) -> Project:
    """Built, with its provider running and three accounts; the relay has not been started."""
    project.add_provider(Path(__file__).with_name("provider.py"), "what the provider wants")
    (project.folder / "config/accounts.toml").write_text(toml(ACCOUNTS))
    project.compose("build", "--quiet")
    project.compose("up", "--detach", "provider")
    return project


def in_a_container(project: Project, program: str, *arguments: str, stdin: str = "") -> str:
    """Run ``program`` as the relay's user on the relay's volume while no relay runs."""
    command = ["docker", "compose", "run", "--rm", "--no-deps", "--no-TTY", "--entrypoint", "python", "relay", "-c"]
    done = project.run(*command, program, *arguments, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return done.stdout


def arrived(project: Project) -> list[bytes]:
    """What the provider has taken."""
    return [file.read_bytes() for file in (project.folder / "mail").glob("*.eml")]


def called(word: str) -> str:
    """The id of the message that the dump calls so."""
    return "0" + word.ljust(25, "0").translate(WORDS)


def subjects(project: Project) -> list[str]:
    return sorted(re.findall(r"^Subject: (.+?)\r$", b"".join(arrived(project)).decode(), re.MULTILINE))


@pytest.mark.parametrize("version", [1, 2])
def test_what_waits_in_an_earlier_versions_spool_is_delivered_whole(up: Project, version: int) -> None:
    up.compose("stop", "relay")
    for file in (up.folder / "mail").glob("*.eml"):
        file.unlink()
    dump = ROOT / f"tests/unit/spool_version_{version}.sql"
    in_a_container(up, LEAVE_A_SPOOL, stdin=dump.read_text())
    assert in_a_container(up, OF_ANOTHER_VERSION).strip() == str(version)
    up.make("up")
    due = ["CLAIMED", "DEFERRED", "DOUBTFUL", "QUOTED", "WAITING"]
    eventually(lambda: set(due) <= set(subjects(up)), f"what is due of {due}, not {subjects(up)}", 60)
    up.make("queue", f"ARGS=retry {called('SENDING')}")  # its dot was on its way: it would wait a while
    up.make("queue", f"ARGS=release {called('HELD')}")
    whole = sorted([*due, "HELD", "SENDING"])
    eventually(lambda: set(whole) <= set(subjects(up)), "what was held and what was in doubt", 60)
    assert [one for one in subjects(up) if one in whole] == whole, "each once"
    (waiting,) = [mail for mail in arrived(up) if b"Subject: WAITING" in mail]
    lines = b"hello\r\n" if version == 1 else b"".join(letter * 70 + b"\r\n" for letter in (b"a", b"b", b"c"))
    assert waiting.endswith(b"\r\n\r\n" + lines + b".\r\n")
    failed = {called("REFUSED"), called("STUCK")}
    eventually(lambda: failed == up.waiting(), "nothing in the queue but what failed and nobody acknowledged")


def test_an_older_version_refuses_a_newer_spool_and_leaves_it_alone(up: Project) -> None:
    up.compose("stop", "relay")
    in_a_container(up, OF_ANOTHER_VERSION, "99")
    relay = (
        "docker",
        "compose",
        "run",
        "--rm",
        "--no-deps",
        "--no-TTY",
        "--entrypoint",
        "python",
        "relay",
        "-m",
        "relay",
    )
    refused = up.run(*relay)
    assert refused.returncode == 78
    assert (
        f"written by a newer Ownpost (its schema is 99, this program knows {VERSION})"
        in refused.stderr + refused.stdout
    )
    assert in_a_container(up, OF_ANOTHER_VERSION).strip() == "99"


class Sent:
    """What got a 250: the number in each message, by the message's id."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self._last = 0
        self._lock = threading.Lock()

    def mail(self, size: int = 2000) -> tuple[int, bytes]:
        """A new message, and the number that is in it."""
        with self._lock:
            self._last += 1
        head = f"From: crowd@example.org\r\nTo: you@example.net\r\nSubject: number {self._last}\r\n\r\n"
        return self._last, head.encode() + b"x" * 70 * (size // 70) + b"\r\nend\r\n"

    def note(self, number: int, code: int, reply: bytes) -> None:
        if code == 250:
            self.numbers[ID.findall(reply.decode())[0]] = number


@pytest.fixture(scope="module")
def sent() -> Sent:
    return Sent()


@pytest.fixture(scope="module")
def away(up: Project, sent: Sent) -> Project:
    """Running, its spool empty, its provider gone."""
    up.compose("stop", "--timeout", "1", "provider")
    up.compose("rm", "--force", "provider")
    in_a_container(up, LEAVE_A_SPOOL.partition("spool =")[0])
    up.make("up")
    return up


def in_mid_data(project: Project, mail: bytes) -> smtplib.SMTP_SSL:
    """A client that has sent the most of ``mail``."""
    smtp = project.client("crowd", PASSWORD)
    smtp.mail("crowd@example.org")
    smtp.rcpt("you@example.net")
    assert smtp.docmd("DATA")[0] == 354
    smtp.send(mail[:-5])
    return smtp


def test_down_in_mid_data_keeps_what_got_a_250_and_nothing_else(away: Project, sent: Sent) -> None:
    with away.client("crowd", PASSWORD) as smtp:
        for _ in range(5):
            number, mail = sent.mail()
            smtp.mail("crowd@example.org")
            smtp.rcpt("you@example.net")
            sent.note(number, *smtp.data(mail))
    assert len(sent.numbers) == 5
    (number, quick), (_, slow), (_, large) = sent.mail(), sent.mail(), sent.mail(3_000_000)
    clients = [in_mid_data(away, mail) for mail in (quick, slow, large)]
    stopping = threading.Thread(target=away.compose, args=("down", "--timeout", "10"))
    stopping.start()
    eventually(lambda: not away.reachable(), "the ports to close")
    clients[0].send(quick[-5:] + b".\r\n")
    sent.note(number, *clients[0].getreply())
    assert len(sent.numbers) == 6, "who ends in time gets its 250"
    stopping.join(60)
    for smtp in clients[1:]:
        with suppress(smtplib.SMTPServerDisconnected, OSError):
            smtp.send(b"end\r\n.\r\n")
            assert smtp.getreply()[0] in (421, 451)
    for smtp in clients:
        smtp.close()
    assert away.compose("ps", "--all", "--quiet") == ""
    away.make("up")
    assert away.waiting() == set(sent.numbers)


def test_a_plain_down_waits_for_who_ends_soon_and_for_nobody_else(away: Project, sent: Sent) -> None:
    """As people type it, with the time limit of compose.yaml."""
    number, mail = sent.mail()
    client = in_mid_data(away, mail)
    stopping = threading.Thread(target=away.compose, args=("down",))
    stopping.start()
    eventually(lambda: not away.reachable(), "the ports to close")
    assert stopping.is_alive()
    client.send(mail[-5:] + b".\r\n")
    sent.note(number, *client.getreply())
    client.close()
    assert number in sent.numbers.values(), "it got its 250"
    stopping.join(45)
    assert not stopping.is_alive(), "nobody else is there to wait for"
    assert away.compose("ps", "--all", "--quiet") == ""
    away.make("up")
    assert away.waiting() == set(sent.numbers)


class Sender(threading.Thread):
    """Sends one message after the other until ``enough``, whatever becomes of the relay meanwhile."""

    def __init__(self, project: Project, sent: Sent, enough: threading.Event) -> None:
        super().__init__()
        self.project, self.sent, self.enough = project, sent, enough

    def run(self) -> None:
        while not self.enough.is_set():
            try:
                with self.project.client("crowd", PASSWORD) as smtp:
                    while not self.enough.wait(0.05):
                        number, mail = self.sent.mail()
                        smtp.mail("crowd@example.org")
                        smtp.rcpt("you@example.net")
                        self.sent.note(number, *smtp.data(mail))
            except (OSError, smtplib.SMTPException):
                self.enough.wait(0.1)  # the relay is down: that is the test


def kill(project: Project, what: str) -> None:
    """SIGKILL, on the engine's machine, to the container's first process or to its shim, behind the engine's back.

    Not by `docker kill`: that is an order, after which the engine lets the container rest.
    """
    pid = project.run("docker", "inspect", "--format", "{{.State.Pid}}", project.container()).stdout.strip()
    command = ["docker", "run", "--rm", "--pid", "host", "--user", "0", "--network", "none", "--entrypoint", "python"]
    done = project.run(*command, f"{project.name}-relay", "-c", KILL, pid, what)
    assert done.returncode == 0, done.stderr


def test_killed_from_outside_under_load_it_comes_back_by_itself_with_all_it_had(away: Project, sent: Sent) -> None:
    enough, container = threading.Event(), away.container()
    senders = [Sender(away, sent, enough) for _ in range(3)]
    for sender in senders:
        sender.start()
    try:
        for what in ("program", "shim", "program"):
            had = len(sent.numbers)
            eventually(lambda: len(sent.numbers) > had + 30, "mail to flow", 90)  # noqa: B023 - asked at once
            kill(away, what)
        had = len(sent.numbers)
        eventually(lambda: len(sent.numbers) > had + 30, "mail to flow again", 90)
    finally:
        enough.set()
        for sender in senders:
            sender.join()
    assert away.container() == container, "nobody made a new one"
    assert set(sent.numbers) - away.waiting() == set()


def test_when_the_provider_comes_back_it_gets_every_message_once(away: Project, sent: Sent) -> None:
    for file in (away.folder / "mail").glob("*.eml"):
        file.unlink()
    away.make("queue", "ARGS=hold --account crowd")  # what is released is due at once
    away.compose("up", "--detach", "provider")
    away.compose("up", "--detach", "--wait", "--force-recreate", "relay")  # a new one has paused no provider yet
    away.make("queue", "ARGS=release --account crowd")
    eventually(lambda: away.waiting() == set(), "the queue to be empty", 120)
    found = sorted(int(one.removeprefix("number ")) for one in subjects(away))
    assert len(found) == len(set(found)), "none twice"
    assert set(sent.numbers.values()) <= set(found)
    assert all(mail.endswith(b"\r\nend\r\n.\r\n") for mail in arrived(away))
