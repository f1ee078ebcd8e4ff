"""What can go wrong with the spool, as its callers see it.

SpoolError
 +-- SpoolFull       carry on: nothing is half-written; answer 452 4.3.1
 +-- SpoolFailed     cannot continue: answer 451 4.3.0, the process must end
 +-- SpoolUnusable   cannot start: the sentence tells the operator what to change
"""

from __future__ import annotations

import errno
from typing import Final

import apsw

_MAY_MEAN_FULL: Final = (apsw.SQLITE_IOERR_WRITE, apsw.SQLITE_IOERR_TRUNCATE, apsw.SQLITE_IOERR_SHMOPEN)


class SpoolError(Exception):
    """Something the spool could not do."""


class SpoolFull(SpoolError):
    """There is no room for this now; nothing of it was kept."""


class SpoolFailed(SpoolError):
    """A write or an fsync failed: what is on the disk is no longer certain, and nothing more will be written."""


class SpoolUnusable(SpoolError):
    """The spool cannot be opened; the message is a sentence for the operator."""


def is_full(error: Exception, system_errno: int) -> bool:
    """Whether ``error`` (with the connection's ``system_errno``) means that there is no room, not a failing disk.

    Besides SQLITE_FULL these are the log's index, which cannot grow on a full file system; a used-up quota, which
    SQLite reports as a failed write because it only knows ENOSPC; and files, that index among them, which cannot be
    cut short, since a file system that copies on write (Btrfs) needs room even for that.
    """
    if isinstance(error, apsw.FullError):
        return True
    no_room = system_errno in (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, apsw.CantOpenError):  # the log or its index could not be made
        return no_room
    if not isinstance(error, apsw.IOError):
        return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    code = getattr(error, "extendedresult", 0)
    if code == apsw.SQLITE_IOERR_SHMSIZE:
        return True
    return code in _MAY_MEAN_FULL and no_room


def is_ours(error: Exception) -> bool:
    """Whether ``error`` says that a change was wrong in itself (a bug), not that the database or its disk failed."""
    return isinstance(error, apsw.ConstraintError | apsw.MismatchError) or not isinstance(error, apsw.Error)
