"""A dispatcher at work in a test, between a spool in memory and a scripted provider."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from relay.delivery.connection import Times
from relay.delivery.dispatcher import Dispatcher
from relay.delivery.pause import Pause
from relay.providers.presets import PRESETS
from relay.providers.provider import Provider, client_context
from support.memory_spool import MemorySpool
from support.scripted_provider import ScriptedProvider

SHORT = Times(connect=5.0, reply=5.0, block=5.0, final=5.0, quit=1.0)
BODY = (
    b"Received: from here\r\nFrom: anna@example.org\r\nSubject: A question\r\n\r\nHello Bob.\r\n.\r\n..two\r\nEnd\r\n"
)


class FakeJournal:
    """Counts and remembers."""

    def __init__(self) -> None:
        self.attempts: Counter[str] = Counter()
        self.said: list[tuple[str, dict[str, Any]]] = []

    def attempt(self, provider: str, outcome: str, seconds: float) -> None:
        self.attempts[outcome] += 1

    def system(self, event: str, **fields: Any) -> None:
        self.said.append((event, fields))


def provider_for(peer: ScriptedProvider, **more: Any) -> Provider:
    """The settings that reach ``peer``."""
    user, password = next(iter((peer.users or {"": ""}).items()))
    known: dict[str, Any] = {
        "name": "scripted",
        "host": "127.0.0.1",
        "ports": ((peer.port, peer.tls),),
        "username": user,
        "password": password,
        "tls_context": None if peer.tls == "none" else client_context(peer.pem()),
        "connections": 1,
        "rules": PRESETS["generic"].rules,
    }
    return Provider(**{**known, **more})


@contextlib.asynccontextmanager
async def delivering(
    spool: MemorySpool, provider: Provider, *, times: Times = SHORT, pause: Pause | None = None, **more: Any
) -> AsyncIterator[Dispatcher]:
    """Runs a dispatcher for the length of the block, and drains it at the end."""
    dispatcher = Dispatcher(
        provider,
        spool=spool,
        clock=spool.clock,
        hostname="mail.example.org",
        postmaster="postmaster@example.org",
        times=times,
        pause=pause or Pause(first=0.01, most=0.05),
        **{"journal": FakeJournal(), "jitter": lambda: 0.5, **more},
    )
    stop = asyncio.Event()
    running = asyncio.ensure_future(dispatcher.run(stop))
    try:
        yield dispatcher
    finally:
        stop.set()
        try:
            await running
        finally:
            await dispatcher.drain(1.0)
