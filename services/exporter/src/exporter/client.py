"""Asks the programs on their Unix sockets."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import aiohttp

MOST = 32 * 1024 * 1024  # bytes of an answer: a queue of 10,000 rows has 5 MB
MOST_TEXT = 4 * 1024 * 1024  # of metrics, which a parser of ours reads: the relay's have 100 KB
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
        return (await self._get(path, {"Accept": accept}, MOST_TEXT)).decode("utf-8", "replace")

    async def json(self, path: str) -> Any:
        """The JSON value that ``GET path`` answers; raises as :meth:`text`. All its numbers are finite."""
        try:
            return json.loads(await self._get(path, {}), parse_float=_finite, parse_constant=_finite)
        except (ValueError, RecursionError) as error:
            raise AnswerError(f"The {self.name}'s answer to {path} is no JSON.") from error

    async def _get(self, path: str, headers: dict[str, str], most: int = MOST) -> bytes:
        """No more than ``most`` is ever held, whatever length was announced: an answer may have no end."""
        async with self._session.get(f"http://localhost{path}", headers=headers) as answer:
            if answer.status != 200:
                raise AnswerError(f"The {self.name} answered {answer.status} to {path}.")
            body = bytearray()
            async for part in answer.content.iter_any():
                body += part
                if len(body) > most:
                    raise AnswerError(f"The {self.name}'s answer to {path} is too long.")
            return bytes(body)


def _finite(text: str) -> float:
    """JSON knows neither NaN nor infinity, and nothing here could reckon with them."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number
