"""curl: scripts and CI jobs. It sends what it reads, and takes a refused recipient for a failure unless told."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from support.clients import PASSWORD, USER, Matrix, run
from support.letters import BY_NAME, SENDER, Letter
from support.peers import need


def curl(
    matrix: Matrix, folder: Path, letter: Letter, scheme: str = "smtps", password: str = PASSWORD, *more: str
) -> subprocess.CompletedProcess[bytes]:
    need("curl")
    file = folder / "mail.eml"
    file.write_bytes(letter.data)
    port = matrix.relay.submission if scheme == "smtp" else matrix.relay.submissions
    to = [word for address in (*letter.recipients, *letter.refused) for word in ("--mail-rcpt", address)]
    login = ["--user", f"{USER}:{password}", "--cacert", matrix.ca]
    what = ["--mail-from", SENDER, *to, "--url", f"{scheme}://localhost:{port}", "--upload-file", str(file)]
    return run("curl", "--silent", "--show-error", *login, *what, *more)


def test_letters(matrix: Matrix, letter: Letter, tmp_path: Path) -> None:
    more = ["--mail-rcpt-allowfails"] if letter.refused else []
    done = curl(matrix, tmp_path, letter, "smtps", PASSWORD, *more)
    assert done.returncode == 0, done.stderr
    matrix.arrived(letter)


def test_starttls(matrix: Matrix, tmp_path: Path) -> None:
    letter = BY_NAME["dots"]
    done = curl(matrix, tmp_path, letter, "smtp", PASSWORD, "--ssl-reqd")
    assert done.returncode == 0, done.stderr
    matrix.arrived(letter)


def test_a_refused_recipient_stops_it_unless_it_is_told_otherwise(matrix: Matrix, tmp_path: Path) -> None:
    done = curl(matrix, tmp_path, BY_NAME["to-97-and-3-refused"])
    assert done.returncode == 55  # CURLE_SEND_ERROR
    assert b"501" in done.stderr


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_a_wrong_password_says_so(matrix: Matrix, tmp_path: Path, scheme: str) -> None:
    done = curl(matrix, tmp_path, BY_NAME["dots"], scheme, "wrong", *(["--ssl-reqd"] if scheme == "smtp" else []))
    assert done.returncode == 67  # CURLE_LOGIN_DENIED


def test_without_tls_it_cannot_log_in(matrix: Matrix, tmp_path: Path) -> None:
    done = curl(matrix, tmp_path, BY_NAME["dots"], "smtp")
    assert done.returncode != 0
    assert PASSWORD not in matrix.relay.log.read_text()
    assert not matrix.provider.taken
