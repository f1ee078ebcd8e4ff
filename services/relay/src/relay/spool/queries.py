"""Reading the spool without disturbing the writer: a read-only connection that sees the last commit.

Synchronous; ``spool.py`` runs it in a thread of its own. Every query is short, because a reader keeps the log from
being started anew.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import apsw

from relay.choice.quota import BUCKET
from relay.model import Event, Kind, Message, State
from relay.spool import lately, rows, stats
from relay.spool.claims import IN_HAND
from relay.spool.schema import FAILED, MASK, SHIFT, first, last
from relay.spool.stats import Stats


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueEntry:
    """One delivery as the queue shows it."""

    delivery: int
    message: Message  # its ``recipients`` is empty: see ``recipient``
    recipient: str
    state: State
    next_attempt: float
    changed_at: float  # when it came into this state
    attempts: int
    doubts: int
    provider: str  # of the last attempt
    code: int
    reply: str
    held: float  # seconds that do not count as its age: it was held, or had failed and was tried again
    delay_noticed: bool
    acknowledged: bool
    tried: frozenset[str] = frozenset()  # providers that this round has been offered to
    trial: bool = False  # accepted to be written to a file, not to be sent

    @property
    def tied_to(self) -> str:
        """The provider that it stays with, because it may have it already."""
        return self.provider if self.doubts else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """The story of one message."""

    message: Message  # with all its recipients
    ended_at: float | None
    deliveries: tuple[QueueEntry, ...]
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What became of one message so far, in a few words."""

    message: Message  # with its first recipients only: see ``recipients``
    ended_at: float | None
    recipients: int
    states: dict[State, int]  # deliveries by state; states that none is in are left out


_ENTRY: Final = (
    "d.id, d.recipient, d.state, d.next_attempt, d.changed_at, d.attempts, d.doubts, d.provider, d.code, d.reply, "
    "d.held, d.delay_noticed, d.acknowledged, d.tried, m.trial"
)
_MESSAGE: Final = rows.MESSAGE_OF_M
_OF: Final = f"d.id BETWEEN m.key << {SHIFT} AND (m.key << {SHIFT} | {MASK})"
_OPEN: Final = f"""
SELECT {_MESSAGE}, {_ENTRY} FROM message AS m INDEXED BY message_open CROSS JOIN delivery AS d ON {_OF}
WHERE m.ended_at IS NULL AND +d.state IN ('due', 'claimed', 'sending', 'held') ORDER BY m.received_at, d.id LIMIT ?1
"""
_FAILED: Final = f"""
SELECT {_MESSAGE}, {_ENTRY} FROM delivery AS d INDEXED BY delivery_failed CROSS JOIN message AS m ON m.key = d.id >>
{SHIFT} WHERE d.state IN {FAILED} AND d.acknowledged = 0 ORDER BY m.received_at, d.id LIMIT ?1
"""
_DELAYED: Final = f"""
SELECT {_MESSAGE}, {_ENTRY} FROM message AS m INDEXED BY message_open CROSS JOIN delivery AS d ON {_OF}
WHERE m.ended_at IS NULL AND m.received_at < ?1 AND m.received_at + d.held < ?1 AND m.kind = '{Kind.MAIL.value}'
AND m.trial = ?2 AND (+d.state IN ('due', 'claimed', 'sending') OR (+d.state = 'held' AND {stats.PUT_ASIDE}))
AND d.delay_noticed = 0
ORDER BY m.received_at, d.id
"""
_BY_RECIPIENT: Final = f"""
SELECT DISTINCT id >> {SHIFT} FROM delivery WHERE recipient = ?1 COLLATE NOCASE ORDER BY id DESC LIMIT ?2
"""
_STATES_OF: Final = f"SELECT d.state FROM message AS m CROSS JOIN delivery AS d ON {_OF} WHERE m.id = ?1"
_DELIVERIES: Final = f"""
SELECT {_MESSAGE}, {_ENTRY} FROM message AS m CROSS JOIN delivery AS d ON {_OF} WHERE m.key = ?1 ORDER BY d.id
"""
_LATEST: Final = f"SELECT {rows.MESSAGE_COLUMNS}, ended_at FROM message ORDER BY key DESC LIMIT ?1"
_FIRST_RECIPIENTS: Final = "SELECT recipient FROM delivery WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT 3"
_STATES: Final = "SELECT state, count(*) FROM delivery WHERE id BETWEEN ?1 AND ?2 GROUP BY state"
_HELD_BY_MODE_OF: Final = f"""
{stats.HELD_BY_MODE}
AND iif(?1 = '', d.account = ?2, (SELECT m.id FROM message AS m WHERE m.key = d.id >> {SHIFT}) = ?1)
"""
_USAGE: Final = "SELECT provider, bucket, used FROM quota WHERE bucket > ?1 ORDER BY provider, bucket"


