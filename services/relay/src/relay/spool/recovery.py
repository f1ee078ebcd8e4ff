"""Opening a spool: alone, checked, and with what a crash left put in order.

The order matters and is the one of ``docs/spool.md``. Nothing here deletes or overwrites a file that cannot be read: it
refuses, with a sentence.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import apsw

from relay import limits
from relay.model import Event, Installation, Job
from relay.spool import installation as owner
from relay.spool import schema, store
from relay.spool.changes import Numbers
from relay.spool.errors import SpoolUnusable, is_full
from relay.spool.leftovers import Before, put_in_order
from relay.spool.space import Ballast
from relay.spool.store import Store

IN_ORDER: Final = b"in order\n"  # in the lock's file: so the last relay ended


@dataclass(slots=True, kw_only=True)
class Opened:
    """A spool ready for use."""

    store: Store
    numbers: Numbers
    stuck: tuple[Job, ...]  # in doubt too often: delivery has to record `unknown` and the notice
    events: list[Event]
    lock: int

    def close(self, *, in_order: bool = False) -> None:
        """Close the database and give up the lock; the log stays as it is. Unless the relay ends ``in order``, the next
        start takes what is in hand for a possible reason.
        """
        self.store.close()
        if in_order:
            with suppress(OSError):  # the disk is full or fails
                os.pwrite(self.lock, IN_ORDER, 0)
        os.close(self.lock)


def open_store(
    folder: Path,
    now: float,
    *,
    trial: bool = False,
    installation: Installation | None = None,
    doubt_wait: float = limits.DOUBT_WAIT,
    vfs: str | None = None,
    connect: Callable[..., apsw.Connection] = store.connect,
) -> Opened:
    """Open the spool in ``folder``, making it if it is not there; raises :class:`SpoolUnusable`.

    With ``trial`` mail is written to files instead of sent; what waits of the other kind is held. The spool of another
    ``installation`` is refused. What may have been sent when the relay stopped is sent again after ``doubt_wait``
    seconds. ``vfs`` names the SQLite file layer (tests make it fail).
    """
    prepare_folder(folder)
    owner.check(folder, installation)
    lock = take_lock(folder / "lock")
    try:
        owner.check(folder, installation)  # somebody else may have been the first just now
        owner.adopt(folder, installation)
        before = Before(died=not _ended_in_order(lock), now=now, again=now + doubt_wait, trial=trial)
        return _open_locked(folder, lock, before, lambda path: connect(path, vfs))
    except BaseException:
        os.close(lock)
        raise


def _open_locked(folder: Path, lock: int, before: Before, connect: Callable[[Path], apsw.Connection]) -> Opened:
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
        return _recover(Store(connection, before.trial), lock, before)
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
    return _open_locked(folder, lock, before, connect)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def prepare_folder(folder: Path) -> None:
    """Make the folder, private to this user; raises :class:`SpoolUnusable` if that cannot be."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
        if found.st_uid != os.geteuid():
            raise SpoolUnusable(
                f"The spool folder {folder} belongs to uid {found.st_uid}, and the relay runs as uid {os.geteuid()}: "
                "another installation made it, or this one under another user. Nothing was changed. Start that one in "
                "its own folder; or run this one as that user (OWNPOST_UID), or change the folder's owner."
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


def _ended_in_order(lock: int) -> bool:
    """What the lock's file says of the last end. From now on it says nothing, until the next end in order: unsynced, so
    that a power cut may pass for one, which only spares the mail that it met.
    """
    in_order = False
    with suppress(OSError):  # the disk fails: whatever it is worth, the spool will say so
        in_order = os.pread(lock, len(IN_ORDER), 0) == IN_ORDER
        if in_order:
            os.ftruncate(lock, 0)
    return in_order


def _recover(opened: Store, lock: int, before: Before) -> Opened:
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
        events, stuck = put_in_order(connection, numbers, before)
    return Opened(
        store=opened,
        numbers=numbers,
        stuck=tuple(opened.claims.stuck(stuck) if stuck else ()),
        events=events,
        lock=lock,
    )
