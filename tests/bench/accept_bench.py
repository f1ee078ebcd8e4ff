"""What accepting costs by itself: the session with a spool that answers at once.

``PYTHONPATH=services/relay/src:services/common/src:tests python tests/bench/accept_bench.py [--tls] [MESSAGES
[CONNECTIONS [BYTES]]]``
starts the LAN listener (with ``--tls``: the one with STARTTLS and login) in a process of its own, sends MESSAGES over
CONNECTIONS, and prints messages a second and the server's CPU time for each. ``--serve PORT`` serves only, for another
load generator; SIGINT ends it and prints the CPU time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import uvloop

from relay.allocator import keep_read_buffers_on_the_heap
from relay.model import Event, Message
from support.fakes import FakeReservation, FakeSpool, FakeUpload
from support.reception import reception
from support.smtp_client import RawClient


class Quick(FakeUpload):
    """Takes everything and remembers nothing."""

    async def write(self, data: bytes) -> None:
        pass

    async def commit(self, message: Message, last: bytes, events: Sequence[Event]) -> None:
        await asyncio.sleep(0)  # as a real commit, it suspends
        self.spool.accepted += 1


class QuickSpool(FakeSpool):
    """A spool that answers at once."""

    accepted = 0

    def reserve(self, size: int) -> FakeReservation:
        return FakeReservation(self, size)

    def upload(self, message_id: str) -> Quick:
        return Quick(self, message_id)


class Silence:
    """A journal that nobody reads."""

    def __getattr__(self, name: str) -> object:
        return lambda *_args, **_fields: None


async def serve(port: int, tls: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, stop.set)
    spool = QuickSpool()
    many = {"connections": 5_000, "connections_per_address": 5_000}
    name = "submission" if tls else "lan"
    with tempfile.TemporaryDirectory() as folder:
        async with reception(
            Path(folder), name, tls=tls, spool=spool, journal=Silence(), limits=many, port=port
        ) as host:
            print(host.listener.port, Path(folder) / "ca.pem", flush=True)
            before = resource.getrusage(resource.RUSAGE_SELF)
            await stop.wait()
            after = resource.getrusage(resource.RUSAGE_SELF)
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    cpu = user + system
    per = 1e3 / max(1, spool.accepted)
    report = {"cpu_ms": cpu * per, "user_ms": user * per, "system_ms": system * per}
    print(json.dumps({"accepted": spool.accepted} | {name: round(value, 4) for name, value in report.items()}))


async def load(port: int, ca: Path | None, messages: int, connections: int, size: int) -> float:
    """Seconds it took."""
    body = b"From: <anna@example.org>\r\nTo: <sink@example.net>\r\nSubject: bench\r\n\r\n"
    body += (b"x" * 70 + b"\r\n") * (size // 72) + b".\r\n"
    todo = iter(range(messages))
    context = ssl.create_default_context(cafile=str(ca)) if ca else None

    async def start() -> RawClient:
        client = await RawClient.connect(port)
        await client.reply()
        await client.ask(b"EHLO bench")
        if context:
            await client.ask(b"STARTTLS")
            await client.start_tls(context)
            await client.ask(b"EHLO bench")
            assert (await client.ask(b"AUTH PLAIN AGFubmEAY29ycmVjdCBob3JzZQ==")).startswith(b"235")
        return client

    async def work(client: RawClient) -> None:
        for _ in todo:
            await client.ask(b"MAIL FROM:<anna@example.org>")
            await client.ask(b"RCPT TO:<sink@example.net>")
            await client.ask(b"DATA")
            await client.send(body)
            assert (await client.reply()).startswith(b"250")

    clients = [await start() for _ in range(connections)]
    began = time.perf_counter()
    await asyncio.gather(*(work(client) for client in clients))
    seconds = time.perf_counter() - began
    for client in clients:
        client.abort()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--serve", type=int, metavar="PORT")
    parser.add_argument("counts", type=int, nargs="*")
    options = parser.parse_args()
    if options.serve is not None:
        keep_read_buffers_on_the_heap()
        uvloop.run(serve(options.serve, options.tls))
        return
    messages, connections, size = (options.counts + [20_000, 20, 1_024][len(options.counts) :])[:3]
    command = [sys.executable, __file__, "--serve", "0", *(["--tls"] if options.tls else [])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port, ca = server.stdout.readline().split()
        seconds = uvloop.run(load(int(port), Path(ca) if options.tls else None, messages, connections, size))
        server.send_signal(signal.SIGINT)
        report = json.loads(server.stdout.read())
    print(json.dumps({"per_second": round(messages / seconds), **report}))


if __name__ == "__main__":
    main()
