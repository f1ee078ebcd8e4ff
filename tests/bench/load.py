"""A crowd of clients for benchmarks: each logs in once and sends message after message. Loopback only.

``python load.py PORT CONNECTIONS MESSAGES BYTES CA_FILE`` prints one JSON line: seconds, and the times from final dot
to 250 in milliseconds.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import sys
import time

import uvloop

RUN = time.time_ns()
LOGIN = base64.b64encode(b"\0bench\0correct horse battery staple").decode()


class Client:
    """One SMTP connection; every answer must be 2xx or 3xx."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self, command: bytes) -> None:
        if command:
            self.writer.write(command)
        line = await self.reader.readline()
        while line[3:4] == b"-":
            line = await self.reader.readline()
        if line[:1] not in (b"2", b"3"):
            raise RuntimeError(f"unexpected answer {line!r}")

    async def start(self, context: ssl.SSLContext) -> None:
        await self.ask(b"")
        await self.ask(b"EHLO bench\r\n")
        await self.ask(b"STARTTLS\r\n")
        await self.writer.start_tls(context, server_hostname="localhost")
        await self.ask(b"EHLO bench\r\n")
        await self.ask(f"AUTH PLAIN {LOGIN}\r\n".encode())

    async def send(self, body: bytes, number: int) -> float:
        await self.ask(b"MAIL FROM:<bench@example.org>\r\n")
        await self.ask(b"RCPT TO:<sink@example.net>\r\n")
        await self.ask(b"DATA\r\n")
        before = time.perf_counter()
        await self.ask(b"Message-ID: <%d.%d@bench>\r\n%b" % (RUN, number, body))  # the same one would be kept once
        return time.perf_counter() - before


def message(size: int) -> bytes:
    head = b"From: <bench@example.org>\r\nTo: <sink@example.net>\r\nSubject: bench\r\n\r\n"
    lines = (b"x" * 70 + b"\r\n") * max(1, (size - len(head)) // 72)
    return head + lines + b".\r\n"


async def main(port: int, connections: int, messages: int, size: int, ca: str) -> None:
    context = ssl.create_default_context(cafile=ca)
    body, todo, times = message(size), iter(range(messages)), []

    clients = [Client(*await asyncio.open_connection("127.0.0.1", port)) for _ in range(connections)]
    await asyncio.gather(*(client.start(context) for client in clients))

    async def work(client: Client) -> None:
        times.extend([await client.send(body, number) for number in todo])

    started = time.perf_counter()
    await asyncio.gather(*(work(client) for client in clients))
    seconds = time.perf_counter() - started
    times.sort()
    print(
        json.dumps(
            {"seconds": seconds, "p50_ms": times[len(times) // 2] * 1e3, "p99_ms": times[len(times) * 99 // 100] * 1e3}
        )
    )


if __name__ == "__main__":
    uvloop.run(main(*map(int, sys.argv[1:5]), sys.argv[5]))
