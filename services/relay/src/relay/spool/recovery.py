"""Opening a spool: alone, checked, and with what a crash left put in order.

The order matters and is the one of ``docs/spool.md``. Nothing here deletes or overwrites a file that cannot be read: it
refuses, with a sentence.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import apsw

from relay import limits
from relay.model import Event, EventKind, Job
from relay.spool import flows, mode, schema, store
from relay.spool.changes import Numbers
from relay.spool.errors import SpoolUnusable, is_full
from relay.spool.rows import TIE
from relay.spool.schema import SHIFT
from relay.spool.space import Ballast
from relay.spool.store import Store

_DOUBT_REPLY: Final = "The relay stopped before the provider had answered; it may have accepted the message."


@dataclass(slots=True, kw_only=True)
class Opened:
    """A spool ready for use."""

    store: Store
    numbers: Numbers
    stuck: tuple[Job, ...]  # in doubt too often: delivery has to record `unknown` and the notice
    events: list[Event]
    lock: int

    def close(self) -> None:
        """Close the database and give up the lock; the log stays as it is."""
        self.store.close()
        os.close(self.lock)


def open_store(
    folder: Path,
    now: float,
    *,
    trial: bool = False,
    doubt_wait: float = limits.DOUBT_WAIT,
    vfs: str | None = None,
    connect: Callable[..., apsw.Connection] = store.connect,
) -> Opened:
    """Open the spool in ``folder``, making it if it is not there; raises :class:`SpoolUnusable`.

    With ``trial`` mail is written to files instead of sent; what waits of the other kind is held. What may have been
    sent when the relay stopped is sent again after ``doubt_wait`` seconds. ``vfs`` names the SQLite file layer (tests
    make it fail).
    """
    prepare_folder(folder)
    lock = take_lock(folder / "lock")
    try:
        return _open_locked(folder, lock, (now, now + doubt_wait), trial, lambda path: connect(path, vfs))
    except BaseException:
        os.close(lock)
        raise


def _open_locked(
    folder: Path, lock: int, times: tuple[float, float], trial: bool, connect: Callable[[Path], apsw.Connection]
) -> Opened:
    """``times``: now, and when what is in doubt is sent again."""
    connection: apsw.Connection | None = None
    try:
        connection = connect(folder / "spool.db")
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        # Closing any descriptor of a file gives up all of the process's locks on it (fcntl(2)), SQLite's too; then the
        # next program that looks at the database and leaves takes itself for the last user and deletes the log under
        # us. So it is synced while it is not open.
        connection.close()
        connection = None
        sync(folder)
        connection = connect(folder / "spool.db")
        schema.migrate(connection)
        return _recover(Store(connection, trial), lock, *times)
    except (apsw.Error, OSError, SpoolUnusable) as error:
        full = is_full(error, connection.system_errno if connection is not None else 0)
        if connection is not None:
            connection.close()
        if isinstance(error, SpoolUnusable):
            raise
        if not full:
            raise SpoolUnusable(
                f"The spool in {folder} cannot be read ({_words(error)}). It was left as it is: check the disk, copy "
                "the folder before anything else, or point RELAY_SPOOL to an empty one."
            ) from error
        if not Ballast(folder / "ballast").give_up():
            raise SpoolUnusable(f"The disk that holds the spool in {folder} is full; make room on it.") from error
    return _open_locked(folder, lock, times, trial, connect)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def prepare_folder(folder: Path) -> None:
    """Make the folder, private to this user; raises :class:`SpoolUnusable` if that cannot be."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        if found.st_uid != os.geteuid():
            raise SpoolUnusable(
                f"The spool folder {folder} belongs to uid {found.st_uid}, and the relay runs as uid {os.geteuid()}; "
                "change its owner or run the relay as that user."
            )
        if found.st_mode & 0o777 != 0o700:
            folder.chmod(0o700)
    except OSError as error:
        raise SpoolUnusable(f"The spool folder {folder} cannot be used: {error.strerror or error}.") from error


