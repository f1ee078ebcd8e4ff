"""One connection's bytes as lines and blocks: nothing waits that need not, nothing grows, every wait ends."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from relay.submission.wire import HIGH_WATER, End, Flaw, Wire

LONG = 30.0


class Tap:
    """The part of a transport that a wire uses."""

    def __init__(self) -> None:
        self.paused = False

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False


class Setting:
    def __init__(self) -> None:
        self.tap = Tap()
        self.wire = Wire(asyncio.get_running_loop(), cast(asyncio.Transport, self.tap))

    def waiting(self, call: Any) -> asyncio.Task[Any]:
        return asyncio.get_running_loop().create_task(call)


@pytest.fixture
async def here() -> Setting:
    return Setting()


async def turn() -> None:
    """Let everything that can run, run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_lines_come_as_they_were_cut_or_not(here: Setting) -> None:
    here.wire.feed(b"EHLO a\r\nNO")
    assert here.wire.take(100) == b"EHLO a"
    assert here.wire.take(100) is None
    here.wire.feed(b"OP\r")
    assert here.wire.take(100) is None
    here.wire.feed(b"\n\r\n")
    assert here.wire.take(100) == b"NOOP"
    assert here.wire.pending
    assert here.wire.take(100) == b""
    assert not here.wire.pending


@pytest.mark.parametrize(
    ("line", "flaw"),
    [(b"a\n", Flaw.BARE_LF), (b"\n", Flaw.BARE_LF), (b"a\rb\r\n", Flaw.CONTROL), (b"a\0\r\n", Flaw.CONTROL)],
)
async def test_a_flawed_line_is_gone_and_the_next_is_read(here: Setting, line: bytes, flaw: Flaw) -> None:
    here.wire.feed(line + b"NOOP\r\n")
    assert here.wire.take(100) is flaw
    assert here.wire.take(100) == b"NOOP"


@pytest.mark.parametrize(("length", "fits"), [(10, True), (11, False)])
@pytest.mark.parametrize("step", [1, 3, 100])
async def test_a_line_may_have_as_many_bytes_as_the_limit(here: Setting, length: int, fits: bool, step: int) -> None:
    stream = b"x" * length + b"\r\nNOOP\r\n"
    got = []
    for at in range(0, len(stream), step):
        here.wire.feed(stream[at : at + step])
        while (line := here.wire.take(10)) is not None:
            got.append(line)
    assert got == [b"x" * length if fits else Flaw.TOO_LONG, b"NOOP"]


async def test_a_line_without_end_takes_no_memory(here: Setting) -> None:
    for _ in range(1_000):
        here.wire.feed(b"x" * 1_000)
        assert here.wire.take(10) is None
    assert not here.wire.pending
    here.wire.feed(b"\r\n")
    assert here.wire.take(10) is Flaw.TOO_LONG


async def test_a_line_that_is_there_costs_no_turn_of_the_loop(here: Setting) -> None:
    here.wire.feed(b"NOOP\r\n")
    with pytest.raises(StopIteration) as done:
        here.wire.line(10, LONG).send(None)
    assert done.value.value == b"NOOP"


async def test_a_wait_ends_with_its_line(here: Setting) -> None:
    task = here.waiting(here.wire.line(10, LONG))
    await turn()
    here.wire.feed(b"NO")
    await turn()
    assert not task.done()
    here.wire.feed(b"OP\r\n")
    assert await task == b"NOOP"


async def test_a_wait_ends_when_the_client_goes(here: Setting) -> None:
    task = here.waiting(here.wire.line(10, LONG))
    await turn()
    here.wire.eof()
    assert await task is End.EOF
    assert await here.wire.line(10, LONG) is End.EOF
    assert await here.wire.block(asyncio.get_running_loop().time() + LONG) is End.EOF
    assert await here.wire.drained(LONG) is End.EOF


async def test_what_came_before_the_client_went_is_still_read(here: Setting) -> None:
    here.wire.feed(b"QUIT\r\n")
    here.wire.eof()
    assert await here.wire.line(10, LONG) == b"QUIT"
    assert await here.wire.line(10, LONG) is End.EOF


