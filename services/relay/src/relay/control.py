"""HTTP/1.1 on a Unix socket: how health checks, the exporter and the operators' verbs reach the running relay.

There is no login: whoever may open the socket (mode 0660 in a folder of 0750) is the operator or the exporter. h11
keeps the protocol. One request and one answer a connection; a request is small and quick or ends the connection; a
client that is slow, silent or wrong costs itself only, and none leaves a line in the log. What is answered is decided
by the handlers in ``routes``, plain functions: this module knows nothing of mail.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

import h11

REQUEST_TIME = 10.0  # seconds for a request to arrive; our clients are on the same machine
ANSWER_TIME = 60.0  # seconds for it to be answered and read
REQUEST_SIZE = 16 * 1024  # bytes of a request line and its header
BODY_SIZE = 64 * 1024  # bytes of a body, which nothing here wants: read, counted, forgotten
CONNECTIONS = 32  # at once
PIECE = 16 * 1024
QUERY_FIELDS = 16


class ControlError(Exception):
    """The socket cannot be opened; the text is a sentence that says why."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a handler needs to know of a request."""

    query: Mapping[str, str]
    accept: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, media type and body."""

    status: int
    kind: str
    body: bytes


Handler = Callable[[Request], Awaitable[Answer]]
Routes = Mapping[tuple[str, str], Handler]  # (method, path)


class BadRequest(Exception):
    """A handler cannot make sense of the request; the text is a sentence for the operator. Answered by 400."""


def json_answer(value: object, status: int = 200) -> Answer:
    """``value`` as JSON in ASCII; half a surrogate (an address that was no UTF-8) is written as an escape."""
    return Answer(status, "application/json", json.dumps(value).encode("ascii") + b"\n")


class Control:
    """The server. ``failed`` hears of an exception in a handler, which is a bug and is answered by 500."""

    def __init__(self, path: Path, routes: Routes, failed: Callable[[Exception], None]) -> None:
        self._path, self._routes, self._failed = path, routes, failed
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Open the socket. Raises :class:`ControlError`."""
        try:
            self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            _make_way(self._path)
            self._server = await asyncio.start_unix_server(self._connected, self._path, limit=REQUEST_SIZE)
            os.chmod(self._path, 0o660)
        except OSError as error:
            raise ControlError(f"{self._path} cannot be opened: {error.strerror or error}.") from error

    async def close(self) -> None:
        """Stop answering; what is being answered may finish."""
        if self._server is not None:
            self._server.close()
            self._path.unlink(missing_ok=True)
            self._server = None
        if self._open:
            _, late = await asyncio.wait(self._open, timeout=REQUEST_TIME)
            for task in late:
                task.cancel()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._open) >= CONNECTIONS:
            writer.close()
            return
        self._open.add(task)
        try:
            # A client that goes away or speaks no HTTP has nothing to be told and nobody to be reported to.
            with contextlib.suppress(OSError, TimeoutError, h11.ProtocolError):
                await self._serve(reader, writer)
        finally:
            self._open.discard(task)
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=REQUEST_SIZE)
        try:
            async with asyncio.timeout(REQUEST_TIME):
                request = await _read(reader, connection)
        except h11.RemoteProtocolError as error:
            status = error.error_status_hint
            writer.write(_encode(connection, json_answer({"error": "That was no HTTP request."}, status), head=False))
            return
        if request is None:
            return
        async with asyncio.timeout(ANSWER_TIME):
            answer = await self._answer(request)
            writer.write(_encode(connection, answer, head=request.method == b"HEAD"))
            await writer.drain()

    async def _answer(self, request: h11.Request) -> Answer:
        target, _, query = request.target.decode("ascii", "replace").partition("?")
        method = "GET" if request.method == b"HEAD" else request.method.decode("ascii", "replace")
        handler = self._routes.get((method, target))
        if handler is None:
            known = any(path == target for _, path in self._routes)
            return json_answer({"error": "No such method here." if known else "No such path."}, 405 if known else 404)
        accept = b",".join(value for name, value in request.headers if name == b"accept")
        try:
            fields = dict(parse_qsl(query, max_num_fields=QUERY_FIELDS, errors="strict"))
        except ValueError:
            return json_answer({"error": "The part after the question mark is no query in UTF-8."}, 400)
        try:
            return await handler(Request(fields, accept.decode("ascii", "replace")))
        except BadRequest as error:
            return json_answer({"error": str(error)}, 400)
        except Exception as error:
            self._failed(error)
            return json_answer({"error": "The relay failed to answer; its log says why."}, 500)


def _make_way(path: Path) -> None:
    """Remove the socket that a process left behind. Raises :class:`ControlError` if one still answers there."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ControlError(f"{path} is in the way: it is not a socket.")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except TimeoutError:  # its queue is full: it lives
            pass
    raise ControlError(f"{path} is answered by another relay; only one may use this folder.")


async def _read(reader: asyncio.StreamReader, connection: h11.Connection) -> h11.Request | None:
    """The request, its body read; None when the client went away."""
    request, size = None, 0
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            size += len(event.data)
            if size > BODY_SIZE:
                return None
        elif isinstance(event, h11.EndOfMessage):
            return request
        elif event is h11.NEED_DATA:
            connection.receive_data(await reader.read(PIECE))
        else:
            return None


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
