"""Forgets ended messages after a while, and the bodies of failed ones sooner; gives the file's free pages back, little
by little; and sees to mail that waits for a time that a wrong clock had named.

Runs as ``Change.work`` in groups of its own, when the writer has nothing else to do, or has put it off for a while.
"""

from __future__ import annotations

from typing import Final

from relay import limits
from relay.spool import flows, kept, schema
from relay.spool.schema import FAILED, MASK, SHIFT
from relay.spool.store import PAGE, Store

MESSAGES: Final = 200  # per turn: a few milliseconds
PAGES: Final = 1024  # given back per turn
KEEP_FREE: Final = (
    64 * 1024 * 1024 // PAGE
)  # free pages are where the next mail goes; only what is above this goes back
QUOTA_KEPT: Final = 62 * limits.DAY  # two months: a clock that was set back by one still finds what was used

# Keys are in the order of acceptance, and nothing ended before it was accepted: the walk stops at the first message
# that is too young.
_OLD: Final = f"""
SELECT key FROM message WHERE key > ?1 AND key < coalesce((SELECT min(key) FROM message WHERE key > ?1 AND received_at
>= ?2), 1 << 62) AND ended_at < ?2 AND NOT EXISTS (
    SELECT 1 FROM delivery AS d WHERE d.id BETWEEN message.key << {SHIFT} AND (message.key << {SHIFT} | {MASK})
    AND +d.state IN {FAILED} AND d.acknowledged = 0
) ORDER BY key LIMIT {MESSAGES}
"""
_RANGE: Final = f"""
SELECT d.id FROM carray(?1) AS k CROSS JOIN delivery AS d
ON d.id BETWEEN k.value << {SHIFT} AND (k.value << {SHIFT} | {MASK})
"""
_DELETES: Final = (
    f"DELETE FROM delivery WHERE id IN ({_RANGE})",
    "DELETE FROM event WHERE message IN carray(?1)",
    "DELETE FROM message WHERE key IN carray(?1)",
)
_LOOSE_EVENTS: Final = f"""
DELETE FROM event WHERE (message, seq) IN (SELECT message, seq FROM event WHERE message = 0 AND at < ?1 ORDER BY seq
LIMIT {MESSAGES})
"""


class Pruner:
    """Remembers how far it has walked, so that held mail at the front is not looked at again in every turn."""

    def __init__(self, history: float) -> None:
        self._history = history
        self._after = 0

    def turn(self, store: Store, now: float) -> bool:
        """Do a little; True if there is probably more to do."""
        run = store.connection.execute
        flows.bring_back(run, now)
        more = kept.forget_old(run, now)
        before = now - self._history
        keys = [row[0] for row in run(_OLD, (self._after, before))]
        if keys:
            bound = (schema.numbers(keys),)
            for statement in _DELETES:
                run(statement, bound)
        self._after = keys[-1] if len(keys) == MESSAGES else 0
        run(_LOOSE_EVENTS, (before,))
        run("DELETE FROM quota WHERE bucket < ?", (now - QUOTA_KEPT,))
        spare = int(store.connection.pragma("freelist_count")) - KEEP_FREE
        if spare > 0:
            run(f"PRAGMA incremental_vacuum({min(spare, PAGES)})").fetchall()
        return more or len(keys) == MESSAGES or spare > 0
