"""Asks the programs on their Unix sockets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp

MOST = 32 * 1024 * 1024  # bytes of an answer: a queue of 10,000 rows has 5 MB
TIME = 10.0  # seconds for one answer, above what any collector grants


class AnswerError(Exception):
    """The program answered, but not with what was asked for; the text is a sentence."""


class Program:
    """One program, by its socket. Made inside a running event loop; one connection a question, as its server wants."""

    def __init__(self, name: str, socket: Path) -> None:
        self.name = name
        self._session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(socket), force_close=True),
            timeout=aiohttp.ClientTimeout(total=TIME),
            read_bufsize=256 * 1024,
        )

    async def close(self) -> None:
        await self._session.close()

    async def text(self, path: str, accept: str) -> str:
        """The body of ``GET path``. Raises :class:`AnswerError`, OSError or aiohttp.ClientError."""
        async with self._session.get(f"http://localhost{path}", headers={"Accept": accept}) as answer:
            body = await answer.content.read(-1) if (answer.content_length or 0) <= MOST else b""
            if answer.status != 200:
                raise AnswerError(f"The {self.name} answered {answer.status} to {path}.")
            return body.decode("utf-8", "replace")

    async def json(self, path: str, *, also: tuple[int, ...] = ()) -> Any:
        """The JSON value that ``GET path`` answers; the codes in ``also`` are good besides 200."""
        async with self._session.get(f"http://localhost{path}") as answer:
            if answer.status != 200 and answer.status not in also:
                raise AnswerError(f"The {self.name} answered {answer.status} to {path}.")
            if (answer.content_length or 0) > MOST:
                raise AnswerError(f"The {self.name}'s answer to {path} is too long.")
            try:
                return json.loads(await answer.read())
            except ValueError as error:
                raise AnswerError(f"The {self.name}'s answer to {path} is no JSON.") from error
