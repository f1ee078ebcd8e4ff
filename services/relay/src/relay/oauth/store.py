"""The newest refresh token of each provider, where it survives a restart: ``<spool>/oauth/<name>.json``, mode 0600.

Which token holds:

- what ``make oauth`` or a rotation wrote here holds, as long as the settings it was made under are still those;
- another ``NAME_OAUTH_REFRESH_TOKEN`` in ``.env`` than at that time, another client id or another mailbox: then
  ``.env`` holds, and what is kept here is of no more use;
- nothing kept: ``.env`` holds.

A file is replaced by one rename after both file and folder were synced: a crash leaves the old or the new token, never
half of one. A rotation replaces only the token that it came from, under a lock, so that the relay cannot undo what
``make oauth`` wrote at the same moment.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from relay.oauth.settings import OAuthSettings

FOLDER = "oauth"  # below the spool's
FILE_SIZE = 64 * 1024  # characters read of a file; one has 3 KiB


class Store:
    """The file of one provider. Methods block for as long as a disk takes."""

    def __init__(self, spool: Path, name: str, username: str, settings: OAuthSettings) -> None:
        self._folder = spool / FOLDER
        self._file = self._folder / f"{name}.json"
        self._given = settings.refresh_token
        self._made_under = {
            "mailbox": username,
            "client_id": settings.client_id,
            "of": hashlib.sha256(settings.refresh_token.encode()).hexdigest() if settings.refresh_token else "",
        }

    def newest(self) -> str:
        """The refresh token that holds; empty if there is none. Raises OSError."""
        try:
            with self._file.open(encoding="utf-8") as file:
                kept: Any = json.loads(file.read(FILE_SIZE))
        except (FileNotFoundError, ValueError):  # ValueError: not ours, or from a disk that lost it
            return self._given
        if not isinstance(kept, dict) or any(kept.get(name) != value for name, value in self._made_under.items()):
            return self._given
        token = kept.get("refresh_token")
        return token if isinstance(token, str) and token else self._given

    def keep(self, token: str) -> None:
        """From now on ``token`` holds. Raises OSError."""
        with self._locked():
            self._write(token)

    def replace(self, old: str, new: str) -> bool:
        """As :meth:`keep`, but only while ``old`` holds; whether it did. Raises OSError."""
        with self._locked():
            if self.newest() != old:
                return False
            self._write(new)
            return True

    def _write(self, token: str) -> None:
        text = json.dumps({"refresh_token": token, **self._made_under})
        fresh = self._file.with_suffix(".new")
        fresh.unlink(missing_ok=True)  # of a run that was killed
        try:
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._file)
        except OSError:
            fresh.unlink(missing_ok=True)
            raise
        _sync(self._folder)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
