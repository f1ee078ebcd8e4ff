"""A spool in memory with the rules of the real one, for tests of delivery that care about delivery.

It enforces what the real one relies on: only claimed deliveries are marked, only claimed or sending ones are
recorded. Who takes a message is chosen by the functions that the real one asks, and quotas are counted as it counts
them. ``clock`` is moved by the test; :meth:`MemorySpool.advance` lets time pass and wakes who waits for something due.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from relay.address import fold
from relay.choice import waiting
from relay.choice.allowance import Allowance
from relay.choice.choose import Asked, Take, Wait
from relay.choice.desk import Desk
from relay.choice.offer import Offer
from relay.choice.quota import bucket_of
from relay.choice.rounds import for_good, spared
from relay.ids import new_id
from relay.model import OPEN_STATES, Event, Job, Message, Recipient, Result, State
from relay.spool import Trace

START = 1_800_000_000.0


class FakeClock:
    """Time that passes by hand; monotonic time runs with the machine's besides, because time limits are real here."""

    def __init__(self, now: float = START) -> None:
        self.now = now
        self.passed = 0.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return time.monotonic() + self.passed


@dataclass
class Row:
    """A delivery."""

    number: int
    message: Message
    recipient: str
    state: State = State.DUE
    next_attempt: float = 0.0
    attempts: int = 0
    doubts: int = 0
    provider: str = ""  # that has it in hand, or had it last; a doubtful one is tied to it
    tried: frozenset[str] = frozenset()
    reply: str = ""
    code: int = 0
    history: list[State] = field(default_factory=list)

    @property
    def tied_to(self) -> str:
        """The provider that it stays with, once it was in doubt."""
        return self.provider if self.doubts else ""


