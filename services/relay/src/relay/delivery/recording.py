"""Writes into the spool what became of a job: outcomes, events and the notice of what failed, in one commit.

A full disk delays that and loses nothing. Other failures of the spool leave as exceptions: the process must end then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from relay.delivery import notice
from relay.model import FAILED_STATES, Event, EventKind, Job, Kind, Message, Result
from relay.spool import SpoolError, SpoolFailed, SpoolFull, Trace

FULL_WAIT = 5.0  # until an outcome is tried again for which the disk had no room
Notice = tuple[Message, bytes, Sequence[Event]]


class Spool(Protocol):
    """What is needed of the spool."""

    async def record(
        self, job: Job, results: Sequence[Result], events: Sequence[Event], notices: Sequence[Notice] = ()
    ) -> None: ...

    async def release(self, jobs: Sequence[Job]) -> None: ...

    async def trace(self, *, message_id: str = "") -> list[Trace]: ...


class Journal(Protocol):
    """What is needed of the journal."""

    def system(self, event: str, **fields: Any) -> None: ...


class Recorder:
    """Records results, with ``post`` as the writer of notices. ``stopped`` says whether nothing more is claimed."""

    def __init__(
        self,
        spool: Spool,
        journal: Journal,
        post: notice.Post,
        header: Callable[[Job], Awaitable[bytes]],
        titles: Callable[[str], str],
    ) -> None:
        self._spool, self._journal, self._post = spool, journal, post
        self._header, self._titles = header, titles
        self.stopped = False

    async def record(self, job: Job, results: Sequence[Result], events: Sequence[Event]) -> None:
        """One commit: what became of the recipients, and the notice of those that failed. A notice that fails is the
        story of the message that it told of: nobody else will say that its sender knows nothing.
        """
        failed = [result for result in results if result.state in FAILED_STATES]
        notices = [await self._notice(job, failed, events[0].at)] if failed and notice.wanted(job.message) else []
        if failed and job.message.kind is Kind.NOTICE:
            events = await self._told_twice(job, events)
        while True:
            try:
                return await self._spool.record(job, results, events, notices)
            except SpoolFull:  # what a provider took must not be forgotten while there is hope
                self._journal.system("disk_full", message=job.message.id)
                await asyncio.sleep(FULL_WAIT)

    async def release(self, jobs: Sequence[Job]) -> None:
        """Gives jobs back, however long the disk is full; once stopped, the next start finds them and does the same."""
        while True:
            try:
                return await self._spool.release(jobs)
            except SpoolFull:
                if self.stopped:
                    return None
                self._journal.system("disk_full", messages=len(jobs))
                await asyncio.sleep(FULL_WAIT)

    async def _told_twice(self, job: Job, events: Sequence[Event]) -> list[Event]:
        """What failed of a notice, in its own story and in that of the message that it told of."""
        about = notice.told_of(await self._header(job)) or job.message.id
        told = list[Event]()
        for event in events:
            if event.kind.value not in FAILED_STATES:
                told.append(event)
                continue
            told.append(event._replace(detail={**event.detail, "told_of": about}))
            detail = {"notice": job.message.id, "state": event.kind.value}
            told.append(event._replace(kind=EventKind.NOTICE_FAILED, message=about, detail=detail))
        return told

    async def _notice(self, job: Job, failed: Sequence[Result], now: float) -> Notice:
        addresses = {recipient.delivery: recipient.address for recipient in job.recipients}
        earlier = await self._earlier(job)
        failures = [
            notice.Failure(
                addresses[one.delivery],
                one.state,
                self._titles(one.provider),
                one.code,
                one.reply,
                tuple(said for name, said in earlier.get(addresses[one.delivery], {}).items() if name != one.provider),
            )
            for one in failed
        ]
        message, content = notice.failure(job.message, await self._header(job), failures, self._post, now)
        message = message._replace(spares=failed[0].provider)
        queued = Event(
            kind=EventKind.NOTICE_QUEUED,
            at=now,
            message=job.message.id,
            account=job.message.account,
            recipient=job.message.notify,
            detail={"notice": message.id},
        )
        return message, content, [queued]

    async def _earlier(self, job: Job) -> dict[str, dict[str, notice.Said]]:
        """What each provider said last about each recipient, before this attempt."""
        said: dict[str, dict[str, notice.Said]] = {}
        for event in await self._events(job):
            if event.provider and event.reply and event.kind in (EventKind.DEFERRED, EventKind.DOUBTFUL):
                one = notice.Said(self._titles(event.provider), event.code, event.reply)
                said.setdefault(event.recipient, {})[event.provider] = one
        return said

    async def _events(self, job: Job) -> Sequence[Event]:
        """The message's events so far; none if they cannot be read, since that must keep no notice from being sent."""
        try:
            return [event for story in await self._spool.trace(message_id=job.message.id) for event in story.events]
        except SpoolFailed:
            raise
        except SpoolError as error:
            self._journal.system("message_unreadable", message=job.message.id, reason=str(error))
            return []
