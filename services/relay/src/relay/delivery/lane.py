"""One provider's lane: jobs wait here until one of its connections is free.

A hand is a task that owns a connection and carries one job after the other, so no task is made per message. While the
spool records the result of one job, its hand carries the next; never more than one result a hand is on its way to the
spool. Jobs wait for bytes as well as for hands: so many bytes of messages are on their way at a time, and a small one
may pass a large one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from relay import limits
from relay.delivery.carrier import Carrier
from relay.delivery.outcome import Finding, went_well
from relay.model import Job
from relay.providers.provider import Provider

JOBS_A_HAND = 4  # claimed ahead: a claim rides in a commit, so it should bring more than one job


class Lane:
    """The hands of one provider.

    ``settle`` is called with a job and its findings and must return an awaitable that records the result; what it or
    a carrier raises is the spool's failure and goes to ``failed``. ``stirred`` is called when a job is done and there
    is room, as long as :attr:`alert` is set: by whoever waits for that.
    """

    def __init__(
        self,
        provider: Provider,
        *,
        carrier: Callable[[], Carrier],
        settle: Callable[[Job, list[Finding], float], Awaitable[None]],
        now: Callable[[], float],
        failed: Callable[[BaseException], None],
        stirred: Callable[[], None],
    ) -> None:
        self.alert = False
        self._provider = provider
        self._new_carrier = carrier
        self._settle = settle
        self._now = now
        self._failed = failed
        self._stirred = stirred
        self._fewer, self._crowded_at = 0, now()  # than the provider's connections, since then
        self._pending: deque[Job] = deque()
        self._idle: list[asyncio.Future[bool]] = []
        self._hands: dict[asyncio.Task[None], Carrier] = {}
        self._in_hand = 0  # jobs claimed and not yet recorded
        self._bytes = 0
        self._closing = False

    # --- for the dispatcher
    @property
    def room(self) -> int:
        """How many jobs it takes now; 0 until half of its places are free, since every claim costs a scan."""
        slots = self.connections * JOBS_A_HAND
        free = slots - self._in_hand
        return free if free * 2 >= slots and not self._closing else 0

    @property
    def connections(self) -> int:
        """How many it may use now: one less for each time that the provider called them too many, and one more again
        for each ``limits.CONNECTION_BACK`` in which it did not.
        """
        if not self._fewer:
            return self._provider.connections
        back = int((self._now() - self._crowded_at) / limits.CONNECTION_BACK)
        return self._provider.connections - max(0, self._fewer - back)

    def fewer(self) -> None:
        """The provider calls our connections too many: use one less, but for the last."""
        self._fewer = self._provider.connections - max(1, self.connections - 1)
        self._crowded_at = self._now()
        for _ in range(min(len(self._idle), len(self._hands) - self.connections)):
            self._wake(False)

    @property
    def in_hand(self) -> int:
        """Jobs that it has and whose result is not recorded."""
        return self._in_hand

    def put(self, jobs: Sequence[Job]) -> None:
        """Takes jobs in hand."""
        self._in_hand += len(jobs)
        for job in jobs:
            self._pending.append(job)
            self._call_a_hand()

    def take_back(self, which: Callable[[Job], bool] = lambda _: True) -> list[Job]:
        """Those of the jobs that no hand has begun; they are the caller's again."""
        pending = list(self._pending)
        jobs = [job for job in pending if which(job)]
        self._pending = deque(job for job in pending if not which(job))
        self._in_hand -= len(jobs)
        return jobs

    async def close(self, seconds: float) -> None:
        """Lets the hands finish what they have begun, at most ``seconds``; then cuts them short and waits for what
        that leaves.
        """
        self._closing = True
        while self._idle:
            self._wake(False)
        if self._hands:
            await asyncio.wait(self._hands, timeout=seconds)
        for carrier in self._hands.values():
            carrier.cut()
        if self._hands:
            await asyncio.wait(self._hands)

    # --- hands
    def _call_a_hand(self) -> None:
        if self._idle:
            self._wake(True)
        elif len(self._hands) < self.connections and not self._closing:
            carrier = self._new_carrier()
            task = asyncio.get_running_loop().create_task(self._work(carrier))
            self._hands[task] = carrier
            task.add_done_callback(self._gone)

    def _wake(self, work: bool) -> None:
        """Wakes the hand that became idle last: the others' connections may run into their idle time and close."""
        waiter = self._idle.pop()
        if not waiter.done():
            waiter.set_result(work)

    def _gone(self, task: asyncio.Task[None]) -> None:
        del self._hands[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)
        elif self._pending:
            self._call_a_hand()

    async def _work(self, carrier: Carrier) -> None:
        recording: asyncio.Task[None] | None = None
        loop = asyncio.get_running_loop()
        try:
            while (job := await self._next()) is not None:
                started = self._now()
                findings = await carrier.carry(job)
                self._bytes -= job.message.size
                if recording is not None:
                    await recording
                recording = loop.create_task(self._record(job, findings, self._now() - started))
                if not went_well(findings):  # it may begin a pause: look before taking the next
                    await recording
        finally:
            await carrier.close()
            if recording is not None:
                await recording

    async def _record(self, job: Job, findings: list[Finding], seconds: float) -> None:
        try:
            await self._settle(job, findings, seconds)
        except BaseException as error:
            self._failed(error)
            raise
        finally:
            self._in_hand -= 1
            if self.alert and self.room:
                self._stirred()

    async def _next(self) -> Job | None:
        """The next job that fits; None when there was none for the provider's idle time, the lane closes, or this is a
        hand too many.
        """
        while not self._closing and len(self._hands) <= self.connections:
            job = self._fitting()
            if job is not None:
                self._bytes += job.message.size
                return job
            if not await self._wait():
                break
        return None

    def _fitting(self) -> Job | None:
        pending = self._pending
        for index, job in enumerate(pending):
            if self._bytes == 0 or self._bytes + job.message.size <= self._provider.bytes_in_flight:
                del pending[index]
                return job
        return None

    async def _wait(self) -> bool:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        self._idle.append(waiter)
        timer = loop.call_later(self._provider.idle, self._idle_out, waiter)
        try:
            return await waiter
        finally:
            timer.cancel()

    def _idle_out(self, waiter: asyncio.Future[bool]) -> None:
        if not waiter.done():
            self._idle.remove(waiter)
            waiter.set_result(False)
