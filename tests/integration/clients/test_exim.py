"""Exim as a null client: Debian's default mail server. Called as sendmail, it delivers while its caller waits."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from support.clients import PASSWORD, USER, Matrix
from support.letters import SENDER, Letter
from support.stage import Stage

CONFIG = """
exim_user = Debian-exim
exim_group = Debian-exim
primary_hostname = nas.example.org
spool_directory = /var/spool/exim4
log_file_path = /var/log/exim4/%slog
message_size_limit = 60M
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
OWN = rb"Received: from (?:.|\r\n[ \t])*?\r\n(?=[^ \t])"


@pytest.fixture
def exim(running: Matrix, tmp_path: Path) -> Stage:
    """``message_linelength_limit``: by default it refuses lines over 998 bytes itself, before it connects."""
    stage = Stage(tmp_path, "exim4-daemon-light")
    stage.users("Debian-exim")
    values = {"port": running.relay.submission, "user": USER, "password": PASSWORD}
    stage.write("etc/exim4/exim4.conf", CONFIG.format(**values))
    stage.write("etc/exim4/ca.pem", Path(running.ca).read_text())
    return stage


def send(stage: Stage, letter: Letter) -> subprocess.CompletedProcess[bytes]:
    exim = ["exim4", "-C", "/etc/exim4/exim4.conf", "-odf", "-oi", "-f", SENDER, "--"]
    folders = "mkdir -p /var/spool/exim4 /var/log/exim4; chown -R 64000:64000 /var/spool/exim4 /var/log/exim4"
    return stage.run(*exim, *letter.recipients, *letter.refused, stdin=letter.text, before=folders)


def test_letters(matrix: Matrix, exim: Stage, letter: Letter) -> None:
    """Those that we refuse it reports to the sender, by a mail of its own with the null sender."""
    done = send(exim, letter)
    assert done.returncode == 0, done.stderr
    matrix.arrived(letter, own=OWN)
