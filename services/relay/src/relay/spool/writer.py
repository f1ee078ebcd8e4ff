"""The one thread that writes: takes what has gathered, commits it as a group, answers all, and begins again.

There is no timer: an idle relay commits a lone message at once, a busy one commits many together because they gathered
while the last group was being synced. What a failed commit means is decided here (``docs/spool.md``, "Groups").

The thread talks to the event loop by one ``call_soon_threadsafe`` a group.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Final

import apsw

from relay.choice.offer import Offer
from relay.clock import Clock
from relay.model import Job
from relay.spool import kept
from relay.spool.changes import Change, parts
from relay.spool.errors import SpoolFailed, SpoolFull, is_full, is_ours
from relay.spool.log import Log
from relay.spool.pruning import Pruner
from relay.spool.space import Ballast, Disk, floor, look
from relay.spool.store import Store

CHUNK_BYTES: Final = 2 * 1024 * 1024  # of uploads' chunks in one group: small messages wait behind no more than these
PATIENCE: Final = 60.0  # seconds that housekeeping may be put off because there is always something to write
RETRY: Final = 1.0  # seconds until a claim is tried again that found no room to be written
FULL: Final = "There is not enough free disk space to keep this."


@dataclass(slots=True, eq=False)
class Standing:
    """A claim that waits; ``future`` is the loop's, and read here only to see whether anyone still wants it."""

    offer: Callable[[], Offer]
    future: Any


@dataclass(slots=True, eq=False)
class Group:
    """What the loop is told after a commit."""

    changes: list[Change]
    standing: Standing | None = None
    jobs: list[Job] = field(default_factory=list)
    next_due: float = -math.inf
    waits: bool = False  # something is due that nobody takes as things are
    free_inside: int | None = None
    kept: int = 0  # bytes of failed mail's bodies; counted with ``free_inside``
    seconds: float = 0.0
    failed: str = ""  # why nothing will be written any more
    more: bool = False  # housekeeping has more to do


class _Fatal(Exception):
    """The disk or the database cannot be trusted any more."""


_STOP: Final = object()
_KICK: Final = object()
_LOOK: Final = object()
_HOUSEKEEPING: Final = object()


