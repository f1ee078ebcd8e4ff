"""nullmailer: a queue for machines without a mail server. It sends to all recipients or to nobody.

It writes address fields anew, on one line: a DKIM signature over "simple" headers does not survive that.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from support.appliance import eventually
from support.clients import PASSWORD, Matrix
from support.letters import SENDER, Letter
from support.stage import Stage

OWN = rb"Received: \(nullmailer (?:.|\r\n[ \t])*?\r\n(?=[^ \t])"


@pytest.fixture(scope="module")
def nullmailer(running: Matrix, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("nullmailer"), "nullmailer")
    login = f'--user=rewriting "--pass={PASSWORD}" --auth-login'
    tls = "--starttls --x509cafile=/etc/nullmailer/ca.pem"
    stage.write("etc/nullmailer/remotes", f"localhost smtp --port={running.relay.submission} {login} {tls}\n")
    stage.write("etc/nullmailer/me", "nas.example.org\n")
    stage.write("etc/nullmailer/pausetime", "1\n")
    stage.write("etc/nullmailer/ca.pem", Path(running.ca).read_text())
    queue = stage.folder / "var/spool/nullmailer"
    for name in ("queue", "tmp", "failed"):
        (queue / name).mkdir(parents=True)
    trigger = "test -p /var/spool/nullmailer/trigger || mkfifo /var/spool/nullmailer/trigger"
    with (stage.folder / "log").open("wb") as log:
        daemon = subprocess.Popen(stage.command("nullmailer-send", before=trigger), stdout=log, stderr=log)
        eventually((queue / "trigger").exists, "nullmailer to run")
        yield stage
        daemon.kill()
        daemon.wait()


def test_letters(matrix: Matrix, nullmailer: Stage, letter: Letter) -> None:
    people = [*letter.recipients, *letter.refused]
    done = nullmailer.run("nullmailer-inject", "-a", "-f", SENDER, *people, stdin=letter.text)
    assert done.returncode == 0, done.stderr
    if letter.refused:
        failed = nullmailer.folder / "var/spool/nullmailer/failed"
        eventually(lambda: list(failed.iterdir()), "nullmailer to give up")
        matrix.arrived(replace(letter, recipients=()), count=0, author="nas@example.org")
        return
    matrix.arrived(letter, own=OWN, change=unfolded, signed=letter.name != "signed-simple")


def unfolded(data: bytes) -> bytes:
    return data.replace(b"@example.net>,\r\n\tCarol", b"@example.net>, Carol", 1)
