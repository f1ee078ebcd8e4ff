"""SIGKILL at random moments under load, to the relay, to its supervisor and to both: whatever got a 250 arrives.

The relay runs under the real supervisor. What is sent has 1 to 100 recipients and 1 KiB to 20 MiB. CRASH_KILLS says how
many kills.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from support.appliance import eventually
from support.figures import figures
from support.invariants import check
from support.judge import doubts, drain
from support.supervised import Supervised, is_relay
from support.traffic import KIB, MIB, ExactSink, Mix, Traffic

KILLS = int(os.environ.get("CRASH_KILLS", "10"))
MIX = Mix(
    sizes=(*[KIB] * 6, *[20 * KIB] * 3, 400 * KIB, 400 * KIB, 3 * MIB, 20 * MIB),
    recipients=(1, 1, 1, 3, 20, 100),
)


@pytest.fixture
def sink() -> Iterator[ExactSink]:
    sink = ExactSink()
    yield sink
    sink.close()


def strike(relay: Supervised, victim: str, traffic: Traffic) -> None:
    """One kill."""
    if victim == "relay":
        eventually(relay.kill_relay, "a relay to kill")
    elif victim == "both":
        relay.kill()
    else:  # its relay goes on by itself, or not: then as after an operator's kill
        orphans = relay.kill_supervisor()
        traffic.go_on(0.2)
        for pid in orphans:
            if is_relay(pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        eventually(lambda: not any(is_relay(pid) for pid in orphans), "the orphan to be gone")


@pytest.mark.timeout(7200)
def test_what_was_acknowledged_survives_sigkill(tmp_path: Path, sink: ExactSink) -> None:
    relay = Supervised(tmp_path, sink.settings)
    dice = random.Random(KILLS)
    struck: Counter[str] = Counter()
    relay.start()
    sink.traffic = traffic = Traffic(relay, clients=6, mix=MIX, secure=True)
    try:
        for _ in range(KILLS):
            traffic.wait_for(1, 90)
            traffic.go_on(dice.choice([0.05, 0.4, 2.0]) * dice.random())  # the moment of the kill is what varies
            victim = dice.choice([*["relay"] * 4, *["both"] * 4, "supervisor"])
            strike(relay, victim, traffic)
            struck[victim] += 1
            relay.revive()
        traffic.wait_for(5, 90)
        traffic.close()
        drain(relay, 300 + 2 * KILLS)  # what is in doubt may be hundreds of mails, some of 20 MiB
        assert relay.stop() == 0
    finally:
        traffic.close()
        relay.kill()
    kept = check(tmp_path / "spool")
    lost = {number for number, one in traffic.acknowledged.items() if number not in sink.got or one.id not in kept}
    doubtful = doubts(kept, sink)
    twice = {number: count - 1 for number, count in sink.got.items() if count > 1}
    figures(
        "kill -9",
        relay=struck["relay"],
        supervisor=struck["supervisor"],
        both=struck["both"],
        acknowledged=len(traffic.acknowledged),
        largest=max(traffic.sent[number].size for number in traffic.acknowledged),
        delivered=len(sink.got),
        lost=len(lost),
        twice=sum(twice.values()),
        in_doubt=len(+doubtful),
    )
    assert sink.problems == []
    assert not lost
    assert not Counter(twice) - doubtful, "a duplicate that was in no doubt"
