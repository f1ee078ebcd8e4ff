"""Asking a program that does not answer as it should."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from exporter import client
from exporter.client import AnswerError, Program

HEAD = b"HTTP/1.1 200 OK\r\n"


class Server:
    """Answers every question with ``answer``; an ``endless`` one never stops repeating its body."""

    def __init__(self) -> None:
        self.answer, self.endless = b"", False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self.answer)
            while self.endless:
                writer.write(b"400\r\n" + b" " * 1024 + b"\r\n")
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server = Server()
    listening = await asyncio.start_unix_server(server.serve, tmp_path / "socket")
    yield server
    listening.close()


@pytest.fixture
async def program(tmp_path: Path) -> AsyncIterator[Program]:
    program = Program("relay", tmp_path / "socket")
    yield program
    await program.close()


async def test_an_answer_without_end_is_cut_off(
    server: Server, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "MOST", 100_000)
    server.answer, server.endless = HEAD + b"Transfer-Encoding: chunked\r\n\r\n", True
    async with asyncio.timeout(5):
        with pytest.raises(AnswerError, match="too long"):
            await program.json("/queue")
        with pytest.raises(AnswerError, match="too long"):
            await program.text("/metrics", "*/*")


@pytest.mark.parametrize("body", [b'{"oldest": NaN}', b'{"oldest": -Infinity}', b'{"oldest": 1e999}', b"{", b"\xff"])
async def test_what_is_no_json_or_no_number_is_refused(server: Server, program: Program, body: bytes) -> None:
    server.answer = HEAD + b"Connection: close\r\n\r\n" + body
    with pytest.raises(AnswerError, match="is no JSON"):
        await program.json("/status.json")


async def test_a_good_answer(server: Server, program: Program) -> None:
    server.answer = HEAD + b'Connection: close\r\n\r\n{"oldest": 1.5}'
    assert await program.json("/status.json") == {"oldest": 1.5}
