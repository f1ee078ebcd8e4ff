"""Providers that take everything and remember what they got; each a thread of the test itself."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from dataclasses import dataclass, field

NUMBER = re.compile(rb"^X-Number: (\d+)", re.MULTILINE)


@dataclass
class Taken:
    """One transaction: the whole MAIL line, the addresses, and what came between 354 and the final dot."""

    mail: str
    recipients: list[str] = field(default_factory=list)
    wire: bytes = b""

    @property
    def content(self) -> bytes:
        """The message, its doubled dots undone (RFC 5321, 4.5.2)."""
        start = self.wire[1:] if self.wire.startswith(b".") else self.wire
        return start.replace(b"\r\n.", b"\r\n")


class Sink:
    """Listens on a free loopback port, in plain text. Its heirs say what they keep."""

    final = b"250 2.0.0 ok\r\n"  # what the next messages are answered with

    def __init__(self) -> None:
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        assert self._started.wait(10)

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**27)
        self.port: int = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._talk(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the relay has gone, or was killed: that is the test
        finally:
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 sink\r\n")
        now = Taken("")
        while (verb := (line := await reader.readuntil(b"\r\n"))[:4].upper()) != b"QUIT":
            self._hear(line)
            answer = b"250 2.0.0 ok\r\n"
            if verb == b"EHLO":
                answer = b"250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n"
            elif verb == b"MAIL":
                now = Taken(line.decode().strip())
                await self._admit()
            elif verb == b"RCPT":
                now.recipients.append(line[line.index(b"<") + 1 : line.rindex(b">")].decode())
            elif verb == b"DATA":
                writer.write(b"354 go on\r\n")
                # What comes begins with a field of ours, so the mark is never the first line.
                now.wire = (await reader.readuntil(b"\r\n.\r\n"))[:-3]
                self._take(now)
                answer = self.final
            writer.write(answer)
        self._hear(line)
        writer.write(b"221 bye\r\n")

    def _hear(self, line: bytes) -> None:
        """A command has come."""

    async def _admit(self) -> None:
        """Return when a message may be sent: at once."""

    def _take(self, taken: Taken) -> None:
        """A final dot has come."""
        raise NotImplementedError

    def close(self) -> None:
        """Listen no more."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    @property
    def settings(self) -> dict[str, str]:
        """The relay's settings that make this its provider."""
        where = {"GENERIC_HOST": "127.0.0.1", "GENERIC_PORT": str(self.port), "GENERIC_TLS": "none"}
        return {"OWNPOST_PROVIDERS": "generic", **where}


class CountingSink(Sink):
    """Counts the messages it answered 250 for, by their X-Number field."""

    def __init__(self) -> None:
        self.got: Counter[int] = Counter()
        self.bodies: list[bytes] = []
        super().__init__()

    def _take(self, taken: Taken) -> None:
        number = NUMBER.search(taken.wire)
        self.bodies.append(taken.wire)
        if number:
            self.got[int(number[1])] += 1
