"""A login and a message, cut at every byte: what arrives in pieces is answered as what arrives whole."""

from __future__ import annotations

import pytest

from relay import limits
from support.bare_session import BareSession

HEAD = b"From: anna@example.org\r\n\r\n"
LOGINS = {
    "plain": [b"AUTH PLAIN AGFubmEAY29ycmVjdCBob3JzZQ==\r\n"],
    "plain, asked": [b"AUTH PLAIN\r\n", b"AGFubmEAY29ycmVjdCBob3JzZQ==\r\n"],
    "login": [b"AUTH LOGIN\r\n", b"YW5uYQ==\r\n", b"Y29ycmVjdCBob3JzZQ==\r\n"],
    "wrong": [b"AUTH LOGIN\r\n", b"YW5uYQ==\r\n", b"d3Jvbmc=\r\n"],
}


async def answers(name: str, steps: list[bytes], cut: int | None) -> tuple[list[bytes], int]:
    """What is said to ``steps``, each cut at ``cut`` (``None``: whole), and how many messages are kept."""
    bare = BareSession(name)
    said = await bare.send(b"")
    for step in steps:
        at = len(step) if cut is None else cut % len(step)
        said += await bare.send(step[:at], step[at:])
    await bare.end()
    assert not bare.journal.told("system"), "an exception inside"
    return [line[:60] if b"Kept safe" not in line else line[:20] for line in said], len(bare.spool.kept)


@pytest.mark.parametrize("way", LOGINS)
async def test_a_login(way: str) -> None:
    steps = [b"EHLO a\r\n", *LOGINS[way], b"NOOP\r\n"]
    whole = await answers("submissions", steps, None)
    for cut in range(1, max(map(len, steps))):
        assert await answers("submissions", steps, cut) == whole


@pytest.mark.parametrize("name", ["submission", "lan"])
async def test_a_login_where_none_is_taken(name: str) -> None:
    """In clear it is hung up on before the password; on the LAN's port there is nothing to log in to."""
    steps = [b"EHLO a\r\n", LOGINS["plain"][0]]
    whole = await answers(name, steps, None)
    assert whole[0][-1].startswith(b"538 5.7.11 " if name == "submission" else b"502 5.5.1 ")
    for cut in range(1, max(map(len, steps))):
        assert await answers(name, steps, cut) == whole


@pytest.mark.parametrize(
    "body",
    [b".\r\n", b"..\r\n.\r\n", b"a\r\n.b\r\n\r\n.\r\n", b"a\nb\r\n.\r\n", b"\r\n\0.\r\n.\r\n", b"a\r.\r\r\n.\r\n"],
)
async def test_a_message(body: bytes) -> None:
    steps = [b"EHLO a\r\n", *LOGINS["plain"], b"MAIL FROM:<anna@example.org>\r\n", b"RCPT TO:<bob@example.net>\r\n"]
    steps += [b"DATA\r\n", HEAD + body, b"NOOP\r\n"]
    whole = await answers("submissions", steps, None)
    for cut in range(1, len(HEAD + body)):
        assert await answers("submissions", steps, cut) == whole


@pytest.mark.parametrize(("excess", "code"), [(0, 501), (1, 500)])
async def test_an_auth_line_in_pieces_at_the_limit_and_beyond(excess: int, code: int) -> None:
    line = b"AUTH PLAIN " + b"A" * (limits.AUTH_LINE - 11 + excess) + b"\r\n"
    bare = BareSession("submissions")
    await bare.send(b"", b"EHLO a\r\n")
    assert await bare.codes(*(line[at : at + 97] for at in range(0, len(line), 97))) == [code]
    assert await bare.codes(b"NOOP\r\n") == [250]
