"""A crowd of clients, each in its loop of connect, TLS, login, some mails, QUIT; in a process of its own.

``python -m support.crowd`` reads a :class:`Plan` as JSON on standard input and prints a :class:`Report` as JSON. Every
message has a number that is sent once, and the digest of its body (:func:`support.traffic.whole` looks at both).
Loopback only: each client connects from an address of its own choice in 127/8, as clients of a real server do.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import random
import resource
import ssl
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, fields

import uvloop

from support.traffic import ID

MAILS = (1, 3, 8)  # a connection, drawn with equal chances
SIZES = (500, 1_000, 1_000, 4_000, 30_000)  # bytes of a body, likewise
SILENCE = 240.0  # seconds without an answer after which a client gives up
PATIENCE = 1.0  # seconds that a client which was sent away waits
HANDSHAKE = "handshake"  # where a client that is sent away gets no word, and cannot
FILL = b"".join(b"%069d\r\n" % n for n in range(max(SIZES) // 71 + 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do."""

    submission: int  # the port with STARTTLS
    submissions: int  # the one with TLS from the start; every second client uses it
    ca: str  # file
    accounts: list[str]  # each may send as itself @example.org
    password: str
    clients: int
    addresses: int  # that they come from
    seconds: float  # after which no new connection is made
    first: int = 0  # number of the first message


@dataclass(slots=True)
class Report:
    """What became of it. Times are in seconds."""

    codes: Counter[int] = field(default_factory=Counter)  # every reply
    refusals: Counter[str] = field(default_factory=Counter)  # those that are no success, whole
    broken: Counter[str] = field(default_factory=Counter)  # ends that no reply explains, by where and what
    acknowledged: dict[int, str] = field(default_factory=dict)  # number: id in the 250
    greeted: list[float] = field(default_factory=list)  # from connect() to the 220; TLS included where it comes first
    accepted: list[float] = field(default_factory=list)  # from the final dot to the 250
    connections: int = 0
    cpu: float = 0.0


class Refused(Exception):
    """A reply that is no success."""


class Client:
    """One of the crowd."""

    def __init__(self, crowd: Crowd, number: int) -> None:
        self._crowd, self._report, plan = crowd, crowd.report, crowd.plan
        self._implicit = number % 2 == 1
        self._account = plan.accounts[number % len(plan.accounts)]
        source = number % plan.addresses
        self._source = f"127.0.{1 + source // 250}.{1 + source % 250}"
        self._dice = random.Random(number)
        self._stage = ""

    async def run(self) -> None:
        """Connection after connection."""
        while time.monotonic() < self._crowd.ends:
            writer: asyncio.StreamWriter | None = None
            try:
                reader, writer = await self._connect()
                await self._talk(reader, writer)
            except Refused:
                await asyncio.sleep(PATIENCE)
            except (OSError, EOFError, TimeoutError) as error:
                self._report.broken[f"{self._stage}: {type(error).__name__}"] += 1
                await asyncio.sleep(PATIENCE)
            finally:
                if writer is not None:
                    writer.transport.abort()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        plan, self._stage = self._crowd.plan, HANDSHAKE if self._implicit else "connect"
        self._began = time.perf_counter()
        port = plan.submissions if self._implicit else plan.submission
        context = self._crowd.context if self._implicit else None
        name = "localhost" if self._implicit else None
        async with asyncio.timeout(SILENCE):
            return await asyncio.open_connection(
                "127.0.0.1", port, ssl=context, server_hostname=name, local_addr=(self._source, 0)
            )

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def ask(command: bytes, stage: str = "") -> bytes:
            writer.write(command)
            return await self._reply(reader, stage or command.split()[0].decode())

        await self._reply(reader, HANDSHAKE if self._implicit else "220")
        self._report.greeted.append(time.perf_counter() - self._began)
        self._report.connections += 1
        await ask(b"EHLO crowd\r\n")
        if not self._implicit:
            await ask(b"STARTTLS\r\n", HANDSHAKE)
            async with asyncio.timeout(SILENCE):
                await writer.start_tls(self._crowd.context, server_hostname="localhost")
            await ask(b"EHLO crowd\r\n", HANDSHAKE)  # the server's side of it may not have ended
        login = base64.b64encode(f"\0{self._account}\0{self._crowd.plan.password}".encode())
        await ask(b"AUTH PLAIN " + login + b"\r\n")
        for _ in range(self._dice.choice(MAILS)):
            number, content = self._crowd.message(self._account, self._dice.choice(SIZES))
            await ask(f"MAIL FROM:<{self._account}@example.org> SIZE={len(content)}\r\n".encode())
            await ask(b"RCPT TO:<r%d@example.net>\r\n" % number)
            await ask(b"DATA\r\n")
            before = time.perf_counter()
            writer.write(content)
            reply = await self._reply(reader, "dot")
            self._report.accepted.append(time.perf_counter() - before)
            found = ID.search(reply.decode())
            self._report.acknowledged[number] = found[0] if found else ""
        await ask(b"QUIT\r\n")
        self._stage = "goodbye"
        async with asyncio.timeout(SILENCE):
            await reader.read()

    async def _reply(self, reader: asyncio.StreamReader, stage: str) -> bytes:
        self._stage = stage
        async with asyncio.timeout(SILENCE):
            line = await reader.readline()
            while line[3:4] == b"-":
                line = await reader.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        self._report.codes[int(line[:3])] += 1
        if line[:1] not in (b"2", b"3"):
            self._report.refusals[line.decode().strip()] += 1
            raise Refused
        return line


class Crowd:
    """All of them."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.report = plan, Report()
        self.context = ssl.create_default_context(cafile=plan.ca)
        self.ends = time.monotonic() + plan.seconds
        self._next = plan.first

    def message(self, account: str, size: int) -> tuple[int, bytes]:
        """The next number and its message, final dot included."""
        number, self._next = self._next, self._next + 1
        body = b"%d\r\n%b" % (number, FILL[: size // 71 * 71])
        head = (
            f"From: {account}@example.org\r\nSubject: {number}\r\nMessage-ID: <{number}@crowd.example>\r\n"
            f"X-Number: {number}\r\nX-Digest: {hashlib.sha256(body).hexdigest()}\r\n\r\n"
        )
        return number, head.encode() + body + b".\r\n"

    async def run(self) -> Report:
        """Returns when the last client has said QUIT."""
        await asyncio.gather(*(Client(self, number).run() for number in range(self.plan.clients)))
        used = resource.getrusage(resource.RUSAGE_SELF)
        self.report.cpu = used.ru_utime + used.ru_stime
        return self.report


def main() -> None:
    plan = Plan(**json.load(sys.stdin))
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65_536) if most > 0 else 65_536, most))
    report = uvloop.run(Crowd(plan).run())
    json.dump({one.name: getattr(report, one.name) for one in fields(report)}, sys.stdout)


if __name__ == "__main__":
    main()
