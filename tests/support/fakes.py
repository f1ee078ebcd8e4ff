"""Stand-ins for what a session is given: a spool in memory, a journal that remembers, logins by table."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from relay.accounts import Account, Accounts
from relay.model import Event, Message, State
from relay.spool import SpoolFailed, SpoolFull


@dataclass
class Kept:
    """A message that a fake spool has committed."""

    message: Message
    data: bytes
    events: tuple[Event, ...]


@dataclass
class FakeReservation:
    spool: FakeSpool
    size: int

    def release(self) -> None:
        self.spool.reserved -= self.size
        self.size = 0


@dataclass
class FakeUpload:
    spool: FakeSpool
    message_id: str
    chunks: list[bytes] = field(default_factory=list)
    ended: bool = False

    async def write(self, data: bytes) -> None:
        assert not self.ended
        self.spool.trouble("write")
        self.chunks.append(data)
        self.spool.largest = max(self.spool.largest, len(data))

    async def commit(self, message: Message, last: bytes, events: Sequence[Event]) -> None:
        assert not self.ended
        assert message.id == self.message_id
        await self.spool.gate.wait()
        self.spool.trouble("commit")
        self.ended = True
        self.spool.kept.append(Kept(message, b"".join([*self.chunks, last]), tuple(events)))
        self.spool.arrived.set()

    def abort(self) -> None:
        if not self.ended:
            self.ended = True
            self.spool.aborted += 1


class FakeSpool:
    """``full`` and ``failing`` name the call that goes wrong: "reserve", "write" or "commit"."""

    def __init__(self, *, full: str = "", failing: str = "") -> None:
        self.full, self.failing = full, failing
        self.kept: list[Kept] = []
        self.reserved = self.aborted = self.largest = 0
        self.gate = asyncio.Event()  # cleared: commits wait
        self.gate.set()
        self.arrived = asyncio.Event()  # a message was kept
        self.states: dict[str, set[State]] = {}  # of its deliveries, by id; they are due unless this says otherwise

    def trouble(self, call: str) -> None:
        if self.full == call:
            raise SpoolFull("There is no room.")
        if self.failing == call:
            raise SpoolFailed("The disk is broken.")

    def reserve(self, size: int) -> FakeReservation:
        self.trouble("reserve")
        self.reserved += size
        return FakeReservation(self, size)

    def upload(self, message_id: str) -> FakeUpload:
        return FakeUpload(self, message_id)

    async def states_of(self, message_id: str) -> set[State]:
        await asyncio.sleep(0)
        return self.states.get(message_id, {State.DUE})


class FakeJournal:
    """Remembers each call as (name, positional arguments, keywords)."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Any:
        def remember(*args: Any, **fields: Any) -> None:
            self.calls.append((name, args, fields))

        return remember

    def told(self, name: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        """The arguments of all calls of that name."""
        return [(args, fields) for call, args, fields in self.calls if call == name]


@dataclass
class FakeAccountsFile:
    current: Accounts


@dataclass
class FakePasswords:
    """``table``: login name to password; the account is looked up in ``file``."""

    file: FakeAccountsFile
    table: dict[str, str]

    async def check(self, login: bytes, password: bytes, peer: str, judging: Callable[[], None]) -> Account | None:
        await asyncio.sleep(0)
        judging()
        name = login.decode("utf-8", "replace")
        if self.table.get(name) != password.decode("utf-8", "replace"):
            return None
        return self.file.current.find(name)
