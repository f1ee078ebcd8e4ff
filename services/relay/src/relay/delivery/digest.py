"""Tells senders of delays: one letter per sender and day, on everything that has waited for more than four hours.

The letter and the note that its deliveries have been told of are one commit, so a crash neither repeats nor loses it.
"One a day" is remembered by the process; after a restart a sender may get a second letter that day, about other
messages.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Protocol

from relay import limits
from relay.clock import Clock
from relay.delivery import notice
from relay.model import Event, EventKind, Message
from relay.spool import QueueEntry, SpoolFull

PERIOD = 5 * limits.MINUTE  # how often to look


class DelayedMail(Protocol):
    """What is needed of the spool."""

    async def delayed(self, before: float) -> list[QueueEntry]: ...

    async def delay_noticed(
        self,
        deliveries: Sequence[int],
        notice: tuple[Message, bytes, Sequence[Event]] | None = None,
        events: Sequence[Event] = (),
    ) -> None: ...


class Digests:
    """Looks every few minutes, and writes to those who are due a letter."""

    def __init__(self, spool: DelayedMail, clock: Clock, hostname: str, postmaster: str) -> None:
        self._spool = spool
        self._clock = clock
        self._post = notice.Post(hostname, postmaster)
        self._written: dict[str, float] = {}  # who -> when, within the last day

    async def run(self, stop: asyncio.Event, period: float = PERIOD) -> None:
        """Works until ``stop`` is set. The spool's failures leave as exceptions; a full disk is none."""
        while not stop.is_set():
            with contextlib.suppress(SpoolFull):  # nothing was noted: the letters are written once there is room
                await self.look()
            try:
                await asyncio.wait_for(stop.wait(), period)
            except TimeoutError:
                pass  # time to look again

    async def look(self) -> int:
        """Looks once; returns how many letters were queued."""
        now = self._clock.time()
        self._written = {who: at for who, at in self._written.items() if abs(now - at) < limits.DAY}
        late: dict[str, list[QueueEntry]] = {}
        for entry in await self._spool.delayed(now - limits.DELAY_NOTICE_AFTER):
            if notice.wanted(entry.message) and entry.message.notify not in self._written:
                late.setdefault(entry.message.notify, []).append(entry)
        for who, entries in late.items():
            await self._write(who, entries, now)
        return len(late)

    async def _write(self, who: str, entries: list[QueueEntry], now: float) -> None:
        account = entries[0].message.account
        delays = [
            notice.Delay(one.message.id, one.recipient, one.message.received_at, one.reply, one.next_attempt)
            for one in entries
        ]
        message, content = notice.digest(account, who, delays, self._post, now)
        queued = Event(
            kind=EventKind.DELAY_NOTICE_QUEUED,
            at=now,
            message=message.id,
            account=account,
            recipient=who,
            detail={"deliveries": len(entries)},
        )
        await self._spool.delay_noticed([one.delivery for one in entries], (message, content, [queued]))
        self._written[who] = now
