"""How fast delivery empties a full spool into a provider on loopback, without TLS, and what a message costs it.

    python tests/bench/delivery_bench.py [-n MESSAGES] [-s BYTES] [-c CONNECTIONS] [--profile FILE]

The spool is a real one, in the folder for temporary files (TMPDIR); the provider is ``sink.py`` in a process of its
own. Printed are messages a second and the CPU time of this process per message, spool and writer thread included,
from the first claim to the last record.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1] / "services" / name / "src") for name in ("relay", "common")]

from relay.clock import SystemClock  # noqa: E402
from relay.delivery.dispatcher import Dispatcher  # noqa: E402
from relay.ids import new_id  # noqa: E402
from relay.model import Event, EventKind, Message  # noqa: E402
from relay.providers.provider import Provider  # noqa: E402
from relay.spool import Spool  # noqa: E402


class Quiet:
    """A journal that only counts."""

    def __init__(self, wanted: int) -> None:
        self.left = wanted
        self.done = asyncio.Event()

    def committed(self, events: Sequence[Event]) -> None:
        self.left -= sum(event.kind is EventKind.DELIVERED for event in events)
        if self.left <= 0:
            self.done.set()

    def attempt(self, provider: str, outcome: str, seconds: float) -> None:
        pass

    def system(self, event: str, **fields: object) -> None:
        print(event, fields, file=sys.stderr)


async def fill(spool: Spool, number: int, size: int) -> None:
    """Puts ``number`` messages into the spool."""
    header = b"From: bench@example.org\r\nTo: sink@example.net\r\nSubject: bench\r\n\r\n"
    body = (header + (b"x" * 70 + b"\r\n") * (size // 72 + 1))[: size - 2] + b"\r\n"

    async def one() -> None:
        now = time.time()
        message = new_id(now)
        await spool.upload(message).commit(
            Message(
                id=message,
                account="bench",
                sender="bench@example.org",
                recipients=("sink@example.net",),
                size=len(body),
                received_at=now,
                message_id=f"<{message}@example.org>",
            ),
            body,
            [],
        )

    for start in range(0, number, 500):
        await asyncio.gather(*(one() for _ in range(min(500, number - start))))


async def drain(port: int, args: argparse.Namespace, folder: Path) -> None:
    """Fills, empties, prints."""
    journal, clock = Quiet(args.n), SystemClock()
    spool = await Spool.open(folder, clock=clock, on_committed=journal.committed, on_fatal=sys.exit)
    await fill(spool, args.n, args.s)
    provider = Provider(
        name="sink", host="127.0.0.1", ports=((port, "none"),), connections=args.c, messages_per_connection=1000
    )
    dispatcher = Dispatcher(
        [provider],
        spool=spool,
        journal=journal,
        clock=clock,
        hostname="bench.example.org",
        postmaster="postmaster@example.org",
    )
    profile = cProfile.Profile() if args.profile else None
    stop = asyncio.Event()
    cpu, wall = time.process_time(), time.perf_counter()
    if profile:
        profile.enable()
    running = asyncio.create_task(dispatcher.run(stop))
    await journal.done.wait()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    if profile:
        profile.disable()
        profile.dump_stats(args.profile)
    stop.set()
    await running
    await dispatcher.drain(5.0)
    await spool.close()
    print(
        f"{args.n} messages of {args.s} bytes over {args.c} connections: "
        f"{args.n / wall:,.0f}/s, {cpu / args.n * 1000:.3f} ms CPU each"
    )


async def main(args: argparse.Namespace) -> None:
    """Starts the sink, and ends it."""
    sink = await asyncio.create_subprocess_exec(
        sys.executable, str(HERE / "sink.py"), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert sink.stdout is not None
    try:
        with tempfile.TemporaryDirectory() as folder:
            await drain(int(await sink.stdout.readline()), args, Path(folder))
    finally:
        sink.kill()
        await sink.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-n", type=int, default=20_000, help="messages")
    parser.add_argument("-s", type=int, default=2048, help="bytes of each")
    parser.add_argument("-c", type=int, default=10, help="connections")
    parser.add_argument("--profile", default="", help="write a cProfile of the event loop's thread to this file")
    os.umask(0o077)
    uvloop.run(main(parser.parse_args()))
