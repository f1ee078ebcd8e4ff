"""OpenSMTPD as a null client: OpenBSD's mail server, and a common choice on small machines."""

from __future__ import annotations

import smtplib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.appliance import eventually
from support.clients import HOP, PASSWORD, Matrix
from support.letters import SENDER, Letter
from support.ports import free_port
from support.stage import Stage

CONFIG = """
table secrets file:/etc/smtpd-secrets
smtp max-message-size 60M
listen on 127.0.0.1 port {own}
action "relay" relay host smtp+tls://us@localhost:{port} auth <secrets>
match from any for any action "relay"
"""


@pytest.fixture(scope="module")
def port(running: Matrix, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    stage = Stage(tmp_path_factory.mktemp("opensmtpd"), "opensmtpd")
    stage.users("opensmtpd", "opensmtpq")
    port = free_port()
    stage.write("etc/smtpd.conf", CONFIG.format(own=port, port=running.relay.submission))
    stage.write("etc/smtpd-secrets", f"us rewriting:{PASSWORD}\n", 0o640)
    stage.write("etc/ssl/certs/ca-certificates.crt", Path(running.ca).read_text())
    folders = "mkdir -p /var/run /var/lib/opensmtpd/empty /var/spool/smtpd; chmod 711 /var/spool/smtpd"
    with (stage.folder / "log").open("wb") as log:
        command = stage.command("smtpd", "-d", "-f", "/etc/smtpd.conf", before=folders)
        daemon = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            eventually(lambda: answers(port, daemon), f"OpenSMTPD to answer: {stage.folder}/log")
            yield port
        finally:
            daemon.kill()
            daemon.wait()


def answers(port: int, daemon: subprocess.Popen[bytes]) -> bool:
    assert daemon.poll() is None, "OpenSMTPD has ended"
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as probe:
            return probe.recv(3) == b"220"
    except OSError:
        return False


def test_letters(matrix: Matrix, port: int, letter: Letter) -> None:
    """Whom we refuse its sender hears of: the account has `from = "rewrite"`, and what is its own is left as it is."""
    with smtplib.SMTP("127.0.0.1", port, timeout=60) as smtp:
        smtp.sendmail(SENDER, [*letter.recipients, *letter.refused], letter.data, ["BODY=8BITMIME"])
    matrix.arrived(letter, own=HOP, author="nas@example.org")
