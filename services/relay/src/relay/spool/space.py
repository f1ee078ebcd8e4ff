"""How much may still be accepted, and the ballast that lets outcomes through when nothing may.

Room = free space of the file system + free pages of the database - floor - the ballast's size while it is not there -
what uploads in flight have announced - what was taken in since the file system was last asked (at most once a second:
asking is a system call, and this is asked for every message) + the bodies of failed mail, which yield to new mail.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from relay import limits
from relay.clock import Clock
from relay.spool.errors import SpoolFull

ASK_EVERY: Final = 1.0
INODES: Final = 16  # the spool makes four files in all; a file system without any left cannot even take its log


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """What the file system says of itself."""

    size: int
    free: int  # for an ordinary user
    inodes: int | None  # free ones; None where they are not counted (Btrfs)


def look(folder: Path) -> Disk:
    """Ask the file system that holds ``folder``."""
    found = os.statvfs(folder)
    inodes = found.f_favail if found.f_files else None
    return Disk(size=found.f_blocks * found.f_frsize, free=found.f_bavail * found.f_frsize, inodes=inodes)


def floor(message_limit: int, disk_size: int) -> int:
    """Bytes that are never given to new mail: outcomes, the log and the largest message need them."""
    return max(message_limit * 3 // 2, min(disk_size // 20, limits.GIB))


class Reservation:
    """Room announced by one upload; give it back with :meth:`release` as soon as the message is kept or gone."""

    __slots__ = ("_size", "_space")

    def __init__(self, space: Space, size: int) -> None:
        self._space, self._size = space, size

    def release(self) -> None:
        """Give it back; more than once does no harm."""
        self._space.reserved -= self._size
        self._size = 0


class Space:
    """The room of one spool. Lives on the loop; ``free_inside`` and ``kept`` are refreshed by the writer's reports."""

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        message_limit: int,
        look: Callable[[Path], Disk] = look,
        ballast: Ballast | None = None,
    ) -> None:
        self._folder, self._clock, self._limit, self._look = folder, clock, message_limit, look
        self._ballast = ballast
        self._asked = clock.monotonic()
        self.disk = look(folder)
        self._owed = self._missing()
        self.reserved = 0
        self.taken = 0
        self.free_inside = 0
        self.kept = 0  # bytes of failed mail's bodies

    def room(self) -> int:
        """Bytes that may still be accepted; never below 0."""
        room = self._room()
        return 0 if self.disk.inodes is not None and self.disk.inodes < INODES else room

    def excess(self) -> int:
        """Bytes of failed mail's bodies that are beyond their share of the room."""
        return max(0, self.kept - int(self._room() * limits.KEPT_SHARE))

    def _room(self) -> int:
        now = self._clock.monotonic()
        if now - self._asked >= ASK_EVERY:
            self.disk, self._asked, self.taken = self._look(self._folder), now, 0
            self._owed = self._missing()
        usable = self.disk.free + self.free_inside + self.kept - floor(self._limit, self.disk.size) - self._owed
        return max(0, usable - self.reserved - self.taken)

    def _missing(self) -> int:
        """The ballast's room while there is no ballast. It is what the database needs to take in the log; mail that
        took it would leave a spool that fills the disk by itself, could not copy its log, and would not even open.
        """
        return self._ballast.size if self._ballast is not None and not self._ballast.there() else 0

    def reserve(self, size: int) -> Reservation:
        """Set ``size`` bytes aside for an upload; raises :class:`SpoolFull` if they are not there."""
        if size >= self.room():
            raise SpoolFull("There is not enough free disk space to keep this message.")
        self.reserved += size
        return Reservation(self, size)


class Ballast:
    """A file that only takes up room, to be given up when the disk is full."""

    def __init__(self, path: Path, size: int = limits.BALLAST) -> None:
        self.path, self.size = path, size

    def there(self) -> bool:
        """Whether it can be given up."""
        return self.path.exists()

    def give_up(self) -> bool:
        """Free its room; False if there was none. Truncated first: a removed file's blocks go with its last user."""
        try:
            os.truncate(self.path, 0)
            self.path.unlink()
        except OSError:
            return False
        return True

    def make(self, disk: Disk, floor: int) -> None:
        """Take the room (again) if there is plenty. Never raises: without ballast the spool works, until it is full."""
        if self.there() or disk.free < floor + 2 * self.size:
            return
        try:
            with self.path.open("xb") as file:
                os.posix_fallocate(file.fileno(), 0, self.size)
        except OSError:
            self.give_up()