class Queries:
    """One read-only connection and the questions it answers."""

    def __init__(self, path: Path, vfs: str | None = None) -> None:
        self._connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY, vfs=vfs, statementcachesize=64)
        self._connection.set_busy_timeout(10_000)
        self._connection.pragma("cache_size", -2048)
        self._run: Callable[..., Any] = self._connection.execute

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def key(self, message_id: str) -> tuple[int, int] | None:
        """(key, number of chunks) of a message; None if there is none."""
        found = self._run("SELECT key, chunks FROM message WHERE id = ?", (message_id,)).fetchall()
        return (found[0][0], found[0][1]) if found else None

    def chunk(self, key: int, n: int) -> bytes | None:
        """Chunk ``n`` of a message; None if it has no such chunk (any more)."""
        found = self._run("SELECT data FROM chunk WHERE id = ?", ((key << SHIFT) + n,)).fetchall()
        return found[0][0] if found else None

    def queue(self, limit: int) -> list[QueueEntry]:
        """Every delivery that is open, or failed and not acknowledged; oldest first."""
        found = [_entry(row) for row in self._run(_OPEN, (limit,))] + [
            _entry(row) for row in self._run(_FAILED, (limit,))
        ]
        found.sort(key=lambda entry: (entry.message.received_at, entry.delivery))
        return found[:limit]

    def failed(self, limit: int) -> list[QueueEntry]:
        """Every delivery that failed and was not acknowledged; oldest first."""
        return [_entry(row) for row in self._run(_FAILED, (limit,))]

    def latest(self, limit: int) -> list[Summary]:
        """The messages that were accepted last, newest first."""
        with self._connection:  # one view of it all
            messages = self._run(_LATEST, (limit,)).fetchall()
            found = list(map(self._summary, messages))
        return sorted(found, key=lambda one: one.message.received_at, reverse=True)

    def _summary(self, row: tuple[Any, ...]) -> Summary:
        ids = (first(row[0]), last(row[0]))
        return Summary(
            message=rows.message_of(row, tuple(found for (found,) in self._run(_FIRST_RECIPIENTS, ids))),
            ended_at=row[13],
            recipients=row[11],
            states={State(state): number for state, number in self._run(_STATES, ids)},
        )

    def delayed(self, before: float, trial: bool) -> list[QueueEntry]:
        """Deliveries of clients' mail that is older than that, was accepted in the trial or not, and has not ended, of
        whose delay nobody was told.

        Of what is held only what the relay has put aside, and not the operator.
        """
        return [_entry(row) for row in self._run(_DELAYED, (before, trial))]

    def held_by_mode(self, message_id: str, account: str) -> int:
        """How many deliveries of a message, or of an account, are held for their mode alone."""
        found: int = self._run(_HELD_BY_MODE_OF, (message_id, account)).get
        return found

    def trace(self, message_id: str, recipient: str, limit: int) -> list[Trace]:
        """The stories of one message, or of the latest to one recipient; newest first."""
        if message_id:
            found = self.key(message_id)
            keys = [] if found is None else [found[0]]
        else:
            keys = [row[0] for row in self._run(_BY_RECIPIENT, (recipient, limit))]
        with self._connection:  # one view of it all: a message may be pruned meanwhile
            stories = [self._story(key) for key in keys]
        return [story for story in stories if story is not None]

    def _story(self, key: int) -> Trace | None:
        messages = self._run(f"SELECT {rows.MESSAGE_COLUMNS}, ended_at FROM message WHERE key = ?", (key,)).fetchall()
        if not messages:
            return None
        found = messages[0]
        deliveries = self._run(_DELIVERIES, (key,)).fetchall()
        events = self._run(f"SELECT {rows.EVENT_COLUMNS} FROM event WHERE message = ? ORDER BY seq", (key,)).fetchall()
        return Trace(
            message=rows.message_of(found, tuple(row[14] for row in deliveries)),
            ended_at=found[13],
            deliveries=tuple(_entry(row) for row in deliveries),
            events=tuple(rows.event_of(row, found[1]) for row in events),
        )

    def used(self, account: str, since: float, listener: str) -> list[tuple[float, int]]:
        """(accepted at, recipients) of the account's messages since then, oldest first; ``listener`` empty: all."""
        return lately.used(self._run, account, since, listener)

    def fingerprints(self, since: float, most: int, trial: bool) -> list[tuple[float, bytes, str]]:
        """(accepted at, fingerprint, id) of the last ``most`` messages since then that have one, oldest first; of the
        trial's or of the others.
        """
        return lately.fingerprints(self._run, since, most, trial=trial)

    def states_of(self, message_id: str) -> frozenset[State]:
        """The states that a message's deliveries are in; none if there is no such message."""
        return frozenset(State(state) for (state,) in self._run(_STATES_OF, (message_id,)))

    def usage(self, since: float) -> dict[str, list[tuple[float, int]]]:
        """(beginning of a quarter of an hour, recipients) for each provider, in order."""
        found: dict[str, list[tuple[float, int]]] = {}
        for provider, bucket, used in self._run(_USAGE, (since - BUCKET,)):
            found.setdefault(provider, []).append((float(bucket), used))
        return found

    def in_hand(self) -> dict[str, int]:
        """Recipients that each provider has in hand."""
        return dict(self._run(IN_HAND))

    def stats(self, room: int, wal_bytes: int) -> Stats:
        """The spool in numbers."""
        return stats.count(self._run, room, wal_bytes)


def _entry(row: tuple[Any, ...]) -> QueueEntry:
    delivery, recipient, state, next_attempt, changed_at, attempts, doubts, provider, code, reply = row[13:23]
    held, noticed, seen, tried, trial = row[23:]
    return QueueEntry(
        delivery=delivery,
        message=rows.message_of(row),
        recipient=recipient,
        state=State(state),
        next_attempt=next_attempt,
        changed_at=changed_at,
        attempts=attempts,
        doubts=doubts,
        provider=provider,
        code=code,
        reply=reply,
        held=held,
        delay_noticed=bool(noticed),
        acknowledged=bool(seen),
        tried=rows.tried_of(tried),
        trial=bool(trial),
    )
