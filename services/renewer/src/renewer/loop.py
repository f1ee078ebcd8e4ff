"""The renewer's one loop: try, publish, record, wait until the next attempt is due or the service stops.

Nothing that goes wrong with a certificate ends it; what is published stays published. Only our own bugs get out.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from .log import Log, iso
from .outcome import Failed, Kind, Offered, Outcome, Source
from .pair import Pair, facts_of
from .publish import Publisher
from .status import Status

LONGEST_SLEEP = 60.0  # seconds; timers stand still while a machine is suspended, wall time does not
RETRY_DISK = 60.0  # seconds until the next attempt when the disk refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """Where certificates come from, where they go, and who is told."""

    source: Source
    publisher: Publisher
    status: Status
    log: Log
    now: Callable[[], float]

    async def run(self, stop: asyncio.Event) -> None:
        """Attempt for ever, until ``stop`` is set; an attempt under way is cancelled then."""
        self._show(self.publisher.current())
        while not stop.is_set():
            outcome = await _unless(stop, self.attempt())
            if outcome is not None:
                await self._wait(outcome.next_attempt, stop)

    async def attempt(self) -> Outcome:
        """One attempt with all that follows from it."""
        current = self.publisher.current()
        outcome = await self.source.attempt(current)
        if isinstance(outcome, Offered):
            outcome = self._publish(outcome)
        self._report(outcome)
        self.status.record(outcome)
        self._show(self.publisher.current())
        return outcome

    def _publish(self, offer: Offered) -> Outcome:
        try:
            name = self.publisher.publish(offer.pair, authority=offer.authority)
        except OSError as error:
            return Failed(Kind.DISK, f"The certificate could not be published: {error}.", self.now() + RETRY_DISK)
        facts = facts_of(offer.pair.fullchain)
        days = round(facts.days_left(self.now()), 1)
        names = ",".join(facts.names)
        self.log.event("certificate_published", folder=name, names=names, issuer=facts.issuer, days_left=days)
        return offer

    def _report(self, outcome: Outcome) -> None:
        """A failure is told once, not at each of its repetitions: the files are looked at every minute."""
        if isinstance(outcome, Failed) and outcome.sentence != self.status.last_error:
            self.log.event(
                "certificate_failed", kind=outcome.kind, error=outcome.sentence, next_attempt=iso(outcome.next_attempt)
            )
        elif not isinstance(outcome, Failed) and self.status.last_error:
            self.log.event("certificate_recovered")

    def _show(self, pair: Pair | None) -> None:
        self.status.certificate(facts_of(pair.fullchain) if pair else None)

    async def _wait(self, until: float, stop: asyncio.Event) -> None:
        while not stop.is_set() and (left := until - self.now()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, LONGEST_SLEEP)):
                    await stop.wait()


async def _unless(stop: asyncio.Event, work: Coroutine[None, None, Outcome]) -> Outcome | None:
    """The result of ``work``, or None once ``stop`` is set: then it is cancelled and has ended when this returns."""
    task, stopped = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        stopped.cancel()
        task.cancel()
        await asyncio.gather(task, stopped, return_exceptions=True)
