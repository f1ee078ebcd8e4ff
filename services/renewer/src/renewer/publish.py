"""The only writer of ``certs/``.

::

    certs/current -> <serial>          switched by one rename(2)
    certs/<serial>/fullchain.pem       0644 in a folder of 0700
    certs/<serial>/privkey.pem         0600
    certs/ca.pem                       0644; self-signed only: the authorities of the folders kept

Every step leaves a state that a reader can live with, and a crash in it is mended by the next start:

1. ``.new-*`` is written and synced: a crash leaves a folder that nobody names; :meth:`Publisher.clean` removes it.
2. it is renamed to its serial: a crash leaves a whole pair that ``current`` does not point to; harmless, pruned later.
3. ``ca.pem`` is replaced by one that holds the old authority *and* the new: whichever pair is served, clients trust it.
4. ``current`` is replaced by one rename: before it the old pair is published, after it the new one.
5. all but the last three folders are removed and ``ca.pem`` follows them; a crash leaves too many until the next time.

Programming errors raise; a disk that fails raises OSError and what was published stays published.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from .pair import Pair, as_pem, chain_of, facts_of

KEPT = 3  # a reader that resolved `current` an instant ago still finds its folder; and an operator can look back
_SERIAL = re.compile(r"[0-9a-f]{1,40}(-[0-9]+)?")  # RFC 5280 4.1.2.2: at most 20 octets


class BusyError(Exception):
    """Another renewer works in this folder."""


class Publisher:
    """Owns the folder ``certs`` from construction to :meth:`close`; a lock keeps a second renewer out.

    Raises :class:`BusyError` if there is one, OSError if the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.clean()
        except BlockingIOError:
            os.close(self._lock)
            raise BusyError(f"Another renewer works in {folder}.") from None
        except OSError:
            os.close(self._lock)
            raise

    def close(self) -> None:
        os.close(self._lock)

    def current(self) -> Pair | None:
        """The pair that is published, or None; a folder that someone damaged counts as none."""
        return self._read(self._folder / "current")

    def publish(self, pair: Pair, *, authority: bool = False) -> str:
        """Make ``pair`` the current one and return its folder's name.

        ``authority`` says that clients are to trust the last certificate of the chain: it goes into ``ca.pem``.
        The caller has verified the pair. Raises OSError; then the pair published before is still in force.
        """
        name = self._store(pair)
        if authority:
            self._write_authorities({name, *self._folders()[:KEPT]})
        self._switch(name)
        for old in self._folders()[KEPT:]:
            shutil.rmtree(self._folder / old)
        if authority:
            self._write_authorities(set(self._folders()))
        else:
            (self._folder / "ca.pem").unlink(missing_ok=True)
        _sync(self._folder)
        return name

    def clean(self) -> None:
        """Remove what an interrupted run left behind. Only names that this module makes are touched."""
        for leftover in self._folder.glob(".new-*"):
            if leftover.is_dir() and not leftover.is_symlink():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()

    def _store(self, pair: Pair) -> str:
        name = self._free_name(pair)
        if self._read(self._folder / name) == pair:  # published before: an operator went back to an older pair
            os.utime(self._folder / name)
            return name
        new = self._temporary()
        new.mkdir(mode=0o700)
        _write(new / "fullchain.pem", pair.fullchain, 0o644)
        _write(new / "privkey.pem", pair.privkey, 0o600)
        _sync(new)
        new.rename(self._folder / name)
        _sync(self._folder)
        return name

    def _free_name(self, pair: Pair) -> str:
        """The serial; with a number behind it where that folder holds something else (same leaf, another chain)."""
        serial = facts_of(pair.fullchain).serial
        for number in range(1, 1000):
            name = serial if number == 1 else f"{serial}-{number}"
            path = self._folder / name
            if not path.exists() or self._read(path) == pair:
                return name
        raise OSError(f"{self._folder} holds too many folders for the serial {serial}")

    def _switch(self, name: str) -> None:
        link = self._temporary()
        link.symlink_to(name)
        link.rename(self._folder / "current")
        _sync(self._folder)

    def _write_authorities(self, names: set[str]) -> None:
        """``ca.pem`` := the roots of these folders, so that clients trust the pair that was, is and will be served."""
        roots = {root: None for name in self._folders() if name in names for root in self._root(name)}
        new = self._temporary()
        _write(new, b"".join(roots), 0o644)
        new.rename(self._folder / "ca.pem")
        _sync(self._folder)

    def _root(self, name: str) -> Iterator[bytes]:
        pair = self._read(self._folder / name)
        last = chain_of(pair.fullchain)[-1] if pair else None
        if last is not None and last.issuer == last.subject:
            yield as_pem([last])

    def _folders(self) -> list[str]:
        """Names of the published folders, the current one first, then the newest."""
        current = os.readlink(self._folder / "current") if (self._folder / "current").is_symlink() else ""
        found = [entry for entry in os.scandir(self._folder) if _SERIAL.fullmatch(entry.name) and entry.is_dir()]
        found.sort(key=lambda entry: (entry.name == current, entry.stat().st_mtime_ns), reverse=True)
        return [entry.name for entry in found]

    def _read(self, folder: Path) -> Pair | None:
        try:
            home = folder.resolve(strict=True)
            pair = Pair((home / "fullchain.pem").read_bytes(), (home / "privkey.pem").read_bytes())
            chain_of(pair.fullchain)
        except (OSError, ValueError):
            return None
        return pair

    def _temporary(self) -> Path:
        return self._folder / f".new-{secrets.token_hex(8)}"


def _write(path: Path, data: bytes, mode: int) -> None:
    """Create ``path`` with exactly ``mode`` (whatever the umask) and see its bytes to the disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def _sync(folder: Path) -> None:
    """A rename is on disk only once its folder is (fsync(2), NOTES)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
