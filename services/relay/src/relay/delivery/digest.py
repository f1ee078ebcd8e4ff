"""Tells senders of delays: one letter per sender and day, on everything that has waited for more than four hours.

What waits for nothing but a quota is not told: its end is known and nobody need act. What waits because no provider
knows its sender is told within minutes, once a day for each such domain: there waiting does not help. What the relay
has put aside (it may have been delivered, or the relay died with it in hand) is told like the rest: it ends only when
somebody decides.

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
from relay.delivery.outlook import Delay
from relay.model import Event, EventKind, Message, State
from relay.spool import QueueEntry, SpoolFull

PERIOD = 5 * limits.MINUTE  # how often to look
SOON = 1 * limits.MINUTE  # the least age of what is told early: a provider may just be on its way to know the domain

PUT_ASIDE = "waits until whoever runs the relay sends it again or drops it"


class DelayedMail(Protocol):
    """What is needed of the spool."""

    async def delayed(self, before: float) -> list[QueueEntry]: ...

    async def delay_noticed(
        self,
        deliveries: Sequence[int],
        notice: tuple[Message, bytes, Sequence[Event]] | None = None,
        events: Sequence[Event] = (),
    ) -> None: ...


class Delivery(Protocol):
    """What is needed of the dispatcher."""

    async def look_at_quotas(self) -> None: ...

    def domains_in_trouble(self) -> frozenset[str]: ...

    def delay_of(self, entry: QueueEntry) -> Delay: ...

    def waits(self, entry: QueueEntry) -> str: ...


class Digests:
    """Looks every few minutes, and writes to those who are due a letter."""

    def __init__(self, spool: DelayedMail, clock: Clock, hostname: str, postmaster: str, delivery: Delivery) -> None:
        self._spool, self._clock, self._delivery = spool, clock, delivery
        self._post = notice.Post(hostname, postmaster)
        self._written: dict[tuple[str, str], float] = {}  # (who, domain that is not set up or "") -> when, of a day

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
        self._written = {about: at for about, at in self._written.items() if abs(now - at) < limits.DAY}
        await self._delivery.look_at_quotas()
        early = self._delivery.domains_in_trouble()
        late: dict[tuple[str, str], list[QueueEntry]] = {}
        for entry in await self._spool.delayed(now - (SOON if early else limits.DELAY_NOTICE_AFTER)):
            about = self._about(entry, now, early) if notice.wanted(entry.message) else None
            if about is not None and about not in self._written:
                late.setdefault(about, []).append(entry)
        for about, entries in late.items():
            await self._write(about, entries, now)
        return len(late)

    def _about(self, entry: QueueEntry, now: float, early: frozenset[str]) -> tuple[str, str] | None:
        """Which letter the delivery belongs into; None if it is not to be told of now."""
        old = entry.message.received_at + entry.held < now - limits.DELAY_NOTICE_AFTER
        domain = entry.message.sender.rpartition("@")[2].lower()
        if not old and domain not in early:
            return None
        if entry.state is State.HELD:
            return (entry.message.notify, "") if old else None
        match self._delivery.delay_of(entry):
            case Delay.NOT_SET_UP:
                return entry.message.notify, domain
            case Delay.ORDINARY if old:
                return entry.message.notify, ""
            case _:
                return None

    async def _write(self, about: tuple[str, str], entries: list[QueueEntry], now: float) -> None:
        account, who = entries[0].message.account, about[0]
        delays = [
            notice.Delay(
                one.message.id,
                one.recipient,
                one.message.received_at,
                one.reply,
                one.next_attempt,
                PUT_ASIDE if one.state is State.HELD else self._delivery.waits(one),
                _fate(one),
            )
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
        self._written[about] = now


def _fate(entry: QueueEntry) -> notice.Fate:
    if entry.state is State.HELD:
        return notice.Fate.ASIDE if entry.doubts else notice.Fate.HELD
    return notice.Fate.UNSURE if entry.doubts else notice.Fate.WAITS
