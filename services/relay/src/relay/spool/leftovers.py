"""What the last relay had in hand when it ended, put in order by the next start, in its one commit.

If it did not end in order (killed, out of power, an error that nobody caught), what it had in hand may be the reason.
Each such end is marked on those deliveries until an attempt at them is completed; from the second on they are tried
alone (``alone.py``), and what is in hand then at the next such end is held: no message may stop all others for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import apsw

from relay import limits
from relay.model import Event, EventKind
from relay.spool import flows, mode, schema
from relay.spool.changes import Numbers
from relay.spool.rows import END, SUSPECT, TIE
from relay.spool.schema import SHIFT
from relay.spool.store import Store

_DOUBT_REPLY: Final = "The relay stopped before the provider had answered; it may have accepted the message."
_HELD_REPLY: Final = (
    "The relay stopped each time it was sending this message, the last time with no other beside it; so it is held, "
    "and other mail goes on. {state} Look at it: make trace ID={id}. Then make queue ARGS='release {id}' tries it once "
    "more, alone, and ARGS='drop {id}' takes it out."
)
_SAFE, _IN_DOUBT = "It is safe and has not been delivered.", "It is safe, and may have been delivered already."

_BUSY: Final = "state IN ('claimed', 'sending', 'held')"  # the words of the index, or it would not be used
_GUILTY: Final = f"""
SELECT d.id, d.account, d.recipient, d.provider, d.doubts + 1, d.state = 'sending', m.id
FROM delivery AS d CROSS JOIN message AS m ON m.key = d.id >> {SHIFT}
WHERE d.{_BUSY} AND d.state IN ('claimed', 'sending') AND d.tried GLOB '{SUSPECT}*' AND m.trial = ?1
"""
_HOLD: Final = f"""
UPDATE delivery SET state = 'held', changed_at = ?2, reply = ?3, code = 0, attempts = attempts + ?4,
    doubts = doubts + ?4, tried = iif(?4, '{SUSPECT}{TIE}' || provider, tried) WHERE id = ?1
"""
_CLAIMED: Final = f"UPDATE delivery SET state = 'due', tried = ?1 || tried WHERE {_BUSY} AND state = 'claimed'"
_DOUBTFUL: Final = f"""
UPDATE delivery SET state = 'due', next_attempt = ?1, attempts = attempts + 1, doubts = doubts + 1, changed_at = ?3,
    reply = '{_DOUBT_REPLY}', code = 0,
    tried = ?4 || substr(tried, 1, length(tried) - length(ltrim(tried, '{END}'))) || '{TIE}' || provider
WHERE {_BUSY} AND state = 'sending' AND doubts < ?2 RETURNING id, account, recipient, provider, doubts
"""
_STUCK: Final = f"""
UPDATE delivery SET tried = ?1 || tried WHERE {_BUSY} AND state = 'sending'
    AND (SELECT m.trial FROM message AS m WHERE m.key = delivery.id >> {SHIFT}) = ?2 RETURNING id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What is known of the last relay's end, and the times that count now."""

    died: bool  # it did not end in order
    now: float
    again: float  # when what is in doubt is sent again
    trial: bool  # mail is written to files now: ``mode.py``


def put_in_order(connection: apsw.Connection, numbers: Numbers, before: Before) -> tuple[list[Event], list[int]]:
    """The events that tell of it, written; and the messages in doubt too often, whose deliveries stay ``sending`` for
    delivery to end them.
    """
    run: Callable[..., Any] = connection.execute
    now, mark = before.now, END if before.died else ""
    guilty = run(_GUILTY, (before.trial,)).fetchall() if before.died else []
    events = [event for row in guilty for event in _hold(connection, numbers, row, now)]
    run(_CLAIMED, (mark,))
    claimed = connection.changes()
    doubtful = run(_DOUBTFUL, (before.again, limits.DOUBTS, now, mark)).fetchall()
    uploads = [row[0] for row in run("SELECT key FROM upload")]
    for key in uploads:
        run("DELETE FROM chunk WHERE id BETWEEN ? AND ?", (schema.first(key), schema.last(key)))
    run("DELETE FROM upload")
    flows.bring_back(run, now)
    sent = [row[3] for row in (*doubtful, *(row for row in guilty if row[5]))]
    Store.count_used(connection, [(provider, now, 1) for provider in sent])
    events += [_doubt(connection, numbers, row, now) for row in doubtful]
    events += [_told(connection, numbers, event, key) for key, event in mode.settle(run, before.trial, now)]
    stuck = sorted({row[0] >> SHIFT for row in run(_STUCK, (mark, before.trial)).fetchall()})
    if guilty or claimed or doubtful or uploads or stuck:
        detail = {"claimed": claimed, "doubtful": len(doubtful) + len(stuck), "uploads": len(uploads)}
        detail |= {"held": len(guilty)} if guilty else {}
        events.append(_told(connection, numbers, Event(kind=EventKind.RECOVERED, at=now, detail=detail), 0))
    return events, stuck


def _hold(connection: apsw.Connection, numbers: Numbers, row: tuple[Any, ...], now: float) -> list[Event]:
    delivery, account, recipient, provider, _, sending, message = row
    reply = _HELD_REPLY.format(id=message, state=_IN_DOUBT if sending else _SAFE)
    connection.execute(_HOLD, (delivery, now, reply, sending))
    held = Event(EventKind.HELD, now, message, account, recipient, provider, reply=reply)
    doubt = [_doubt(connection, numbers, row, now)] if sending else []
    return [*doubt, _told(connection, numbers, held, delivery >> SHIFT)]


def _doubt(connection: apsw.Connection, numbers: Numbers, row: tuple[Any, ...], now: float) -> Event:
    delivery, account, recipient, provider, doubts, *_ = row
    event = Event(
        kind=EventKind.DOUBTFUL,
        at=now,
        message=connection.execute("SELECT id FROM message WHERE key = ?", (delivery >> SHIFT,)).get,
        account=account,
        recipient=recipient,
        provider=provider,
        reply=_DOUBT_REPLY,
        detail={"doubts": doubts},
    )
    return _told(connection, numbers, event, delivery >> SHIFT)


def _told(connection: apsw.Connection, numbers: Numbers, event: Event, key: int) -> Event:
    Store.write_events(connection, numbers.event_rows([event], key))
    return event
