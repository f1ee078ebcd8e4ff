"""A dispatcher at work in a test, between a spool in memory and a scripted provider."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from relay.delivery.breaker import Breaker, Lengths
from relay.delivery.connection import Times
from relay.delivery.dispatcher import Dispatcher
from relay.delivery.outlook import Delay
from relay.providers.presets import PRESETS
from relay.providers.provider import Provider, client_context
from relay.spool import QueueEntry
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


@dataclass
class Outlook:
    """The dispatcher's part of a digest, as told by the test."""

    kinds: dict[str, Delay] = field(default_factory=dict)  # by sender domain
    said: str = ""

    async def look_at_quotas(self) -> None:
        pass

    def domains_in_trouble(self) -> frozenset[str]:
        return frozenset(domain for domain, kind in self.kinds.items() if kind is Delay.NOT_SET_UP)

    def delay_of(self, entry: QueueEntry) -> Delay:
        return self.kinds.get(entry.message.sender.rpartition("@")[2], Delay.ORDINARY)

    def waits(self, entry: QueueEntry) -> str:
        return self.said


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


def pausing(first: float = 0.01, most: float = 0.05) -> Callable[[], Breaker]:
    """Breakers whose pauses are so long, in real seconds."""
    lengths = Lengths(
        busy=first, busy_most=most, doubt_most=most, key=first, key_most=most, used_up=most, not_set_up=most
    )
    return lambda: Breaker(lengths)


async def at_rest(spool: MemorySpool, dispatcher: Dispatcher) -> None:
    """Waits until delivery has done all that it can do now."""
    await spool.at_rest(lambda: dispatcher._offers.current)


@contextlib.asynccontextmanager
async def delivering(
    spool: MemorySpool,
    *providers: Provider,
    times: Times = SHORT,
    breaker: Callable[[], Breaker] | None = None,
    **more: Any,
) -> AsyncIterator[Dispatcher]:
    """Runs a dispatcher for the length of the block, and drains it at the end."""
    dispatcher = Dispatcher(
        providers,
        spool=spool,
        clock=spool.clock,
        hostname="mail.example.org",
        postmaster="postmaster@example.org",
        times=times,
        breaker=breaker or pausing(),
        **{"journal": FakeJournal(), "jitter": lambda: 0.5, **more},
    )
    stop = asyncio.Event()
    running = asyncio.create_task(dispatcher.run(stop))
    spool.woken.append(dispatcher.look)
    try:
        yield dispatcher
    finally:
        spool.woken.remove(dispatcher.look)
        stop.set()
        try:
            await running
        finally:
            await dispatcher.drain(1.0)
