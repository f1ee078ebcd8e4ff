"""A disk that fails on order: a layer of SQLite's files that counts the steps that change them and spoils the n-th."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw

FULL = apsw.SQLITE_FULL
BROKEN = {
    "write": apsw.SQLITE_IOERR_WRITE,
    "sync": apsw.SQLITE_IOERR_FSYNC,
    "truncate": apsw.SQLITE_IOERR_TRUNCATE,
    "delete": apsw.SQLITE_IOERR_DELETE,
}


class FaultyDisk:
    """Registered as the VFS ``name`` as long as it lives."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.steps = 0
        self.log: list[tuple[str, str]] = []  # (what, end of the file's name)
        self.trouble: Callable[[int, str, Path], int] = lambda step, what, path: 0  # returns an error code, or 0
        self.images: Path | None = None  # a folder that gets a copy of each file as it was at its last sync
        self._vfs = _Layer(self)

    def step(self, what: str, path: Path) -> None:
        """Count one step; raises what the trouble says."""
        self.steps += 1
        self.log.append((what, path.name))
        code = self.trouble(self.steps, what, path)
        if code:
            raise apsw.exception_for(code)

    def synced(self, path: Path) -> None:
        """Remember the file as it is now."""
        if self.images is not None and path.exists():
            shutil.copyfile(path, self.images / path.name)

    def deleted(self, path: Path) -> None:
        """Forget the file: SQLite syncs the folder after deleting a journal."""
        if self.images is not None:
            (self.images / path.name).unlink(missing_ok=True)

    def close(self) -> None:
        """Unregister it; no connection may be open any more."""
        self._vfs.unregister()


class _Layer(apsw.VFS):
    def __init__(self, disk: FaultyDisk) -> None:
        self._disk = disk
        super().__init__(disk.name, "")

    def xOpen(self, name: Any, flags: list[int]) -> _File:  # noqa: N802 - SQLite's name
        return _File(self._disk, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        self._disk.step("delete", Path(filename))
        super().xDelete(filename, syncdir)
        self._disk.deleted(Path(filename))


class _File(apsw.VFSFile):
    def __init__(self, disk: FaultyDisk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        self._path = Path(name if isinstance(name, str) else name.filename()) if name else Path("temporary")
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self._disk.step("write", self._path)
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        self._disk.step("truncate", self._path)
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._disk.step("sync", self._path)
        super().xSync(flags)
        self._disk.synced(self._path)


def broken(at: int) -> Callable[[int, str, Path], int]:
    """The ``at``-th step fails as on a broken disk; later ones work, as they do after a failed fsync."""
    return lambda step, what, path: BROKEN[what] if step == at else 0


def full(first: int, last: int) -> Callable[[int, str, Path], int]:
    """Writes from the ``first`` to the ``last`` step find no room."""
    return lambda step, what, path: FULL if first <= step <= last and what == "write" else 0
