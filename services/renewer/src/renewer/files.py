"""OWNPOST_TLS=files: publishes a pair that the operator supplies, and looks every minute whether it has changed.

Whatever renews those files writes them one after the other; between the two writes key and certificate do not belong
together. That is a failure of this attempt like any other: the next one, a minute later, finds the pair whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from . import verify
from .outcome import Failed, Kept, Kind, Offered, Outcome
from .pair import Pair, as_pem, chain_of

EVERY = 60.0  # seconds between two looks
SIZE = 1024 * 1024  # bytes; a chain of ten certificates has 20 KiB: more is the wrong file


class Files:
    """Reads ``cert`` (leaf first, then its issuers) and ``key``; the settings' names stand in its sentences."""

    def __init__(self, cert: Path, key: Path, *, names: Sequence[str], now: Callable[[], float]) -> None:
        self._paths = {"RENEWER_FILES_CERT": cert, "RENEWER_FILES_KEY": key}
        self._names = names
        self._now = now

    async def attempt(self, current: Pair | None) -> Outcome:
        now = self._now()
        try:
            # In a thread: the operator's folder may be a network mount that hangs, and `/livez` must go on answering.
            fullchain, privkey = await asyncio.to_thread(self._read)
        except OSError as error:
            return Failed(Kind.FILE, str(error), now + EVERY)
        problems = verify.problems(Pair(fullchain, privkey), names=self._names, now=now)
        if problems:
            return Failed(Kind.PAIR, f"{self._paths['RENEWER_FILES_CERT']}: {' '.join(problems)}", now + EVERY)
        pair = Pair(as_pem(chain_of(fullchain)), privkey)
        return Kept(now + EVERY) if pair == current else Offered(pair, now + EVERY)

    def _read(self) -> list[bytes]:
        return [_read(name, path) for name, path in self._paths.items()]


def _read(name: str, path: Path) -> bytes:
    """The file's bytes. Raises OSError whose text is a whole sentence."""
    try:
        with path.open("rb") as file:
            data = file.read(SIZE + 1)
    except OSError as error:
        raise OSError(f"{name}: {path} cannot be read: {error.strerror}.") from None
    if len(data) > SIZE:
        raise OSError(f"{name}: {path} is larger than {SIZE // 1024} KiB: it cannot be the right file.")
    return data
