"""The spool's read side for the event loop: two read-only connections, each in a thread of its own.

One serves bodies to delivery, the other answers questions, so that a long list for an operator does not hold up mail.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from relay import limits
from relay.model import State
from relay.spool.errors import SpoolError
from relay.spool.queries import Queries, QueueEntry, Summary, Trace
from relay.spool.stats import Stats

T = TypeVar("T")
STATS_AGE = 1.0


class Reading:
    """What can be asked of a spool. A base of :class:`relay.spool.Spool`."""

    def __init__(self, folder: Path, vfs: str | None, loop: asyncio.AbstractEventLoop, trial: bool) -> None:
        self._folder, self._loop = folder, loop
        self.trial = trial  # whether mail is written to files instead of sent
        self._bodies, self._questions = Queries(folder / "spool.db", vfs), Queries(folder / "spool.db", vfs)
        self._body_thread = ThreadPoolExecutor(1, "spool-read")
        self._question_thread = ThreadPoolExecutor(1, "spool-query")
        self._stats: tuple[float, Stats] | None = None
        self._counting = asyncio.Lock()

    def room(self) -> int:
        """Bytes that may still be accepted."""
        raise NotImplementedError

    async def read(self, message_id: str) -> AsyncIterator[bytes]:
        """The body of a message, chunk by chunk; raises :class:`SpoolError` if it is (or goes) away."""
        found = await self._get(self._bodies.key, message_id)
        if found is None:
            raise SpoolError(f"There is no message {message_id}.")
        key, number = found
        for n in range(number):
            data = await self._get(self._bodies.chunk, key, n)
            if data is None:
                raise SpoolError(f"The body of message {message_id} is gone.")
            yield data

    async def header(self, message_id: str) -> bytes:
        """The message's header up to and including the blank line; all of it if there is none."""
        kept = b""
        async for data in self.read(message_id):
            kept += data
            end = kept.find(b"\r\n\r\n")
            if end >= 0:
                return kept[: end + 4]
            if len(kept) > limits.HEADER_KEPT:
                break
        return kept

    async def queue(self, limit: int = 1000) -> list[QueueEntry]:
        """Every delivery that is open, or failed and not acknowledged; oldest first."""
        return await self._ask(self._questions.queue, limit)

    async def failed(self, limit: int = 1000) -> list[QueueEntry]:
        """Every delivery that failed and was not acknowledged; oldest first."""
        return await self._ask(self._questions.failed, limit)

    async def latest(self, limit: int = 50) -> list[Summary]:
        """What became so far of the messages that were accepted last, newest first."""
        return await self._ask(self._questions.latest, limit)

    async def trace(self, *, message_id: str = "", recipient: str = "", limit: int = 20) -> list[Trace]:
        """The story of one message, or of the latest messages to one recipient, newest first."""
        return await self._ask(self._questions.trace, message_id, recipient, limit)

    async def used(self, account: str, since: float, listener: str = "") -> list[tuple[float, int]]:
        """(accepted at, number of recipients) of what ``account`` sent since then: rebuilds the limiter's windows.

        ``listener`` asks for what came through that one only.
        """
        return await self._ask(self._questions.used, account, since, listener)

    async def fingerprints(self, since: float, most: int) -> list[tuple[float, bytes, str]]:
        """(accepted at, fingerprint, id) of the last ``most`` messages since then that have one, oldest first.

        A mail of the trial is no repeat of one that is to be sent, nor the other way round.
        """
        return await self._ask(self._questions.fingerprints, since, most, self.trial)

    async def states_of(self, message_id: str) -> frozenset[State]:
        """The states that a message's deliveries are in; none if there is no such message (any more)."""
        return await self._ask(self._questions.states_of, message_id)

    async def delayed(self, before: float) -> list[QueueEntry]:
        """Deliveries of clients' mail accepted before then, of whose delay nobody was told."""
        return await self._ask(self._questions.delayed, before, self.trial)

    async def held_by_mode(self, message_id: str = "", account: str = "") -> int:
        """How many deliveries of a message, or of an account, are held because they do not fit the settings."""
        return await self._ask(self._questions.held_by_mode, message_id, account)

    async def usage(self, since: float) -> dict[str, list[tuple[float, int]]]:
        """What has counted against each provider's quotas since then: (beginning of a quarter of an hour, recipients),
        in order.
        """
        return await self._ask(self._questions.usage, since)

    async def in_hand(self) -> dict[str, int]:
        """How many recipients each provider has in hand: claimed, so that they may come to count."""
        return await self._ask(self._questions.in_hand)

    async def stats(self) -> Stats:
        """The spool in numbers, at most a second old."""
        async with self._counting:  # several who ask at once are counted for once
            now = self._loop.time()
            if self._stats is None or now - self._stats[0] >= STATS_AGE:
                try:
                    wal = (self._folder / "spool.db-wal").stat().st_size
                except FileNotFoundError:
                    wal = 0
                self._stats = (now, await self._ask(self._questions.stats, self.room(), wal))
            return self._stats[1]

    async def close_reading(self) -> None:
        """Wait for running questions and close the connections."""
        for pool in (self._body_thread, self._question_thread):
            await self._loop.run_in_executor(None, pool.shutdown)
        self._bodies.close()
        self._questions.close()

    async def _ask(self, question: Callable[..., T], *arguments: Any) -> T:
        return await self._loop.run_in_executor(self._question_thread, question, *arguments)

    async def _get(self, question: Callable[..., T], *arguments: Any) -> T:
        return await self._loop.run_in_executor(self._body_thread, question, *arguments)
