"""A mail provider that takes everything and keeps nothing, for benchmarks: no TLS, no AUTH, PIPELINING, loopback only.

Prints its port on one line, then one line per request on standard input: the number of messages taken so far.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop

EHLO = b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 104857600\r\n"


class Sink(asyncio.Protocol):
    """One connection; ``taken`` is shared by all."""

    def __init__(self, taken: list[int]) -> None:
        self.taken, self.buffer, self.in_data = taken, b"", False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are not subclasses
        transport.write(b"220 sink ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        answers = []
        while self.buffer:
            if self.in_data:
                end = self.buffer.find(b"\r\n.\r\n")
                if end < 0:
                    self.buffer = self.buffer[-4:]  # only a split end mark still matters
                    break
                self.buffer, self.in_data = self.buffer[end + 5 :], False
                self.taken[0] += 1
                answers.append(b"250 2.0.0 taken\r\n")
                continue
            line, newline, rest = self.buffer.partition(b"\r\n")
            if not newline:
                break
            self.buffer = rest
            answers.append(self.answer(line[:4].upper()))
        if answers:
            self.transport.write(b"".join(answers))

    def answer(self, verb: bytes) -> bytes:
        if verb == b"EHLO":
            return EHLO
        if verb == b"DATA":
            self.in_data = True
            self.buffer = b"\r\n" + self.buffer  # so that a message that is only the dot ends too
            return b"354 go on\r\n"
        if verb == b"QUIT":
            asyncio.get_running_loop().call_soon(self.transport.close)
            return b"221 bye\r\n"
        return b"250 2.0.0 ok\r\n"


async def main() -> None:
    taken = [0]
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Sink(taken), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(taken[0], flush=True)


if __name__ == "__main__":
    uvloop.run(main())
