"""The address on this machine that a browser is sent back to with a code (RFC 8252, section 7.3).

Listens on one port for as long as the grant takes, answers a browser with one line, and hands the request's target to
whoever waits. h11 keeps the protocol; a request is small and quick or is dropped.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import h11

REQUEST_SIZE = 16 * 1024
REQUEST_TIME = 10.0  # seconds
_THANKS = "Thank you. You can close this page and go back to the terminal."
_WRONG = "This page waits for the answer of another one."


@contextlib.asynccontextmanager
async def listening(host: str, port: int, take: Callable[[str], bool]) -> AsyncIterator[int]:
    """Listens at ``host``; ``port`` 0 means any, and the one in use is given.

    ``take`` is called with the target of each GET request and says whether that was the awaited one. Raises OSError if
    the port cannot be had.
    """
    open_now: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        open_now.add(task)
        try:
            with contextlib.suppress(OSError, TimeoutError, h11.ProtocolError):
                async with asyncio.timeout(REQUEST_TIME):
                    await _serve(reader, writer, take)
        finally:
            open_now.discard(task)
            writer.close()

    server = await asyncio.start_server(connected, host, port, limit=REQUEST_SIZE)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        if open_now:  # the browser that brought the code is still being thanked
            await asyncio.wait(open_now, timeout=1.0)
        for task in open_now:
            task.cancel()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, take: Callable[[str], bool]) -> None:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=REQUEST_SIZE)
    while (event := connection.next_event()) is h11.NEED_DATA:
        connection.receive_data(await reader.read(REQUEST_SIZE))
    if not isinstance(event, h11.Request):
        return
    good = event.method == b"GET" and take(event.target.decode("ascii", "replace"))
    body = (_THANKS if good else _WRONG).encode()
    headers = [
        ("Content-Type", "text/plain; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("Referrer-Policy", "no-referrer"),
        ("Connection", "close"),
    ]
    pieces = (h11.Response(status_code=200 if good else 404, headers=headers), h11.Data(data=body), h11.EndOfMessage())
    for piece in pieces:
        writer.write(connection.send(piece) or b"")
    await writer.drain()
