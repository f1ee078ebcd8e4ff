"""A provider that takes everything and keeps envelope and bytes as they came over the wire; a thread of the test."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field

from support.appliance import eventually


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


class Recorder:
    """Listens on a free loopback port, in plain text. ``commands`` holds every line that was no content."""

    def __init__(self) -> None:
        self.taken: list[Taken] = []
        self.commands: list[bytes] = []
        self.final = b"250 2.0.0 ok\r\n"  # what the next messages are answered with
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
            pass  # the relay has gone
        finally:
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 recorder\r\n")
        now = Taken("")
        while line := await reader.readuntil(b"\r\n"):
            self.commands.append(line)
            verb = line[:4].upper()
            if verb == b"EHLO":
                writer.write(b"250-recorder\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
                continue
            if verb == b"MAIL":
                now = Taken(line.decode().strip())
            elif verb == b"RCPT":
                now.recipients.append(line[line.index(b"<") + 1 : line.rindex(b">")].decode())
            elif verb == b"DATA":
                writer.write(b"354 go on\r\n")
                now.wire = await self._content(reader)
                self.taken.append(now)
                writer.write(self.final)
                continue
            writer.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 2.0.0 ok\r\n")

    async def _content(self, reader: asyncio.StreamReader) -> bytes:
        """All up to the final dot, whose first CRLF may be that of the DATA line."""
        lines = [await reader.readuntil(b"\r\n")]
        while lines[-1] != b".\r\n":
            lines.append(await reader.readuntil(b"\r\n"))
        return b"".join(lines[:-1])

    def wait(self, count: int = 1) -> list[Taken]:
        """The messages since the last call, once there are ``count``."""
        eventually(lambda: len(self.taken) >= count, f"{count} messages at the provider", 60)
        taken, self.taken = self.taken, []
        return taken

    def close(self) -> None:
        """Listen no more."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    @property
    def settings(self) -> dict[str, str]:
        """The relay's settings that make this its provider."""
        where = {"GENERIC_HOST": "127.0.0.1", "GENERIC_PORT": str(self.port), "GENERIC_TLS": "none"}
        return {"OWNPOST_PROVIDERS": "generic", **where}
