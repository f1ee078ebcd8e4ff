"""Tells somebody when the verdict changes: once, and once a day for as long as it is not good.

Not by mail: that may be what is broken. A change counts when it has been seen :data:`TWICE` looks in a row, so that a
restart rings nobody's phone. Each place has its own memory: one that cannot be reached is tried again, ever more
rarely, and the others do not hear twice.

A URL that is pinged hears every five minutes that all is well (a warning is well enough: mail flows), and at ``/fail``
that it is not: so the one who listens learns too of a machine that went silent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from .privacy import shorten
from .verdict import Level, Verdict
from .words import readable

TWICE = 2
REMIND = 86_400.0  # seconds
AGAIN, AGAIN_MOST = 60.0, 1_800.0  # seconds until what could not be sent is tried again; doubled each time
PING_EVERY = 300.0
MOST_LINE, MOST_BODY = 300, 1_500  # characters; the smallest of the services take 2,000
WORDS = {Level.GOOD: "all is well", Level.WARNING: "look at this", Level.CRITICAL: "something is wrong"}


@dataclass(frozen=True, slots=True)
class Note:
    """What is to be said."""

    level: Level
    title: str
    body: str


class Changes:
    """Decides what is worth saying to one place. Pure but for its memory."""

    def __init__(self) -> None:
        self._told, self._told_at = Level.GOOD, 0.0
        self._seen, self._times = Level.GOOD, TWICE
        self._missed, self._not_before = 0, 0.0

    def look(self, verdict: Verdict, now: float, host: str) -> Note | None:
        """What to say of ``verdict``, if anything. It is said again until :meth:`told`."""
        self._times = self._times + 1 if verdict.level is self._seen else 1
        self._seen = verdict.level
        changed = verdict.level is not self._told and self._times >= TWICE
        due = verdict.level is self._told is not Level.GOOD and now - self._told_at >= REMIND
        if (not changed and not due) or now < self._not_before:
            return None
        still = "" if changed else "still: "
        return Note(
            verdict.level, f"Ownpost {readable(host)[:MOST_LINE]}: {still}{WORDS[verdict.level]}", body(verdict)
        )

    def told(self, note: Note, now: float) -> None:
        """``note`` has arrived."""
        self._told, self._told_at = note.level, now
        self._missed, self._not_before = 0, 0.0

    def missed(self, now: float) -> None:
        """It could not be sent."""
        self._not_before = now + min(AGAIN * 2**self._missed, AGAIN_MOST)
        self._missed = min(self._missed + 1, 16)


def body(verdict: Verdict) -> str:
    """The verdict's line, then every check that is not good, with what to do about it.

    Strangers' words may be in it: each finding stays on its own line, is cut, and holds nothing that cannot be seen.
    """
    lines = [f"- {one.title}: {one.finding} {one.advice}".rstrip() for one in verdict.checks if one.level > Level.GOOD]
    said = [shorten(readable(line))[:MOST_LINE] for line in (verdict.line, *lines)]  # it goes to others' servers
    return "\n".join(said)[:MOST_BODY]


class Notifier:
    """Says it: ``services`` send a note to one place each, ``ping`` fetches a URL; each tells if that went well."""

    def __init__(
        self,
        *,
        services: Sequence[Callable[[Note], Awaitable[bool]]],
        pings: Sequence[str],
        ping: Callable[[str], Awaitable[bool]],
        result: Callable[[str, bool], None],
    ) -> None:
        self._services = [(send, Changes()) for send in services]
        self._pings, self._ping, self._result = pings, ping, result
        self._pinged_at, self._pinged = float("-inf"), Level.GOOD

    async def look(self, verdict: Verdict, now: float, host: str) -> None:
        """To be called once a minute or so."""
        told = [self._tell(send, changes, verdict, now, host) for send, changes in self._services]
        await asyncio.gather(*told, *self._due_pings(verdict.level, now))

    async def _tell(
        self, send: Callable[[Note], Awaitable[bool]], changes: Changes, verdict: Verdict, now: float, host: str
    ) -> None:
        note = changes.look(verdict, now, host)
        if note is None:
            return
        well = await send(note)
        self._result("notify", well)
        if well:
            changes.told(note, now)
        else:
            changes.missed(now)

    def _due_pings(self, level: Level, now: float) -> list[Awaitable[None]]:
        failing = level is Level.CRITICAL
        if now - self._pinged_at < PING_EVERY and failing == (self._pinged is Level.CRITICAL):
            return []
        self._pinged_at, self._pinged = now, level
        return [self._fetch(_failed(url) if failing else url) for url in self._pings]

    async def _fetch(self, url: str) -> None:
        self._result("ping", await self._ping(url))


def _failed(url: str) -> str:
    base, mark, query = url.partition("?")
    return f"{base.rstrip('/')}/fail{mark}{query}"
