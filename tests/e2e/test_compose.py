"""`make up` as shipped: the containers, seen from outside only. One appliance for all tests, in their order."""

from __future__ import annotations

import re
import smtplib
import threading

import pytest

from support.appliance import PASSWORD, account, eventually, toml
from support.exporter import fetch
from support.project import Project
from support.traffic import ID
from support.tree import first_mail, without_added_fields

pytestmark = pytest.mark.timeout(400)
KILL_THE_RELAY = """
import os
for pid in filter(str.isdigit, os.listdir("/proc")):
    if b"\\0-m\\0relay\\0" in open(f"/proc/{pid}/cmdline", "rb").read():
        os.kill(int(pid), 9)
"""
MAIL = (
    b"From: Demo <demo@example.org>\r\nTo: you@example.net\r\nSubject: =?utf-8?q?gr=C3=BC=C3=9Fe?=\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    b".dot\r\nGr\xc3\xbc\xc3\x9fe\r\n" + b"x" * 5000 + b"\r\nend\r\n"
)


@pytest.fixture(scope="module")
def up(project: Project) -> Project:
    project.said = project.make("up")
    return project


def new_mail(project: Project, before: int) -> bytes:
    """The one message captured since there were ``before``."""
    eventually(lambda: len(project.captured()) > before, "a mail in var/captured")
    mails = project.captured()
    assert len(mails) == before + 1
    return mails[-1]


def test_the_line_that_make_up_prints_sends_a_first_mail(up: Project) -> None:
    sent = up.run("sh", "-c", first_mail(up.said))
    assert (sent.returncode, sent.stderr) == (0, "")
    assert new_mail(up, 0).endswith(b"\r\n\r\nIt works.\r\n")


def test_the_containers_run_as_the_uid_of_env_without_a_capability_or_a_place_to_write(up: Project) -> None:
    for service in ("relay", "renewer", "exporter"):
        status = up.compose("exec", "-T", service, "cat", "/proc/1/status")
        assert re.search(rf"^Uid:\t{up.uid}\t{up.uid}\t", status, re.MULTILINE)
        assert re.search(r"^CapBnd:\t0+$", status, re.MULTILINE)
        assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
        touched = up.run("docker", "compose", "exec", "-T", service, "touch", "/ownpost/x", "/usr/x")
        assert "Read-only file system" in touched.stderr


@pytest.mark.parametrize("way", ["starttls", "tls"])
def test_a_mail_sent_over_either_port_arrives_byte_for_byte(up: Project, way: str) -> None:
    before = len(up.captured())
    starttls = (f"smtp://127.0.0.1:{up.submission}", MAIL, "--ssl-reqd")
    sent = up.curl(*starttls) if way == "starttls" else up.curl(f"smtps://127.0.0.1:{up.submissions}", MAIL)
    assert (sent.returncode, sent.stderr) == (0, b"")
    assert without_added_fields(new_mail(up, before)) == MAIL


def test_the_page_says_that_all_is_well(up: Project) -> None:
    assert f"http://127.0.0.1:{up.page}/" in up.said
    eventually(lambda: "All is well." in fetch(f"http://127.0.0.1:{up.page}/")[1], "the page to say so")
    assert fetch(f"http://127.0.0.1:{up.page}/readyz")[0] == 200
    assert "ownpost_renewer_attempts_total" in fetch(f"http://127.0.0.1:{up.page}/metrics")[1]


def test_a_wrong_password_is_refused_in_words(up: Project) -> None:
    sent = up.curl(f"smtps://127.0.0.1:{up.submissions}", MAIL, "--verbose", login="demo:wrong")
    assert sent.returncode == 67  # curl: login denied
    assert b"< 535 5.7.8 " in sent.stderr


def test_the_verbs_ask_the_relay_in_its_container(up: Project) -> None:
    with up.client() as smtp:
        smtp.mail("demo@example.org")
        smtp.rcpt("trace-me@example.net")
        code, reply = smtp.data(MAIL)
    assert code == 250
    found = ID.search(reply.decode())
    assert found
    eventually(lambda: "handed over" in up.make("trace", f"ID={found[0]}"), "its delivery in the trace")
    assert found[0] in up.make("trace", "TO=trace-me@example.net")
    assert found[0] not in up.make("queue")
    assert "demo" in up.make("account", "ARGS=list")


def test_an_account_made_while_it_runs_may_log_in(up: Project) -> None:
    said = up.run(
        "make", "account", "ARGS=add anna --sender anna@example.org --password-stdin", stdin="a good password\n"
    )
    assert said.returncode == 0, said.stderr
    (owner,) = {path.stat().st_uid for path in (up.folder / "config").glob("accounts.toml")}
    assert owner == up.uid
    mail = MAIL.replace(b"demo@example.org", b"anna@example.org")

    def sent() -> bool:
        more = ("--mail-from", "anna@example.org")
        done = up.curl(f"smtps://127.0.0.1:{up.submissions}", mail, *more, login="anna:a good password")
        return done.returncode == 0

    eventually(sent, "the new account to be known")


