"""Mail programs that people use send a mail with everything awkward in it, and the provider gets it byte for byte."""

from __future__ import annotations

import os
import re
import smtplib
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.appliance import PASSWORD, Appliance, eventually
from support.peers import need

HEADER = (
    b"From: =?utf-8?q?Anna_=C3=84?= <anna@example.org>\r\n"
    b"To: Bob <bob@example.net>,\r\n\tcarol@example.net\r\n"
    b"Subject: dots, long lines and 8-bit\r\n"
    b"Date: Tue, 24 Nov 2026 12:00:00 +0000\r\n"
    b"Message-ID: <awkward@example.org>\r\n"
    b"MIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\n"
    b"Content-Transfer-Encoding: 8bit\r\n"
)
BODY = (
    b".a line that begins with a dot\r\n..two\r\n.\xc3\xa4\r\n"
    + b"y" * 998
    + b"\r\n"
    + b"z" * 5000
    + b"\r\nGr\xc3\xbc\xc3\x9fe\r\n\r\n.\x20\r\nthe end\r\n"
)
MAIL = HEADER + b"\r\n" + BODY
RECEIVED = re.compile(rb"\AReceived: [^\r\n]*(?:\r\n[ \t][^\r\n]*)*\r\n")


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Appliance]:
    relay = Appliance(tmp_path)
    relay.start()
    yield relay
    assert relay.stop() == 0, relay.log.read_text()[-4000:]


@pytest.fixture
def mail(tmp_path: Path) -> Path:
    file = tmp_path / "mail.eml"
    file.write_bytes(MAIL)
    return file


def run(*command: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run a client; what it printed is in the failure message."""
    environ = {"PATH": os.environ["PATH"] + ":/usr/sbin", "HOME": "/nonexistent", **(env or {})}
    return subprocess.run(command, input=stdin, capture_output=True, check=False, timeout=60, env=environ)


def arrived(relay: Appliance) -> bytes:
    """The one mail that the provider got, without the Received field that we add."""
    (mail,) = eventually(relay.captured, "the mail to be at the provider")
    received = RECEIVED.match(mail)
    assert received, mail[:300]
    assert b"127.0.0.1" not in received[0], "the client's address is nobody's business"
    return mail[received.end() :]


CURL = ["curl", "--silent", "--show-error", "--mail-from", "anna@example.org", "--mail-rcpt", "bob@example.net"]


def curl(relay: Appliance, mail: Path, url: str, password: str = PASSWORD) -> subprocess.CompletedProcess[bytes]:
    need("curl")
    login = ["--user", f"anna:{password}", "--cacert", str(relay.ca), "--ssl-reqd"]
    return run(*CURL, *login, "--url", url, "--upload-file", str(mail))


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
def test_curl(relay: Appliance, mail: Path, scheme: str) -> None:
    port = relay.submission if scheme == "smtp" else relay.submissions
    done = curl(relay, mail, f"{scheme}://localhost:{port}")
    assert done.returncode == 0, done.stderr
    assert arrived(relay) == MAIL


def test_curl_with_a_wrong_password_says_so(relay: Appliance, mail: Path) -> None:
    done = curl(relay, mail, f"smtp://localhost:{relay.submission}", "wrong")
    assert done.returncode == 67  # CURLE_LOGIN_DENIED
    assert relay.captured() == []


def test_curl_without_tls_cannot_log_in(relay: Appliance, mail: Path) -> None:
    need("curl")
    url = f"smtp://localhost:{relay.submission}"
    done = run(*CURL, "--user", f"anna:{PASSWORD}", "--url", url, "--upload-file", str(mail))
    assert done.returncode != 0
    assert relay.captured() == []
    assert PASSWORD not in relay.log.read_text()


@pytest.mark.parametrize(
    ("port", "options"),
    [
        ("submission", ["-tls", "--auth", "PLAIN"]),
        ("submission", ["-tls", "--auth", "LOGIN"]),
        ("submissions", ["-tlsc", "--auth", "PLAIN"]),
        ("submission", ["-tls", "--auth", "PLAIN", "--pipeline"]),
    ],
    ids=["starttls-plain", "starttls-login", "tls-plain", "pipelined"],
)
def test_swaks(relay: Appliance, mail: Path, port: str, options: list[str]) -> None:
    need("swaks")
    where = ["--server", "localhost", "--port", str(getattr(relay, port)), "--tls-ca-path", str(relay.ca)]
    who = ["--auth-user", "anna", "--auth-password", PASSWORD, "--from", "anna@example.org", "--to", "bob@example.net"]
    done = run("swaks", *where, *options, *who, "--data", f"@{mail}", "--suppress-data")
    assert done.returncode == 0, done.stdout + done.stderr
    assert b"250 2.0.0" in done.stdout
    assert arrived(relay).replace(b"\r\n", b"\n").rstrip() == MAIL.replace(b"\r\n", b"\n").rstrip()  # swaks adds a line


def test_msmtp(relay: Appliance, tmp_path: Path) -> None:
    need("msmtp")
    secret = tmp_path / "msmtprc"
    secret.write_text(
        f"account default\nhost localhost\nport {relay.submission}\ntls on\ntls_trust_file {relay.ca}\n"
        f'auth plain\nuser anna\npassword "{PASSWORD}"\nfrom anna@example.org\n'
    )
    secret.chmod(0o600)
    done = run("msmtp", "-C", str(secret), "bob@example.net", stdin=MAIL.replace(b"\r\n", b"\n"))
    assert done.returncode == 0, done.stderr
    assert arrived(relay) == MAIL


def test_smtplib_with_recipients_refused_among_them(relay: Appliance) -> None:
    context = ssl.create_default_context(cafile=str(relay.ca))
    with smtplib.SMTP("localhost", relay.submission, timeout=20) as smtp:
        smtp.starttls(context=context)
        smtp.login("anna", PASSWORD)
        refused = smtp.sendmail("anna@example.org", ["bob@example.net", "no at sign", "carol@example.net"], MAIL)
    assert list(refused) == ["no at sign"]
    assert arrived(relay) == MAIL


def test_a_stranger_s_from_is_refused_with_the_addresses_that_are_allowed(relay: Appliance) -> None:
    context = ssl.create_default_context(cafile=str(relay.ca))
    with smtplib.SMTP_SSL("localhost", relay.submissions, timeout=20, context=context) as smtp:
        smtp.login("anna", PASSWORD)
        forged = MAIL.replace(b"<anna@example.org>", b"<boss@example.org>", 1)
        with pytest.raises(smtplib.SMTPDataError) as caught:
            smtp.sendmail("anna@example.org", ["bob@example.net"], forged)
    assert caught.value.smtp_code == 550
    assert b"anna@example.org" in caught.value.smtp_error
    assert relay.captured() == []
