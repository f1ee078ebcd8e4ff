"""msmtp: cron and scripts. It sends to all recipients or to nobody."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support.clients import PASSWORD, USER, Matrix, run, secret_file
from support.letters import BY_NAME, SENDER, Letter
from support.peers import need

UNAVAILABLE = 65  # EX_DATAERR: a recipient was refused


def msmtp(matrix: Matrix, folder: Path, letter: Letter, mechanism: str = "plain") -> subprocess.CompletedProcess[bytes]:
    need("msmtp")
    where = f"account default\nhost localhost\nport {matrix.relay.submission}\ntls on\ntls_trust_file {matrix.ca}\n"
    who = f'auth {mechanism}\nuser {USER}\npassword "{PASSWORD}"\nfrom {SENDER}\n'
    return run(
        "msmtp",
        "-C",
        secret_file(folder, "msmtprc", where + who),
        "--",
        *letter.recipients,
        *letter.refused,
        stdin=letter.text,
    )


def test_letters(matrix: Matrix, letter: Letter, tmp_path: Path) -> None:
    done = msmtp(matrix, tmp_path, letter)
    if letter.refused:
        assert done.returncode == UNAVAILABLE, done.stderr
        assert b"501" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    matrix.arrived(letter)


def test_auth_login(matrix: Matrix, tmp_path: Path) -> None:
    assert msmtp(matrix, tmp_path, BY_NAME["dots"], "login").returncode == 0
    matrix.arrived(BY_NAME["dots"])
