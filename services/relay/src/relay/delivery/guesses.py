"""What was only guessed from replies' words: it counts from several different messages on, so that one odd message
stops nobody else's mail. Times are monotonic seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from relay import limits

K = TypeVar("K", bound=Hashable)


@dataclass(slots=True)
class Met:
    """What one message met."""

    at: float  # the last time
    said: list[str]  # the provider's sentences, one an attempt


@dataclass(slots=True)
class Guesses(Generic[K]):
    """By what is guessed, and by message; forgotten after an hour, since failures of different days are no run."""

    _met: dict[K, dict[str, Met]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self._met)

    def add(self, what: K, message: str, reason: str, now: float) -> None:
        """``message`` met it once more."""
        self.age(now)
        met = self._met[what] = self._met.pop(what, {})  # the last one now
        if len(self._met) > limits.STRANGERS:
            del self._met[next(iter(self._met))]
        said = [*(met[message].said if message in met else ()), reason]
        met[message] = Met(now, said[-limits.ROUNDS_TO_BELIEVE :])

    def messages(self, what: K) -> int:
        """How many messages met it."""
        return len(self._met.get(what, ()))

    def said(self, what: K, message: str) -> list[str]:
        """What ``message`` was told, the latest last."""
        met = self._met.get(what, {}).get(message)
        return met.said if met is not None else []

    def kinds(self) -> list[K]:
        """All that is guessed of."""
        return list(self._met)

    def forget(self, which: Callable[[K], bool] = lambda _: True) -> None:
        """It was refuted, or is known."""
        self._met = {what: met for what, met in self._met.items() if not which(what)}

    def age(self, now: float) -> None:
        """Forget what is old."""
        for what, met in list(self._met.items()):
            young = {message: one for message, one in met.items() if now - one.at <= limits.GUESS_AGE}
            if young:
                self._met[what] = young
            else:
                del self._met[what]
