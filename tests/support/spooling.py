"""Messages, events and a spool for tests of the spool."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relay.choice.offer import Offer, Terms
from relay.choice.routes import Routes
from relay.ids import new_id
from relay.model import Event, EventKind, Job, Kind, Message, Result, State
from relay.spool import Spool
from relay.spool.changes import Change
from relay.spool.store import Store

NOW = 1_800_000_000.0
BODY = b"Subject: hello\r\n\r\nhello\r\n"


class SetClock:
    """A clock that stands until it is set."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


def a_message(
    account: str = "anna", to: Sequence[str] = ("someone@example.net",), at: float = NOW, kind: Kind = Kind.MAIL
) -> Message:
    """A message nobody has seen before."""
    name = new_id(at)
    return Message(
        id=name,
        account=account,
        sender=f"{account}@example.org",
        recipients=tuple(to),
        size=0,
        received_at=at,
        message_id=f"<{name}@example.org>",
        kind=kind,
        notify=f"{account}@example.org",
    )


def accepted(message: Message) -> Event:
    """The event of its acceptance."""
    return Event(kind=EventKind.ACCEPTED, at=message.received_at, message=message.id, account=message.account)


def results(job: Job, state: State, *, provider: str = "sink", at: float = 0.0, doubts: int = 0) -> list[Result]:
    """The same result for all of a job's recipients."""
    return [
        Result(
            delivery=one.delivery,
            state=state,
            provider=provider,
            reply="so it was",
            code=250,
            next_attempt=at,
            attempts=one.attempts + 1,
            doubts=one.doubts + doubts,
        )
        for one in job.recipients
    ]


def offer(limit: int = 5, provider: str = "sink") -> Offer:
    """One provider that takes everything and has room for so many jobs."""
    return Offer({provider: Terms(provider)}, Routes((provider,)), {provider: limit})


def offering(limit: int = 5, provider: str = "sink") -> Callable[[], Offer]:
    """:func:`offer` as a claim wants it."""
    made = offer(limit, provider)
    return lambda: made


def seize(store: Store, given: Offer | int, now: float = NOW, *some: Change) -> list[Job]:
    """Write ``some`` and claim by an offer, which may be a better one than that of the last claim."""
    if store.claims.waits:
        store.look()
    return store.apply(list(some), now, offer(given) if isinstance(given, int) else given)


async def eventually(probe: Callable[[], object], seconds: float = 20.0) -> None:
    """Let the loop run until ``probe`` holds."""
    async with asyncio.timeout(seconds):
        while not probe():  # noqa: ASYNC110 - what is waited for happens in another thread
            await asyncio.sleep(0.001)


def ids(job: Job) -> list[int]:
    """Its deliveries."""
    return [one.delivery for one in job.recipients]


@dataclass
class Opened:
    """An open spool and what it told."""

    spool: Spool
    clock: SetClock
    events: list[Event] = field(default_factory=list)
    fatal: list[str] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)

    async def add(self, message: Message | None = None, body: bytes = BODY) -> Message:
        """Accept a message in one piece."""
        message = message or a_message(at=self.clock.now)
        await self.spool.upload(message.id).commit(message, body, [accepted(message)])
        return message


@asynccontextmanager
async def opened(folder: Path, clock: SetClock | None = None, **options: Any) -> AsyncIterator[Opened]:
    """A spool without ballast, closed at the end."""
    clock = clock or SetClock()
    events: list[Event] = []
    fatal: list[str] = []
    groups: list[int] = []
    options.setdefault("ballast", 0)
    spool = await Spool.open(
        folder,
        clock=clock,
        on_committed=events.extend,
        on_fatal=fatal.append,
        on_group=lambda size, seconds: groups.append(size),
        **options,
    )
    try:
        yield Opened(spool, clock, events, fatal, groups)
    finally:
        await spool.close()
