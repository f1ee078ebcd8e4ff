"""A client that does as it is told: raw bytes out, lines in, TLS when asked. For tests of what a server says."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct


class RawClient:
    """One connection. Every wait ends after ``seconds`` with a ``TimeoutError``."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float = 10.0) -> None:
        self._reader, self._writer, self._seconds = reader, writer, seconds

    @classmethod
    async def connect(cls, port: int, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> RawClient:
        name = "localhost" if tls else None
        return cls(*await asyncio.open_connection(host, port, ssl=tls, server_hostname=name, limit=2**20))

    async def send(self, data: bytes) -> None:
        """Write ``data``, in one piece."""
        self._writer.write(data)
        await asyncio.wait_for(self._writer.drain(), self._seconds)

    async def line(self) -> bytes:
        """The next line without its CRLF; ``b""`` once the server has hung up."""
        try:
            line = await asyncio.wait_for(self._reader.readline(), self._seconds)
        except ConnectionError:
            return b""
        assert not line or line.endswith(b"\r\n"), line
        return line[:-2]

    async def reply(self) -> bytes:
        """The last line of the next reply."""
        line = await self.line()
        while line[3:4] == b"-":
            line = await self.line()
        return line

    async def ask(self, command: bytes) -> bytes:
        """Send a command line and return the last line of its reply."""
        await self.send(command + b"\r\n")
        return await self.reply()

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """The handshake after a 220 to STARTTLS."""
        await asyncio.wait_for(self._writer.start_tls(context, server_hostname="localhost"), self._seconds)

    def stop_reading(self) -> None:
        """Leave what the server says in the system's buffers."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]

    def half_close(self) -> None:
        """Send nothing more, but go on reading."""
        self._writer.write_eof()

    def abort(self) -> None:
        """Be gone."""
        self._writer.transport.abort()

    def reset(self) -> None:
        """Be gone so that the server hears of it though it reads nothing."""
        linger = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.abort()

    async def close(self) -> None:
        """Hang up."""
        self._writer.close()
        try:
            await asyncio.wait_for(self._writer.wait_closed(), self._seconds)
        except (OSError, TimeoutError):
            pass  # the server was faster
