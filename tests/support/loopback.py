"""A peer on loopback for as long as an ``async with`` lasts; whom it still serves at the end is cut off."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

import trustme


class LoopbackServer:
    """What servers of the tests have in common: a free port, an authority, and an end that waits for nobody."""

    def __init__(self) -> None:
        self.authority = trustme.CA()
        self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def pem(self) -> str:
        """The authority to trust."""
        return self.authority.cert_pem.bytes().decode()

    def listening(self) -> dict[str, Any]:
        """Options of :func:`asyncio.start_server`."""
        raise NotImplementedError

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end. It is cancelled when the test is over."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, **self.listening())
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        await self.serve(reader, writer)