async def test_a_wait_ends_in_time_even_if_bytes_trickle_in(here: Setting) -> None:
    task = here.waiting(here.wire.line(1_000, 0.05))
    while not task.done():
        here.wire.feed(b"x")
        await asyncio.sleep(0)
    assert await task is End.TIMEOUT


async def test_one_timer_serves_all_waits(here: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, timers = asyncio.get_running_loop(), []
    real = loop.call_at
    monkeypatch.setattr(loop, "call_at", lambda *args, **more: timers.append(1) or real(*args, **more))
    for _ in range(100):
        task = here.waiting(here.wire.line(10, LONG))
        await turn()
        here.wire.feed(b"NOOP\r\n")
        await task
    assert len(timers) == 1


async def test_a_shorter_limit_counts_although_a_longer_one_was_set_before(here: Setting) -> None:
    task = here.waiting(here.wire.line(10, LONG))
    await turn()
    here.wire.feed(b"NOOP\r\n")
    await task
    assert await asyncio.wait_for(here.wire.line(10, 0.01), 5) is End.TIMEOUT


async def test_the_timer_is_set_anew_when_it_fires_too_early(here: Setting) -> None:
    assert await here.wire.line(10, 0.01) is End.TIMEOUT
    short = here.waiting(here.wire.line(10, 0.02))
    await turn()
    here.wire.feed(b"A\r\n")
    await short
    later = here.waiting(here.wire.line(10, 0.1))
    assert await asyncio.wait_for(later, 5) is End.TIMEOUT


async def test_reading_pauses_while_too_much_lies_unread(here: Setting) -> None:
    here.wire.feed(b"x" * HIGH_WATER)
    assert not here.tap.paused
    here.wire.feed(b"\r\n" + b"NOOP\r\n")
    assert here.tap.paused
    here.wire.feed(b"NOOP\r\n")  # what the loop had read already
    assert here.wire.take(2 * HIGH_WATER) == b"x" * HIGH_WATER
    assert not here.tap.paused


async def test_a_block_is_everything_there_is(here: Setting) -> None:
    here.wire.feed(b"DATA\r\nfirst")
    assert here.wire.take(10) == b"DATA"
    deadline = asyncio.get_running_loop().time() + LONG
    assert await here.wire.block(deadline) == b"first"
    task = here.waiting(here.wire.block(deadline))
    await turn()
    here.wire.feed(b"second")
    assert await task == b"second"
    here.wire.feed(b"QUIT\r\n")
    here.wire.push_back(b"NOOP\r\n")
    assert [here.wire.take(10), here.wire.take(10)] == [b"NOOP", b"QUIT"]


async def test_stopping_ends_waits_for_lines_and_no_others(here: Setting) -> None:
    deadline = asyncio.get_running_loop().time() + LONG
    block = here.waiting(here.wire.block(deadline))
    await turn()
    here.wire.stop()
    await turn()
    assert not block.done()
    here.wire.feed(b"body")
    assert await block == b"body"
    assert await here.wire.line(10, LONG) is End.STOPPED


async def test_stopping_ends_a_wait_that_has_begun(here: Setting) -> None:
    task = here.waiting(here.wire.line(10, LONG))
    await turn()
    here.wire.stop()
    assert await task is End.STOPPED


async def test_a_client_that_does_not_read_is_waited_for_and_not_for_ever(here: Setting) -> None:
    here.wire.block_writing(True)
    assert here.wire.blocked
    task = here.waiting(here.wire.drained(LONG))
    await turn()
    here.wire.feed(b"NOOP\r\n")
    await turn()
    assert not task.done()
    here.wire.block_writing(False)
    assert await task is None
    here.wire.block_writing(True)
    assert await here.wire.drained(0.01) is End.TIMEOUT


async def test_after_starttls_nothing_is_left_of_what_came_before(here: Setting) -> None:
    here.wire.feed(b"EHLO injected\r\n")
    other = Tap()
    here.wire.attach(cast(asyncio.Transport, other))
    assert here.wire.take(100) is None
    here.wire.feed(b"x" * (HIGH_WATER + 1))
    assert other.paused
    assert not here.tap.paused
