"""Exim as a null client: Debian's default mail server. Called as sendmail, it delivers while its caller waits."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.clients import HOP, PASSWORD, USER, Matrix
from support.letters import BY_NAME, SENDER, Letter
from support.stage import Stage

CONFIG = """
exim_user = Debian-exim
exim_group = Debian-exim
primary_hostname = nas.example.org
spool_directory = /var/spool/exim4
log_file_path = /var/log/exim4/%slog
message_size_limit = 60M
disable_ipv6
untrusted_set_sender = *
begin routers
smarthost:
  driver = manualroute
  route_list = * localhost byname
  self = send
  transport = out
begin transports
out:
  driver = smtp
  port = {port}
  allow_localhost
  hosts_require_tls = *
  hosts_require_auth = *
  tls_verify_certificates = /etc/exim4/ca.pem
  tls_verify_hosts = *
  message_linelength_limit = 1M
begin authenticators
login:
  driver = plaintext
  public_name = PLAIN
  client_send = ^{user}^{password}
begin retry
* * F,1h,1m
"""
PARTLY = BY_NAME["to-97-and-3-refused"]


@pytest.fixture
def exim(running: Matrix, tmp_path: Path) -> Callable[[str], Stage]:
    """One that logs in as the user.

    ``message_linelength_limit``: by default it refuses lines over 998 bytes itself, before it connects.
    """

    def make(user: str) -> Stage:
        stage = Stage(tmp_path, "exim4-daemon-light")
        stage.users("Debian-exim")
        values = {"port": running.relay.submission, "user": user, "password": PASSWORD}
        stage.write("etc/exim4/exim4.conf", CONFIG.format(**values))
        stage.write("etc/exim4/ca.pem", Path(running.ca).read_text())
        return stage

    return make


def send(stage: Stage, letter: Letter) -> subprocess.CompletedProcess[bytes]:
    exim = ["exim4", "-C", "/etc/exim4/exim4.conf", "-odf", "-oi", "-f", SENDER, "--"]
    folders = "mkdir -p /var/spool/exim4 /var/log/exim4; chown -R 64000:64000 /var/spool/exim4 /var/log/exim4"
    return stage.run(*exim, *letter.recipients, *letter.refused, stdin=letter.text, before=folders)


def test_letters(matrix: Matrix, exim: Callable[[str], Stage], letter: Letter) -> None:
    done = send(exim(USER), letter)
    assert done.returncode == 0, done.stderr
    matrix.arrived(letter, own=HOP)


def test_its_own_report_about_the_refused_ones_is_refused_too(matrix: Matrix, exim: Callable[[str], Stage]) -> None:
    """Its From is no address of the account: nobody is told, but for the log."""
    stage = exim(USER)
    assert send(stage, PARTLY).returncode == 0
    matrix.arrived(PARTLY, own=HOP)
    log = (stage.folder / "var/log/exim4/mainlog").read_text()
    assert "The address <Mailer-Daemon@nas.example.org> in the field From is not one of account anna" in log


@pytest.mark.parametrize(
    ("user", "author"), [("rewriting", "nas@example.org"), ("listing", "mailer-daemon@nas.example.org")]
)
def test_its_own_report_arrives_where_the_account_lets_it(
    matrix: Matrix, exim: Callable[[str], Stage], user: str, author: str
) -> None:
    assert send(exim(user), PARTLY).returncode == 0
    matrix.arrived(PARTLY, own=HOP, author=author)
