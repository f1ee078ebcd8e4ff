"""Claims what is due, hands it to the lane of the provider that was chosen for it, and records what became of it.

Promises: a claimed job is always recorded, released, or still claimed in a spool that the next start puts in order; a
failure and the notice of it are one commit; a provider that cannot be reached is not asked again by every message
that waits; what one provider does not take for a reason of its own goes to the next at once. Failures of the spool end
:meth:`Dispatcher.run` and :meth:`Dispatcher.drain` as exceptions: the process must end then.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Protocol

from relay import limits
from relay.choice.offer import Offer
from relay.choice.routes import Routes
from relay.clock import Clock
from relay.delivery import notice, onward, outlook
from relay.delivery.breaker import Breaker
from relay.delivery.capture import CaptureCarrier, CaptureFolder
from relay.delivery.carrier import Carrier, Ports, SmtpCarrier
from relay.delivery.connection import Times
from relay.delivery.counts import Counts
from relay.delivery.judging import Judge
from relay.delivery.lane import Lane
from relay.delivery.offers import Offers
from relay.delivery.outcome import Finding
from relay.delivery.outlook import Delay, ProviderState
from relay.delivery.pause import ALL, Pause
from relay.delivery.recording import Notice, Recorder
from relay.delivery.settling import Settler
from relay.model import OPEN_STATES, Event, Job, Result
from relay.oauth.tokens import Tokens
from relay.providers.provider import Provider
from relay.spool import QueueEntry, Trace, mode

SWEPT = 100  # messages that are ended at a time because they grew too old


class Spool(Protocol):
    """What delivery needs of the spool."""

    async def claim(self, offer: Callable[[], Offer]) -> list[Job]: ...

    async def claim_overdue(self, offer: Callable[[], Offer], before: float, limit: int) -> list[Job]: ...

    def poke(self) -> None: ...

    async def mark(self, deliveries: Sequence[int], provider: str = "") -> None: ...

    async def record(
        self, job: Job, results: Sequence[Result], events: Sequence[Event], notices: Sequence[Notice] = ()
    ) -> None: ...

    async def release(self, jobs: Sequence[Job]) -> None: ...

    def read(self, message_id: str) -> AsyncIterator[bytes]: ...

    async def header(self, message_id: str) -> bytes: ...

    async def trace(self, *, message_id: str = "") -> list[Trace]: ...

    async def usage(self, since: float) -> Mapping[str, list[tuple[float, int]]]: ...

    async def in_hand(self) -> Mapping[str, int]: ...


class Journal(Protocol):
    """What delivery tells besides the events that ride in commits."""

    def attempt(self, provider: str, outcome: str, seconds: float) -> None: ...

    def system(self, event: str, **fields: Any) -> None: ...


class Dispatcher:
    """Delivery as a whole, through ``providers`` in the order that ``routes`` say (by default: as given).

    ``high`` gives the accounts of high priority. ``stuck`` are jobs of an earlier run that were in doubt too often:
    they end as unknown, with their notice. ``tokens`` are those of providers that want one at the login.
    """

    def __init__(
        self,
        providers: Sequence[Provider],
        *,
        spool: Spool,
        journal: Journal,
        clock: Clock,
        hostname: str,
        postmaster: str,
        routes: Routes | None = None,
        high: Callable[[], frozenset[str]] = frozenset,
        stuck: Sequence[Job] = (),
        tokens: Mapping[str, Tokens] | None = None,
        doubt_wait: float = limits.DOUBT_WAIT,
        jitter: Callable[[], float] = random.random,
        times: Times | None = None,
        breaker: Callable[[], Breaker] = Breaker,
    ) -> None:
        self._spool, self._journal, self._clock = spool, journal, clock
        self._hostname, self._tokens, self._times = hostname, tokens or {}, times or Times()
        self._stuck = stuck
        self._trial = any(one.captured is not None for one in providers)
        self._returned: list[Job] = []  # taken back from a lane when a pause began
        self._failure: asyncio.Future[None] | None = None
        self._counts = Counts([one.terms for one in providers], spool, clock)
        self._offers = Offers(
            providers,
            routes=routes or Routes(tuple(one.name for one in providers)),
            high=high,
            clock=clock,
            journal=journal,
            jitter=jitter,
            poke=spool.poke,
            breaker=breaker,
        )
        self.looked, self.unprobed = self._offers.looked, self._offers.unprobed  # for the readiness probe
        self.retried, self.smtputf8 = self._offers.retried, self._offers.smtputf8
        judge = Judge(spool, journal)
        self._recorder = Recorder(spool, journal, notice.Post(hostname, postmaster), judge.header, self._offers.title)
        self._settler = Settler(
            self._offers,
            self._counts,
            judge,
            self._recorder,
            journal=journal,
            clock=clock,
            jitter=jitter,
            doubt_wait=doubt_wait,
            paused=self._paused,
        )
        self._ports = {one.name: Ports(one.ports) for one in providers}
        self._lanes = {one.name: self._lane(one) for one in providers}

    def _lane(self, provider: Provider) -> Lane:
        folder = CaptureFolder(provider.captured) if provider.captured is not None else None

        def carrier() -> Carrier:
            if folder is not None:
                return CaptureCarrier(folder, self._spool, provider.strip)
            ports, tokens = self._ports[provider.name], self._tokens.get(provider.name)
            greeted, now = self._offers.greeted, self._clock.monotonic
            return SmtpCarrier(
                provider, self._spool, self._hostname, self._times, ports=ports, tokens=tokens, greeted=greeted, now=now
            )

        return Lane(
            provider,
            carrier=carrier,
            settle=self._settle,
            now=self._clock.monotonic,
            failed=self._fail,
            stirred=self._offers.look,
        )

    # --- for people
    def providers(self) -> tuple[ProviderState, ...]:
        """How each provider stands, in the order of the settings."""
        return tuple(
            outlook.state_of(
                one,
                self._offers.breakers[one.name],
                self._clock,
                self._lanes[one.name].in_hand,
                self._ports[one.name].first,
            )
            for one in self._offers.providers.values()
        )

    def waits(self, entry: QueueEntry) -> str:
        """What a delivery waits for besides its time: ``waits until 2027-01-15 00:00 UTC: Brevo's quota is used up``;
        empty if nothing is in its way. What is left of quotas is as old as the last :meth:`look_at_quotas`.
        """
        if entry.trial != self._trial and entry.state in OPEN_STATES:
            return mode.reason(entry.trial)
        offer, allowance = self._offers.current, self._counts.allowance()
        unknown = outlook.strangers(entry.message, offer, allowance, self._offers.breakers)
        return outlook.waits(entry, offer, allowance, unknown)

    def delay_of(self, entry: QueueEntry) -> Delay:
        """Why a delivery is late, as far as that decides when its sender is told."""
        return outlook.delay_of(entry, self._offers.current, self._counts.allowance(), self._offers.breakers)

    def domains_in_trouble(self) -> frozenset[str]:
        """Domains with a sender that some provider does not know, or seems not to."""
        return frozenset[str]().union(*(one.senders.domains() for one in self._offers.breakers.values()))

    async def look_at_quotas(self) -> None:
        """Ask the spool what is left of the quotas, for :meth:`waits` and :meth:`delay_of`."""
        await self._counts.look()

    def look(self) -> None:
        """Look at once at what has changed besides the providers: who has priority, or the clock."""
        self._offers.look()

    # --- life
    async def run(self, stop: asyncio.Event) -> None:
        """Claims and delivers until ``stop`` is set; then gives back what was not begun and returns. :meth:`drain`
        must follow.
        """
        self._failure = asyncio.get_running_loop().create_future()
        self._offers.open(self._lanes)
        parts = [asyncio.create_task(part) for part in (self._claim_on(), self._sweep_on())]
        stopping = asyncio.create_task(stop.wait())
        try:
            waited: list[asyncio.Future[Any]] = [*parts, stopping, self._failure]
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._recorder.stopped = True
            self._offers.close()
            stopping.cancel()
            for part in parts:
                part.cancel()
            await asyncio.wait(parts)
        for part in parts:
            if not part.cancelled() and (error := part.exception()) is not None:
                raise error
        self._raise_failure()
        await self._give_back(*self._lanes.values())

    async def drain(self, seconds: float) -> None:
        """Waits at most ``seconds`` for the answers to what is under way; what has its final dot written by then ends
        in doubt.
        """
        await asyncio.gather(*(lane.close(seconds) for lane in self._lanes.values()))
        self._raise_failure()
        await self._give_back(*self._lanes.values())

    def _raise_failure(self) -> None:
        if self._failure is not None and self._failure.done():
            self._failure.result()

    def _fail(self, error: BaseException) -> None:
        if self._failure is not None and not self._failure.done():
            self._failure.set_exception(error)
            self._failure.exception()  # drain() may be what tells of it, or nobody if run() was cancelled

    async def _give_back(self, *lanes: Lane) -> None:
        """Releases what ``lanes`` have not begun, and what was taken back from others."""
        jobs = self._returned + [job for lane in lanes for job in lane.take_back()]
        self._returned = []
        for job in jobs:
            self._offers.done(job)
        if jobs:
            await self._recorder.release(jobs)

    async def _claim_on(self) -> None:
        for job in self._stuck:
            await self._settler.end_in_doubt(job)
        self._stuck = ()
        while True:
            await self._offers.room()
            for job in await self._spool.claim(lambda: self._offers.current):
                if job.suspect:  # the last line before the next end, if it is the one
                    self._journal.system("tried_alone", message=job.message.id, provider=job.provider)
                lane = self._lanes.get(job.provider)
                if lane is None:
                    await self._settler.put_aside(job)
                elif self._offers.taken(job):
                    lane.put((job,))
                else:  # a pause began while we waited for something to be due
                    self._returned.append(job)
            await self._give_back()

    async def _sweep_on(self) -> None:
        """Now and then ends what grew too old while no provider could be tried."""
        while True:
            await asyncio.sleep(limits.OVERDUE_SWEEP)
            await self.sweep()

    async def sweep(self) -> int:
        """Ends what is past its five days and cannot be tried now; how many messages."""
        before, ended = self._settler.oldest(), 0
        while before is not None:
            jobs = await self._spool.claim_overdue(lambda: self._offers.current, before, SWEPT)
            for job in jobs:
                await self._settler.give_up(job)
            ended += len(jobs)
            if not jobs:
                break
        return ended

    # --- what became of a job
    async def _settle(self, job: Job, findings: list[Finding], seconds: float) -> None:
        await self._settler.settle(job, findings, seconds)
        self._offers.done(job)
        if self._returned:
            await self._give_back()

    def _paused(self, pause: Pause, provider: str) -> None:
        """What waits in the lane of a provider that was paused goes back, so that another may take it."""
        self._returned += self._lanes[provider].take_back(
            lambda job: pause.sender == ALL or pause.sender in onward.senders(job.message)
        )
