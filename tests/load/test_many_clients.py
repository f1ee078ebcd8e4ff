"""Very many clients at once, at the machine's limit: no answer but the documented ones, nothing lost, memory bounded.

The relay is a process of its own, its provider a local sink; the clients are another process. Once there is a place
for everybody: then nobody may meet any error. Once there are too few: then some may be sent away before their login,
and hear why unless they are in the midst of a handshake. Speed is printed and never asserted. LOAD_CLIENTS and
LOAD_MINUTES say how many and for how long.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import argon2
import pytest

from relay import limits
from support.appliance import PASSWORD, ROOT, Appliance, account, eventually
from support.crowd import HANDSHAKE, Plan
from support.figures import figures
from support.traffic import ExactSink

CLIENTS = int(os.environ.get("LOAD_CLIENTS", "200"))
SECONDS = float(os.environ.get("LOAD_MINUTES", "0.15")) * 60
OF_ONE_ADDRESS = 25  # clients: half of what is allowed, since a new connection may come before the old one is forgotten
ACCOUNTS = ["anna", "bert", "cleo", "dora", "emil"]
MEMORY = 160.0 + CLIENTS * 0.32  # MiB at most: the TLS layer takes 256 KiB a connection and more, and the allocator
# keeps what was used once; what matters is that it does not grow with the mail
LONG = 300.0  # seconds after which nearly all of that has been used once: from then on memory is to be flat
GROWTH = 64.0  # MiB that may still come of it between the second and the last fifth
FLAT = 8.0 + CLIENTS * 0.016  # MiB from the fourth fifth to the last: of 1,000 clients some 270 bytes a mail would show
TOO_MANY = re.compile(r"421 4\.3\.2 All (\d+ )?connections are in use; try again in a minute .*")


class Watch:
    """Looks at a process once a second."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        self.memory: list[float] = []  # MiB
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._stop.wait(min(1.0, SECONDS / 50)):
            resident = re.search(r"^VmRSS:\s+(\d+) kB", (self._folder / "status").read_text(), re.MULTILINE)
            assert resident is not None
            self.memory.append(int(resident[1]) / 1024)

    def descriptors(self) -> int:
        """How many it has open now."""
        return len(list((self._folder / "fd").iterdir()))

    def cpu(self) -> float:
        """Seconds so far."""
        fields = (self._folder / "stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self._stop.set()
        self._thread.join(10)


def fifths(samples: Sequence[float]) -> tuple[float, float, float]:
    """The medians of the second, fourth and last fifth, after a tenth in which everything is still being filled."""
    settled = samples[len(samples) // 10 :]
    fifth = max(1, len(settled) // 5)
    parts = settled[fifth : 2 * fifth], settled[-2 * fifth : -fifth], settled[-fifth:]
    second, fourth, last = map(statistics.median, parts)
    return second, fourth, last


def share(times: list[float], percent: int) -> str:
    """What so many percent stay below, for people."""
    return f"{sorted(times)[min(len(times) - 1, len(times) * percent // 100)] * 1000:,.0f} ms" if times else "–"


@pytest.fixture
def sink() -> Iterator[ExactSink]:
    sink = ExactSink()
    yield sink
    sink.close()


@contextmanager
def appliance(folder: Path, sink: ExactSink, connections: int) -> Iterator[Appliance]:
    """A relay with the default limits, but that of all connections, and passwords as costly as real ones."""
    costly = argon2.PasswordHasher(
        time_cost=limits.ARGON2_TIME, memory_cost=limits.ARGON2_MEMORY_KIB, parallelism=limits.ARGON2_LANES
    ).hash(PASSWORD)
    accounts = {name: account([f"{name}@example.org"], password_hash=costly) for name in ACCOUNTS}
    relay = Appliance(folder, sink.settings, {"RELAY_CONNECTIONS": str(connections)}, accounts)
    relay.start()
    try:
        yield relay
    finally:
        relay.stop()


def crowd(relay: Appliance, seconds: float) -> dict[str, Any]:
    """Let the clients loose; their report."""
    plan = Plan(
        submission=relay.submission,
        submissions=relay.submissions,
        ca=str(relay.ca),
        accounts=ACCOUNTS,
        password=PASSWORD,
        clients=CLIENTS,
        addresses=-(-CLIENTS // OF_ONE_ADDRESS),
        seconds=seconds,
    )
    done = subprocess.run(
        [sys.executable, "-m", "support.crowd"],
        input=json.dumps(asdict(plan)),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT / "tests",
    )
    assert done.returncode == 0, done.stderr[-4000:]
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def told(what: str, report: dict[str, Any], sink: ExactSink, watch: Watch, seconds: float, drained: float) -> None:
    """The figures of the run."""
    mails = len(report["acknowledged"])
    second, fourth, last = fifths(watch.memory)
    figures(
        f"{CLIENTS:,} clients for {seconds:.0f} s, {what}",
        acknowledged=mails,
        delivered=len(sink.taken),
        lost=len({int(number) for number in report["acknowledged"]} - set(sink.taken)),
        connections=report["connections"],
        sent_away=sum(report["refusals"].values()) + sum(report["broken"].values()),
        mails_a_second=f"{mails / seconds:,.0f}",
        connect_to_220_p50=share(report["greeted"], 50),
        connect_to_220_p99=share(report["greeted"], 99),
        dot_to_250_p50=share(report["accepted"], 50),
        dot_to_250_p99=share(report["accepted"], 99),
        memory_in_the_second_fifth=f"{second:.0f} MiB",
        in_the_fourth=f"{fourth:.0f} MiB",
        in_the_last=f"{last:.0f} MiB",
        peak=f"{max(watch.memory):.0f} MiB",
        descriptors_after=watch.descriptors(),
        cpu_of_the_relay=f"{watch.cpu():.0f} s",
        cpu_of_the_clients=f"{report['cpu']:.0f} s",
        drained_after=f"{drained:.1f} s",
    )


def run(what: str, relay: Appliance, sink: ExactSink, seconds: float) -> dict[str, Any]:
    """Load for so long. What holds however crowded it is: each number acknowledged is at the provider, once and whole;
    memory is bounded, and flat once a long run has used all buffers; everything that clients had taken is given back.
    """
    assert relay.process is not None
    watch = Watch(relay.process.pid)
    idle = watch.descriptors()
    began = time.monotonic()
    try:
        report = crowd(relay, seconds)
        ended = time.monotonic()
    finally:
        watch.close()
    acknowledged = {int(number): name for number, name in report["acknowledged"].items()}
    try:
        eventually(lambda: len(sink.taken) >= len(acknowledged), "the provider to have every message", 900)
    finally:
        told(what, report, sink, watch, ended - began, time.monotonic() - ended)

    assert len(acknowledged) > CLIENTS
    assert {number: one.id for number, one in sink.taken.items()} == acknowledged
    assert not sink.problems
    assert Counter(sink.got.values()) == {1: len(acknowledged)}, "delivered more than once"
    second, fourth, last = fifths(watch.memory)
    assert max(watch.memory) < MEMORY
    grown = f"{second:.0f} MiB, then {fourth:.0f}, at last {last:.0f}"
    assert seconds < LONG or (last - second < GROWTH and last - fourth < FLAT), grown
    most = idle + limits.CONNECTIONS_TO_PROVIDER  # those are kept for half a minute
    eventually(lambda: watch.descriptors() <= most, f"at most {most} descriptors, with all clients gone")
    return report


@pytest.mark.timeout(3600)
def test_a_crowd_with_a_place_for_everybody_meets_no_error(tmp_path: Path, sink: ExactSink) -> None:
    with appliance(tmp_path, sink, 2 * CLIENTS) as relay:  # a new connection and the one that is ending
        report = run("a place for each", relay, sink, SECONDS)
    assert not report["refusals"]
    assert not report["broken"]


@pytest.mark.timeout(3600)
def test_a_crowd_without_enough_places_is_told_so_and_nothing_else(tmp_path: Path, sink: ExactSink) -> None:
    with appliance(tmp_path, sink, CLIENTS * 4 // 5) as relay:
        report = run("places for four in five", relay, sink, SECONDS / 5)
    other = {text: count for text, count in report["refusals"].items() if not TOO_MANY.fullmatch(text)}
    assert not other, f"answers that nobody documented: {other}"
    silent = {where: count for where, count in report["broken"].items() if not where.startswith(HANDSHAKE)}
    assert not silent, f"sent away without a word: {silent}"
