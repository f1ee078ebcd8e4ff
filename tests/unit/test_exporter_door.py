"""The door: who takes their time is put out, and who is gone is forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import gc

import pytest
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from exporter import door as site
from exporter.door import Door
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


async def hold(port: int, address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A request that never ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
    writer.write(b"GET / HTTP/1.1\r\nX-Slow: ")
    return reader, writer


async def ask(port: int, address: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
    writer.write(b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer[:12]


@pytest.mark.parametrize("crowd", [1, 4], ids=["one address", "four"])
@pytest.mark.parametrize("owner", ["127.0.0.9", "127.0.0.1"], ids=["from elsewhere", "from the same address"])
async def test_who_fills_all_connections_keeps_nobody_from_the_page(crowd: int, owner: str) -> None:
    door, port = Door(web.Application()), free_port()
    await door.open("127.0.0.1", port)
    try:
        held = [await hold(port, f"127.0.0.{1 + number % crowd}") for number in range(site.CONNECTIONS + 10)]
        assert await ask(port, owner) == b"HTTP/1.1 404"
        assert len(door._inside) <= site.CONNECTIONS
        for _, writer in held:
            writer.close()
    finally:
        await door.close()


async def test_who_waits_for_an_answer_is_not_sent_away_for_a_newcomer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site, "CONNECTIONS", 2)
    asked, done = asyncio.Event(), asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        asked.set()
        await done.wait()
        return web.Response(text="slow")

    application = web.Application()
    application.add_routes([web.get("/nothing", slow)])
    door, port = Door(application), free_port()
    await door.open("127.0.0.1", port)
    try:
        waiting = asyncio.create_task(ask(port, "127.0.0.1"))
        await asked.wait()
        held = [await hold(port, "127.0.0.1") for _ in range(5)]
        done.set()
        assert await waiting == b"HTTP/1.1 200"
        for _, writer in held:
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
