"""Bodies of failed mail, kept after its end so that an operator can have it tried again.

A body is kept from the end of its message until its failures are acknowledged, for ``limits.KEPT`` seconds at most. All
together take at most ``limits.KEPT_SHARE`` of the room for mail, and count as room, because they are given up before
new mail lacks it: what ended first goes first.

The functions work inside the transaction of their caller; :class:`Yielding` lives on the loop.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from relay import limits
from relay.clock import Clock
from relay.spool.changes import Change
from relay.spool.schema import FAILED, MASK, SHIFT, numbers
from relay.spool.space import Space

if TYPE_CHECKING:
    from relay.spool.store import Store

Run = Callable[..., Any]
MESSAGES: Final = 200  # whose bodies go in one commit, at most
BYTES: Final = 64 * limits.MIB  # likewise; the largest message fits

_OF: Final = f"BETWEEN message.key << {SHIFT} AND (message.key << {SHIFT} | {MASK})"
FAILURE: Final = f"""EXISTS (
    SELECT 1 FROM delivery AS f WHERE f.id {_OF} AND +f.state IN {FAILED} AND f.acknowledged = 0
)"""  # that somebody may still want to try again
_TOTAL: Final = "SELECT coalesce(sum(size), 0) FROM message INDEXED BY message_kept WHERE kept = 1"
_FIRST: Final = f"""
SELECT key, size FROM message INDEXED BY message_kept WHERE kept = 1 AND ended_at < ?1
ORDER BY ended_at LIMIT {MESSAGES}
"""
_SEEN: Final = f"SELECT key FROM message WHERE key IN carray(?1) AND kept = 1 AND NOT {FAILURE}"
_GONE: Final = "UPDATE message SET kept = 0, gone_at = ?2 WHERE key IN carray(?1)"
_DROP: Final = f"""
DELETE FROM chunk WHERE id IN (
    SELECT c.id FROM carray(?1) AS k CROSS JOIN message AS m ON m.key = k.value
    CROSS JOIN chunk AS c ON c.id BETWEEN m.key << {SHIFT} AND (m.key << {SHIFT} | {MASK})
    WHERE m.ended_at IS NOT NULL AND m.kept = 0
)
"""


class Given(NamedTuple):
    """What giving up came to, and what there is after it; all in bytes."""

    size: int  # of the bodies that went
    left: int  # of those that are kept
    free_inside: int  # of the database's pages that hold nothing


def total(run: Run) -> int:
    """Bytes of all kept bodies."""
    found: int = run(_TOTAL).get
    return found


def drop(run: Run, keys: Sequence[int]) -> None:
    """Delete the bodies of those of the messages that have ended and are not kept."""
    run(_DROP, (numbers(keys),))


def seen(run: Run, keys: Sequence[int], now: float) -> None:
    """Delete the kept bodies of those of the messages whose failures are all acknowledged."""
    _forget(run, [row[0] for row in run(_SEEN, (numbers(keys),))], now)


def forget_old(run: Run, now: float) -> bool:
    """Delete some of what was kept long enough; True if there is probably more."""
    messages, size = _oldest(run, now - limits.KEPT, BYTES, now)
    return messages == MESSAGES or size >= BYTES


def give_up(size: int, now: float) -> Change:
    """The change that deletes the oldest bodies, until that many bytes went or it has done enough for one commit. Its
    answer is a :class:`Given`. A crash may take it back.
    """

    def work(store: Store) -> Given:
        run = store.connection.execute
        _, given = _oldest(run, math.inf, min(size, BYTES), now)
        return Given(given, total(run), store.free_bytes())

    return Change(at=now, work=work, durable=False)


def give_up_all(store: Store, now: float) -> int:
    """Delete all kept bodies, commit by commit; how many bytes went. Raises what SQLite raises."""
    given = 0
    while True:
        change = give_up(BYTES, now)
        store.apply([change], now)
        if not change.answer.size:
            return given
        given += change.answer.size


def _oldest(run: Run, before: float, size: int, now: float) -> tuple[int, int]:
    """Delete the oldest bodies of what ended before then, so many bytes or a little more; how many, and their bytes."""
    keys, given = list[int](), 0
    for key, own in run(_FIRST, (before,)):
        if given >= size:
            break
        keys.append(key)
        given += own
    _forget(run, keys, now)
    return len(keys), given


def _forget(run: Run, keys: Sequence[int], now: float) -> None:
    if keys:
        run(_GONE, (numbers(keys), now))
        drop(run, keys)


class Yielding:
    """Has bodies given up as soon as they take more than their share of the room."""

    def __init__(self, space: Space, clock: Clock, submit: Callable[[Change], asyncio.Future[Given]]) -> None:
        self._space, self._clock, self._submit = space, clock, submit
        self._under_way = False

    def look(self) -> None:
        """Call it when room was taken, or was counted."""
        if self._under_way or not self._space.kept:
            return
        size = self._space.excess()
        if size:
            self._under_way = True
            self._submit(give_up(size, self._clock.time())).add_done_callback(self._done)

    def _done(self, future: asyncio.Future[Given]) -> None:
        self._under_way = False
        if future.cancelled() or future.exception() is not None:
            return  # no room even for that: at the next look
        given = future.result()
        self._space.kept, self._space.free_inside = given.left, given.free_inside
        if given.size:
            self.look()
