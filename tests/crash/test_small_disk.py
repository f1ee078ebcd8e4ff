"""A real relay on a real, small disk that fills and empties again: an ext4 file system in a file."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from relay import limits
from support.appliance import Appliance, eventually
from support.figures import figures
from support.invariants import check
from support.judge import drain
from support.peers import need
from support.traffic import KIB, LAN, ExactSink, Mix, Traffic
from support.unix_http import get

ROUNDS = int(os.environ.get("CRASH_FILLS", "3"))
SIZE = 160 * 1024 * KIB  # the ballast's 64 MiB, the floor's 8, and 80 for mail


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Where it is mounted. The loop device is given up by the kernel as soon as it is not."""
    for program in ("mkfs.ext4", "mount", "umount"):
        need(program)
    if os.geteuid() != 0:
        pytest.skip("a small disk can only be mounted by root")
    image, point = tmp_path / "image", tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(SIZE)
    point.mkdir()
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(image)], check=True)
    mounted = subprocess.run(
        ["mount", "-o", "loop", str(image), str(point)], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no loop device can be mounted here: {mounted.stderr.strip()}")
    yield point
    subprocess.run(["umount", "--lazy", str(point)], check=True)


@pytest.fixture
def sink() -> Iterator[ExactSink]:
    sink = ExactSink()
    yield sink
    sink.close()


def take_the_rest(file: Path, ballast: Path | None) -> None:
    """Fill the disk to its last block, as some other program does. What a ``ballast`` gave up, a moment ago or while
    the disk was being filled, is given back, or there would be nothing to see.
    """
    file.touch()
    with suppress(OSError), file.open("wb", buffering=0) as out:
        while (ballast is None or ballast.exists()) and out.write(bytes(64 * KIB)):
            pass
    if ballast is not None and not ballast.exists():
        disk = os.statvfs(file)
        taken = limits.BALLAST - disk.f_bavail * disk.f_frsize
        os.truncate(file, max(0, file.stat().st_size - max(0, taken)))


def starts(relay: Appliance) -> bool:
    """Whether it comes to life, ready or not; False when it ends instead."""
    process = relay.process
    assert process is not None
    eventually(
        lambda: process.poll() is not None or get(relay.socket, "/livez")[0] == 200,
        "a start on a full disk, or its end",
    )
    return process.poll() is None


@pytest.mark.timeout(1800)
def test_a_small_disk_that_fills_and_empties_again(tmp_path: Path, disk: Path, sink: ExactSink) -> None:
    settings = {"RELAY_SPOOL": str(disk / "spool"), "RELAY_MESSAGE_SIZE_LIMIT": "1MiB", **LAN}
    relay = Appliance(tmp_path, sink.settings, settings)
    relay.start()
    mix = Mix(sizes=(10 * KIB, 300 * KIB, 900 * KIB), recipients=(1, 5))
    sink.traffic = traffic = Traffic(relay, mix=mix, clients=6)
    refused = 0
    try:
        for turn in range(ROUNDS):
            sink.shut()
            before = traffic.refused[452]
            eventually(lambda before=before: traffic.refused[452] > before + 20, "the disk to be full", 120)
            full = len(traffic.acknowledged)
            other = disk / "other"
            take_the_rest(other, disk / "spool/ballast" if turn == 0 else None)
            if turn == 0:
                sink.open()  # outcomes have to be written now, though there is no room: the ballast is what gives it
                eventually(lambda full=full: len(sink.got) > full * 0.8, "what was accepted to be delivered", 120)
                other.unlink()
            elif turn % 2:
                relay.kill()  # the ballast has gone: now it starts, or says why not, and nothing is lost by waiting
                relay.spawn()
                assert starts(relay) or f"spool in {disk}/spool is full" in relay.log.read_text()
                relay.kill()
                sink.open()
                other.unlink()
                relay.start()
            else:
                sink.open()  # no ballast: outcomes wait until there is room
                before_that = len(sink.got)
                other.unlink()
                eventually(lambda before_that=before_that: len(sink.got) > before_that, "delivery to go on", 120)
            traffic.wait_for(20, 300)
            refused = traffic.refused[452]
        traffic.close()
        drain(relay)
        assert relay.stop() == 0
    finally:
        sink.open()
        traffic.close()
        print(relay.log.read_text()[-4000:])  # shown when this fails
        if relay.process is not None and relay.process.poll() is None:
            relay.kill()
    kept = check(disk / "spool")
    lost = {number for number, one in traffic.acknowledged.items() if number not in sink.got or one.id not in kept}
    twice = sum(count - 1 for count in sink.got.values())
    figures(
        "small disk",
        fills=ROUNDS,
        acknowledged=len(traffic.acknowledged),
        delivered=len(sink.got),
        refused=refused,
        lost=len(lost),
        twice=twice,
    )
    assert sink.problems == []
    assert not lost
    assert {452} <= set(traffic.refused) <= {452, 421}, traffic.refused  # 421: a connection ends at 1,000 refusals
