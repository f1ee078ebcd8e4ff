"""The provider of the trial: writes each message to a file instead of sending it.

``<folder>/<id>.eml`` holds exactly the bytes that would have been sent, nothing added. A file appears whole or not at
all, and what was kept survives a power cut (temporary name, fsync, rename, fsync of the folder). The folder keeps at
most so many files and bytes; the oldest go first. Its owner alone can read them, as in the spool. A failure to write
defers the message like any other.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from relay import ids, limits
from relay.delivery.content import header_first, without_fields
from relay.delivery.outcome import Finding, Reply
from relay.delivery.transaction import Source
from relay.model import Job
from relay.providers.rules import Stage


class CaptureFolder:
    """A folder of captured messages. One per process: it remembers what it holds."""

    def __init__(self, folder: Path, files: int = limits.CAPTURED_FILES, size: int = limits.CAPTURED_BYTES) -> None:
        self._folder = folder
        self._files = files
        self._size = size
        self._held: dict[str, int] | None = None  # name -> bytes, oldest first; read from the folder when first needed
        self._lock = asyncio.Lock()

    async def keep(self, message_id: str, pieces: AsyncIterator[bytes]) -> Path:
        """Writes one message. Raises OSError; then nothing half is left. ``message_id`` must be an id of ours."""
        if not ids.is_id(message_id):
            raise ValueError("not a message id")
        temporary = self._folder / f".{message_id}.tmp"
        file = await asyncio.to_thread(self._begin, temporary)
        try:
            with file:
                async for piece in pieces:
                    await asyncio.to_thread(file.write, piece)
                await asyncio.to_thread(self._sync, file)
            async with self._lock:
                return await asyncio.to_thread(self._publish, temporary, f"{message_id}.eml")
        finally:
            temporary.unlink(missing_ok=True)

    def _begin(self, temporary: Path) -> BinaryIO:
        if not self._folder.is_dir():
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sync_folder(self._folder.parent)
        return open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb")

    @staticmethod
    def _sync(file: BinaryIO) -> None:
        file.flush()
        os.fsync(file.fileno())

    def _publish(self, temporary: Path, name: str) -> Path:
        """Makes room first, so that the folder is never over its limits."""
        held = self._look()
        held.pop(name, None)
        size = temporary.stat().st_size
        while held and (len(held) >= self._files or sum(held.values()) + size > self._size):
            oldest = next(iter(held))
            (self._folder / oldest).unlink(missing_ok=True)
            del held[oldest]
        try:
            os.replace(temporary, self._folder / name)
            _sync_folder(self._folder)
        except OSError:
            self._held = None  # there may be an old one, a new one or none: look again
            raise
        held[name] = size
        return self._folder / name

    def _look(self) -> dict[str, int]:
        if self._held is None:
            found = [(entry.stat(), entry.name) for entry in os.scandir(self._folder) if entry.name.endswith(".eml")]
            self._held = {name: stat.st_size for stat, name in sorted(found, key=lambda one: (one[0].st_mtime, one[1]))}
        return self._held


def _sync_folder(folder: Path) -> None:
    """Put the names in it on the disk: a file that was synced is lost with its name (fsync(2), NOTES)."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class CaptureCarrier:
    """Carries jobs into a folder; the counterpart of :class:`~.carrier.SmtpCarrier`."""

    def __init__(self, folder: CaptureFolder, source: Source, strip: re.Pattern[bytes] | None) -> None:
        self._folder = folder
        self._source = source
        self._strip = strip

    async def carry(self, job: Job) -> list[Finding]:
        """Writes the message; every recipient shares the result. No mark is needed: writing twice leaves one file."""
        try:
            path = await self._folder.keep(job.message.id, self._pieces(job))
        except OSError as error:
            refusal = Reply(452, f"4.3.1 the message could not be written: {error.strerror or error}")
            return [Finding(Stage.DATA, refusal)] * len(job.recipients)
        return [Finding(Stage.FINAL, Reply(250, f"2.0.0 written to {path.name}"))] * len(job.recipients)

    async def _pieces(self, job: Job) -> AsyncIterator[bytes]:
        if job.body is not None:
            yield without_fields(job.body, self._strip)
            return
        first = True
        async for piece in header_first(self._source.read(job.message.id)):
            yield without_fields(piece, self._strip) if first else piece
            first = False

    def cut(self) -> None:
        """Nothing to interrupt: writing ends by itself."""

    async def close(self) -> None:
        """Nothing to close."""
