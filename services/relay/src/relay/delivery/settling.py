"""Settles jobs: what a carrier brought back, or why there is nothing to bring back, becomes results in the spool.

In this order, on which the rest relies: the answer is judged; what it says of the provider is taken into account, so
that the offer is right; where the message may still go is asked of that offer; then all is recorded in one commit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from relay import limits
from relay.clock import Clock
from relay.delivery import judging, outlook, settlement
from relay.delivery.counts import Counts
from relay.delivery.judging import Judge
from relay.delivery.offers import Offers
from relay.delivery.onward import Onward
from relay.delivery.outcome import Delivered, Doubtful, Finding, Verdict, clean
from relay.delivery.pause import Pause
from relay.delivery.recording import Recorder
from relay.delivery.schedule import ClockWatch
from relay.delivery.settlement import Moment
from relay.model import Job
from relay.providers.rules import Standing


class Journal(Protocol):
    """What is needed of the journal."""

    def attempt(self, provider: str, outcome: str, seconds: float) -> None: ...

    def system(self, event: str, **fields: Any) -> None: ...


class Settler:
    """``paused`` is called with every pause that begins, before the outcome that began it is recorded."""

    def __init__(
        self,
        offers: Offers,
        counts: Counts,
        judge: Judge,
        recorder: Recorder,
        *,
        journal: Journal,
        clock: Clock,
        jitter: Callable[[], float],
        doubt_wait: float,
        paused: Callable[[Pause, str], None],
    ) -> None:
        self._offers, self._counts, self._judge, self._recorder = offers, counts, judge, recorder
        self._journal, self._clock, self._jitter, self._doubt_wait = journal, clock, jitter, doubt_wait
        self._paused = paused
        self._watch = ClockWatch(clock.time(), clock.monotonic())

    async def settle(self, job: Job, findings: Sequence[Finding], seconds: float) -> None:
        """Records what became of each recipient of ``job``, which took ``seconds``."""
        provider = self._offers.providers[job.provider]
        knocked = self._offers.probed(job.provider) and judging.unseen(findings)
        verdicts = await self._judge.verdicts(job, findings, provider)
        for pause in self._offers.said(job.provider, job.message, judging.said(job.message, findings, verdicts)):
            self._paused(pause, job.provider)
        onward = None if all(_is_final(verdict) for verdict in verdicts) else await self._onward(job)
        moment = self._moment(job.provider, onward, knocked)
        results, events = settlement.settle(job, verdicts, moment)
        for verdict in verdicts:
            self._journal.attempt(job.provider, type(verdict.outcome).__name__.lower(), seconds)
        await self._recorder.record(job, results, events)

    async def end_in_doubt(self, job: Job) -> None:
        """The process of an earlier run ended before the answer, and once too often. Of a suspect the header is left
        unread: it may be what ends this one.
        """
        job = job._replace(body=b"") if job.suspect else job
        sentence = "the relay was stopped before the provider answered"
        doubt = [Verdict(Doubtful(0, sentence), Standing.BUSY)] * len(job.recipients)
        await self._recorder.record(job, *settlement.settle(job, doubt, self._moment(job.tied_to)))

    async def put_aside(self, job: Job) -> None:
        """It is tied to a provider that is not configured any more."""
        name = job.tied_to or job.provider
        sentence = (
            f"It may have been delivered through {name}, which is not configured any more. "
            "`make queue ARGS='retry ID'` sends it again through another provider."
        )
        await self._recorder.record(job, *settlement.hold(job, sentence, self._moment(name)))

    async def give_up(self, job: Job) -> None:
        """It is past its five days and no provider could be tried."""
        await self._counts.look()
        reasons = outlook.reasons(job.message, self._offers.current, self._counts.allowance(), job.tied_to)
        sentence = clean(f"no provider could take it: {'; '.join(reasons) or 'none is open'}")
        await self._recorder.record(job, *settlement.give_up(job, sentence, self._moment(job.tied_to)))

    def oldest(self) -> float | None:
        """Mail accepted before this is past its days; None while nothing may expire."""
        moment = self._moment("")
        return moment.now - limits.LIFETIME if moment.may_expire else None

    async def _onward(self, job: Job) -> Onward:
        await self._counts.look()
        return Onward(job.message, self._offers.current, self._counts.allowance().left, job.tied_to)

    def _moment(self, provider: str, onward: Onward | None = None, knocked: bool = False) -> Moment:
        now, monotonic = self._clock.time(), self._clock.monotonic()
        jump = self._watch.look(now, monotonic)
        if jump:
            self._journal.system("clock_jumped", seconds=round(jump), expiry="suspended for five days")
        may_expire, title = self._watch.may_expire(monotonic), self._offers.title(provider)
        return Moment(provider, now, may_expire, self._jitter, onward, self._doubt_wait, title, knocked)


def _is_final(verdict: Verdict) -> bool:
    """Whether what comes next does not depend on the other providers."""
    return isinstance(verdict.outcome, Delivered | Doubtful)
