"""A provider that takes everything and remembers how often it got each message; a thread of the test itself."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter

NUMBER = re.compile(rb"^X-Number: (\d+)", re.MULTILINE)


class CountingSink:
    """Counts the messages it answered 250 for, by their X-Number field. Plain text, loopback."""

    def __init__(self) -> None:
        self.got: Counter[int] = Counter()
        self.bodies: list[bytes] = []
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()
        self._started.wait(10)

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**26)
        self.port: int = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._talk(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the relay was killed: that is the test
        finally:
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 sink\r\n")
        recipients: list[str] = []
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"EHLO":
                writer.write(b"250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
            elif verb == b"DATA":
                writer.write(b"354 go on\r\n")
                self._take((await reader.readuntil(b"\r\n.\r\n"))[:-3], recipients)
                writer.write(b"250 2.0.0 taken\r\n")
            elif verb == b"QUIT":
                writer.write(b"221 bye\r\n")
                return
            else:
                if verb == b"MAIL":
                    recipients = []
                    await self._admit()
                elif verb == b"RCPT":
                    recipients.append(line.decode().partition("<")[2].rpartition(">")[0])
                writer.write(b"250 2.0.0 ok\r\n")

    async def _admit(self) -> None:
        """Return when a message may be sent: at once."""

    def _take(self, body: bytes, recipients: list[str]) -> None:
        """A final dot has come; ``body`` is what stood before it."""
        number = NUMBER.search(body)
        self.bodies.append(body)
        if number:
            self.got[int(number[1])] += 1

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    @property
    def settings(self) -> dict[str, str]:
        """The relay's settings that make this its provider."""
        where = {"GENERIC_HOST": "127.0.0.1", "GENERIC_PORT": str(self.port), "GENERIC_TLS": "none"}
        return {"OWNPOST_PROVIDERS": "generic", **where}
