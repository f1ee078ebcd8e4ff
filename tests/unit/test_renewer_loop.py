"""The loop: it publishes what it is offered, keeps what was, tells each failure once, and stops at once."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest

from renewer.log import Log
from renewer.loop import Loop
from renewer.outcome import Failed, Kept, Kind, Offered, Outcome
from renewer.pair import Pair, facts_of
from renewer.publish import Publisher
from renewer.selfsigned import make
from renewer.status import Status

NOW = 1_800_000_000.0
PAIR = make(["mail.example.org"], NOW)


class Script:
    """A source that answers what it is told, and remembers what it was asked with."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes)
        self.seen: list[Pair | None] = []
        self.asked, self.exhausted = asyncio.Event(), asyncio.Event()
        self.cancelled = False

    async def attempt(self, current: Pair | None) -> Outcome:
        self.seen.append(current)
        self.asked.set()
        if self.outcomes:
            return self.outcomes.pop(0)
        self.exhausted.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        raise AssertionError


class Rig:
    def __init__(self, certs: Path, *outcomes: Outcome) -> None:
        self.output = io.StringIO()
        self.source = Script(*outcomes)
        self.publisher = Publisher(certs)
        self.status = Status("files", "mail.example.org", lambda: NOW)
        log = Log(self.output, "text", lambda: NOW)
        self.loop = Loop(source=self.source, publisher=self.publisher, status=self.status, log=log, now=lambda: NOW)

    async def run(self) -> list[str]:
        """Runs until the script is at its end, stops then, and returns the log lines without time and service."""
        stop = asyncio.Event()
        running = asyncio.ensure_future(self.loop.run(stop))
        await self.source.exhausted.wait()
        stop.set()
        await running
        return [line.split(" ", 2)[2] for line in self.output.getvalue().splitlines()]


@pytest.fixture
def certs(tmp_path: Path) -> Path:
    return tmp_path


async def test_an_offer_is_published_and_shown(certs: Path) -> None:
    rig = Rig(certs, Offered(PAIR, NOW), Kept(NOW))
    lines = await rig.run()
    assert rig.source.seen == [None, PAIR, PAIR]
    assert len(lines) == 1
    assert lines[0].startswith("certificate_published folder=")
    shown = rig.status.as_json()["certificate"]
    assert isinstance(shown, dict)
    assert shown["serial"] == facts_of(PAIR.fullchain).serial
    assert shown["days_left"] == 90.0


async def test_a_failure_is_told_once_and_its_end_too(certs: Path) -> None:
    rig = Rig(
        certs,
        Failed(Kind.FILE, "It rains.", NOW),
        Failed(Kind.FILE, "It rains.", NOW),
        Failed(Kind.FILE, "It snows.", NOW),
        Kept(NOW),
        Kept(NOW),
    )
    assert await rig.run() == [
        'certificate_failed kind=file error="It rains." next_attempt=2027-01-15T08:00:00Z',
        'certificate_failed kind=file error="It snows." next_attempt=2027-01-15T08:00:00Z',
        "certificate_recovered",
    ]


async def test_a_failure_leaves_what_was_published(certs: Path) -> None:
    rig = Rig(certs, Offered(PAIR, NOW), Failed(Kind.FILE, "It rains.", NOW))
    await rig.run()
    assert rig.publisher.current() == PAIR
    assert rig.status.as_json()["certificate"] is not None


async def test_a_disk_that_refuses_is_a_failure_with_a_next_time(certs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(certs)
    rig.source.outcomes = [Offered(PAIR, NOW + 5)]

    def full(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(rig.publisher, "publish", full)
    outcome = await rig.loop.attempt()
    assert outcome == Failed(
        Kind.DISK, "The certificate could not be published: [Errno 28] No space left on device.", NOW + 60
    )
    assert rig.status.last_error == outcome.sentence


async def test_stopping_ends_an_attempt_under_way(certs: Path) -> None:
    rig = Rig(certs)
    await rig.run()
    assert rig.source.cancelled


async def test_stopping_ends_the_wait_for_the_next_attempt(certs: Path) -> None:
    rig = Rig(certs, Kept(NOW + 1e6))
    stop = asyncio.Event()
    running = asyncio.ensure_future(rig.loop.run(stop))
    await rig.source.asked.wait()
    stop.set()
    await asyncio.wait_for(running, 10)
    assert not rig.source.exhausted.is_set()


async def test_a_bug_in_a_source_is_not_swallowed(certs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(certs)

    async def broken(current: Pair | None) -> Outcome:
        raise KeyError("bug")

    monkeypatch.setattr(rig.source, "attempt", broken)
    with pytest.raises(KeyError):
        await rig.loop.run(asyncio.Event())
