"""One message on its way in: chunks first, then the commit that makes it a message.

Memory is bounded twice: an upload has at most ``limits.CHUNKS_IN_FLIGHT`` chunks waiting for the writer, and all
uploads together at most ``limits.UPLOADS_IN_FLIGHT`` bytes. Who would exceed that waits, and with it the client, by
TCP.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from relay import limits
from relay.model import Event, Message
from relay.spool import changes
from relay.spool.changes import Change, Numbers
from relay.spool.space import Space


class Budget:
    """A number of bytes that many share, given out in the order of asking."""

    def __init__(self, size: int) -> None:
        self._free = size
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, size: int) -> None:
        """Wait until ``size`` bytes are free, and take them. ``size`` must not exceed the whole."""
        if not self._waiting and size <= self._free:
            self._free -= size
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append((size, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give(size)
            else:
                self._pass_on()  # the one behind may fit now
            raise

    def give(self, size: int) -> None:
        """Give bytes back."""
        self._free += size
        self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting:
            size, turn = self._waiting[0]
            if not turn.done():
                if size > self._free:
                    return
                self._free -= size
                turn.set_result(None)
            self._waiting.popleft()


class Upload:
    """Chunks of one message. Made by ``Spool.upload``; end it with :meth:`commit` or :meth:`abort`."""

    def __init__(
        self,
        message_id: str,
        *,
        submit: Callable[[Change], asyncio.Future[None]],
        numbers: Numbers,
        budget: Budget,
        space: Space,
    ) -> None:
        self.message_id = message_id
        self._submit, self._numbers, self._budget, self._space = submit, numbers, budget, space
        self._key = 0
        self._chunks = 0
        self._size = 0
        self._flying: set[asyncio.Future[None]] = set()
        self._error: BaseException | None = None
        self._ended = False

    async def write(self, data: bytes) -> None:
        """Have the spool take one chunk, of at most ``limits.CHUNK`` bytes.

        Returns when there is room for another one, not when this one is written. Raises :class:`SpoolFull` or
        :class:`SpoolFailed` if an earlier chunk could not be kept.
        """
        if len(data) > limits.CHUNK:
            raise ValueError(f"a chunk has at most {limits.CHUNK} bytes, not {len(data)}")
        if self._ended:
            raise ValueError("this upload has ended")
        if not data:
            return
        await self._budget.take(len(data))
        if self._chunks == 0:
            self._key = self._numbers.key()
        self._fly(changes.chunk(self._key, self._chunks, data))
        self._chunks += 1
        self._size += len(data)
        if len(self._flying) >= limits.CHUNKS_IN_FLIGHT:
            await asyncio.wait(self._flying, return_when=asyncio.FIRST_COMPLETED)
        self._check()

    async def commit(self, message: Message, last: bytes, events: Sequence[Event]) -> None:
        """Make it a message: ``last`` bytes, row, deliveries and events in one commit. Returns after the fsync.

        A caller that is cancelled here has either a whole message in the spool or nothing of it. Raises
        :class:`SpoolFull` and :class:`SpoolFailed`; ``ValueError`` for text that cannot be stored.
        """
        if self._ended:
            raise ValueError("this upload has ended")
        if self._flying:
            await asyncio.wait(self._flying)
        self._check()
        if self._chunks == 0:
            self._key = self._numbers.key()
        change = changes.add(self._numbers, self._key, message, last, events, written=self._chunks, size=self._size)
        self._ended = True
        self._space.taken += len(last)
        # Cancelling the caller cancels its waiting and no more: the change is with the writer, which does all of it or
        # nothing.
        future = self._submit(change)
        if self._chunks:
            future.add_done_callback(self._settled)
            future = asyncio.shield(future)
        await future

    def abort(self) -> None:
        """Forget what was written; does nothing after :meth:`commit` has begun."""
        if not self._ended:
            self._ended = True
            self._forget()

    def _settled(self, future: asyncio.Future[None]) -> None:
        if future.cancelled() or future.exception() is not None:
            self._forget()

    def _forget(self) -> None:
        # Only when no chunk is under way any more: it would be written after the others were deleted.
        if self._chunks and not self._flying:
            self._submit(changes.forget(self._key)).add_done_callback(forgive)
            self._chunks = 0

    def _fly(self, change: Change) -> None:
        size = change.size
        self._space.taken += size
        future = self._submit(change)
        self._flying.add(future)

        def landed(future: asyncio.Future[None]) -> None:
            self._flying.discard(future)
            self._budget.give(size)
            if not future.cancelled() and future.exception() is not None and self._error is None:
                self._error = future.exception()
            if self._ended:
                self._forget()

        future.add_done_callback(landed)

    def _check(self) -> None:
        if self._error is not None:
            raise self._error


def forgive(future: asyncio.Future[None]) -> None:
    """A failure to forget an upload, or to release a job, is made up for by the next start."""
    if not future.cancelled():
        future.exception()
