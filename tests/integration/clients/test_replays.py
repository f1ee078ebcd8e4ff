"""What the mail programs say, as far as we know, that we cannot run here: their commands, and the shape of their mail.

What is written down: the client's name in EHLO, the way of logging in, spaces and parameters of MAIL and RCPT, and the
fields that each puts into a message. Apple's EHLO is in a log of github.com/simonrob/email-oauth2-proxy, issue 93; for
the rest no log can be named, so it is held to the shape only, and a version of today may say something else. Names, ids
and dates are made up.
"""

from __future__ import annotations

from base64 import b64encode
from typing import NamedTuple

import pytest

from support.clients import PASSWORD, USER, Matrix
from support.letters import LETTERS, Letter
from support.talk import Talk

PLAIN = b64encode(f"\0{USER}\0{PASSWORD}".encode()).decode()
NAME, WORD = b64encode(USER.encode()).decode(), b64encode(PASSWORD.encode()).decode()


class Replay(NamedTuple):
    """``talk``: each line of the client up to its MAIL, and how its answer begins; ``{size}`` is the message's."""

    name: str
    tls: str
    talk: str
    message: str
    rcpt: str = "RCPT TO:<{}>"
    partly: bool = False  # it sends to the others when a recipient is refused


GMAIL = Replay(
    "gmail",
    "starttls",
    f"""
    EHLO mail-ed1-f50.google.com > 250
    STARTTLS > 220
    EHLO mail-ed1-f50.google.com > 250
    AUTH PLAIN {PLAIN} > 235
    MAIL FROM:<anna@example.org> SIZE={{size}} > 250
    """,
    """X-Gm-Message-State: AOJu0YxQbq1Zk7mF0w8uVv5bC2d\r
X-Google-Smtp-Source: AGHT+IExample\r
X-Received: by 2002:a17:907:7b8c:b0:a9a:1792:f1a5 with SMTP id\r
 ne12-20020a1709077b8c00b00a9a1792f1a5mr99.5.1795521600000; Tue, 24 Nov 2026\r
 12:00:00 -0800 (PST)\r
MIME-Version: 1.0\r
From: Anna <anna@example.org>\r
Date: Tue, 24 Nov 2026 20:00:00 +0000\r
X-Gmail-Original-Message-ID: <CAExample+1@mail.gmail.com>\r
Message-ID: <CAExample+1@mail.gmail.com>\r
Subject: =?UTF-8?B?R3LDvMOfZQ==?=\r
To: Bob <bob@example.net>\r
Content-Type: multipart/alternative; boundary="000000000000d1f8a306"\r
\r
--000000000000d1f8a306\r
Content-Type: text/plain; charset="UTF-8"\r
Content-Transfer-Encoding: quoted-printable\r
\r
Gr=C3=BC=C3=9Fe\r
\r
--000000000000d1f8a306--\r
""",
    partly=True,
)
OUTLOOK = Replay(
    "outlook",
    "starttls",
    f"""
    EHLO DESKTOP4711 > 250
    STARTTLS > 220
    EHLO DESKTOP4711 > 250
    AUTH LOGIN > 334
    {NAME} > 334
    {WORD} > 235
    MAIL FROM: <anna@example.org> > 250
    """,
    """From: "Anna" <anna@example.org>\r
To: "'Bob'" <bob@example.net>\r
Subject: hello\r
Date: Tue, 24 Nov 2026 13:00:00 +0100\r
Message-ID: <000001dc5d0f$6f3b1c40$4db154c0$@example.org>\r
MIME-Version: 1.0\r
Content-Type: multipart/alternative;\r
\tboundary="----=_NextPart_000_0001_01DC5D17.D0FF8440"\r
X-Mailer: Microsoft Outlook 16.0\r
Thread-Index: AdxdD29Lb1iN0bq8Q9mTn3Z2v5w6bA==\r
Content-Language: de\r
\r
This is a multipart message in MIME format.\r
\r
------=_NextPart_000_0001_01DC5D17.D0FF8440\r
Content-Type: text/plain;\r
\tcharset="iso-8859-1"\r
Content-Transfer-Encoding: 8bit\r
\r
Gr\xfc\xdfe\r
\r
------=_NextPart_000_0001_01DC5D17.D0FF8440--\r
\r
""",
    "RCPT TO: <{}>",
)
APPLE = Replay(
    "apple",
    "tls",
    f"""
    EHLO smtpclient.apple > 250
    AUTH PLAIN {PLAIN} > 235
    MAIL FROM:<anna@example.org> BODY=8BITMIME SIZE={{size}} > 250
    """,
    """From: Anna <anna@example.org>\r
Content-Type: text/plain;\r
\tcharset=utf-8\r
Content-Transfer-Encoding: quoted-printable\r
Mime-Version: 1.0 (Mac OS X Mail 16.0 \\(3826.200.121\\))\r
Subject: hello\r
X-Universally-Unique-Identifier: 6F1B5C3E-0F1A-4C61-8E57-2A4F9E1C1D11\r
Message-Id: <6A1E0C9B-8A3B-4C52-9C57-1B6C1F6A7C10@example.org>\r
Date: Tue, 24 Nov 2026 13:00:00 +0100\r
To: Bob <bob@example.net>\r
X-Mailer: Apple Mail (2.3826.200.121)\r
\r
Gr=C3=BC=C3=9Fe\r
\r
Von meinem iPhone gesendet=\r
""",
)
THUNDERBIRD = Replay(
    "thunderbird",
    "starttls",
    f"""
    EHLO [192.168.178.23] > 250
    STARTTLS > 220
    EHLO [192.168.178.23] > 250
    AUTH PLAIN {PLAIN} > 235
    MAIL FROM:<anna@example.org> BODY=8BITMIME SIZE={{size}} > 250
    """,
    """Message-ID: <1f0a1c2e-7d0b-4d3b-9d3a-5b7c5a8e9f10@example.org>\r
Date: Tue, 24 Nov 2026 13:00:00 +0100\r
MIME-Version: 1.0\r
User-Agent: Mozilla Thunderbird\r
Content-Language: en-US\r
To: bob@example.net\r
From: Anna <anna@example.org>\r
Autocrypt: addr=anna@example.org; keydata=\r
 xsBNBFexample\r
Content-Type: text/plain; charset=UTF-8; format=flowed\r
Content-Transfer-Encoding: 8bit\r
\r
-- \r
Gr\xc3\xbc\xc3\x9fe\r
""",
)


