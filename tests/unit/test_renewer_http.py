"""The HTTP server on the Unix socket: its answers, its modes, and clients that misbehave."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from renewer import http
from renewer.http import json_answer, serving

PAGES = {"/livez": lambda: json_answer({"alive": True})}


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    return tmp_path / "renewer" / "renewer.sock"


async def talk(socket: Path, request: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(socket)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


async def test_a_page_is_answered_once_a_connection(socket: Path) -> None:
    async with serving(socket, PAGES):
        head, _, body = (await talk(socket, b"GET /livez?x=1 HTTP/1.1\r\nHost: x\r\n\r\n")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"Connection: close" in head
    assert body == b'{"alive": true}\n'


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", b"404"),
        (b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", b"405"),
    ],
)
async def test_anything_else_is_told_what_there_is(socket: Path, request_: bytes, status: bytes) -> None:
    async with serving(socket, PAGES):
        assert (await talk(socket, request_)).startswith(b"HTTP/1.1 " + status)


async def test_head_has_no_body(socket: Path) -> None:
    async with serving(socket, PAGES):
        answer = await talk(socket, b"HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"Content-Length: 16" in answer
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("request_", [b"\x16\x03\x01 no HTTP\r\n\r\n", b"GET /" + b"a" * 100_000])
async def test_no_http_is_no_answer(socket: Path, request_: bytes) -> None:
    async with serving(socket, PAGES):
        assert await talk(socket, request_) == b""
        assert b"200" in await talk(socket, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")


async def test_a_silent_client_is_let_go_and_hinders_nobody(socket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "PATIENCE", 0.05)
    async with serving(socket, PAGES):
        reader, writer = await asyncio.open_unix_connection(socket)
        assert b"200" in await talk(socket, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await reader.read() == b""
        writer.close()


def mode(path: Path) -> int | None:
    return stat.S_IMODE(path.stat().st_mode) if path.exists() else None


async def test_what_a_killed_run_left_is_replaced_and_the_mode_is_right(socket: Path) -> None:
    socket.parent.mkdir()
    os.mknod(socket)
    async with serving(socket, PAGES):
        assert mode(socket) == 0o660
    assert mode(socket) is None
