"""The spool as submission and delivery see it: an asyncio face on the writer thread.

Promises: what :meth:`Upload.commit` returned for survives kill -9, a power cut and a full disk; a message is handed out
by :meth:`Spool.claim` only after the commit that says so; marks, outcomes and notices are durable when their call
returns. ``docs/spool.md`` holds the states and what a crash leaves.

All methods belong to the event loop that opened it.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

from relay import limits
from relay.choice.offer import Offer
from relay.clock import Clock
from relay.model import Event, Installation, Job, Result
from relay.spool import changes, kept, recovery
from relay.spool.changes import Change
from relay.spool.errors import SpoolFailed, SpoolUnusable
from relay.spool.filesystem import problem_of
from relay.spool.log import Log
from relay.spool.pruning import Pruner
from relay.spool.reading import Reading
from relay.spool.recovery import Opened
from relay.spool.space import Ballast, Reservation, Space, floor, look
from relay.spool.steering import Notice, Steering
from relay.spool.store import connect
from relay.spool.upload import Budget, Upload, forgive
from relay.spool.writer import Group, Standing, Writer

HOUSEKEEPING = 60.0  # seconds between looks for something to forget; then every second while there is
LOOK_AGAIN = 60.0  # longest sleep before something due: the machine's clock may be set meanwhile


class Spool(Reading, Steering):
    """See the module. Make one with :meth:`open`."""

    @classmethod
    async def open(
        cls,
        folder: Path,
        *,
        clock: Clock,
        message_size_limit: int = limits.MESSAGE_SIZE,
        on_committed: Callable[[Sequence[Event]], None],
        on_fatal: Callable[[str], None],
        on_group: Callable[[int, float], None] | None = None,
        history: float = limits.HISTORY,
        filesystem: Literal["refuse", "warn"] = "warn",
        ballast: int = limits.BALLAST,
        trial: bool = False,
        installation: Installation | None = None,
        doubt_wait: float = limits.DOUBT_WAIT,
        vfs: str | None = None,
    ) -> Self:
        """Open the spool in ``folder``, recover what a crash left, and start the writer.

        Raises :class:`SpoolUnusable` with a sentence. ``on_committed`` hears each group's events after its commit,
        ``on_fatal`` hears once why nothing will be written any more, ``on_group`` hears (changes, seconds) of each
        commit. With ``filesystem="warn"`` an unsuitable file system is only kept in :attr:`filesystem_problem`; with
        ``trial`` mail is written to files (:mod:`.mode`). It must be of this ``installation``, or of none so far. What
        an earlier run may have sent is sent again after ``doubt_wait``. ``vfs`` names SQLite's file layer (tests).
        """
        problem = problem_of(folder)
        if problem is not None and filesystem == "refuse":
            raise SpoolUnusable(problem)
        loop = asyncio.get_running_loop()
        opening = partial(recovery.open_store, trial=trial, installation=installation, doubt_wait=doubt_wait, vfs=vfs)
        opened = await loop.run_in_executor(None, opening, folder, clock.time())
        self = cls(folder, opened, clock, message_size_limit, history, ballast, vfs, loop)
        self.filesystem_problem = problem
        self._on_committed, self._on_fatal, self._on_group = on_committed, on_fatal, on_group
        self._writer.start()
        if opened.events:
            on_committed(opened.events)
        self._housekeep()
        return self

    def __init__(
        self,
        folder: Path,
        opened: Opened,
        clock: Clock,
        message_size_limit: int,
        history: float,
        ballast: int,
        vfs: str | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """Not for callers: see :meth:`open`."""
        super().__init__(folder, vfs, loop, opened.store.trial)
        self.filesystem_problem: str | None = None
        self.recovered_unknown = opened.stuck  # delivery must record() these as UNKNOWN, with their notices
        self._opened, self._clock = opened, clock
        self._numbers = opened.numbers
        self._on_committed: Callable[[Sequence[Event]], None]
        self._on_fatal: Callable[[str], None]
        self._on_group: Callable[[int, float], None] | None
        stone, disk = Ballast(folder / "ballast", ballast), look(folder)
        stone.make(disk, floor(message_size_limit, disk.size))
        self._space = Space(folder, clock, message_size_limit, ballast=stone)
        self._space.free_inside = opened.store.free_bytes()
        self._space.kept = kept.total(opened.store.connection.execute)
        self._yielding = kept.Yielding(self._space, clock, self._submit)
        self._budget = Budget(limits.UPLOADS_IN_FLIGHT)
        self._writer = Writer(
            opened.store,
            clock,
            self._post,
            log=Log(opened.store, lambda: connect(folder / "spool.db", vfs, 512)),
            ballast=stone,
            message_limit=message_size_limit,
            pruner=Pruner(history),
        )
        self._failed = ""
        self._closed = False
        self._next_due, self._waits = -math.inf, False
        self._timer: asyncio.TimerHandle | None = None
        self._chores: asyncio.TimerHandle | None = None

    async def close(self, *, in_order: bool = True) -> None:
        """Write what has gathered, answer it, and give the folder up. ``in_order``: :meth:`recovery.Opened.close`."""
        if self._closed:
            return
        self._closed = True
        for timer in (self._timer, self._chores):
            if timer is not None:
                timer.cancel()
        self._writer.stop()
        await self._loop.run_in_executor(None, self._writer.join)
        await asyncio.sleep(0)  # the last group's answers were posted before the thread ended
        while self._writer.standing:
            self._writer.standing.popleft().future.cancel()
        await self.close_reading()
        self._opened.close(in_order=in_order)

    # --- between loop and writer ------------------------------------------------------------------------------------

    def _submit(self, change: Change) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._failed or self._closed:
            future.set_exception(SpoolFailed(self._failed or "The spool is closed."))
            return future
        change.future = future
        self._writer.submit(change)
        return future

    def _post(self, group: Group) -> None:
        self._loop.call_soon_threadsafe(self._finish, group)

    def _finish(self, group: Group) -> None:
        """Answer a group: events first, so that log and metrics never lag behind what a client was told."""
        if group.free_inside is not None:
            self._space.free_inside, self._space.kept = group.free_inside, group.kept
            self._yielding.look()
        try:
            told = [event for change in group.changes if change.committed for event in change.told]
            if told:
                self._on_committed(told)
            if self._on_group is not None and group.changes:
                self._on_group(len(group.changes), group.seconds)
        finally:
            for change in group.changes:
                change.tell()
            self._hand_out(group)
            if group.failed:
                self._fail(group.failed)
            else:
                self._next_due, self._waits = group.next_due, group.waits
                self._arrange()
                if group.more and not self._closed and self._chores is not None:
                    self._chores.cancel()
                    self._chores = self._loop.call_later(1.0, self._housekeep)

    def _hand_out(self, group: Group) -> None:
        if group.standing is None:
            return
        if not group.standing.future.done():
            group.standing.future.set_result(group.jobs)
        else:  # the caller went away while its claim was being committed
            self._submit(changes.release(group.jobs)).add_done_callback(forgive)

    def _fail(self, reason: str) -> None:
        if self._failed:
            return
        self._failed = reason
        while self._writer.standing:
            future = self._writer.standing.popleft().future
            if not future.done():
                future.set_exception(SpoolFailed(reason))
        self._on_fatal(reason)

    def _arrange(self) -> None:
        """See to it that a waiting claim is tried when something becomes due; costs nothing when none waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._writer.standing or self._closed or self._next_due == math.inf:
            return
        wait = self._next_due - self._clock.time()
        if wait <= 0:
            self._writer.kick()
        else:
            self._timer = self._loop.call_later(min(wait, LOOK_AGAIN), self._arrange)

    def _housekeep(self) -> None:
        self._chores = self._loop.call_later(HOUSEKEEPING, self._housekeep)
        self._writer.housekeep()

    def poke(self) -> None:
        """Look again for something that can be taken: a provider has room again or is open again, or the clock was set.

        Each costs a look at every flow that waits, so call it when something opened and not for every job that ended.
        """
        self._next_due = -math.inf
        self._writer.look()

    # --- submission -------------------------------------------------------------------------------------------------

    def room(self) -> int:
        """Bytes that may still be accepted."""
        return self._space.room()

    def reserve(self, size: int) -> Reservation:
        """Set room aside for a message of ``size`` announced bytes; raises :class:`SpoolFull`.

        Release it when the message is in or gone. Bodies of failed mail that stand in its way are given up by the
        writer before it gets the first byte of this one.
        """
        reservation = self._space.reserve(size)
        self._yielding.look()
        return reservation

    def upload(self, message_id: str) -> Upload:
        """Begin a message; nothing is written before its first chunk or its commit."""
        return Upload(message_id, submit=self._submit, numbers=self._numbers, budget=self._budget, space=self._space)

    # --- delivery ---------------------------------------------------------------------------------------------------

    async def claim(self, offer: Callable[[], Offer]) -> list[Job]:
        """Wait until something is due that a provider takes, and take as much of it as the offer has room for: each
        message with all its due recipients that go the same way, and the provider chosen (:attr:`Job.provider`).

        ``offer`` is called in the writer's thread at each try; what it returns must not change. Call :meth:`poke` when
        it has become better. Oldest first within an account, round robin between accounts. Cancelled, it gives back
        what it may have taken. Raises :class:`SpoolFailed`.
        """
        if self._failed or self._closed:
            raise SpoolFailed(self._failed or "The spool is closed.")
        future: asyncio.Future[list[Job]] = self._loop.create_future()
        self._writer.standing.append(Standing(offer, future))
        if self._waits and any(offer().rooms.values()):
            self._writer.look()
        else:
            self._arrange()
        try:
            return await future
        except asyncio.CancelledError:
            if not future.cancelled() and future.exception() is None:  # it was served in this very turn of the loop
                self._submit(changes.release(future.result())).add_done_callback(forgive)
            raise

    async def claim_overdue(self, offer: Callable[[], Offer], before: float, limit: int) -> list[Job]:
        """Take up to ``limit`` jobs of messages accepted before then (time that they were held does not count) that are
        due and that no provider takes now: for delivery to end them. Their :attr:`Job.provider` is empty.
        """
        now = self._clock.time()
        work = changes.Change(at=now, work=lambda store: store.claims.overdue(offer(), before, limit, now))
        work.durable = False
        jobs: list[Job] = await self._submit(work)
        return jobs

    async def mark(self, deliveries: Sequence[int], provider: str = "") -> None:
        """Note, durably, that the final dot for these deliveries is about to be written to ``provider``."""
        await self._submit(changes.mark(deliveries, provider))

    async def record(
        self, job: Job, results: Sequence[Result], events: Sequence[Event], notices: Sequence[Notice] = ()
    ) -> None:
        """Write outcomes, events and notices (message, body, events) of one attempt in one commit."""
        await self._submit(changes.record(self._numbers, job, results, events, notices, self._clock.time()))

    async def release(self, jobs: Sequence[Job]) -> None:
        """Give claimed deliveries back as they were; those whose dot was marked stay so."""
        await self._submit(changes.release(jobs))
