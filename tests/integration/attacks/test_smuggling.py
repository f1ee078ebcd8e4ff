"""SMTP smuggling, looked at where it would do its harm: in the bytes that the provider gets.

A second message hides behind what some server takes for the end of the first (CVE-2023-51764 and its kin). Inwards
the message is refused, or mended for accounts that ask for it; outwards the provider sees one message with one end,
wherever the pieces are cut that we read, keep and send.
"""

from __future__ import annotations

import re

import pytest

from relay.limits import CHUNK, INLINE
from support.sink import Taken
from support.talk import Target

HEAD = b"From: %b@example.org\r\nDate: Tue, 24 Nov 2026 12:00:00 +0000\r\nMessage-ID: <1@a.b>\r\n\r\n"
SECOND = b"MAIL FROM:<boss@bank.example>\r\nRCPT TO:<victim@example.net>\r\nDATA\r\nFrom: boss\r\n\r\nspoofed\r\n"
SEQUENCES = [
    b"\n.\n",
    b"\n.\r\n",
    b"\n.\r",
    b"\r.\r",
    b"\r.\n",
    b"\r.\r\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r\n.\r\r\n",
    b"\r\r\n.\r\r\n",
    b"\n\n.\r\n",
    b"\r\n\0.\r\n",
    b"\r\n.\0\r\n",
    b"\r\n\x1a.\r\n\n.\n",
]
BARE = re.compile(rb"(?<!\r)\n|\r(?!\n)|\0")
PADDINGS = [0, INLINE - 200, CHUNK - 260, CHUNK - 130]


def whole(target: Target, one: Taken) -> None:
    """The provider had this message, one end of it, and no command that is not ours."""
    assert not BARE.search(one.wire)
    assert b"\r\n.\r\n" not in b"\r\n" + one.wire
    said = [line.split()[0].upper() for line in target.provider.commands]
    assert b"boss@" not in b"".join(target.provider.commands)
    assert set(said) <= {b"EHLO", b"MAIL", b"RCPT", b"DATA", b"RSET", b"QUIT", b"NOOP"}
    assert said.count(b"DATA") == 1


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("sequence", SEQUENCES, ids=repr)
def test_inwards(target: Target, sequence: bytes, padding: int) -> None:
    message = HEAD % b"anna" + b"x" * padding + sequence + SECOND + b"\r\n.\r\n"
    replies = target.submit("anna", message, after=b"NOOP\r\n")
    assert replies[0][:3] in ("550", "554"), replies
    assert replies[1].startswith("250 2.0.0 Still here"), "nothing behind the message was left to be read as a command"
    assert target.submit("anna", HEAD % b"anna" + b"innocent\r\n.\r\n")[0].startswith("250")
    (one,) = target.provider.wait()
    assert one.content.endswith(b"\r\n\r\ninnocent\r\n")
    whole(target, one)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("sequence", [one for one in SEQUENCES if b"\0" not in one], ids=repr)
def test_inwards_for_an_account_whose_newlines_are_mended(target: Target, sequence: bytes, padding: int) -> None:
    message = HEAD % b"old" + b"x" * padding + sequence + SECOND + b"\r\n.\r\n"
    assert target.submit("old", message)[0].startswith("250")
    (one,) = target.provider.wait()
    assert b"MAIL FROM:<boss@bank.example>\r\n" in one.content, "as text"
    assert one.recipients == ["bob@example.net"]
    whole(target, one)


@pytest.mark.parametrize("shift", range(-3, 4))
@pytest.mark.parametrize("edge", [INLINE, CHUNK], ids=["inline", "chunk"])
def test_outwards_a_dot_at_the_edge_of_a_piece(target: Target, edge: int, shift: int) -> None:
    """Each byte of a line of dots lies on the edge in some round; our own fields in front move it a little."""
    text = b".\r\n..\r\n.x\r\n.\r\nend\r\n"
    body = b"y" * (edge - 420 + shift) + b"\r\n" + text * 40
    doubled = (b"\r\n" + body).replace(b"\r\n.", b"\r\n..")[2:]
    assert target.submit("anna", HEAD % b"anna" + doubled + b".\r\n")[0].startswith("250")
    (one,) = target.provider.wait()
    assert one.content.endswith(b"\r\n\r\n" + body)
    whole(target, one)
