"""What callers want of the next commit: rows that are ready to be written, built without touching the database.

A :class:`Change` is atomic: all of it is in one commit or none of it. Building happens on the caller's side (the event
loop), so that the writer's thread does little but run statements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from relay import limits
from relay.choice.choose import Asked
from relay.choice.rounds import spared
from relay.model import Event, Job, Kind, Message, Result
from relay.spool import rows
from relay.spool.rows import Row
from relay.spool.schema import SHIFT

if TYPE_CHECKING:
    from relay.spool.store import Store


@dataclass(slots=True, eq=False, kw_only=True)
class Change:
    """One atomic piece of a group. Only what is needed is filled in."""

    messages: Sequence[Row] = ()
    chunks: Sequence[Row] = ()
    deliveries: Sequence[Row] = ()
    notices: Sequence[Row] = ()  # deliveries of notices
    events: Sequence[Row] = ()
    begun: Sequence[Row] = ()  # upload keys whose first chunk this is
    finished: Sequence[int] = ()  # upload keys whose message is here, or that are given up
    forgotten: Sequence[int] = ()  # upload keys whose chunks are to go
    marks: Sequence[tuple[str, Sequence[int]]] = ()  # (provider, deliveries) whose final dot is about to be written
    results: Sequence[Row] = ()
    used: Sequence[tuple[str, float, int]] = ()  # (provider, when, recipients) that count against its quotas
    touched: Sequence[int] = ()  # message keys that may have ended by the results
    released: Sequence[int] = ()
    work: Callable[[Store], Any] | None = None  # anything else, run inside the transaction; its value is the answer
    told: list[Event] | tuple[Event, ...] = ()  # what on_committed hears
    born: tuple[int, Asked, Message, int, bytes | None] | None = None  # arguments of rows.new_job but the provider
    size: int = 0  # bytes of body
    at: float = 0.0
    needs_room: bool = False  # refused first when the disk is full
    durable: bool = True  # must be synced before the answer
    committed: bool = False
    answer: Any = None
    error: Exception | None = None
    future: Any = None  # the asyncio.Future that waits for the answer, if any

    def tell(self) -> None:
        """Give the answer, or the error, to who waits for it."""
        if self.future is None or self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.answer)


class Numbers:
    """Gives out message keys and event numbers; one per spool, and the only source of both."""

    def __init__(self, next_key: int, generation: int) -> None:
        """``generation`` counts the opens of the file, so event numbers grow even if the machine's clock goes back."""
        self._keys = count(next_key)
        self._events = count(generation << 32)

    def key(self) -> int:
        """The next message key."""
        return next(self._keys)

    def event(self) -> int:
        """The next event number."""
        return next(self._events)

    def event_rows(self, events: Iterable[Event], key: int) -> list[Row]:
        """Rows of ``events``, all belonging to the message ``key``."""
        return [rows.event_row(key, next(self._events), event) for event in events]


def pieces(key: int, n: int, data: bytes) -> list[Row]:
    """Chunk rows of ``data`` for message ``key`` from chunk number ``n`` on; none if it is empty."""
    base = (key << SHIFT) + n
    if len(data) <= limits.CHUNK:
        return [(base, data)] if data else []
    return [(base + i, data[at : at + limits.CHUNK]) for i, at in enumerate(range(0, len(data), limits.CHUNK))]


def chunk(key: int, n: int, data: bytes) -> Change:
    """Keep one chunk of an upload; not durable by itself."""
    return Change(
        chunks=[((key << SHIFT) + n, data)],
        begun=[(key,)] if n == 0 else (),
        size=len(data),
        needs_room=True,
        durable=False,
    )


