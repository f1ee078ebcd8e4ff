"""What an operator can do to mail that waits or failed: functions to run as ``Change.work``, inside the group's
transaction.

Only what nobody has in hand is touched: a ``claimed`` or ``sending`` delivery is left to the task that has it. Each
returns the number of deliveries changed (:func:`retry` a little more); the events ride in the same commit and are
appended to ``told`` for those who are told after it.

What is held because it does not fit the settings (:mod:`relay.spool.mode`) stays so whoever releases it; only the
operator's own hold on it ends, and it goes by itself when it fits again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from relay.choice.rounds import LAST
from relay.model import Event, EventKind, Message, State
from relay.spool import kept, mode, schema
from relay.spool.changes import Change, Numbers, with_notices, write_by_id
from relay.spool.schema import FAILED, MASK, SHIFT
from relay.spool.store import Store

_OF_MESSAGE: Final = (
    f"id BETWEEN (SELECT key << {SHIFT} FROM message WHERE id = ?2) "
    f"AND (SELECT key << {SHIFT} | {MASK} FROM message WHERE id = ?2)"
)
_OF_ACCOUNT: Final = "account = ?2"
# Whether a message was accepted in the other mode than ?3; it stays held then, whoever releases it.
_MISFIT: Final = f"(SELECT m.trial FROM message AS m WHERE m.key = delivery.id >> {SHIFT}) <> ?3"
_LOOSE: Final = f"NOT (state = 'held' AND mode_held = 1 AND {_MISFIT})"
_FAILED: Final = f"state IN {FAILED} AND acknowledged = 0"

_HELD_SO_LONG: Final = "held = held + iif(state = 'held', max(0, ?1 - changed_at), 0)"
_DUE: Final = f"state = iif({_MISFIT}, 'held', 'due'), mode_held = {_MISFIT}, next_attempt = ?1"
_LET_GO: Final = f"{_DUE}, {_HELD_SO_LONG}, changed_at = iif(state = 'held', ?1, changed_at)"

_LETS_GO: Final = (EventKind.RETRIED, EventKind.RELEASED)
_ASK_MODE: Final = (*_LETS_GO, EventKind.DROPPED)
_SETS: Final = {
    EventKind.HELD: f"state = 'held', mode_held = 0, {_HELD_SO_LONG}, changed_at = ?1",
    EventKind.RELEASED: _LET_GO,
    EventKind.DROPPED: "state = 'dropped', changed_at = ?1",
    EventKind.ACKNOWLEDGED: "acknowledged = 1",
}
_FROM: Final = {
    EventKind.HELD: "(state = 'due' OR (state = 'held' AND mode_held = 1))",
    EventKind.RELEASED: f"{mode.HELD} AND {_LOOSE}",
    # In doubt too often, and its own mode is not back: it is in nobody's hand.
    EventKind.DROPPED: f"(state IN ('due', 'held') OR (state = 'sending' AND {_MISFIT}))",
    EventKind.ACKNOWLEDGED: _FAILED,
}
# What an account's hold takes, as the indexes have it. What is held for its mode is of it: that hold may end first, and
# nobody holds the mail anew where the account has gone from the file by then.
_OF_QUEUE: Final = ("state = 'due'", f"{mode.HELD} AND mode_held = 1")
_TOLD: Final = "RETURNING id, account, recipient, provider, state"
# A new round, and whom a notice had better avoid is still asked last: that mark is the last word of the text. The tie
# of a doubtful one to its provider ends, which is why a retry works on what was put aside for that.
_ANEW: Final = f"doubts = 0, tried = substr(tried, instr(tried || '{LAST}', '{LAST}'))"
_RETRY: Final = f"""
UPDATE delivery SET {_LET_GO}, {_ANEW} WHERE state IN ('due', 'held') AND {_LOOSE} AND {_OF_MESSAGE} {_TOLD}
"""
# What failed is as if it had come in now: its five days, its delays and its attempts count from here.
_RETRY_FAILED: Final = f"""
UPDATE delivery SET {_DUE}, {_ANEW}, changed_at = ?1, attempts = 0, delay_noticed = 0,
    held = max(0, ?1 - (SELECT received_at FROM message WHERE key = delivery.id >> {SHIFT}))
