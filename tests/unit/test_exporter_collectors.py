"""Collectors: one that hangs, throws or is asked by a crowd costs itself only."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest

from exporter import collectors
from exporter.collectors import FRESH, STARTING, Collector, all_of
from exporter.log import Log


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class House:
    """Makes collectors and keeps what they log."""

    def __init__(self) -> None:
        self.clock, self.out = Clock(), io.StringIO()
        self.log = Log(self.out, "text", lambda: 0.0)

    def collector(self, learn: Any) -> Collector[Any]:
        return Collector("it", learn, clock=self.clock, log=self.log)


@pytest.fixture
def house() -> House:
    return House()


async def answer() -> str:
    return "yes"


async def test_what_was_learned(house: House) -> None:
    learned = await house.collector(answer).get()
    assert (learned.value, learned.error) == ("yes", "")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError("queue"), "cannot be understood"),
        (FileNotFoundError(2, "no such file"), "It does not run"),
        (ConnectionRefusedError(), "It does not run"),
        (RuntimeError("what <b>"), "what <b>"),
        (RuntimeError(), "RuntimeError"),
        (ValueError("x" * 9_999), "x" * 300 + ")"),
    ],
)
async def test_one_that_throws_says_why_and_is_told_once(house: House, error: Exception, words: str) -> None:
    async def throw() -> str:
        raise error

    one = house.collector(throw)
    assert words in (await one.get()).error
    assert house.out.getvalue() == "", "what is asked may be starting too"
    for _ in range(2):
        house.clock.now += STARTING
        await one.get()
    assert len(house.out.getvalue().splitlines()) == 1


async def test_one_that_hangs_is_given_up(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collectors, "PATIENCE", 0.05)
    hanging, well = house.collector(asyncio.Event().wait), house.collector(answer)
    await all_of([hanging, well])
    assert hanging.last.value is None
    assert "No answer within" in hanging.last.error
    assert well.last.value == "yes"


async def test_a_crowd_asks_once_and_one_that_goes_away_disturbs_nobody(house: House) -> None:
    asked, go = 0, asyncio.Event()

    async def slow() -> str:
        nonlocal asked
        asked += 1
        await go.wait()
        return "yes"

    one = house.collector(slow)
    crowd = [asyncio.create_task(one.get()) for _ in range(20)]
    await asyncio.sleep(0)
    crowd[0].cancel()
    await asyncio.sleep(0)
    go.set()
    assert {(await task).value for task in crowd[1:]} == {"yes"}
    assert asked == 1
    await one.get()
    assert asked == 1, "an answer is good for a second"
    house.clock.now += FRESH
    await one.get()
    assert asked == 2


async def test_it_recovers(house: House) -> None:
    answers = iter([ValueError("nonsense"), "yes", RuntimeError("ends")])

    async def learn() -> str:
        found = next(answers)
        if isinstance(found, Exception):
            raise found
        return found

    one = house.collector(learn)
    assert (await one.get()).value is None
    house.clock.now += FRESH
    assert (await one.get()).value == "yes"
    house.clock.now += FRESH
    assert (await one.get()).value is None
    assert "ends" in house.out.getvalue(), "it had started: that it fails is news"
