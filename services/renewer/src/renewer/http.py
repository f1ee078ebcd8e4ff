"""A very small HTTP/1.1 server on a Unix socket: three GET paths, one answer a connection.

Whoever may open the socket (mode 0660 in a folder of 0700) is the operator or the exporter; there is no login. h11
keeps the protocol; a client that is slow, silent or wrong costs itself only.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import h11

PATIENCE = 10.0  # seconds for one request and its answer; our readers are on the same machine
PIECE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What a path says: status, media type, body."""

    status: int
    kind: str
    body: bytes


def json_answer(value: object, status: int = 200) -> Answer:
    return Answer(status, "application/json", json.dumps(value).encode() + b"\n")


Pages = Mapping[str, Callable[[], Answer]]


@contextlib.asynccontextmanager
async def serving(socket: Path, pages: Pages) -> AsyncIterator[None]:
    """Serve ``pages`` (path -> answer) on ``socket`` while the block runs. Raises OSError if it cannot be bound."""
    _make_way(socket)
    server = await asyncio.start_unix_server(lambda reader, writer: _handle(reader, writer, pages), socket)
    try:
        os.chmod(socket, 0o660)
        yield
    finally:
        server.close()
        _make_way(socket)


def _make_way(socket: Path) -> None:
    """No file at ``socket``, but its folder. The lock on certs/ says that no other renewer answers there."""
    socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    socket.unlink(missing_ok=True)


async def _handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pages: Pages) -> None:
    connection = h11.Connection(h11.SERVER)
    # A client that goes away or speaks no HTTP has nothing to be told and nobody to be reported to.
    with contextlib.suppress(OSError, TimeoutError, h11.RemoteProtocolError):
        async with asyncio.timeout(PATIENCE):
            request = await _request(reader, connection)
            if request is not None:
                writer.write(_encode(connection, _answer(request, pages), head=request.method == b"HEAD"))
                await writer.drain()
    writer.close()


async def _request(reader: asyncio.StreamReader, connection: h11.Connection) -> h11.Request | None:
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            return event
        if event is not h11.NEED_DATA:
            return None
        connection.receive_data(await reader.read(PIECE))


def _answer(request: h11.Request, pages: Pages) -> Answer:
    if request.method not in (b"GET", b"HEAD"):
        return json_answer({"error": "Only GET is answered here."}, 405)
    page = pages.get(request.target.decode("ascii", "replace").partition("?")[0])
    return page() if page else json_answer({"error": f"There is {', '.join(pages)}."}, 404)


def _encode(connection: h11.Connection, answer: Answer, *, head: bool) -> bytes:
    headers = [
        ("Content-Type", answer.kind),
        ("Content-Length", str(len(answer.body))),
        ("Cache-Control", "no-store"),
        ("Connection", "close"),
    ]
    parts = [
        connection.send(h11.Response(status_code=answer.status, headers=headers)),
        b"" if head else connection.send(h11.Data(data=answer.body)),
        connection.send(h11.EndOfMessage()),
    ]
    return b"".join(part or b"" for part in parts)
