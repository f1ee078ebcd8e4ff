"""The spool in numbers, counted from indexes that hold open and failed deliveries only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from relay.model import Kind, State
from relay.spool import mode, rows
from relay.spool.schema import FAILED, MASK, SHIFT

Run = Callable[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """The spool in numbers. Counts are of deliveries, by state; ended ones only while failed and not acknowledged."""

    deliveries: dict[State, int]
    held_by_mode: int  # of those held: for they do not fit the settings, and for no other reason
    messages: int  # that are open
    bytes: int  # of open messages
    oldest: float | None  # since when the oldest message waits that is not held; time that it was held is left out
    room: int  # bytes that may still be accepted
    wal_bytes: int
    failed_notices: int  # of the failed and not acknowledged ones
    put_aside: int  # of those held: by the relay, until somebody decides


# What the relay held itself, and not the operator: it may have been delivered, or the relay died with it in hand.
PUT_ASIDE: Final = f"(doubts > 0 OR tried GLOB '{rows.SUSPECT}*')"
HELD_BY_MODE: Final = f"SELECT count(*) FROM delivery AS d WHERE {mode.HELD} AND d.mode_held = 1"
_ASIDE: Final = f"SELECT count(*) FROM delivery AS d WHERE {mode.HELD} AND d.mode_held = 0 AND {PUT_ASIDE}"
_OF: Final = f"d.id BETWEEN m.key << {SHIFT} AND (m.key << {SHIFT} | {MASK})"
_SIZES: Final = "SELECT count(*), coalesce(sum(size), 0) FROM message INDEXED BY message_open WHERE ended_at IS NULL"
_COUNTS: Final = (
    "SELECT 'due', count(*), min(id) FROM delivery WHERE state = 'due'",
    "SELECT state, count(*), min(id) FROM delivery WHERE state IN ('claimed', 'sending', 'held') GROUP BY state",
    f"SELECT state, count(*), 0 FROM delivery WHERE state IN {FAILED} AND acknowledged = 0 GROUP BY state",
)
_AGEING_SINCE: Final = f"""
SELECT m.received_at, d.held FROM message AS m INDEXED BY message_open CROSS JOIN delivery AS d ON {_OF}
WHERE m.ended_at IS NULL AND m.received_at >= (SELECT received_at FROM message WHERE key = ?1)
    AND +d.state IN ('due', 'claimed', 'sending') ORDER BY m.received_at
"""
_FAILED_NOTICES: Final = f"""
SELECT count(*) FROM delivery AS d INDEXED BY delivery_failed CROSS JOIN message AS m ON m.key = d.id >> {SHIFT}
WHERE d.state IN {FAILED} AND d.acknowledged = 0 AND m.kind = '{Kind.NOTICE.value}'
"""
_AGEING: Final = ("due", "claimed", "sending")  # held mail does not age


def count(run: Run, room: int, wal_bytes: int) -> Stats:
    """What there is now. ``room`` and ``wal_bytes`` are known elsewhere."""
    messages, size = run(_SIZES).fetchall()[0]
    found = [row for statement in _COUNTS for row in run(statement)]
    counted = {State(state): number for state, number, _ in found}
    waiting = [least >> SHIFT for state, _, least in found if state in _AGEING and least is not None]
    return Stats(
        deliveries={state: counted.get(state, 0) for state in State if state not in (State.DELIVERED, State.DROPPED)},
        held_by_mode=run(HELD_BY_MODE).get,
        messages=messages,
        bytes=size,
        oldest=_oldest(run, min(waiting)) if waiting else None,
        room=room,
        wal_bytes=wal_bytes,
        failed_notices=run(_FAILED_NOTICES).get,
        put_aside=run(_ASIDE).get,
    )


def _oldest(run: Run, key: int) -> float | None:
    """Since when the oldest waits that ages; ``key``: of the first message that may be it. Few were ever held, or
    failed and are tried again: the walk ends behind the first that was not.
    """
    oldest: float | None = None
    for received_at, held in run(_AGEING_SINCE, (key,)):
        if oldest is not None and received_at >= oldest:
            break
        oldest = received_at + held if oldest is None else min(oldest, received_at + held)
    return oldest
