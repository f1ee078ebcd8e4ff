"""The spool's engine: synchronous, one connection, a group of changes per commit; no threads, no event loop.

:meth:`Store.apply` writes a group whole or not at all and raises SQLite's own exceptions after rolling back;
``writer.py`` decides what they mean. Statements carry many rows each: every step of SQLite gives the interpreter lock
away and waits to get it back, so the number of steps in a group, not the number of rows, is what an accepting process
feels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Final

import apsw

from relay.choice import waiting
from relay.choice.choose import Take, Wait
from relay.choice.offer import Offer
from relay.choice.quota import bucket_of
from relay.model import Job
from relay.spool import kept, rows, schema
from relay.spool.bulk import Bulk, insert
from relay.spool.changes import Change
from relay.spool.claims import Claims
from relay.spool.errors import is_full
from relay.spool.rows import Row
from relay.spool.schema import MASK, OPEN, SHIFT, numbers

PAGE: Final = 4096
CACHE_KIB: Final = 8192

_END: Final = f"""
UPDATE message SET ended_at = ?2, kept = {kept.FAILURE} WHERE key IN carray(?1) AND ended_at IS NULL AND NOT EXISTS (
    SELECT 1 FROM delivery AS d
    WHERE d.id BETWEEN message.key << {SHIFT} AND (message.key << {SHIFT} | {MASK}) AND +d.state IN {OPEN}
)
"""
_MARK: Final = """
UPDATE delivery SET state = 'sending', provider = ?2 WHERE id IN carray(?1) AND +state = 'claimed'
"""
_RELEASE: Final = "UPDATE delivery SET state = 'due' WHERE id IN carray(?1) AND +state = 'claimed'"
_FORGET: Final = f"DELETE FROM chunk WHERE id BETWEEN ?1 << {SHIFT} AND (?1 << {SHIFT} | {MASK})"

_MESSAGE: Final = insert("message", rows.ACCEPTED_COLUMNS)
_TRIAL_MESSAGE: Final = insert("message", rows.ACCEPTED_COLUMNS, "trial", 1)
_CHUNK: Final = insert("chunk", "id, data")
_UPLOAD: Final = insert("upload", "key")
_EVENT: Final = insert("event", rows.EVENT_COLUMNS)
_DUE: Final = insert("delivery", rows.DELIVERY_COLUMNS, "state", "'due'")
_CLAIMED: Final = insert("delivery", rows.CLAIMED_COLUMNS, "state", "'claimed'")
_NOTICE: Final = insert("delivery", rows.NOTICE_COLUMNS, "state", "'due'")
_USED: Final = Bulk(
    "INSERT INTO quota (provider, bucket, used) VALUES ",
    "(?, ?, ?)",
    " ON CONFLICT (provider, bucket) DO UPDATE SET used = used + excluded.used",
)
_RESULT: Final = Bulk(
    "WITH r (id, state, provider, reply, code, next_attempt, attempts, doubts, tried, at) AS MATERIALIZED (VALUES ",
    "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    """) UPDATE delivery SET state = r.state, provider = r.provider, reply = r.reply, code = r.code,
    next_attempt = r.next_attempt, attempts = r.attempts, doubts = r.doubts, tried = r.tried, changed_at = r.at
    FROM r WHERE delivery.id = r.id AND +delivery.state IN ('claimed', 'sending')""",
)


def connect(path: Path, vfs: str | None = None, cache_kib: int = CACHE_KIB) -> apsw.Connection:
    """The writing connection, set up; raises :class:`SpoolUnusable` for a file that is not ours, and SQLite's FullError
    for whatever want of room (the connection that could say which it was has gone by then).
    """
    connection = apsw.Connection(str(path), vfs=vfs, statementcachesize=256)
    try:
        _set_up(connection, cache_kib)
    except Exception as error:
        full = is_full(error, connection.system_errno)
        connection.close()
        if full:
            raise apsw.FullError(str(error)) from error
        raise
    return connection


def _set_up(connection: apsw.Connection, cache_kib: int) -> None:
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)  # after a failed fsync nothing more may be written
    schema.check(connection)
    connection.set_busy_timeout(10_000)
    for name, value in (
        ("page_size", PAGE),
        ("auto_vacuum", "INCREMENTAL"),  # only possible before the first table
        ("journal_mode", "WAL"),
        ("synchronous", "FULL"),
        ("temp_store", "MEMORY"),
        ("cache_size", -cache_kib),
        ("wal_autocheckpoint", 0),  # the writer does it between groups, not inside someone's commit
    ):
        connection.pragma(name, value)


class Store:
    """Tables, transactions, claims. Use it from one thread at a time. ``trial``: the provider writes mail to files."""

    def __init__(self, connection: apsw.Connection, trial: bool = False) -> None:
        self.connection, self.trial = connection, trial
        self._message = _TRIAL_MESSAGE if trial else _MESSAGE
        self.claims = Claims(connection, trial)
        self.next_due = -math.inf  # not later than the earliest due delivery: nothing can be claimed before
        self.wal_pages = 0
        self._synced = True
        connection.set_wal_hook(self._committed)

    def _committed(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self.wal_pages = pages
        return apsw.SQLITE_OK

    def apply(self, changes: Sequence[Change], now: float, offer: Offer | None = None) -> list[Job]:
        """Write ``changes`` in one commit and claim what is due at ``now``, as far as ``offer`` goes, in the same one.

        The answers of changes with ``work`` are left in them. Raises what SQLite raises, with everything rolled back.
        """
        self._sync(any(change.durable for change in changes))
        due = self.next_due
        run = self.connection.execute
        run("BEGIN IMMEDIATE")
        try:
            jobs = self._write(changes, now, offer)
            run("COMMIT")
        except BaseException:
            self.next_due = due
            if self.connection.in_transaction:  # SQLite ends it by itself after some errors
                run("ROLLBACK")
            raise
        return jobs

    def _sync(self, durable: bool) -> None:
        """Choose whether the coming commit syncs the log.

        A commit that holds only chunks of unfinished uploads, claims or releases need not be synced: it is appended to
        the log before the commit that needs it (the upload's last), whose fsync is of the whole file and so covers it,
        and recovery never keeps a later commit without the earlier ones. Lost alone in a power cut, it takes back
        nothing that anyone was told.
        """
        if durable != self._synced:
            self.connection.pragma("synchronous", "FULL" if durable else "NORMAL")
            self._synced = durable

    def look(self) -> None:
        """Something opened: what waits for a provider may be claimed."""
        self.next_due = -math.inf

    def _write(self, changes: Sequence[Change], now: float, offer: Offer | None) -> list[Job]:
        newborn = [change for change in changes if change.born is not None]
        taken = self._take_newborn(newborn, now, offer) if newborn else {}
        self._insert(changes, taken)
        self._update(changes)
        for change in changes:
            if change.work is not None:
                change.answer = change.work(self)
                self.next_due, self.claims.alone.wary = -math.inf, True  # it may have let a suspect go
        jobs = [rows.new_job(*change.born, taken[change]) for change in newborn if change.born and change in taken]
        if jobs or offer is None or self.next_due > now:
            return jobs
        jobs, self.next_due = self.claims.take(offer, now)
        return jobs

    def _take_newborn(self, newborn: Sequence[Change], now: float, offer: Offer | None) -> dict[Change, str]:
        """Which new messages are claimed from the first, and by which provider: all that can be, if nothing else is
        due and there is room for all of them.

        That is the usual case of an appliance that keeps up, and saves finding, changing and reading back what was just
        written. The others are due; when that is, is noted.
        """
        taken: dict[Change, str] = {}
        again = earliest = min(change.at for change in newborn)
        if (
            offer is not None
            and self.next_due > now
            and not self.claims.alone.wary
            and max(change.at for change in newborn) <= now
        ):
            taken, again = self._choose(newborn, now, offer)
            if again <= now:
                taken, again = {}, earliest
        self.next_due = min(self.next_due, again)
        return taken

    def _choose(self, newborn: Sequence[Change], now: float, offer: Offer) -> tuple[dict[Change, str], float]:
        """Who takes each new message, and when those that nobody takes are to be looked at: now, if they had better be
        shared out with what else waits.
        """
        claims, taken, again, crowded = self.claims, dict[Change, str](), math.inf, False
        desk = claims.desk(offer, now)
        for change in newborn:
            assert change.born is not None
            asked = change.born[1]
            choice = desk.take(asked)
            match choice:
                case Take(provider, recipients) if recipients == asked.recipients and provider not in claims.crowded:
                    taken[change] = provider
                case Wait():
                    claims.waits = True
                    again = min(again, waiting.flow_again(choice, now))
                    if choice.for_room:
                        crowded = True
                        claims.crowded.update(offer.routes.of(asked.account, asked.domain).providers)
                case _:
                    return {}, now
        claims.reserved = claims.reserved or desk.reserved
        return taken, now if crowded and taken else again

    def _insert(self, changes: Sequence[Change], taken: Mapping[Change, str]) -> None:
        connection = self.connection
        self._message.run(connection, _all(change.messages for change in changes))
        _UPLOAD.run(connection, _all(change.begun for change in changes))
        _CHUNK.run(connection, _all(change.chunks for change in changes))
        _EVENT.run(connection, _all(change.events for change in changes))
        if taken:
            _CLAIMED.run(connection, [(*row, name) for change, name in taken.items() for row in change.deliveries])
        due = _all(change.deliveries for change in changes if change not in taken)
        if due:
            _DUE.run(connection, due)
        if notices := _all(change.notices for change in changes):
            _NOTICE.run(connection, notices)
            self.next_due = min(self.next_due, *(row[4] for row in notices))

    def _update(self, changes: Sequence[Change]) -> None:
        run = self.connection.execute
        if finished := _all(change.finished for change in changes):
            run("DELETE FROM upload WHERE key IN carray(?1)", (numbers(finished),))
        for key in _all(change.forgotten for change in changes):
            run(_FORGET, (key,))
        self._mark(changes)
        results = _all(change.results for change in changes)
        _RESULT.run(self.connection, results)
        if used := _all(change.used for change in changes):
            self.count_used(self.connection, used)
        if results and (self.claims.reserved or self.claims.alone.wary):
            self.next_due = -math.inf
        if touched := _all(change.touched for change in changes if change.results):
            self.end(touched, max(change.at for change in changes if change.touched))
        if released := _all(change.released for change in changes):
            run(_RELEASE, (numbers(released),))
            self.next_due = -math.inf
        self.next_due = min([self.next_due, *(row[5] for row in results if row[1] == "due")])

    @staticmethod
    def count_used(connection: apsw.Connection, used: Iterable[tuple[str, float, int]]) -> None:
        """Note (provider, when, recipients) that its quotas have spent, inside the caller's transaction."""
        counted: dict[tuple[str, int], int] = {}
        for provider, at, recipients in used:
            key = (provider, bucket_of(at))
            counted[key] = counted.get(key, 0) + recipients
        _USED.run(connection, [(*key, recipients) for key, recipients in counted.items()])

    def _mark(self, changes: Sequence[Change]) -> None:
        marks: dict[str, list[int]] = {}
        for provider, deliveries in _all(change.marks for change in changes):
            marks.setdefault(provider, []).extend(deliveries)
        for provider, ids in marks.items():
            self.connection.execute(_MARK, (numbers(ids), provider))

    def end(self, keys: Sequence[int], at: float) -> None:
        """End those of the messages ``keys`` whose last delivery has ended; drop the bodies that nobody may want."""
        self.connection.execute(_END, (numbers(keys), at))
        if self.connection.changes():
            kept.drop(self.connection.execute, keys)

    @staticmethod
    def write_events(connection: apsw.Connection, values: Sequence[Row]) -> None:
        """Write event rows inside the caller's transaction."""
        _EVENT.run(connection, values)

    def checkpoint(self, mode: int = apsw.SQLITE_CHECKPOINT_PASSIVE) -> None:
        """Copy the log into the database; a reader in the way leaves the rest for the next time."""
        try:
            pages, done = self.connection.wal_checkpoint(mode=mode)
        except apsw.BusyError:
            return
        self.wal_pages = pages - done

    def free_bytes(self) -> int:
        """Bytes inside the file that hold nothing."""
        return int(self.connection.pragma("freelist_count")) * PAGE

    def close(self) -> None:
        """Close the connection and write nothing."""
        self.connection.close()


def _all(parts: Iterable[Sequence[Any]]) -> list[Any]:
    return list(chain.from_iterable(parts))
