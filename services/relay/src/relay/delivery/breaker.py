"""How long a provider is left alone, for which reason, and what ends that.

Pure; times are monotonic seconds. With thousands of messages waiting, each would otherwise knock in turn. After a
failure of the provider's nothing is offered to it for a while; then one message at a time *probes* it, and what it says
to that ends the pause or begins a longer one. A provider that does not know one sender domain is left alone for that
domain only.

What was only guessed from a reply's words (:attr:`Sign.needed`) counts from several different messages on, so that one
odd message stops nobody else's mail.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from relay import limits
from relay.choice.quota import Quota, resets_at
from relay.providers.rules import Standing

ALL = ""  # in the place of a sender domain: every one


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """How long pauses last, in seconds."""

    busy: float = limits.PAUSE_FIRST  # doubled by each probe that fails
    busy_most: float = limits.PAUSE_MOST
    key: float = limits.PAUSE_KEY_FIRST  # likewise
    key_most: float = limits.PAUSE_KEY_MOST
    used_up: float = limits.PAUSE_USED_UP  # where no clock of its quotas tells more
    not_set_up: float = limits.PAUSE_NOT_SET_UP


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """What one attempt says against a provider."""

    standing: Standing
    reason: str  # the provider's own sentence, or ours
    message: str = ""  # id of the message that met it
    domain: str = ALL  # of its sender
    needed: int = 1  # so many different messages must have met it


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """One pause, running or being probed."""

    domain: str  # the sender domain it holds for, or :data:`ALL`
    standing: Standing
    reason: str
    until: float

    def left(self, now: float) -> float:
        """Seconds until one message may try; 0.0 when it may."""
        return max(0.0, self.until - now)


Guesses = dict[str, list[str]]  # by message that met them: the provider's sentences, one an attempt


@dataclass(slots=True)
class Breaker:
    """The pauses of one provider."""

    lengths: Lengths = field(default_factory=Lengths)
    _pauses: dict[str, Pause] = field(default_factory=dict)  # by sender domain
    _failures: dict[tuple[str, Standing], int] = field(default_factory=dict)  # in a row
    _guesses: dict[tuple[str, Standing], Guesses] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Pause]:
        return iter(list(self._pauses.values()))

    @property
    def quiet(self) -> bool:
        """Whether there is nothing to end: the usual case, asked for every message."""
        return not (self._pauses or self._guesses or self._failures)

    def pause(self, domain: str = ALL) -> Pause | None:
        """The pause for everyone, or the one for this sender domain alone."""
        return self._pauses.get(domain)

    def stranger(self, domain: str, message: str) -> str | None:
        """Why the provider does not know this sender domain, as far as is known from all mail or from ``message``
        alone; None where it may know it.

        A guess counts here only when the same message met it again in a later round: one odd reply, whatever its words,
        may be a fault of that moment.
        """
        pause = self._pauses.get(domain)
        if pause is not None:
            return pause.reason
        said = self._guesses.get((domain, Standing.NOT_SET_UP), {}).get(message, [])
        return said[-1] if len(said) >= limits.ROUNDS_TO_BELIEVE else None

    def strange_domains(self) -> frozenset[str]:
        """Sender domains that the provider does not know, or that it was guessed of."""
        guessed = {place for place, standing in self._guesses if standing is Standing.NOT_SET_UP}
        return frozenset(guessed | self._pauses.keys()) - {ALL}

    def try_now(self, domain: str, now: float) -> bool:
        """End the time of a pause for one sender domain, so that one message may try; whether there was such a time to
        wait.
        """
        pause = self._pauses.get(domain)
        if pause is None or domain == ALL or not pause.left(now):
            return False
        self._pauses[domain] = replace(pause, until=now)
        return True

    def failed(self, sign: Sign, now: float, jitter: float = 0.5, reset: float = 0.0) -> Pause | None:
        """Take ``sign`` into account; the pause that begins by it, if one does. ``jitter`` in [0, 1).

        ``reset``: in how many seconds the clock of a quota begins anew, 0.0 if none is known; believed once, since a
        clock that we had wrong must not cost a day. Failures inside a running pause are the same failure, unless they
        are of a kind that lasts longer.
        """
        place = sign.domain if sign.standing is Standing.NOT_SET_UP else ALL
        if not self._enough(place, sign):
            return None
        running = self._pauses.get(place)
        length = self._length(place, sign.standing, jitter, reset)
        if running is not None and now < running.until and _covered(running, sign, now + length):
            return None
        kind = (place, sign.standing)
        self._failures[kind] = self._failures.get(kind, 0) + 1
        pause = Pause(domain=place, standing=sign.standing, reason=sign.reason, until=now + length)
        self._pauses[place] = pause
        return pause

    def reached(self, now: float, *, took: bool, domain: str = ALL) -> list[Pause]:
        """The provider answered and knew us; ``took``: it accepted a message of that sender domain, or judged its
        content. The pauses that end by it.

        A login says nothing of a quota. What was under way when a pause began says nothing about it either, unless it
        began for a connection that failed.
        """
        ended = [pause for pause in self if self._ends(pause, now, took, domain)]
        for pause in ended:
            self._forget(pause.domain)
        if ALL not in self._pauses:  # what a look left of a run of failures; a quota's run ends only by mail
            run = {kind: n for kind, n in self._failures.items() if kind == (ALL, Standing.USED_UP) and not took}
            self._failures = run | {kind: n for kind, n in self._failures.items() if kind[0] != ALL}
        if took:
            self._guesses = {kind: met for kind, met in self._guesses.items() if kind[0] not in (ALL, domain)}
        return ended

    def found_ready(self, now: float, *, key: bool) -> list[Pause]:
        """A look without a message got through; ``key``: the provider took our login. The pauses that end by it: one
        for a dead key if the key works, and any other once its time is over.

        Where all mail prefers another provider nothing else would ever end those, and their alarm would ring for ever.
        A look says less than mail (it may be taken and the mail still be put off), so the failures stay counted: the
        next one begins a pause as long as if no look had been.
        """
        pause = self._pauses.get(ALL)
        if pause is None:
            return []
        if pause.standing is Standing.KEY_DEAD:
            if not key:
                return []
            self._forget(ALL)
        elif pause.left(now):
            return []
        else:
            del self._pauses[ALL]
        return [pause]

    def _enough(self, place: str, sign: Sign) -> bool:
        """Whether as many messages met it as are needed; one is enough where another pause is being probed."""
        if sign.needed <= 1 or place in self._pauses:
            return True
        met = self._guesses.setdefault((place, sign.standing), {})
        met[sign.message] = [*met.get(sign.message, ()), sign.reason][-limits.ROUNDS_TO_BELIEVE :]
        return len(met) >= sign.needed

    def _length(self, place: str, standing: Standing, jitter: float, reset: float) -> float:
        lengths, doubled = self.lengths, 2.0 ** min(self._failures.get((place, standing), 0), 16)
        match standing:
            case Standing.KEY_DEAD:
                length = min(lengths.key * doubled, lengths.key_most)
            case Standing.USED_UP:
                return reset if reset > 0 and doubled == 1 else min(reset or lengths.used_up, lengths.used_up)
            case Standing.NOT_SET_UP:
                length = lengths.not_set_up
            case _:
                length = min(lengths.busy * doubled, lengths.busy_most)
        return length * (0.8 + 0.4 * jitter)

    def _ends(self, pause: Pause, now: float, took: bool, domain: str) -> bool:
        match pause.standing:
            case Standing.NOT_SET_UP:
                return took and pause.domain == domain and now >= pause.until
            case Standing.USED_UP:
                return took and now >= pause.until
            case Standing.KEY_DEAD:
                return now >= pause.until
            case _:
                return True

    def _forget(self, domain: str) -> None:
        del self._pauses[domain]
        self._failures = {kind: n for kind, n in self._failures.items() if kind[0] != domain}
        self._guesses = {kind: met for kind, met in self._guesses.items() if kind[0] != domain}


def _covered(running: Pause, sign: Sign, until: float) -> bool:
    return running.standing is sign.standing or until <= running.until


def reset_in(quotas: Sequence[Quota], now: float) -> float:
    """Seconds from ``now`` (Unix time) until a quota that a provider calls used up may allow more; 0.0: not known.

    At most a day, because a month's quota may not be the one that was meant; a minute late, because clocks differ. When
    a rolling window lets something through depends on what others sent, too.
    """
    ends = [resets_at(quota, now, ()) - now + limits.MINUTE for quota in quotas if quota.period != "rolling"]
    ends += [limits.PAUSE_USED_UP for quota in quotas if quota.period == "rolling"]
    return min([*ends, limits.DAY]) if ends else 0.0
