"""Zone backups under ``var/zones``: BIND text as Cloudflare exports it, synced to disk before the first change.

Files are 0600 and named after zone and time; nothing here ever deletes one. A lock in the folder keeps a second
``apply`` away.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

INSIDE = Path("/var/lib/ownpost/zones")


class CannotBackUp(Exception):
    """The folder cannot be used; the text is a sentence."""


class Busy(Exception):
    """Another ``apply`` runs."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the folder's lock, making the folder if need be. Raises CannotBackUp or Busy."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CannotBackUp(f"DOMAIN_BACKUPS: {folder} cannot be written: {error.strerror}.") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise Busy("Another apply is running; wait for it to end.") from None
    finally:
        os.close(descriptor)


def save(folder: Path, zone: str, text: str, now: float) -> Path:
    """Writes one zone's text, never over another file. Raises CannotBackUp."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    for number in range(100):
        path = folder / f"{zone}-{stamp}{f'-{number}' if number else ''}.zone"
        try:
            _write(path, text)
        except FileExistsError:
            continue
        except OSError as error:
            raise CannotBackUp(f"DOMAIN_BACKUPS: {path} cannot be written: {error.strerror}.") from None
        return path
    raise CannotBackUp(f"DOMAIN_BACKUPS: {folder} already has a hundred backups of this second.")


def shown(path: Path) -> str:
    """Where a person finds it: ``var/zones`` is what the container's folder is called outside."""
    return f"var/zones/{path.name}" if path.parent == INSIDE else str(path)


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
