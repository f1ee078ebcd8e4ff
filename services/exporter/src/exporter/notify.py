"""Tells somebody when the verdict changes: once, and once a day for as long as it is not good.

Not by mail: that may be what is broken. A change counts when it has been seen :data:`TWICE` looks in a row, so that a
restart rings nobody's phone. What could not be sent is tried again at the next look.

A URL that is pinged hears every five minutes that all is well (a warning is well enough: mail flows), and at ``/fail``
that it is not: so the one who listens learns too of a machine that went silent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .verdict import Level, Verdict

TWICE = 2
REMIND = 86_400.0  # seconds
PING_EVERY = 300.0
WORDS = {Level.GOOD: "all is well", Level.WARNING: "look at this", Level.CRITICAL: "something is wrong"}


@dataclass(frozen=True, slots=True)
class Note:
    """What is to be said."""

    level: Level
    title: str
    body: str


class Changes:
    """Decides what is worth saying. Pure but for its memory."""

    def __init__(self) -> None:
        self._told, self._told_at = Level.GOOD, 0.0
        self._seen, self._times = Level.GOOD, TWICE

    def look(self, verdict: Verdict, now: float, host: str) -> Note | None:
        """What to say of ``verdict``, if anything. It is said again until :meth:`told`."""
        self._times = self._times + 1 if verdict.level is self._seen else 1
        self._seen = verdict.level
        changed = verdict.level is not self._told and self._times >= TWICE
        due = verdict.level is self._told is not Level.GOOD and now - self._told_at >= REMIND
        if not changed and not due:
            return None
        still = "" if changed else "still: "
        return Note(verdict.level, f"Ownpost {host}: {still}{WORDS[verdict.level]}", body(verdict))

    def told(self, note: Note, now: float) -> None:
        """``note`` has arrived."""
        self._told, self._told_at = note.level, now


def body(verdict: Verdict) -> str:
    """The verdict's line, then every check that is not good, with what to do about it."""
    lines = [f"- {one.title}: {one.finding} {one.advice}".rstrip() for one in verdict.checks if one.level > Level.GOOD]
    return "\n".join([verdict.line, *lines])


class Notifier:
    """Says it: ``send`` to all services, ``ping`` one URL; each answers whether that went well."""

    def __init__(
        self,
        *,
        send: Callable[[Note], Awaitable[bool]] | None,
        pings: tuple[str, ...],
        ping: Callable[[str], Awaitable[bool]],
        result: Callable[[str, bool], None],
    ) -> None:
        self._send, self._pings, self._ping, self._result = send, pings, ping, result
        self._changes = Changes()
        self._pinged_at, self._pinged = float("-inf"), Level.GOOD

    async def look(self, verdict: Verdict, now: float, host: str) -> None:
        """To be called once a minute or so."""
        note = self._changes.look(verdict, now, host)
        if note and self._send:
            well = await self._send(note)
            self._result("notify", well)
            if well:
                self._changes.told(note, now)
        await self._ping_all(verdict.level, now)

    async def _ping_all(self, level: Level, now: float) -> None:
        failing = level is Level.CRITICAL
        if now - self._pinged_at < PING_EVERY and failing == (self._pinged is Level.CRITICAL):
            return
        self._pinged_at, self._pinged = now, level
        for url in self._pings:
            self._result("ping", await self._ping(_failed(url) if failing else url))


def _failed(url: str) -> str:
    base, mark, query = url.partition("?")
    return f"{base.rstrip('/')}/fail{mark}{query}"
