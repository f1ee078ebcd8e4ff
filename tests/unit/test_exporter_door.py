"""The door: who takes their time is put out, and who is gone is forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import gc

import pytest
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from exporter import web as site
from exporter.web import Door
from support.ports import free_port


async def test_one_that_only_holds_the_line_is_put_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "LIFE", 0.05)
    door, port = Door(web.Application()), free_port()
    await door.open("127.0.0.1", port)
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nX-Slow: ")
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.close()
    finally:
        await door.close()


async def test_those_who_are_gone_are_not_kept() -> None:
    door, port = Door(web.Application()), free_port()
    await door.open("127.0.0.1", port)
    try:
        for _ in range(50):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            await reader.read()
            writer.close()
            await writer.wait_closed()
        gc.collect()
        kept = [one for one in gc.get_objects() if isinstance(one, RequestHandler)]
        assert len(kept) < 10
    finally:
        await door.close()