def add(
    numbers: Numbers,
    key: int,
    message: Message,
    last: bytes,
    events: Sequence[Event],
    *,
    written: int = 0,
    size: int = 0,
) -> Change:
    """Accept ``message``: its last bytes, its row, its deliveries, its events.

    ``written`` chunks of together ``size`` bytes came before. Raises ``ValueError`` when text cannot be stored or
    nobody receives it.
    """
    if not 0 < len(message.recipients) <= limits.RECIPIENTS_MAX:
        raise ValueError(f"a message has 1 to {limits.RECIPIENTS_MAX} recipients, not {len(message.recipients)}")
    chunks = pieces(key, written, last)
    size, n = size + len(last), written + len(chunks)
    asked = rows.asked_of(message, size)
    inline = last if written == 0 and n <= 1 and size <= limits.INLINE else None
    return Change(
        messages=[rows.message_row(key, message, size, n)],
        chunks=chunks,
        deliveries=rows.delivery_rows(key, message, asked.domain),
        events=numbers.event_rows(events, key),
        finished=[key] if written else (),
        told=list(events),
        born=(key, asked, message, n, inline),
        size=len(last),
        at=message.received_at,
        needs_room=True,
    )


def forget(key: int) -> Change:
    """Give up the upload ``key``."""
    return Change(finished=[key], forgotten=[key], durable=False)


def mark(deliveries: Sequence[int], provider: str) -> Change:
    """The final dot for these deliveries is about to be written to ``provider``."""
    return Change(marks=[(provider, deliveries)])


def release(jobs: Sequence[Job]) -> Change:
    """Give claimed deliveries back as they were."""
    return Change(released=[one.delivery for job in jobs for one in job.recipients], durable=False)


def record(
    numbers: Numbers,
    job: Job,
    results: Sequence[Result],
    events: Sequence[Event],
    notices: Sequence[tuple[Message, bytes, Sequence[Event]]],
    at: float,
) -> Change:
    """Outcomes of one attempt, and the notices about them, in one piece. What a notice's ``events`` say of the message
    that it told of goes into that one's story.
    """
    key, own, others = job.recipients[0].delivery >> SHIFT, events, list[Event]()
    if job.message.kind is Kind.NOTICE:
        own = [event for event in events if event.message == job.message.id]
        others = [event for event in events if event.message != job.message.id]
    change = Change(
        results=[rows.result_row(result, at) for result in results],
        used=[(result.provider, at, 1) for result in results if result.consumed],
        touched=[key],
        events=numbers.event_rows(own, key),
        told=list(events),
        at=at,
        work=write_by_id(numbers, others) if others else None,
    )
    return with_notices(numbers, change, key, notices) if notices else change


def write_by_id(numbers: Numbers, events: Sequence[Event]) -> Callable[[Store], None]:
    """``Change.work`` that puts ``events`` into the stories of the messages they name; of one that was forgotten by
    now, into none.
    """

    def work(store: Store) -> None:
        for message in dict.fromkeys(event.message for event in events):
            found: list[Any] = store.connection.execute("SELECT key FROM message WHERE id = ?", (message,)).fetchall()
            own = [event for event in events if event.message == message]
            store.write_events(store.connection, numbers.event_rows(own, found[0][0] if found else 0))

    return work


def with_notices(
    numbers: Numbers, change: Change, key: int, notices: Sequence[tuple[Message, bytes, Sequence[Event]]]
) -> Change:
    """``change`` with whole new messages riding along; events of theirs that name another message belong to ``key``."""
    change.messages, change.chunks, change.notices = [], [], []
    change.events, change.told = list(change.events), list(change.told)
    for message, body, events in notices:
        own = [event for event in events if event.message == message.id]
        one = add(numbers, numbers.key(), message, body, own)
        tried = rows.tried_text(spared(message.spares))
        change.messages += one.messages
        change.chunks += one.chunks
        change.notices += [(*row, tried) for row in one.deliveries]
        change.events += one.events
        change.events += numbers.event_rows([event for event in events if event.message != message.id], key)
        change.told += events
        change.size += one.size
    return change


def parts(changes: list[Change]) -> list[list[Change]]:
    """How a group that failed is tried again: what needs no room together and first, the rest each by itself."""
    modest = [change for change in changes if not change.needs_room]
    needy = [change for change in changes if change.needs_room]
    if modest and needy:
        return [modest, *([change] for change in needy)]
    return [[change] for change in changes]
