"""How fast the spool is by itself: `python tests/bench/spool_bench.py [folder]` (the folder should be on a real disk).

Prints accepted messages a second at several numbers of clients, CPU time of a message's whole life, the rate of one
large upload, and how a spool with 100,000 waiting messages opens and accepts. Every accept is fsynced.
"""

from __future__ import annotations

import asyncio
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / name) for name in ("services/relay/src", "services/common/src", "tests")]

import uvloop  # noqa: E402

from relay import limits  # noqa: E402
from relay.clock import SystemClock  # noqa: E402
from relay.ids import new_id  # noqa: E402
from relay.model import Event, EventKind, Job, Message, Result, State  # noqa: E402
from relay.spool import Spool  # noqa: E402
from support.spooling import offering  # noqa: E402

BODY = b"Subject: bench\r\n\r\n" + b"x" * 1_006
CLOCK = SystemClock()


def message(account: str = "bench") -> Message:
    now = time.time()
    name = new_id(now)
    return Message(
        id=name,
        account=account,
        sender="bench@example.org",
        recipients=("someone@example.net",),
        size=len(BODY),
        received_at=now,
        message_id=f"<{name}@example.org>",
    )


async def add(spool: Spool) -> None:
    one = message()
    event = Event(kind=EventKind.ACCEPTED, at=one.received_at, message=one.id, account=one.account)
    await spool.upload(one.id).commit(one, BODY, [event])


async def deliver(spool: Spool, job: Job) -> None:
    ids = [recipient.delivery for recipient in job.recipients]
    await spool.mark(ids, "sink")
    results = [
        Result(delivery=one, state=State.DELIVERED, provider="sink", reply="250 ok", code=250, attempts=1)
        for one in ids
    ]
    event = Event(kind=EventKind.DELIVERED, at=time.time(), message=job.message.id, provider="sink", code=250)
    await spool.record(job, results, [event])


async def many(work: Callable[[], Awaitable[None]], clients: int, seconds: float) -> tuple[float, float, list[float]]:
    """(a second, CPU microseconds each, waiting times) of ``work`` done by so many clients at once."""
    waits: list[float] = []
    end = time.perf_counter() + seconds

    async def client() -> None:
        while (began := time.perf_counter()) < end:
            await work()
            waits.append(time.perf_counter() - began)

    cpu, began = time.process_time(), time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    took, used = time.perf_counter() - began, time.process_time() - cpu
    waits.sort()
    return len(waits) / took, used / len(waits) * 1e6, waits


async def opened(folder: Path, groups: list[int] | None = None) -> Spool:
    def fatal(reason: str) -> None:
        raise SystemExit(reason)

    def on_group(size: int, _seconds: float) -> None:
        if groups is not None:
            groups.append(size)

    return await Spool.open(folder, clock=CLOCK, on_committed=lambda events: None, on_fatal=fatal, on_group=on_group)


def report(name: str, rate: float, cpu: float, waits: Sequence[float], groups: list[int]) -> None:
    p50, p99 = waits[len(waits) // 2] * 1e3, waits[len(waits) * 99 // 100] * 1e3
    mean = sum(groups) / max(1, len(groups))
    print(f"{name:38} {rate:8.0f}/s {cpu:7.0f} us CPU   p50 {p50:6.2f} ms   p99 {p99:6.2f} ms   group {mean:5.1f}")


async def accepts(folder: Path, clients: int) -> float:
    groups: list[int] = []
    spool = await opened(folder, groups)
    rate, cpu, waits = await many(lambda: add(spool), clients, 3)
    report(f"accept, {clients} at once", rate, cpu, waits, groups)
    await spool.close()
    return rate


async def lives(folder: Path, clients: int) -> None:
    """Accept, claim, mark and record: a message's whole life, with 50 deliveries at once."""
    groups: list[int] = []
    spool = await opened(folder, groups)
    running: set[asyncio.Task[None]] = set()
    delivered = count()

    async def dispatch() -> None:
        while True:
            for job in await spool.claim(offering(max(1, 50 - len(running)))):
                task = asyncio.create_task(deliver(spool, job))
                running.add(task)
                task.add_done_callback(lambda done: (running.discard(done), next(delivered)))
            while len(running) >= 50:
                await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)

    dispatcher = asyncio.create_task(dispatch())
    rate, cpu, waits = await many(lambda: add(spool), clients, 4)
    report(f"whole life, {clients} at once", rate, cpu, waits, groups)
    print(f"{'':38} {next(delivered)} of {len(waits)} were delivered meanwhile")
    dispatcher.cancel()
    await asyncio.gather(dispatcher, *running, return_exceptions=True)
    await spool.close()


async def large(folder: Path) -> None:
    spool = await opened(folder)
    piece = b"x" * limits.CHUNK
    for _ in range(2):
        cpu, began = time.process_time(), time.perf_counter()
        one = message()
        upload = spool.upload(one.id)
        for _ in range(200):
            await upload.write(piece)
        await upload.commit(one, b"end", [])
        took, used = time.perf_counter() - began, time.process_time() - cpu
        print(f"one upload of 50 MiB                   {52.4288 / took:8.0f} MB/s  {used * 1e3:.0f} ms CPU")
    began = time.perf_counter()
    size = 0
    async for data in spool.read(one.id):
        size += len(data)
    print(f"reading it                             {size / 1e6 / (time.perf_counter() - began):8.0f} MB/s")
    await spool.close()


async def waiting(folder: Path, empty: float) -> None:
    spool = await opened(folder)
    for _ in range(200):
        await asyncio.gather(*(add(spool) for _ in range(500)))
    began = time.perf_counter()
    stats = await spool.stats()
    print(f"stats with {stats.messages} waiting              {(time.perf_counter() - began) * 1e3:8.1f} ms")
    began = time.perf_counter()
    await spool.queue()
    print(f"queue(1000)                            {(time.perf_counter() - began) * 1e3:8.1f} ms")
    await spool.close()
    began = time.perf_counter()
    spool = await opened(folder)
    print(f"opening it                             {(time.perf_counter() - began) * 1e3:8.1f} ms")
    await spool.close()
    rate = await accepts(folder, 20)
    print(f"of an empty spool's rate               {rate / empty * 100:8.0f} %")


async def main(parent: Path) -> None:
    folder = Path(tempfile.mkdtemp(dir=parent, prefix="spool-bench-"))
    try:
        rates = {clients: await accepts(folder / f"a{clients}", clients) for clients in (1, 20, 100)}
        for clients in (1, 20, 100):
            await lives(folder / f"l{clients}", clients)
        await large(folder / "large")
        await waiting(folder / "waiting", rates[20])
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"most memory                            {memory:8.0f} MiB")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.gettempdir())))
