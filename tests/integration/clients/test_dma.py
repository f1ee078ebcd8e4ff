"""DragonFly Mail Agent: a null client for machines without a mail server. One transaction for each recipient."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from support.clients import HOP, PASSWORD, Matrix
from support.letters import SENDER, Letter
from support.stage import Stage

# It ends before its processes do, and all of a stage ends with the first: wait until its queue is empty.
UNTIL_SENT = 'dma "$@" && while ls /var/spool/dma/Q* >/dev/null 2>&1; do sleep 0.05; done'


@pytest.fixture
def dma(running: Matrix, tmp_path: Path) -> Stage:
    stage = Stage(tmp_path, "dma")
    where = (
        f"SMARTHOST localhost\nPORT {running.relay.submission}\nSECURETRANSFER\nSTARTTLS\nMAILNAME nas.example.org\n"
    )
    stage.write("etc/dma/dma.conf", where + "AUTHPATH /etc/dma/auth.conf\n")
    stage.write("etc/dma/auth.conf", f"rewriting|localhost:{PASSWORD}\n", 0o600, "mail")
    return stage


def send(stage: Stage, letter: Letter) -> subprocess.CompletedProcess[bytes]:
    spool = "mkdir -p /var/spool/dma /var/mail; chown mail:mail /var/spool/dma"
    return stage.run(
        "sh",
        "-c",
        UNTIL_SENT,
        "dma",
        "-D",
        "-i",
        "-f",
        SENDER,
        *letter.recipients,
        *letter.refused,
        stdin=letter.text,
        before=spool,
    )


def test_letters(matrix: Matrix, dma: Stage, letter: Letter) -> None:
    """A dozen of the hundred: it starts a process and a connection for each, all at once.

    Its reports are From `MAILER-DAEMON <>`, which is no address: without `from = "rewrite"` they stay in its queue.
    """
    letter = replace(letter, recipients=letter.recipients[:12])
    done = send(dma, letter)
    if letter.longest > 997:
        assert done.returncode != 0, "it takes no longer lines"
        return
    assert done.returncode == 0, done.stderr
    count = len(letter.recipients)
    matrix.arrived(letter, own=HOP, count=count, author="nas@example.org", reports=len(letter.refused))