WHERE {_FAILED} AND (?4 OR state <> 'unknown') AND {_OF_MESSAGE} {_TOLD}
"""
_UNSURE: Final = f"SELECT count(*) FROM delivery WHERE {_FAILED} AND state = 'unknown' AND {_OF_MESSAGE}"
_EVER_FAILED: Final = f"SELECT count(*) FROM delivery WHERE +state IN {FAILED} AND {_OF_MESSAGE}"
_OPEN_AGAIN: Final = "UPDATE message SET ended_at = NULL, kept = 0 WHERE key = ?"


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
    come_from = _OF_QUEUE if account and kind is EventKind.HELD else (_FROM[kind],)
    statements = [f"UPDATE delivery SET {_SETS[kind]} WHERE {state} AND {where} {_TOLD}" for state in come_from]

    def work(store: Store) -> int:
        told.clear()  # a group that was rolled back is tried again member by member
        values = (now, message_id or account, store.trial)[: 3 if kind in _ASK_MODE else 2]
        found: list[Any] = [row for one in statements for row in store.connection.execute(one, values)]
        keys = sorted({row[0] >> SHIFT for row in found})
        _tell(store, kind, numbers, now, found, told)
        if kind is EventKind.DROPPED and keys:
            store.end(keys, now)
        if kind is EventKind.ACKNOWLEDGED and keys:
            kept.seen(store.connection.execute, keys, now)
        return sum(not _stays(kind, row) for row in found)

    return work


def _stays(kind: EventKind, row: tuple[Any, ...]) -> bool:
    """Whether it was let go by the operator and is held all the same."""
    return kind in _LETS_GO and row[4] == State.HELD


class Retried(NamedTuple):
    """What came of trying a message again."""

    changed: int = 0  # deliveries that are due now
    unsure: int = 0  # failed ones that were left as they are, since they may have arrived
    gone_at: float | None = None  # what failed cannot be sent again: its body is gone since then


def retry(numbers: Numbers, message_id: str, now: float, *, anyway: bool = False) -> Change:
    """The change that makes due what waits or is held of a message, and what failed of it and was not acknowledged, as
    long as its body is there; of what ended unknown only ``anyway``. Its answer is :class:`Retried`.
    """
    told: list[Event] = []

    def work(store: Store) -> Retried:
        told.clear()
        run: Callable[..., Any] = store.connection.execute
        messages = run("SELECT key, ended_at, kept, gone_at FROM message WHERE id = ?", (message_id,)).fetchall()
        if not messages:
            return Retried()
        key, ended_at, is_kept, gone_at = messages[0]
        if ended_at is not None and not is_kept:
            failed = run(_EVER_FAILED, (None, message_id)).get
            return Retried(gone_at=(gone_at or ended_at) if failed else None)
        found = run(_RETRY, (now, message_id, store.trial)).fetchall()
        found += run(_RETRY_FAILED, (now, message_id, store.trial, anyway)).fetchall()
        if found and is_kept:
            run(_OPEN_AGAIN, (key,))
        _tell(store, EventKind.RETRIED, numbers, now, found, told)
        changed = sum(not _stays(EventKind.RETRIED, row) for row in found)
        return Retried(changed, run(_UNSURE, (None, message_id)).get)

    return Change(at=now, told=told, work=work)


def _tell(
    store: Store, kind: EventKind, numbers: Numbers, now: float, found: list[tuple[Any, ...]], told: list[Event]
) -> None:
    ids: dict[int, str] = {}
    values = []
    for row in sorted(found):
        delivery, account, recipient, provider, _ = row
        key = delivery >> SHIFT
        if key not in ids:
            ids[key] = store.connection.execute("SELECT id FROM message WHERE key = ?", (key,)).get
        event = Event(kind=kind, at=now, message=ids[key], account=account, recipient=recipient, provider=provider)
        if _stays(kind, row):
            event = event._replace(kind=EventKind.HELD, provider="", reply=mode.reason(not store.trial))
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
