"""Programs that call `sendmail`: cron jobs, PHP's mail(), scripts. Recipients stand in the header, some behind Bcc."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from support.clients import PASSWORD, USER, Matrix, run, secret_file
from support.letters import LETTERS, RECIPIENT, SENDER, Letter
from support.peers import need

TEXT = (
    "From: Anna <anna@example.org>\nTo: bob@example.net\nBcc: secret@example.net\nSubject: nightly job\n"
    "Date: Tue, 24 Nov 2026 12:00:00 +0000\nMessage-ID: <cron@example.org>\n\n.dot\nGrüße\n"
).encode()
LETTER = Letter(
    "cron",
    TEXT.replace(b"Bcc: secret@example.net\n", b"").replace(b"\n", b"\r\n"),
    recipients=("bob@example.net", "secret@example.net"),
)

UNAVAILABLE = 65  # EX_DATAERR: a recipient was refused


@pytest.fixture
def sendmail(matrix: Matrix, tmp_path: Path) -> Path:
    """A program of that name, as `msmtp-mta` installs it: msmtp under another name, with the system's settings."""
    where = f"defaults\ntls on\ntls_trust_file {matrix.ca}\naccount default\nhost localhost\n"
    who = f'port {matrix.relay.submission}\nauth on\nuser {USER}\npassword "{PASSWORD}"\nfrom {SENDER}\n'
    settings = secret_file(tmp_path, "msmtprc", where + who)
    program = tmp_path / "sendmail"
    program.write_text(f'#!/bin/sh\nexec {need("msmtp")} -C {settings} "$@"\n')
    program.chmod(0o755)
    return program


@pytest.mark.parametrize("options", [["-t"], ["-t", "-i"], ["-oi", "-t", "-f", SENDER], ["-i", "-t", "--"]])
def test_a_script(matrix: Matrix, sendmail: Path, tmp_path: Path, options: list[str]) -> None:
    script = tmp_path / "job"
    script.write_text(f"#!/bin/sh\nsendmail {' '.join(options)}\n")
    done = run("sh", str(script), stdin=TEXT, env={"PATH": f"{sendmail.parent}:/usr/bin:/bin"})
    assert done.returncode == 0, done.stderr
    matrix.arrived(LETTER)


@pytest.mark.parametrize("letter", LETTERS[:-1], ids=lambda letter: letter.name)
def test_letters(matrix: Matrix, sendmail: Path, letter: Letter) -> None:
    """Whom To does not name stands behind Bcc. One of them refused, it sends to nobody.

    Not the largest, which the same program brings in another test, slowly.
    """
    hidden = [one for one in (*letter.recipients, *letter.refused) if one != RECIPIENT]
    bcc = b"Bcc: %b\n" % ",\n ".join(hidden).encode() if hidden else b""
    done = run(str(sendmail), "-t", "-i", stdin=bcc + letter.text)
    if letter.refused:
        assert done.returncode == UNAVAILABLE, done.stderr
        assert b"501" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    matrix.arrived(replace(letter, recipients=(RECIPIENT, "carol@example.net", *hidden)))


def test_the_mail_function_of_php(matrix: Matrix, sendmail: Path) -> None:
    """It writes To and Subject itself, and between its own fields and the script's no newline but CRLF or LF."""
    call = (
        'exit(mail("bob@example.net", "hello", "line one\\n.two\\n",'
        f' ["From" => "{SENDER}", "Date" => "Tue, 24 Nov 2026 12:00:00 +0000", "Message-ID" => "<php@example.org>"])'
        " ? 0 : 1);"
    )
    done = run(need("php"), "-d", f"sendmail_path={sendmail} -t -i", "-d", "mail.add_x_header=0", "-r", call)
    assert done.returncode == 0, done.stderr + done.stdout
    header = f"To: bob@example.net\r\nSubject: hello\r\nFrom: {SENDER}\r\nDate: Tue, 24 Nov 2026 12:00:00 +0000\r\n"
    body = "Message-ID: <php@example.org>\r\n\r\nline one\r\n.two\r\n"
    matrix.arrived(Letter("php", (header + body).encode()), change=lambda data: data + b"\r\n")
