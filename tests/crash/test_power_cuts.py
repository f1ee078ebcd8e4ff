"""Power cuts under a real relay: at every moment of its disk's life, what got a 250 is there, whole, once.

Two ways. *Recorded*: one run in which everything happens (first start, accepting, delivering, the log copied and begun
anew, a clean stop, a second start, kill -9) is recorded step by step, and then cut at thousands of its moments, each
with several losses. *Live*: the power goes in the middle of the traffic, the relay is started on what is left, and the
traffic goes on; at the end all must have arrived.

CRASH_CUTS and CRASH_LIVE_CUTS say how many.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from relay.delivery.capture import CaptureFolder
from relay.ids import new_id
from support.appliance import Appliance
from support.figures import figures
from support.invariants import check
from support.judge import doubts, drain, judge
from support.power.disk import Loss
from support.power.mount import PowerDisk
from support.power.replay import Recording
from support.traffic import KIB, LAN, MIB, ExactSink, Mix, Traffic

CUTS = int(os.environ.get("CRASH_CUTS", "160"))
LIVE_CUTS = int(os.environ.get("CRASH_LIVE_CUTS", "8"))
SMALL = Mix()
BUSY = Mix(sizes=(KIB, 3 * KIB, 30 * KIB, 700 * KIB), recipients=(1, 1, 3, 100))
LARGE = Mix(sizes=(MIB, 2 * MIB), recipients=(1, 2))


@pytest.fixture
def sink() -> Iterator[ExactSink]:
    sink = ExactSink()
    yield sink
    sink.close()


def appliance(folder: Path, spool: Path, sink: ExactSink) -> Appliance:
    """A relay whose spool is two folders below the mount, neither of which is there before the first start."""
    return Appliance(folder, sink.settings, {"RELAY_SPOOL": str(spool), **LAN})


def everything(relay: Appliance, traffic: Traffic, disk: PowerDisk) -> None:
    """A short life with all that a spool does."""
    traffic.wait_for(30)
    traffic.mix = LARGE  # more than 16 MiB: the log is copied beside the writer and begun anew
    traffic.wait_for(16)
    traffic.mix = SMALL
    traffic.wait_for(30)
    relay.stop()
    relay.start()
    traffic.wait_for(20)
    relay.kill()
    relay.start()
    traffic.wait_for(10)
    traffic.close()


def test_a_cut_at_any_moment_loses_nothing(tmp_path: Path, sink: ExactSink, scratch: Path) -> None:
    with PowerDisk(tmp_path / "disk") as disk:
        disk.start_recording()
        spool = disk.mount / "var" / "spool"
        relay = appliance(tmp_path, spool, sink)
        relay.start()
        sink.steps = lambda: disk.steps
        sink.traffic = traffic = Traffic(relay, mix=SMALL, steps=lambda: disk.steps)
        try:
            everything(relay, traffic, disk)
        finally:
            traffic.close()
            relay.kill()
        disk.record(tmp_path / "recording")
    assert sink.problems == []

    recording, dice = Recording(tmp_path / "recording"), random.Random(CUTS)
    losses = list(Loss)
    at = recording.choose(max(1, CUTS // len(losses)), dice)
    cut: Counter[str] = Counter()
    lost: list[str] = []
    torn: list[str] = []
    doubtful = 0
    for moment, loss, image in recording.cuts(at, scratch / "image", losses, seed=CUTS):
        try:
            verdict = judge(image / "var" / "spool", traffic, sink, moment)
        except Exception as error:
            raise AssertionError(f"cut after operation {moment}, loss {loss}: {error}") from error
        cut[loss] += 1
        lost += [f"cut after operation {moment}, loss {loss}: {sentence}" for sentence in verdict.lost]
        torn += [f"cut after operation {moment}, loss {loss}: {sentence}" for sentence in verdict.torn]
        doubtful += len(verdict.doubtful)
    promised = len(traffic.acknowledged)
    figures(
        "recorded power cuts",
        cuts=cut.total(),
        moments=len(at),
        of=len(recording.moments()),
        acknowledged=promised,
        lost=len(lost),
        torn=len(torn),
        in_doubt=doubtful,
    )
    assert not lost + torn
    assert promised > 100


async def test_what_the_trial_s_provider_kept_is_there_after_a_cut(tmp_path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"From: anna@example.org\r\n\r\nhello\r\n"

    with PowerDisk(tmp_path / "disk") as disk:
        path = await CaptureFolder(disk.mount / "captured").keep(new_id(1_800_000_000.0), pieces())
        disk.leave(tmp_path / "left")
    assert [one.name for one in (tmp_path / "left/captured").iterdir()] == [path.name]
    assert (tmp_path / "left/captured" / path.name).read_bytes().endswith(b"hello\r\n")


@pytest.mark.timeout(7200)
def test_the_relay_goes_on_after_each_of_many_cuts(tmp_path: Path, sink: ExactSink, scratch: Path) -> None:
    dice = random.Random(LIVE_CUTS)
    image: Path | None = None
    relay = appliance(tmp_path, tmp_path / "disk/mount/var/spool", sink)
    sink.traffic = traffic = Traffic(relay, mix=BUSY)
    try:
        for n in range(LIVE_CUTS):
            with PowerDisk(tmp_path / "disk", holds=image) as disk:
                disk.plan(("change", "", dice.choice([dice.randint(1, 120), dice.randint(1, 4000)]), "off"))
                relay.spawn()
                disk.wait_for_the_cut()
                assert relay.process is not None
                relay.process.send_signal(signal.SIGKILL)
                before, image = image, scratch / str(n)
                disk.leave(image, dice.choice(list(Loss)), seed=n)
            relay.process.wait()  # until the disk is gone the kernel waits for its answers
            shutil.copytree(image, scratch / "look")
            verdict = judge(scratch / "look/var/spool", traffic, sink)
            assert not verdict.lost + verdict.torn
            shutil.rmtree(scratch / "look")
            if before is not None:
                shutil.rmtree(before)
        with PowerDisk(tmp_path / "disk", holds=image) as disk:
            relay.start()
            traffic.wait_for(10)
            traffic.close()
            drain(relay)
            relay.stop()
            doubtful = doubts(check(disk.mount / "var/spool"), sink)
    finally:
        traffic.close()
        if relay.process is not None and relay.process.poll() is None:
            relay.kill()
    assert sink.problems == []
    lost = set(traffic.acknowledged) - set(sink.got)
    twice = {number: count - 1 for number, count in sink.got.items() if count > 1}
    figures(
        "live power cuts",
        cuts=LIVE_CUTS,
        acknowledged=len(traffic.acknowledged),
        delivered=len(sink.got),
        lost=len(lost),
        twice=sum(twice.values()),
        in_doubt=len(+doubtful),
    )
    assert not lost
    assert not Counter(twice) - doubtful, "a duplicate that was in no doubt"
