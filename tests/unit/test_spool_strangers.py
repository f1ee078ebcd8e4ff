"""The spool's claims and a provider's pauses together: whoever was set up meanwhile is asked about before long."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay import limits
from relay.choice.offer import Closed, Offer, Terms
from relay.choice.routes import Routes
from relay.delivery.breaker import Breaker
from relay.delivery.pause import Sign
from relay.model import Job, State
from relay.providers.rules import Standing
from relay.spool import changes, recovery
from relay.spool.recovery import Opened
from support.spooling import NOW, a_message, results

HERE = "example.org"
LOOK = 30.0  # seconds between two looks
HOURS = 48


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    made = recovery.open_store(tmp_path / "spool", NOW)
    yield made
    made.close()


class Day:
    """A provider that knows none of the senders, until ``mended`` is set up there."""

    def __init__(self, opened: Opened, senders: list[str], mended: str, seed: int) -> None:
        self.opened, self.mended, self.random = opened, mended, random.Random(seed)
        self.breaker, self.tries, self.shown = Breaker(), list[str](), Offer({}, Routes(()), {})
        for at, sender in enumerate(senders):
            message = a_message("anna", ["r@x.example"], NOW + at)._replace(sender=sender)
            opened.store.apply([changes.add(opened.numbers, opened.numbers.key(), message, b"b", [])], NOW + at)

    def offer(self, now: float) -> Offer:
        shut = {("b", one.sender): Closed(now + one.left(now), "x") for one in self.breaker if one.left(now)}
        tried = {("b", one.sender): 1 for one in self.breaker if not one.left(now)}
        return Offer({"b": Terms("b")}, Routes(("b",)), {"b": 40}, {}, shut, tried)

    def look(self, now: float) -> bool:
        """What the relay does at one moment; whether the mended sender's mail was taken."""
        self.breaker.lapse(now)
        if (offer := self.offer(now)) != self.shown:
            self.opened.store.look()
            self.shown = offer
        while jobs := self.opened.store.apply([], now, self.offer(now)):
            if self.mended in [self.attempt(job, now) for job in jobs]:
                return True
        return False

    def attempt(self, job: Job, now: float) -> str:
        """Whose mail was taken, if it was."""
        sender, store = job.message.sender, self.opened.store
        if any(pause.left(now) for who in (sender, HERE) if (pause := self.breaker.pause(who))):
            store.apply([changes.release([job])], now)
        elif sender == self.mended and now >= NOW + 600:
            return sender
        else:
            sign = Sign(standing=Standing.NOT_SET_UP, reason="r", message=job.message.id, sender=sender, spoken=True)
            self.breaker.failed(sign, now, self.random.random())
            self.tries.append(sender)
            later = results(job, State.DUE, at=now)
            store.apply([changes.record(self.opened.numbers, job, later, [], (), now)], now)
        store.look()
        return ""


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "senders", [("bad", "good"), ("good", "bad"), ("bad", "good", "worse"), ("bad", "worse", "good")]
)
def test_a_sender_that_was_set_up_meanwhile_is_not_kept_waiting_by_one_that_was_not(
    opened: Opened, senders: tuple[str, ...], seed: int
) -> None:
    addresses = [f"{name}@{HERE}" for name in senders]
    day, now = Day(opened, addresses, f"good@{HERE}", seed), NOW + len(senders)
    while not day.look(now):
        now += LOOK
        assert now < NOW + HOURS * limits.HOUR, day.tries
    assert now - NOW <= len(senders) * 1.2 * limits.PAUSE_NOT_SET_UP