class MemorySpool:
    """See the module."""

    def __init__(self, clock: FakeClock, piece: int = 64 * 1024, inline: int = 64 * 1024) -> None:
        self.clock = clock
        self.rows: dict[int, Row] = {}
        self.bodies: dict[str, bytes] = {}
        self.events: list[Event] = []
        self.notices: list[tuple[Message, bytes]] = []
        self.deliver_notices = False
        self.claims = 0
        self.marks: list[list[int]] = []
        self.fail_with: BaseException | None = None
        self.used: dict[tuple[str, int], int] = {}  # (provider, bucket): recipients
        self._piece, self._inline = piece, inline
        self._changed = asyncio.Event()
        self.woken: list[Callable[[], None]] = []  # called when time was let pass, as a timer would be

    # --- for the test
    def add(self, body: bytes, recipients: Sequence[str] = ("bob@example.net",), **more: Any) -> Message:
        """An accepted message, due now."""
        number = new_id(self.clock.now)
        known: dict[str, Any] = {
            "id": number,
            "account": "anna",
            "sender": "anna@example.org",
            "recipients": tuple(recipients),
            "size": len(body),
            "received_at": self.clock.now,
            "message_id": f"<{number}@example.org>",
            "notify": "anna@example.org",
        }
        message = Message(**{**known, **more})
        self.bodies[message.id] = body
        for recipient in recipients:
            key = len(self.rows) + 1
            tried = spared(message.spares)
            self.rows[key] = Row(key, message, recipient, next_attempt=self.clock.now, tried=tried)
        self._tell()
        return message

    def of(self, message: Message) -> list[Row]:
        """Its deliveries."""
        return [row for row in self.rows.values() if row.message.id == message.id]

    def states(self, message: Message) -> list[State]:
        """Their states."""
        return [row.state for row in self.of(message)]

    def advance(self, seconds: float) -> None:
        """Lets time pass."""
        self.clock.now += seconds
        self.clock.passed += seconds
        for wake in self.woken:
            wake()
        self._tell()

    async def until(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        """Waits for the condition, looked at whenever something was recorded."""
        async with asyncio.timeout(seconds):
            while not condition():
                await self._changed.wait()

    async def settled(self, *messages: Message) -> None:
        """Waits until nothing of these is claimed, on its way, or due now."""
        await self.until(lambda: not any(self._busy(row) for one in messages for row in self.of(one)))

    async def at_rest(self, offer: Callable[[], Offer]) -> None:
        """Waits until nothing is in hand, and nothing due now that a provider takes: it would go on at once."""
        await self.until(lambda: not self._goes_on(offer()))

    def _goes_on(self, offer: Offer) -> bool:
        if any(row.state in (State.CLAIMED, State.SENDING) for row in self.rows.values()):
            return True
        desk = self._desk(offer)
        due = (desk.look(self._asked(message, rows)) for message in self._due() for rows in self._alike(message, 0.0))
        return any(isinstance(choice, Take) or (isinstance(choice, Wait) and choice.for_room) for choice in due)

    def _busy(self, row: Row) -> bool:
        due = row.state is State.DUE and row.next_attempt <= self.clock.now
        return due or row.state in (State.CLAIMED, State.SENDING)

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _move(self, row: Row, state: State, *allowed: State) -> None:
        assert row.state in allowed, f"{row.state} -> {state}"
        row.state = state
        row.history.append(state)

    # --- for delivery
    def poke(self) -> None:
        """Something opened: who waits looks again."""
        self._tell()

    async def claim(self, offer: Callable[[], Offer]) -> list[Job]:
        while not (jobs := self._claim(offer())):
            await self._changed.wait()
        self.claims += 1
        return jobs

    def _due(self) -> list[Message]:
        rows = [row for row in self.rows.values() if row.state is State.DUE and row.next_attempt <= self.clock.now]
        rows.sort(key=lambda row: row.next_attempt)
        return list({row.message.id: row.message for row in rows}.values())

    def _desk(self, offer: Offer) -> Desk:
        return Desk(offer, Allowance(offer.terms, self.clock.now, self._buckets, self._in_hand))

    def _buckets(self, provider: str, since: float) -> list[tuple[float, int]]:
        return [(at, number) for (name, at), number in self.used.items() if name == provider and at >= since]

    def _in_hand(self) -> dict[str, int]:
        hands = [row.provider for row in self.rows.values() if row.state in (State.CLAIMED, State.SENDING)]
        return {name: hands.count(name) for name in hands}

    def _claim(self, offer: Offer) -> list[Job]:
        desk, jobs = self._desk(offer), list[Job]()
        for message in self._due():
            parts, left = desk.share((self._asked(message, rows), rows) for rows in self._alike(message, 0.0))
            for part in parts:
                for row in part.recipients:
                    self._move(row, State.CLAIMED, State.DUE)
                    row.provider = part.provider
                jobs.append(self._job(part.recipients, part.provider))
            for choice, rows in left:
                if isinstance(choice, Wait) and rows[0].tried and waiting.round_over(choice, self.clock.now):
                    for row in rows:
                        row.tried, row.next_attempt = for_good(row.tried), self.clock.now + waiting.ROUND
        return jobs

    def _alike(self, message: Message, ahead: float) -> list[list[Row]]:
        """The message's recipients that are due so many seconds from now, those with the same past together."""
        found: dict[tuple[str, frozenset[str]], list[Row]] = {}
        for row in self.of(message):
            if row.state is State.DUE and row.next_attempt <= self.clock.now + ahead:
                found.setdefault((row.tied_to, row.tried), []).append(row)
        return list(found.values())

    def _asked(self, message: Message, rows: Sequence[Row]) -> Asked:
        sender = fold(message.sender)
        first = rows[0]
        return Asked(
            account=message.account,
            sender=sender,
            domain=sender.rpartition("@")[2],
            size=message.size,
            recipients=len(rows),
            tried=first.tried,
            tied_to=first.tied_to,
            key=message.id,
        )

    def _job(self, rows: Sequence[Row], provider: str) -> Job:
        message = rows[0].message
        body = self.bodies[message.id]
        inline = len(body) <= self._inline
        return Job(
            message=message._replace(recipients=()),
            recipients=tuple(
                Recipient(
                    delivery=row.number,
                    address=row.recipient,
                    attempts=row.attempts,
                    doubts=row.doubts,
                    tried=row.tried,
                )
                for row in rows
            ),
            body=body if inline else None,
            chunks=1 if inline else -(-len(body) // self._piece),
            tied_to=rows[0].tied_to,
            provider=provider,
        )

    async def claim_overdue(self, offer: Callable[[], Offer], before: float, limit: int) -> list[Job]:
        desk, jobs = self._desk(offer()), list[Job]()
        for message in dict.fromkeys(row.message.id for row in self.rows.values() if row.message.received_at < before):
            one = next(row.message for row in self.rows.values() if row.message.id == message)
            for alike in self._alike(one, waiting.AGAIN):
                choice = desk.look(self._asked(one, alike))
                if isinstance(choice, Take) or (isinstance(choice, Wait) and choice.for_room) or len(jobs) == limit:
                    continue
                for row in alike:
                    self._move(row, State.CLAIMED, State.DUE)
                    row.provider = row.tied_to
                jobs.append(self._job(alike, ""))
        return jobs

    async def usage(self, since: float) -> dict[str, list[tuple[float, int]]]:
        return {name: self._buckets(name, since) for name, _ in self.used}

    async def in_hand(self) -> dict[str, int]:
        return self._in_hand()

    async def mark(self, deliveries: Sequence[int], provider: str = "") -> None:
        await asyncio.sleep(0)
        if self.fail_with:
            raise self.fail_with
        self.marks.append(list(deliveries))
        for number in deliveries:
            self._move(self.rows[number], State.SENDING, State.CLAIMED)
            assert provider == self.rows[number].provider

    async def record(
        self,
        job: Job,
        results: Sequence[Result],
        events: Sequence[Event],
        notices: Sequence[tuple[Message, bytes, Sequence[Event]]] = (),
    ) -> None:
        await asyncio.sleep(0)
        if self.fail_with:
            raise self.fail_with
        assert [result.delivery for result in results] == [recipient.delivery for recipient in job.recipients]
        for result in results:
            row = self.rows[result.delivery]
            self._move(row, result.state, State.CLAIMED, State.SENDING)
            row.attempts, row.doubts, row.next_attempt = result.attempts, result.doubts, result.next_attempt
            row.reply, row.code, row.provider = result.reply, result.code, result.provider
            row.tried = frozenset(result.tried.split())
            if result.consumed:
                bucket = (result.provider, bucket_of(self.clock.now))
                self.used[bucket] = self.used.get(bucket, 0) + 1
        self.events += events
        for message, body, more in notices:
            self.notices.append((message, body))
            self.events += more
            if self.deliver_notices:
                facts = {"id": message.id, "sender": message.sender, "kind": message.kind, "spares": message.spares}
                self.add(body, message.recipients, **facts, notify="")
        self._tell()

    async def release(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            for recipient in job.recipients:
                self._move(self.rows[recipient.delivery], State.DUE, State.CLAIMED)
        self._tell()

    async def read(self, message_id: str) -> AsyncIterator[bytes]:
        body = self.bodies[message_id]
        for start in range(0, len(body), self._piece):
            await asyncio.sleep(0)
            yield body[start : start + self._piece]

    async def header(self, message_id: str) -> bytes:
        body = self.bodies[message_id]
        return body[: body.index(b"\r\n\r\n") + 4]

    async def trace(self, *, message_id: str = "") -> list[Trace]:
        one = next(row.message for row in self.rows.values() if row.message.id == message_id)
        events = tuple(event for event in self.events if event.message == message_id)
        return [Trace(message=one, ended_at=None, deliveries=(), events=events)]

    @property
    def open(self) -> list[Row]:
        """What has not ended."""
        return [row for row in self.rows.values() if row.state in OPEN_STATES]
