"""What an operator can do to waiting mail: functions to run as ``Change.work``, inside the group's transaction.

Only what nobody has in hand is touched: a ``claimed`` or ``sending`` delivery is left to the task that has it. Each
returns the number of deliveries changed; the events ride in the same commit and are appended to ``told`` for those who
are told after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from relay.choice.rounds import LAST
from relay.model import Event, EventKind, Message
from relay.spool import schema
from relay.spool.changes import Change, Numbers, with_notices, write_by_id
from relay.spool.schema import FAILED, MASK, SHIFT
from relay.spool.store import Store

_OF_MESSAGE: Final = (
    f"id BETWEEN (SELECT key << {SHIFT} FROM message WHERE id = ?2) "
    f"AND (SELECT key << {SHIFT} | {MASK} FROM message WHERE id = ?2)"
)
_OF_ACCOUNT: Final = "account = ?2"
_HELD: Final = (
    "state IN ('claimed', 'sending', 'held') AND state = 'held'"  # the index's own words first, or it is not used
)
_FAILED: Final = f"state IN {FAILED} AND acknowledged = 0"

_HELD_SO_LONG: Final = (
    "held = held + iif(state = 'held', max(0, ?1 - changed_at), 0), changed_at = iif(state = 'held', ?1, changed_at)"
)

# A new round, and whom a notice had better avoid is still asked last: that mark is the last word of the text.
_ANEW: Final = f"iif(instr(tried, '{LAST}'), substr(tried, instr(tried, '{LAST}')), '')"

_SETS: Final = {
    # It also ends the tie of a doubtful one to its provider, which is why it works on what was put aside for that.
    EventKind.RETRIED: f"state = 'due', next_attempt = ?1, doubts = 0, tried = {_ANEW}, {_HELD_SO_LONG}",
    EventKind.HELD: "state = 'held', changed_at = ?1",
    EventKind.RELEASED: f"state = 'due', next_attempt = ?1, {_HELD_SO_LONG}",
    EventKind.DROPPED: "state = 'dropped', changed_at = ?1",
    EventKind.ACKNOWLEDGED: "acknowledged = 1",
}
_FROM: Final = {
    EventKind.RETRIED: "state IN ('due', 'held')",
    EventKind.HELD: "state = 'due'",
    EventKind.RELEASED: _HELD,
    EventKind.DROPPED: "state IN ('due', 'held')",
    EventKind.ACKNOWLEDGED: _FAILED,
}


def verb(kind: EventKind, numbers: Numbers, now: float, *, message_id: str = "", account: str = "") -> Change:
    """The change that does ``kind`` to one message's or one account's deliveries. Its answer is how many it changed."""
    if bool(message_id) == bool(account):
        raise ValueError("name either a message or an account")
    change = Change(at=now)
    told: list[Event] = []
    change.told = told
    change.work = _work(kind, numbers, now, message_id, account, told)
    return change


def _work(
    kind: EventKind, numbers: Numbers, now: float, message_id: str, account: str, told: list[Event]
) -> Callable[[Store], int]:
    where = _OF_MESSAGE if message_id else _OF_ACCOUNT
    statement = (
        f"UPDATE delivery SET {_SETS[kind]} WHERE {_FROM[kind]} AND {where} RETURNING id, account, recipient, provider"
    )

    def work(store: Store) -> int:
        told.clear()  # a group that was rolled back is tried again member by member
        found: list[Any] = store.connection.execute(statement, (now, message_id or account)).fetchall()
        keys = sorted({row[0] >> SHIFT for row in found})
        _tell(store, kind, numbers, now, found, told)
        if kind is EventKind.DROPPED and keys:
            store.end(keys, now)
        return len(found)

    return work


def _tell(
    store: Store, kind: EventKind, numbers: Numbers, now: float, found: list[tuple[Any, ...]], told: list[Event]
) -> None:
    ids: dict[int, str] = {}
    values = []
    for delivery, account, recipient, provider in sorted(found):
        key = delivery >> SHIFT
        if key not in ids:
            ids[key] = store.connection.execute("SELECT id FROM message WHERE key = ?", (key,)).get
        event = Event(kind=kind, at=now, message=ids[key], account=account, recipient=recipient, provider=provider)
        told.append(event)
        values += numbers.event_rows([event], key)
    store.write_events(store.connection, values)


def delay_noticed(
    numbers: Numbers,
    deliveries: Sequence[int],
    notice: tuple[Message, bytes, Sequence[Event]] | None,
    events: Sequence[Event],
    now: float,
) -> Change:
    """The change that notes that a delay was told, with the notice that tells it; ``events`` name their messages."""
    told = list(events)
    change = Change(at=now, told=told)
    write_events = write_by_id(numbers, events)

    def work(store: Store) -> None:
        bound = schema.numbers(deliveries)
        store.connection.execute("UPDATE delivery SET delay_noticed = 1 WHERE id IN carray(?1)", (bound,))
        write_events(store)

    change.work = work
    return with_notices(numbers, change, 0, [notice]) if notice is not None else change
