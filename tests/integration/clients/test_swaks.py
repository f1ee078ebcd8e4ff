"""swaks: the tester's tool. It adds a line break at the end of what it reads, and takes off a lone dot there first."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.clients import PASSWORD, USER, Matrix, run
from support.letters import BY_NAME, SENDER, Letter
from support.peers import need

WHO = ["--auth-user", USER, "--auth-password", PASSWORD, "--from", SENDER]
PARTLY = 24  # swaks' exit code when some recipients were refused


def swaks(matrix: Matrix, folder: Path, letter: Letter, *options: str) -> tuple[int, bytes]:
    need("swaks")
    file = folder / "mail.eml"
    file.write_bytes(letter.data)
    port = matrix.relay.submissions if "-tlsc" in options else matrix.relay.submission
    where = ["--server", "localhost", "--port", str(port), "--tls-ca-path", matrix.ca]
    to = ["--to", ",".join((*letter.recipients, *letter.refused))]
    done = run("swaks", *where, *WHO, *to, "--data", f"@{file}", "--suppress-data", *options)
    return done.returncode, done.stdout[-3000:] + done.stderr[-1000:]


def ended(data: bytes) -> bytes:
    return data.removesuffix(b"\r\n.\r\n") + b"\r\n"


def test_letters(matrix: Matrix, letter: Letter, tmp_path: Path) -> None:
    code, shown = swaks(matrix, tmp_path, letter, "-tlsc", "--auth", "PLAIN")
    assert code == 0, shown
    matrix.arrived(letter, change=ended)


@pytest.mark.parametrize(
    "options",
    [["-tls", "--auth", "PLAIN"], ["-tls", "--auth", "LOGIN"], ["-tls", "--auth", "PLAIN", "--pipeline"]],
    ids=["starttls-plain", "starttls-login", "pipelined"],
)
def test_ways_in(matrix: Matrix, tmp_path: Path, options: list[str]) -> None:
    code, shown = swaks(matrix, tmp_path, BY_NAME["dots"], *options)
    assert code == 0, shown
    assert b"250 2.0.0" in shown
    matrix.arrived(BY_NAME["dots"], change=ended)
