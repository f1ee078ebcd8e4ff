"""The ports and the socket on which the page is asked for: who is let in, and for how long.

A crowd costs itself only. Each network (:func:`exporter.guard.network_of`) has a limit of connections, and so have all
together. A newcomer beyond either takes the place of one that waits for nothing of ours: it has not asked yet, or was
answered already; of those the one that has gone longest without an answer, of the network that has most.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import cast

from aiohttp import web

from .guard import network_of

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Server": "ownpost",
}
CONNECTIONS = 100  # at once on one port
CONNECTIONS_OF_NETWORK = 30  # a browser opens six; behind a proxy or Docker's gateway all have one address
LIFE = 30.0  # seconds between two looks: a connection that is found twice is ended, whatever it does
IDLE = 15.0
REQUEST_LINE, FIELD = 4_096, 8_190  # bytes

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Door:
    """One application on one port."""

    def __init__(self, application: web.Application) -> None:
        self._runner = web.AppRunner(application, shutdown_timeout=2.0)
        self._server: asyncio.Server | None = None
        self._inside: dict[Visitor, str] = {}  # the network of each; who was answered last stands last
        self._busy: set[object] = set()  # those whose request is being answered
        self._found: set[Visitor] = set()  # connections, when it was last looked
        self._next_look: asyncio.TimerHandle | None = None

    async def open(self, address: str, port: int) -> None:
        """Raises OSError if the port cannot be had. An IPv6 wildcard means IPv4 as well."""
        await self._set_up()
        wildcard = ipaddress.ip_address(address).is_unspecified and ":" in address
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Entrance(self), None if wildcard else address, port)

    async def open_socket(self, path: str) -> None:
        """Raises OSError if it cannot be bound."""
        await self._set_up()
        self._server = await asyncio.get_running_loop().create_unix_server(lambda: _Entrance(self), path)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._next_look is not None:
            self._next_look.cancel()
        await self._runner.cleanup()

    def let_in(self, peer: str) -> Visitor | None:
        """Who speaks HTTP with a newcomer from ``peer``; ``None`` if there is no room."""
        server, key = self._runner.server, network_of(peer)
        own = sum(one == key for one in self._inside.values())
        if server is None or (own >= CONNECTIONS_OF_NETWORK and not self._make_room(key)):
            return None
        if len(self._inside) >= CONNECTIONS and not self._make_room(*self._fullest()):
            return None
        visitor = Visitor(self, server)
        self._inside[visitor] = key
        return visitor

    def _fullest(self) -> list[str]:
        """The networks, first the one that has most connections."""
        return [key for key, _ in Counter(self._inside.values()).most_common()]

    def _make_room(self, *networks: str) -> bool:
        """Ends a connection of the first of ``networks`` that has one to spare."""
        for key in networks:
            for visitor, one in self._inside.items():
                if one == key and visitor not in self._busy:
                    self.gone(visitor)
                    visitor.hang_up()
                    return True
        return False

    def gone(self, visitor: Visitor) -> None:
        """It holds no place any more."""
        self._inside.pop(visitor, None)

    async def _answer(self, request: web.BaseRequest, handler: Handler) -> web.StreamResponse:
        """What ``handler`` answers; whoever waits for that is not sent away."""
        visitor = request.protocol
        self._busy.add(visitor)
        try:
            return await handler(request)
        finally:
            self._busy.discard(visitor)
            if isinstance(visitor, Visitor) and visitor in self._inside:
                self._inside[visitor] = self._inside.pop(visitor)

    async def _set_up(self) -> None:
        await self._runner.setup()
        if server := self._runner.server:
            handler = server.request_handler
            server.request_handler = lambda request: self._answer(request, handler)
        self._look()

    def _look(self) -> None:
        """One look at all of them: a timer for each would keep thousands that are gone, if they come fast."""
        for visitor in self._found & self._inside.keys():
            visitor.hang_up()
        self._found = set(self._inside)
        self._next_look = asyncio.get_running_loop().call_later(LIFE, self._look)


class Visitor(web.RequestHandler):
    """One connection. What aiohttp answers by itself, to what is no HTTP, becomes an answer like all others."""

    __slots__ = ("_door",)

    def __init__(self, door: Door, server: web.Server) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type] # as AppRunner takes it
            keepalive_timeout=IDLE,
            max_line_size=REQUEST_LINE,
            max_field_size=FIELD,
        )
        self._door = door

    def connection_lost(self, exc: BaseException | None) -> None:
        self._door.gone(self)
        super().connection_lost(exc)

    def hang_up(self) -> None:
        """At once, whatever is under way."""
        if self.transport is not None:
            self.transport.abort()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Repeats nothing of what was sent; only mistakes of ours are logged."""
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            super().handle_error(request, status, exc, message)
        answer = web.Response(status=status, text=f"{status}: {HTTPStatus(status).phrase}\n", headers=HEADERS)
        answer.force_close()
        return answer


class _Entrance(asyncio.Protocol):
    """A connection until it is known where it comes from."""

    def __init__(self, door: Door) -> None:
        self._door = door

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        visitor = self._door.let_in(peer[0] if isinstance(peer, tuple) else "")
        if visitor is None:
            transport.close()
        else:
            transport.set_protocol(visitor)
            visitor.connection_made(transport)