def take_lock(path: Path) -> int:
    """An exclusive lock, for as long as the descriptor is open; raises :class:`SpoolUnusable` if another has it."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise SpoolUnusable(f"The spool's lock file {path} cannot be opened: {error.strerror}.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise SpoolUnusable(
            f"Another relay uses the spool in {path.parent}; stop it first, or give this one a folder of its own."
        ) from error
    return descriptor


def sync(folder: Path) -> None:
    """fsync the database, its log, the folder and those that hold it, up to the mount: names too must survive a power
    cut, and whoever made the folders above (we, an earlier start that was cut short, ``make try``) may not have synced
    them.

    No connection to the database may be open in this process: it would lose its locks.
    """
    device = folder.stat().st_dev
    above = [parent for parent in folder.resolve().parents if parent.stat().st_dev == device]
    for path in (folder / "spool.db", folder / "spool.db-wal", folder, *above):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, PermissionError):
            continue  # no log yet; or a parent that we may pass through but not read, whose entry its owner made
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _recover(opened: Store, lock: int, now: float, again: float) -> Opened:
    """Put in order what a crash left, and hold what does not fit the settings, in one commit."""
    connection = opened.connection
    run: Callable[..., Any] = connection.execute
    with connection:
        generation = run("UPDATE meta SET value = value + 1 WHERE name = 'generation' RETURNING value").fetchall()[0][0]
        next_key = (
            1
            + run(
                "SELECT max(coalesce((SELECT max(key) FROM message), 0), coalesce((SELECT max(key) FROM upload), 0))"
            ).get
        )
        numbers = Numbers(next_key, generation)
        claimed = _count(connection, _CLAIMED)
        doubtful = run(_DOUBTFUL, (again, limits.DOUBTS, now)).fetchall()
        uploads = [row[0] for row in run("SELECT key FROM upload")]
        for key in uploads:
            run("DELETE FROM chunk WHERE id BETWEEN ? AND ?", (schema.first(key), schema.last(key)))
        run("DELETE FROM upload")
        flows.bring_back(run, now)
        Store.count_used(connection, [(row[3], now, 1) for row in doubtful])
        events = _doubt_events(connection, numbers, doubtful, now)
        for key, event in mode.settle(run, opened.trial, now):
            Store.write_events(connection, numbers.event_rows([event], key))
            events.append(event)
        stuck = sorted({row[0] >> SHIFT for row in run(_STUCK, (opened.trial,))})
        if claimed or doubtful or uploads or stuck:
            detail = {"claimed": claimed, "doubtful": len(doubtful) + len(stuck), "uploads": len(uploads)}
            summary = Event(kind=EventKind.RECOVERED, at=now, detail=detail)
            Store.write_events(connection, numbers.event_rows([summary], 0))
            events.append(summary)
    return Opened(
        store=opened,
        numbers=numbers,
        stuck=tuple(opened.claims.stuck(stuck) if stuck else ()),
        events=events,
        lock=lock,
    )


_BUSY: Final = "state IN ('claimed', 'sending', 'held')"  # the words of the index, or it would not be used
_CLAIMED: Final = f"UPDATE delivery SET state = 'due' WHERE {_BUSY} AND state = 'claimed'"
_DOUBTFUL: Final = f"""
UPDATE delivery SET state = 'due', next_attempt = ?1, attempts = attempts + 1, doubts = doubts + 1, changed_at = ?3,
    reply = '{_DOUBT_REPLY}', code = 0, tried = '{TIE}' || provider
WHERE {_BUSY} AND state = 'sending' AND doubts < ?2 RETURNING id, account, recipient, provider, doubts
"""
_STUCK: Final = f"""
SELECT id FROM delivery WHERE {_BUSY} AND state = 'sending'
    AND (SELECT m.trial FROM message AS m WHERE m.key = delivery.id >> {SHIFT}) = ?1
"""


def _count(connection: apsw.Connection, statement: str) -> int:
    connection.execute(statement)
    return connection.changes()


def _doubt_events(
    connection: apsw.Connection, numbers: Numbers, doubtful: list[tuple[Any, ...]], now: float
) -> list[Event]:
    events = []
    for delivery, account, recipient, provider, doubts in doubtful:
        key = delivery >> SHIFT
        event = Event(
            kind=EventKind.DOUBTFUL,
            at=now,
            message=connection.execute("SELECT id FROM message WHERE key = ?", (key,)).get,
            account=account,
            recipient=recipient,
            provider=provider,
            reply=_DOUBT_REPLY,
            detail={"doubts": doubts},
        )
        Store.write_events(connection, numbers.event_rows([event], key))
        events.append(event)
    return events