def test_health_checks_leave_no_trace_in_the_log(up: Project) -> None:
    before = up.compose("logs", "--no-log-prefix", "relay")
    checks = "{{range .State.Health.Log}}{{.Start}}\n{{end}}"
    first = up.run("docker", "inspect", "--format", checks, up.container()).stdout
    eventually(lambda: up.run("docker", "inspect", "--format", checks, up.container()).stdout != first, "a check")
    assert up.compose("logs", "--no-log-prefix", "relay") == before


def test_settings_that_are_wrong_are_told_all_at_once_and_end_with_78(up: Project) -> None:
    wrong = {
        "RELAY_CONNECTIONS": "many",
        "RELAY_CONECTIONS": "1",
        "OWNPOST_PROVIDERS": "generic",
        "GENERIC_TLS": "maybe",
    }
    given = [word for name, value in wrong.items() for word in ("--env", f"{name}={value}")]
    ended = up.run("docker", "compose", "run", "--rm", "--no-deps", "-T", *given, "relay")
    assert ended.returncode == 78, ended.stdout + ended.stderr
    for name in wrong.keys() - {"OWNPOST_PROVIDERS"}:
        assert f"{name}: " in ended.stderr + ended.stdout


class Sender(threading.Thread):
    """Sends mails for as long as it may; remembers the id of each that got a 250."""

    def __init__(self, project: Project) -> None:
        super().__init__()
        self.project, self.enough = project, threading.Event()
        self.acknowledged: set[str] = set()

    def wait_for_more(self, count: int) -> None:
        """Return when ``count`` more mails were acknowledged."""
        enough = len(self.acknowledged) + count
        eventually(lambda: len(self.acknowledged) >= enough, "mail to flow", 60)

    def run(self) -> None:
        while not self.enough.is_set():
            try:
                with self.project.client("crowd", PASSWORD) as smtp:
                    while not self.enough.is_set():
                        smtp.mail("demo@example.org")
                        smtp.rcpt("you@example.net")
                        code, reply = smtp.data(MAIL)
                        if code == 250:
                            self.acknowledged.update(ID.findall(reply.decode()))
                        self.enough.wait(0.2)  # `capture` takes a thousand and no more
            except (OSError, smtplib.SMTPException):
                self.enough.wait(0.1)  # the relay is down: that is the test


def lost(project: Project, acknowledged: set[str]) -> set[str]:
    """What is neither captured nor in the queue: a mail whose final reply the kill cut off waits there a while."""
    captured = {file.stem for file in (project.folder / "var/captured").glob("*.eml")}
    return acknowledged - project.waiting() - captured


def test_killed_with_its_container_during_mail_nothing_acknowledged_is_lost(up: Project) -> None:
    with (up.folder / "config/accounts.toml").open("a") as accounts:
        accounts.write("\n" + toml({"crowd": account(["demo@example.org"])}))  # without limits, unlike demo
    sender = Sender(up)
    sender.start()
    try:
        for _ in range(3):
            sender.wait_for_more(20)
            assert up.run("docker", "kill", "--signal", "KILL", up.container()).returncode == 0
            up.compose("up", "--detach", "--wait", "relay")
    finally:
        sender.enough.set()
        sender.join()
    assert len(sender.acknowledged) >= 60
    assert lost(up, sender.acknowledged) == set()


def test_a_relay_that_dies_in_its_container_is_started_again_there(up: Project) -> None:
    container = up.container()
    up.compose("exec", "-T", "relay", "python", "-c", KILL_THE_RELAY)
    before = len(up.captured())
    eventually(lambda: up.curl(f"smtps://127.0.0.1:{up.submissions}", MAIL).returncode == 0, "mail to be taken again")
    new_mail(up, before)
    assert up.container() == container


def test_stop_lets_a_mail_on_its_way_finish_and_keeps_it(up: Project) -> None:
    smtp = up.client()
    smtp.mail("demo@example.org")
    smtp.rcpt("you@example.net")
    assert smtp.docmd("DATA")[0] == 354
    before = len(up.captured())
    smtp.send(MAIL[:300])
    stopping = threading.Thread(target=up.compose, args=("stop", "relay"))
    stopping.start()
    eventually(lambda: not up.reachable(), "the port to close")
    smtp.send(MAIL[300:] + b".\r\n")
    code, _ = smtp.getreply()
    smtp.close()
    assert code == 250
    stopping.join(60)
    assert up.exit_code() == 0
    up.compose("up", "--detach", "--wait", "relay")
    assert without_added_fields(new_mail(up, before)).endswith(b"\r\nend\r\n")
