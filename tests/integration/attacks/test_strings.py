"""Strings that want to be more than strings: in logs, on terminals, in paths. From clients and from the provider.

The relay runs as a process of its own; what is looked at is what operators look at: its log, its verbs, its answers.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from base64 import b64encode

import pytest

from support.appliance import eventually
from support.talk import Target

EVIL = "\x1b]0;owned\x07\x1b[2J \u202egpj.exe \r\t\x00 \"}\\ {'event': 'login'} \x7f\x9b31m [red]x[/red] <script>"
TAME = EVIL.replace("\r", "").replace("\x00", "")
HEADER = b"From: anna@example.org\r\nDate: Tue, 24 Nov 2026 12:00:00 +0000\r\nMessage-ID: <%b>\r\nSubject: %b\r\n\r\n"
TRICKS = [
    "../../../etc/passwd",
    "/etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "A" * 26 + "/..",
    "01KC6W3V2M7Z9QH8R5T4XY0AB\n",
]
TRICKS += ["\u0660" * 26, "01kc6w3v2m7z9qh8r5t4xy0ab1", "%00", "' OR 1=1 --", "$(id)", "`id`", "-", "A" * 5000, "*"]


def log(target: Target) -> list[dict[str, object]]:
    """Every line of the log; a line that is not JSON, or not all printable, fails."""
    lines = target.relay.log.read_text(encoding="ascii").splitlines()
    assert all(line.isprintable() for line in lines)
    return [json.loads(line) for line in lines]


def test_a_client_can_write_nothing_but_values_into_the_log(target: Target) -> None:
    eventually(lambda: any(line["event"] == "provider_ready" for line in log(target)), "the relay's own look")
    before = len(log(target))
    text = TAME.encode()
    with target.talk() as talk:
        talk.say(b"EHLO " + text + b"\r\n")
        talk.say(text + b"\r\n")
        talk.say(b"MAIL FROM:<" + text + b">\r\n")
        talk.say(b"AUTH PLAIN " + b64encode(b"\0" + text + b"\0" + text) + b"\r\n")
        talk.say(b"AUTH " + text + b" x\r\n")
    eventually(lambda: any(line["event"] == "login_failed" for line in log(target)), "the failed login to be told")
    for line in log(target)[before:]:
        assert line["event"] in ("command_refused", "login_failed", "certificate_served")
        assert line["service"] == "relay"
        assert all(len(value) <= 500 for value in line.values() if isinstance(value, str))


def test_a_message_and_a_provider_can_write_nothing_on_a_terminal(target: Target) -> None:
    target.provider.final = b"550 5.7.1 " + TAME.encode() + b"\r\n"
    assert target.submit("anna", HEADER % (TAME.encode(), TAME.encode()) + b"x\r\n.\r\n")[0].startswith("250")
    target.provider.wait()
    target.provider.final = b"250 2.0.0 ok " + EVIL.replace("\r", "").encode() + b"\r\n"
    eventually(lambda: any(line["event"] == "refused" for line in log(target)), "the refusal to be told")
    for arguments in (("queue",), ("trace", "--to", "bob@example.net"), ("queue", "--json")):
        shown = target.relay.operator(*arguments)
        assert all(char == "\n" or char.isprintable() for char in shown.stdout + shown.stderr), shown.stdout
    target.provider.final = b"250 2.0.0 ok\r\n"
    log(target)


@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: ascii(trick)[:30])
def test_no_id_leads_anywhere_else(target: Target, trick: str) -> None:
    for arguments in (("trace", "--id", trick), ("queue", "drop", trick)):
        done = target.relay.operator(*arguments)
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
        assert "root:" not in done.stdout + done.stderr
        assert all(char == "\n" or char.isprintable() for char in done.stdout + done.stderr)
    assert target.relay.ready()


@pytest.mark.parametrize(
    "path", ["/../etc/passwd", "/trace?id=../x", "/%2e%2e/", "//", "/trace?id=%00", "/queue?limit=-1"]
)
def test_no_path_of_the_socket_leads_anywhere_else(target: Target, path: str) -> None:
    connection = http.client.HTTPConnection("relay")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(20)
    connection.sock.connect(str(target.relay.socket))
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert 400 <= answer.status < 500, body
    assert b"root:" not in body


def test_a_thousand_header_lines_and_a_flood_of_recipients_are_refused_in_little_time(target: Target) -> None:
    began = time.monotonic()
    assert target.submit("anna", b"From: anna@example.org\r\n" + b"X: y\r\n" * 500_000 + b"\r\n.\r\n")[0][:3] == "552"
    assert target.submit("anna", b"From: anna@example.org\r\nX:" + b" y\r\n" * 500_000 + b"\r\n.\r\n")[0][:3] == "552"
    assert time.monotonic() - began < 20
    assert target.relay.ready()
