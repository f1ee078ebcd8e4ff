"""Collectors: each learns one thing from one place, timed and fenced.

A collector that hangs, throws or answers nonsense costs itself only. Whoever asks while a question is on its way gets
that question's answer, and an answer is good for :data:`FRESH` seconds: ten open pages ask the relay no more than one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from .log import Log

T = TypeVar("T")
FRESH = 1.0  # seconds
STARTING = 30.0  # seconds from the first question in which silence is no news: the others are starting too
MOST_SENTENCE = 300  # characters: an answer that cannot be understood may be quoted
PATIENCE = 3.0  # seconds for one collector: two of them, one after the other, fit into Prometheus' ten


@dataclass(frozen=True, slots=True)
class Learned(Generic[T]):
    """What a collector found: ``value`` or, where it is None, ``error``."""

    value: T | None
    error: str
    seconds: float
    at: float  # of the collector's own clock


class Collector(Generic[T]):
    """``learn`` is the question; ``name`` goes into the metrics, so there are few and they never change."""

    def __init__(self, name: str, learn: Callable[[], Awaitable[T]], *, clock: Callable[[], float], log: Log) -> None:
        self.name = name
        self._learn, self._clock, self._log = learn, clock, log
        self._running: asyncio.Task[Learned[T]] | None = None
        self.last: Learned[T] = Learned(None, "Not asked yet.", 0.0, float("-inf"))
        self._told = ""  # the error that the log has
        self._quiet_until: float | None = None

    async def get(self) -> Learned[T]:
        """What is known now; never raises."""
        if self._running is None:
            if self._clock() - self.last.at < FRESH:
                return self.last
            self._running = asyncio.create_task(self._run(), name=f"collector {self.name}")
            self._running.add_done_callback(self._done)
        return await asyncio.shield(self._running)  # one who asks may go away; the others still wait

    def _done(self, _: asyncio.Task[Learned[T]]) -> None:
        self._running = None

    async def _run(self) -> Learned[T]:
        start, value, error = self._clock(), None, ""
        try:
            async with asyncio.timeout(PATIENCE):
                value = await self._learn()
        except TimeoutError:
            error = f"No answer within {PATIENCE:g} seconds."
        except Exception as problem:
            error = sentence(problem)
        now = self._clock()
        self._tell(error, now)
        self.last = Learned(value, error, now - start, now)
        return self.last

    def _tell(self, error: str, now: float) -> None:
        """Log an error once, and not while all of it starts."""
        if self._quiet_until is None:
            self._quiet_until = now + STARTING
        if not error:
            self._quiet_until = now  # it has started
        elif error == self._told or now < self._quiet_until:
            return
        else:
            self._log.event("collector_failed", collector=self.name, error=error)
        self._told = error


class Asked(Protocol):
    """Any collector, whatever it learns."""

    name: str

    @property
    def last(self) -> Learned[object]: ...


async def all_of(collectors: Sequence[Collector[object]]) -> None:
    """Ask all of them at once; their ``last`` then is fresh."""
    await asyncio.gather(*(one.get() for one in collectors))


def sentence(problem: Exception) -> str:
    """Why something could not be learned, for people."""
    if isinstance(problem, FileNotFoundError | ConnectionRefusedError) or isinstance(
        getattr(problem, "os_error", None), FileNotFoundError | ConnectionRefusedError
    ):
        return "It does not run, or it has not opened its socket yet."
    said = str(problem)[:MOST_SENTENCE]
    if isinstance(problem, KeyError | TypeError | ValueError | IndexError):
        return f"Its answer cannot be understood ({type(problem).__name__}: {said})."
    return said or type(problem).__name__