class Writer(threading.Thread):
    """Owns the store from :meth:`start` to :meth:`stop`."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        post: Callable[[Group], None],
        *,
        log: Log,
        ballast: Ballast,
        message_limit: int,
        pruner: Pruner,
        look: Callable[..., Disk] = look,
    ) -> None:
        """``post`` hands a group to the loop, and is called in this thread."""
        super().__init__(name="spool", daemon=True)
        self._store, self._clock, self._post = store, clock, post
        self._log, self._ballast, self._message_limit = log, ballast, message_limit
        self._pruner, self._look = pruner, look
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._chunks: deque[Change] = deque()
        self._stopping = False
        self._failed = ""
        self._counted = -math.inf
        self._kept_house = time.monotonic()
        self.standing: deque[Standing] = deque()  # appended to by the loop without waking this thread

    # --- called by the loop -----------------------------------------------------------------------------------------

    def submit(self, change: Change) -> None:
        """Have ``change`` written with the next group."""
        self._queue.put(change)

    def kick(self) -> None:
        """Try the standing claim: something is due."""
        self._queue.put(_KICK)

    def look(self) -> None:
        """Try the standing claim again with what is due and was not taken: a provider may take it now."""
        self._queue.put(_LOOK)

    def housekeep(self) -> None:
        """Forget and shrink a little, if there is nothing else to do."""
        self._queue.put(_HOUSEKEEPING)

    def stop(self) -> None:
        """Write what has gathered, copy the log into the database, and end. Join afterwards."""
        self._queue.put(_STOP)

    # --- the thread -------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Write groups until told to stop."""
        while not (self._stopping and not self._chunks and self._queue.empty()):
            changes, housekeeping = self._gather()
            if self._failed:
                self._refuse(changes)
            elif changes or self._claim_is_due():
                self._guard(changes, self._group)
                self._guard([], self._tend)
                housekeeping = housekeeping and (not changes or time.monotonic() - self._kept_house > PATIENCE)
            if housekeeping:
                self._guard([], self._housekeeping)
        self._guard([], self._last)
        self._log.close()

    def _gather(self) -> tuple[list[Change], bool]:
        """Everything that waits, except that chunks are limited; waits until there is something."""
        queue, chunks = self._queue, self._chunks
        changes: list[Change] = []
        housekeeping = False
        while not queue.empty() or not (changes or chunks or housekeeping or self._stopping):
            item = queue.get()
            if isinstance(item, Change):
                (changes if item.durable or not item.chunks else chunks).append(item)
            elif item is _STOP:
                self._stopping = True
            elif item is _HOUSEKEEPING:
                housekeeping = True
            else:
                if item is _LOOK:
                    self._store.look()
                if queue.empty():
                    break
        size = 0
        while chunks and size < CHUNK_BYTES:
            size += chunks[0].size
            changes.append(chunks.popleft())
        return changes, housekeeping

    def _claim_is_due(self) -> bool:
        return bool(self.standing) and self._store.next_due <= self._clock.time()

    def _guard(self, changes: list[Change], step: Callable[[list[Change]], None]) -> None:
        """Run ``step``, unless writing has ended; whatever it raises ends the writing, and everyone is told."""
        if self._failed:
            return
        try:
            step(changes)
        except BaseException as error:
            cause = error.__cause__ if isinstance(error, _Fatal) and error.__cause__ is not None else error
            self._failed = f"The spool could not be written ({type(cause).__name__}: {cause})."
            self._refuse(changes)

    def _refuse(self, changes: list[Change]) -> None:
        for change in changes:
            if not change.committed and change.error is None:
                change.error = SpoolFailed(self._failed)
        self._post(Group(changes, failed=self._failed))

    def _group(self, changes: list[Change]) -> None:
        began = time.perf_counter()
        standing = self._next_claim()
        now = self._clock.time()
        group = Group(changes)
        group.jobs = self._write(changes, now, standing.offer() if standing else None)
        if group.jobs:
            group.standing = self.standing.popleft()
            if self.standing and self._store.claims.waits:
                self._store.look()  # the next claim brings an offer of its own
        group.next_due, group.waits = self._store.next_due, self._store.claims.waits
        if abs(now - self._counted) >= 1.0:
            self._count(group, now)
        group.seconds = time.perf_counter() - began
        self._post(group)

    def _tend(self, _changes: list[Change]) -> None:
        if not self._log.tend():
            self._make_way()  # the ballast can take in a log of that length, and no longer one

    def _next_claim(self) -> Standing | None:
        """The oldest claim that is still wanted; it stays in the row until it has been served."""
        while self.standing:
            if not self.standing[0].future.done():
                return self.standing[0]
            self.standing.popleft()
        return None

    def _write(self, changes: list[Change], now: float, offer: Offer | None = None) -> list[Job]:
        """Commit ``changes`` together, or in parts when that fails for a reason that is only some members' own.

        Raises :class:`_Fatal` for everything else; members that were committed before are marked so.
        """
        try:
            jobs = self._store.apply(changes, now, offer)
        except Exception as error:
            full = is_full(error, self._store.connection.system_errno)
            if not full and not (changes and is_ours(error)):
                raise _Fatal from error
            self._mend(changes, now, offer is not None, SpoolFull(FULL) if full else error)
            return []
        for change in changes:
            change.committed = True
        return jobs

    def _mend(self, changes: list[Change], now: float, claim: bool, error: Exception) -> None:
        """Commit what can be committed of a group that failed with ``error``; the rest gets it."""
        full = isinstance(error, SpoolFull)
        if full and not any(change.needs_room for change in changes) and self._make_way():
            self._write(changes, now)
        elif claim and changes:
            self._write(changes, now)  # perhaps the claim was what failed; it waits for the next group
        elif len(changes) > 1:
            for part in parts(changes):
                self._write(part, now)
        elif changes and full and self._give_up(now):
            self._write(changes, now)
        elif changes:
            changes[0].error = error
        else:
            self._store.next_due = now + RETRY

    def _give_up(self, now: float) -> bool:
        """Give up all bodies of failed mail, for what found no room on the disk. False when there are none, or not even
        room to note that; the ballast is not for this.
        """
        self._copied()
        self._counted = -math.inf  # the loop is told with this very group
        try:
            return kept.give_up_all(self._store, now) > 0
        except Exception as error:
            if not is_full(error, self._store.connection.system_errno):
                raise _Fatal from error
            return False

    def _make_way(self) -> bool:
        """Find room for outcomes: by copying the log, whose room is then used again, and by giving up the ballast, into
        which the database grows for that: at once, before a log that goes on growing has taken the room. False when
        nothing is left to try.
        """
        if self._copied():
            return True
        given = self._ballast.give_up()
        if given:
            self._copied()
        return given

    def _copied(self) -> bool:
        """Copy the log; False if there was nothing to copy or not room enough for all of it."""
        if self._store.wal_pages:
            self._log.copy(apsw.SQLITE_CHECKPOINT_PASSIVE)
            return not self._store.wal_pages
        return False

    def _count(self, group: Group, now: float) -> None:
        """The free bytes inside the file, and what would give more."""
        self._counted = now
        group.free_inside, group.kept = self._store.free_bytes(), kept.total(self._store.connection.execute)

    def _last(self, _changes: list[Change]) -> None:
        self._log.copy(apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def _housekeeping(self, _changes: list[Change]) -> None:
        now = self._clock.time()
        change = Change(at=now, work=lambda store: self._pruner.turn(store, now))
        self._write([change], now)
        self._kept_house = time.monotonic()
        self._log.copy(apsw.SQLITE_CHECKPOINT_TRUNCATE)
        disk = self._look(self._ballast.path.parent)
        self._ballast.make(disk, floor(self._message_limit, disk.size))
        group = Group([], next_due=self._store.next_due, waits=self._store.claims.waits)
        group.more = bool(change.answer)
        self._count(group, now)
        self._post(group)
