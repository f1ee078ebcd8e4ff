"""Claims what is due, hands it to the provider's lane, and records what became of it.

Promises: a claimed job is always recorded, released, or still claimed in a spool that the next start puts in order; a
failure and the notice of it are one commit; a provider that cannot be reached is not asked again by every message
that waits. Failures of the spool end :meth:`Dispatcher.run` and :meth:`Dispatcher.drain` as exceptions: the process
must end then.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Protocol

from relay.clock import Clock
from relay.delivery import notice, settlement
from relay.delivery.capture import CaptureCarrier, CaptureFolder
from relay.delivery.carrier import Carrier, SmtpCarrier
from relay.delivery.connection import Times
from relay.delivery.lane import Lane
from relay.delivery.outcome import Doubtful, Finding, Reply, Verdict, judge, went_well
from relay.delivery.pause import Pause
from relay.delivery.schedule import ClockWatch
from relay.delivery.settlement import Moment
from relay.model import FAILED_STATES, Event, EventKind, Job, Message, Result
from relay.providers.provider import Provider
from relay.providers.rules import Stage, Standing
from relay.spool import SpoolFailed, SpoolFull

FULL_WAIT = 5.0  # until an outcome is tried again for which the disk had no room
QUOTABLE = 8  # a header text shorter than this is more likely a word of the provider's own, or a status code
Notice = tuple[Message, bytes, Sequence[Event]]


class Spool(Protocol):
    """What delivery needs of the spool."""

    async def claim(self, limit: int) -> list[Job]: ...

    async def mark(self, deliveries: Sequence[int], provider: str = "") -> None: ...

    async def record(
        self, job: Job, results: Sequence[Result], events: Sequence[Event], notices: Sequence[Notice] = ()
    ) -> None: ...

    async def release(self, jobs: Sequence[Job]) -> None: ...

    def read(self, message_id: str) -> AsyncIterator[bytes]: ...

    async def header(self, message_id: str) -> bytes: ...


class Journal(Protocol):
    """What delivery tells besides the events that ride in commits."""

    def attempt(self, provider: str, outcome: str, seconds: float) -> None: ...

    def system(self, event: str, **fields: Any) -> None: ...


class Dispatcher:
    """Delivery as a whole. ``stuck`` are jobs of an earlier run that were in doubt too often: they end as unknown,
    with their notice.
    """

    def __init__(
        self,
        provider: Provider,
        *,
        spool: Spool,
        journal: Journal,
        clock: Clock,
        hostname: str,
        postmaster: str,
        stuck: Sequence[Job] = (),
        jitter: Callable[[], float] = random.random,
        times: Times | None = None,
        pause: Pause | None = None,
    ) -> None:
        self._provider = provider
        self._spool = spool
        self._journal = journal
        self._clock = clock
        self._post = notice.Post(hostname, postmaster)
        self._stuck = stuck
        self._returned: list[Job] = []  # taken back from the lane when a pause began
        self._jitter = jitter
        self._times = times or Times()
        self._watch = ClockWatch(clock.time(), clock.monotonic())
        self._failure: asyncio.Future[None] | None = None
        self._stopped = False
        folder = CaptureFolder(provider.captured) if provider.captured is not None else None
        self._lane = Lane(
            provider,
            pause or Pause(),
            carrier=lambda: self._carrier(folder),
            settle=self._settle,
            now=clock.monotonic,
            failed=self._fail,
        )

    def _carrier(self, folder: CaptureFolder | None) -> Carrier:
        if folder is not None:
            return CaptureCarrier(folder, self._spool, self._provider.strip)
        return SmtpCarrier(self._provider, self._spool, self._post.hostname, self._times)

    # --- life
    async def run(self, stop: asyncio.Event) -> None:
        """Claims and delivers until ``stop`` is set; then gives back what was not begun and returns. :meth:`drain`
        must follow.
        """
        self._failure = asyncio.get_running_loop().create_future()
        claiming = asyncio.ensure_future(self._claim_on())
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((claiming, stopping, self._failure), return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._stopped = True
            stopping.cancel()
            claiming.cancel()
            await asyncio.wait((claiming,))
        if not claiming.cancelled() and (error := claiming.exception()) is not None:
            raise error
        self._raise_failure()
        await self._give_back()

    async def drain(self, seconds: float) -> None:
        """Waits at most ``seconds`` for the answers to what is under way; what has its final dot written by then ends
        in doubt.
        """
        await self._lane.close(seconds)
        self._raise_failure()
        await self._give_back()

    def _raise_failure(self) -> None:
        if self._failure is not None and self._failure.done():
            self._failure.result()

    def _fail(self, error: BaseException) -> None:
        if self._failure is not None and not self._failure.done():
            self._failure.set_exception(error)
            self._failure.exception()  # drain() may be what tells of it, or nobody if run() was cancelled

    async def _give_back(self) -> None:
        jobs, self._returned = self._returned + self._lane.take_back(), []
        if jobs:
            await self._release(jobs)

    async def _release(self, jobs: Sequence[Job]) -> None:
        """Gives jobs back, however long the disk is full; once stopped, the next start finds them and does the same."""
        while True:
            try:
                return await self._spool.release(jobs)
            except SpoolFull:
                if self._stopped:
                    return None
                self._journal.system("disk_full", messages=len(jobs))
                await asyncio.sleep(FULL_WAIT)

    async def _claim_on(self) -> None:
        for job in self._stuck:
            await self._end_in_doubt(job)
        self._stuck = ()
        lane = self._lane
        while True:
            jobs = await self._spool.claim(await lane.ready())
            if lane.pause.left(self._clock.monotonic()) > 0:  # it began while we waited for something to be due
                await self._release(jobs)
                continue
            lane.put([job for job in jobs if job.tied_to in ("", self._provider.name)])
            for job in jobs:
                if job.tied_to not in ("", self._provider.name):
                    await self._put_aside(job)

    # --- what became of a job
    async def _settle(self, job: Job, findings: list[Finding], seconds: float) -> None:
        verdicts = await self._judge(job, findings)
        self._note_provider(findings[0], verdicts[0])
        results, events = settlement.settle(job, verdicts, self._moment())
        name = self._provider.name
        for verdict in verdicts:
            self._journal.attempt(name, type(verdict.outcome).__name__.lower(), seconds)
        await self._record(job, results, events)

    async def _judge(self, job: Job, findings: list[Finding]) -> list[Verdict]:
        first = findings[0]
        if len(findings) == 1 and isinstance(first.answer, Reply) and first.answer.code == 250:
            return [judge(first)]
        quoted = () if went_well(findings) else await self._quoted(job)
        verdicts: dict[int, Verdict] = {}  # recipients mostly share a finding
        for finding in findings:
            if id(finding) not in verdicts:
                verdicts[id(finding)] = judge(finding, self._provider.rules, quoted)
        return [verdicts[id(finding)] for finding in findings]

    async def _quoted(self, job: Job) -> list[str]:
        """What a reply may quote of us: addresses and the values of the header."""
        header = await self._header(job)
        values = [line.partition(b":")[2].strip().decode("utf-8", "replace") for line in header.split(b"\r\n")]
        subject = notice.subject(header)
        texts = [value for value in (subject, *values) if len(value) >= QUOTABLE]
        return [job.message.sender, *(one.address for one in job.recipients), *texts]

    async def _header(self, job: Job) -> bytes:
        """The message's header; nothing if it cannot be read, since that must keep no outcome from being recorded."""
        if job.body is not None:
            end = job.body.find(b"\r\n\r\n")
            return job.body if end < 0 else job.body[: end + 2]
        try:
            return await self._spool.header(job.message.id)
        except SpoolFailed:
            raise
        except Exception as error:  # a damaged page, whatever SQLite calls it
            self._journal.system(
                "message_unreadable", message=job.message.id, reason=f"{type(error).__name__}: {error}"
            )
            return b""

    def _note_provider(self, finding: Finding, verdict: Verdict) -> None:
        """Begins or ends the pause."""
        reached = _reached(finding, verdict)
        if reached:
            self._lane.pause.succeeded()
        elif reached is False:
            now = self._clock.monotonic()
            self._returned += self._lane.take_back()
            if not self._lane.pause.left(now):
                self._lane.pause.failed(now, self._jitter())
                text = verdict.outcome.text
                self._journal.system(
                    "provider_paused", provider=self._provider.name, reason=text, standing=verdict.standing
                )

    def _moment(self, provider: str = "") -> Moment:
        now, monotonic = self._clock.time(), self._clock.monotonic()
        jump = self._watch.look(now, monotonic)
        if jump:
            self._journal.system("clock_jumped", seconds=round(jump), expiry="suspended for five days")
        return Moment(provider or self._provider.name, now, self._watch.may_expire(monotonic), self._jitter)

    async def _record(self, job: Job, results: list[Result], events: list[Event]) -> None:
        """One commit: what became of the recipients, and the notice of those that failed."""
        failed = [result for result in results if result.state in FAILED_STATES]
        notices = [await self._notice(job, failed, events[0].at)] if failed and notice.wanted(job.message) else []
        await self._keep(job, results, events, notices)
        if self._returned:
            await self._give_back()

    async def _keep(self, job: Job, results: list[Result], events: list[Event], notices: list[Notice]) -> None:
        """Records, however long the disk is full: what a provider took must not be forgotten while there is hope."""
        while True:
            try:
                await self._spool.record(job, results, events, notices)
            except SpoolFull:
                self._journal.system("disk_full", message=job.message.id)
                await asyncio.sleep(FULL_WAIT)
            else:
                return

    async def _notice(self, job: Job, failed: list[Result], now: float) -> Notice:
        addresses = {recipient.delivery: recipient.address for recipient in job.recipients}
        failures = [
            notice.Failure(addresses[one.delivery], one.state, one.provider, one.code, one.reply) for one in failed
        ]
        message, content = notice.failure(job.message, await self._header(job), failures, self._post, now)
        queued = Event(
            kind=EventKind.NOTICE_QUEUED,
            at=now,
            message=job.message.id,
            account=job.message.account,
            recipient=job.message.notify,
            detail={"notice": message.id},
        )
        return message, content, [queued]

    async def _end_in_doubt(self, job: Job) -> None:
        sentence = "the relay was stopped before the provider answered"
        doubt = [Verdict(Doubtful(0, sentence), Standing.BUSY)] * len(job.recipients)
        await self._record(job, *settlement.settle(job, doubt, self._moment(job.tied_to)))

    async def _put_aside(self, job: Job) -> None:
        sentence = (
            f"It may have been delivered through {job.tied_to}, which is not configured any more. "
            "`make queue ARGS='retry ID'` sends it again through another provider."
        )
        results, events = settlement.hold(job, sentence, self._moment(job.tied_to))
        await self._keep(job, results, events, [])


def _reached(finding: Finding, verdict: Verdict) -> bool | None:
    """Whether the provider could be reached and knew us; None if this attempt does not tell."""
    if verdict.standing is Standing.KEY_DEAD or finding.stage in (Stage.CONNECT, Stage.TLS, Stage.LOGIN):
        return None if isinstance(finding.answer, Exception) and verdict.standing is Standing.FINE else False
    if isinstance(finding.answer, Reply):
        return finding.answer.code != 421
    return False if finding.stage is Stage.MAIL and verdict.standing is Standing.BUSY else None