REPLAYS = (GMAIL, OUTLOOK, APPLE, THUNDERBIRD)
# All four encode what they send so that no line is longer than RFC 5322 allows.
SHORT_LINES = [letter for letter in LETTERS if letter.longest <= 998]


def connect(matrix: Matrix, tls: str) -> Talk:
    port = matrix.relay.submissions if tls == "tls" else matrix.relay.submission
    return Talk(port, matrix.ca, tls=tls == "tls")


def envelope(talk: Talk, replay: Replay, letter: Letter) -> list[str]:
    """All up to DATA; the answers of RCPT."""
    for line in replay.talk.format(size=len(letter.data)).strip().splitlines():
        command, _, code = line.strip().rpartition(" > ")
        assert (got := talk.say(command.encode() + b"\r\n")).startswith(code), (command, got)
        if command == "STARTTLS":
            talk.secure()
    people = [*letter.recipients, *letter.refused]
    return [talk.say(replay.rcpt.format(one).encode() + b"\r\n")[:3] for one in people]


def send(matrix: Matrix, replay: Replay, letter: Letter) -> None:
    with connect(matrix, replay.tls) as talk:
        answers = envelope(talk, replay, letter)
        assert answers == ["250"] * len(letter.recipients) + ["501"] * len(letter.refused)
        if not letter.refused or replay.partly:
            assert talk.say(b"DATA\r\n").startswith("354 ")
            content = (b"\r\n" + letter.data).replace(b"\r\n.", b"\r\n..")[2:]
            assert talk.say(content + b".\r\n").startswith("250 2.0.0 ")
        assert talk.say(b"QUIT\r\n").startswith("221 ")


@pytest.mark.parametrize("replay", REPLAYS, ids=lambda replay: replay.name)
def test_a_message_of_its_own(matrix: Matrix, replay: Replay) -> None:
    letter = Letter("replay", replay.message.encode("latin-1"))
    send(matrix, replay, letter)
    matrix.arrived(letter)


@pytest.mark.parametrize("replay", REPLAYS, ids=lambda replay: replay.name)
@pytest.mark.parametrize("letter", SHORT_LINES, ids=lambda letter: letter.name)
def test_letters(matrix: Matrix, replay: Replay, letter: Letter) -> None:
    """Gmail reports refused recipients itself; the others are taken to show the refusal and to send to nobody."""
    send(matrix, replay, letter)
    if not letter.refused or replay.partly:
        matrix.arrived(letter)


def test_the_next_message_on_the_same_connection(matrix: Matrix) -> None:
    """Gmail and Outlook keep a connection for the next message; Outlook says RSET or NOOP between them."""
    message = OUTLOOK.message.encode("latin-1")
    lines = ["EHLO pc", f"AUTH PLAIN {PLAIN}"]
    lines += ["MAIL FROM: <anna@example.org>", "RCPT TO: <bob@example.net>", "DATA", "", "NOOP", "RSET"] * 2
    with connect(matrix, "tls") as talk:
        for line in lines:
            assert talk.say(line.encode() + b"\r\n" if line else message + b".\r\n")[0] in "23", line
    matrix.provider.wait(2)
