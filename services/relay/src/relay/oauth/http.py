"""One HTTPS POST of a form and its answer, in JSON: all that a token endpoint needs.

h11 keeps the protocol. The certificate is verified; the whole exchange has one time limit and the answer a size limit;
redirects are not followed, so that a secret goes nowhere but to the address that was set. What goes wrong leaves as
:class:`Unreachable` with a sentence that names the host and quotes nothing of the request.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlencode, urlsplit

import h11

from common.connect import DIALER, NoConnection

ANSWER_SIZE = 64 * 1024  # bytes; Microsoft's answers have 5 KiB
HEADER_SIZE = 16 * 1024
TIME = 30.0  # seconds for everything, from the name's resolution to the last byte
_PIECE = 16 * 1024
_FORM = "application/x-www-form-urlencoded"


class Unreachable(Exception):
    """There is no usable answer; the text is a sentence."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The status, and the fields of the JSON object in the body: it may hold tokens, so it is not shown."""

    status: int
    fields: Mapping[str, Any] = field(repr=False)


async def post_form(url: str, form: Mapping[str, str], context: ssl.SSLContext, seconds: float = TIME) -> Answer:
    """What ``url`` (https) answers to ``form``. Raises :class:`Unreachable`."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        async with DIALER.connected(host, parts.port or 443, seconds) as won:
            status, body = await _exchange(won, parts, urlencode(form).encode("ascii"), context)
    except TimeoutError:
        raise Unreachable(f"{host} did not answer within {seconds:.0f} seconds") from None
    except (OSError, h11.ProtocolError) as error:
        raise Unreachable(f"{host} {_why(error)}") from None
    return Answer(status, _fields(host, status, body))


async def _exchange(won: socket.socket, parts: SplitResult, body: bytes, context: ssl.SSLContext) -> tuple[int, bytes]:
    host = parts.hostname or ""
    reader, writer = await asyncio.open_connection(sock=won, ssl=context, server_hostname=host)
    try:
        connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEADER_SIZE)
        writer.write(_request(connection, parts, body))
        await writer.drain()
        return await _answer(connection, reader, host)
    finally:
        writer.transport.abort()  # both sides have said all; waiting for a goodbye would only take time


def _request(connection: h11.Connection, parts: SplitResult, body: bytes) -> bytes:
    headers = [
        ("Host", parts.netloc.rpartition("@")[2]),
        ("Accept", "application/json"),
        ("Content-Type", _FORM),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
    ]
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    pieces = [
        connection.send(h11.Request(method="POST", target=target, headers=headers)),
        connection.send(h11.Data(data=body)),
        connection.send(h11.EndOfMessage()),
    ]
    return b"".join(piece or b"" for piece in pieces)


async def _answer(connection: h11.Connection, reader: asyncio.StreamReader, host: str) -> tuple[int, bytes]:
    status, body = 0, bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_PIECE))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > ANSWER_SIZE:
                raise Unreachable(f"{host} gave an answer of more than {ANSWER_SIZE // 1024} KiB")
        elif isinstance(event, h11.EndOfMessage):
            return status, bytes(body)
        elif not isinstance(event, h11.InformationalResponse):
            raise Unreachable(f"{host} closed the connection without an answer")


def _fields(host: str, status: int, body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        return value
    raise Unreachable(f"{host} answered {status} with something that is not a JSON object")


def _why(error: Exception) -> str:
    """What went wrong, as the end of a sentence that begins with the host."""
    if isinstance(error, h11.ProtocolError):
        return "did not answer in HTTP"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"has a certificate that is not valid: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"cannot be talked to over TLS: {error.reason or 'the handshake failed'}"
    if isinstance(error, socket.gaierror):
        return "could not be resolved to an address"
    if isinstance(error, NoConnection):
        return f"cannot be reached: {error}"
    return f"cannot be reached: {getattr(error, 'strerror', None) or type(error).__name__}"
