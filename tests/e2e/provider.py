"""A mail provider for the Compose tests: TLS from the first byte, takes everything, keeps each mail under /mail.

Runs in a container of the relay's image: ``python provider.py PORT``; certificate and key are /mail/provider.pem.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from itertools import count
from pathlib import Path

MAIL = Path("/mail")


class Provider:
    """Answers 250 to everything, and names each mail by its number in that answer."""

    def __init__(self) -> None:
        self.numbers = count(len(list(MAIL.glob("*.eml"))) + 1)  # one that starts again goes on where it was

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 provider ESMTP\r\n")
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"EHLO":
                writer.write(b"250-provider\r\n250-AUTH PLAIN LOGIN\r\n250 8BITMIME\r\n")
            elif verb == b"AUTH":
                writer.write(b"235 2.7.0 welcome\r\n")
            elif verb == b"DATA":
                writer.write(b"354 go on\r\n")
                number = next(self.numbers)
                (MAIL / f"{number}.eml").write_bytes(await reader.readuntil(b"\r\n.\r\n"))
                writer.write(f"250 2.0.0 taken as number {number}\r\n".encode())
            elif verb == b"QUIT":
                writer.write(b"221 2.0.0 bye\r\n")
                break
            else:
                writer.write(b"250 2.0.0 ok\r\n")
        writer.close()


async def main(port: int) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(MAIL / "provider.pem")
    server = await asyncio.start_server(Provider().serve, "0.0.0.0", port, ssl=context, limit=2**26)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
