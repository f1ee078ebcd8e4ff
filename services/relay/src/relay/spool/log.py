"""Copies the write-ahead log into the database before it grows too long, beside the writer.

Copying 16 MiB takes a tenth of a second, which nobody's 250 should wait for. So a second connection copies in a thread
of its own while the writer goes on appending; when little is left, the writer copies the rest between two groups, and
SQLite starts the log anew. Under an upload that is faster than the copying the log would never get short: at a hard
limit the writer waits and does it all.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import apsw

from relay.spool.errors import is_full
from relay.spool.store import Store

PAGES: Final = 4_000  # 16 MiB of log, then copying begins
REST: Final = 500  # 2 MiB: the writer copies so much itself, in about 10 ms
LIMIT: Final = 15_000  # 59 MiB: the largest message fits, and the ballast makes room for copying all of it


class Log:
    """The length of one spool's log. Belongs to the writer's thread."""

    def __init__(self, store: Store, connect: Callable[[], apsw.Connection]) -> None:
        """``connect`` makes the second connection; it is called when it is first needed, in the thread that uses it."""
        self._store, self._connect = store, connect
        self._second: apsw.Connection | None = None
        self._thread = ThreadPoolExecutor(1, "spool-log")
        self._copying: Future[int] | None = None
        self._copied = 0  # pages of the log that the second connection has copied
        self._seen = 0
        self._begin_at = PAGES

    def tend(self) -> bool:
        """Do what is to be done after a commit; False when the log is at its limit and there is no room to copy it.

        Raises SQLite's error when copying failed, except for want of room.
        """
        pages = self._store.wal_pages
        if pages < self._seen:  # started anew
            self._copied, self._begin_at = 0, PAGES
        self._seen = pages
        if pages < self._begin_at or (self._busy() and pages < LIMIT):
            return True
        self._take_in()
        if pages >= LIMIT:
            return self.copy(apsw.SQLITE_CHECKPOINT_RESTART)
        if pages - self._copied <= REST:
            self.copy(apsw.SQLITE_CHECKPOINT_PASSIVE)
        else:
            self._copying = self._thread.submit(self._copy_beside)
        return True

    def copy(self, mode: int) -> bool:
        """Copy all of it now, in this thread, once the other has finished; False if the database found no room for it:
        what is in the log is safe there, and is copied another time.
        """
        self._take_in()
        room = True
        try:
            self._store.checkpoint(mode)
        except apsw.Error as error:
            if not is_full(error, self._store.connection.system_errno):
                raise
            room = False
        self._copied, self._begin_at = 0, self._store.wal_pages + (PAGES if room else REST)
        return room

    def close(self) -> None:
        """Wait for the other thread and end it; raises nothing."""
        self._thread.shutdown()
        if self._second is not None:
            self._second.close()

    def _busy(self) -> bool:
        return self._copying is not None and not self._copying.done()

    def _take_in(self) -> None:
        """Wait for the other thread; raises what it met."""
        if self._copying is not None:
            copying, self._copying = self._copying, None
            self._copied = copying.result()

    def _copy_beside(self) -> int:
        """Runs in the other thread; returns how many pages are copied."""
        try:
            if self._second is None:
                self._second = self._connect()
            return self._second.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)[1]
        except apsw.BusyError:
            return 0
        except apsw.Error as error:
            if is_full(error, self._second.system_errno if self._second is not None else 0):
                return 0
            raise
