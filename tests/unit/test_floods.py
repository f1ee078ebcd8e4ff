"""What one client can take from the others: turns and log lines. Each is bounded, and the others go on."""

from __future__ import annotations

import asyncio

import pytest

from relay import limits
from support.bare_session import BareSession

LOGIN = b"EHLO a\r\nAUTH PLAIN AGFubmEAY29ycmVjdCBob3JzZQ==\r\n"


async def logged_in() -> BareSession:
    bare = BareSession("submissions")
    assert await bare.codes(b"", *LOGIN.splitlines(keepends=True)) == [220, 250, 235]
    return bare


# --- turns ---


async def test_thousands_of_commands_at_once_make_nobody_else_wait_for_their_end() -> None:
    greedy, other = await logged_in(), await logged_in()
    greedy.session.data_received(b"NOOP\r\n" * 10_000)
    other.session.data_received(b"NOOP\r\n")
    answered = 0
    while not (said := other.said()):
        await asyncio.sleep(0)
        answered = len(greedy.said()) + answered
    assert said == [b"250 2.0.0 Still here."]
    assert answered <= 4 * limits.COMMANDS_IN_A_ROW
    await greedy.settle()
    assert answered + len(greedy.said()) == 10_000


async def test_who_does_not_take_the_answers_is_given_no_more_of_them() -> None:
    greedy = await logged_in()
    greedy.session.pause_writing()
    greedy.session.data_received(b"NOOP\r\n" * 10_000)
    await greedy.settle()
    assert len(greedy.said()) == limits.COMMANDS_IN_A_ROW
    greedy.session.resume_writing()
    await greedy.settle()
    assert len(greedy.said()) == 10_000 - limits.COMMANDS_IN_A_ROW


# --- log lines ---


@pytest.mark.parametrize("excess", [0, 1])
async def test_refusals_of_one_connection_at_the_limit_and_beyond(excess: int) -> None:
    bare = await logged_in()
    codes = await bare.codes(b"MAIL FROM:<boss@example.org>\r\n" * (limits.REFUSALS + excess) + b"NOOP\r\n")
    assert codes == [550] * limits.REFUSALS + ([421] if excess else [250])
    assert bare.closed is bool(excess)
    assert len(bare.journal.told("refused")) == limits.REFUSALS + excess
