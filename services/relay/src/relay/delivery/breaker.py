"""How long a provider is left alone, for which reason, and what ends that.

Pure; times are monotonic seconds. With thousands of messages waiting, each would otherwise knock in turn. After a
failure of the provider's nothing is offered to it for a while; then one message at a time *probes* it, and what it says
to that ends the pause or begins a longer one. A provider that does not know a sender is left alone for that sender only
(:mod:`~relay.delivery.senders`).

What was only guessed from a reply's words (:attr:`Sign.needed`) counts from several different messages on, so that one
odd message stops nobody else's mail.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from relay import limits
from relay.choice.quota import Quota, resets_at
from relay.delivery.guesses import Guesses
from relay.delivery.pause import ALL, Pause, Sign
from relay.delivery.senders import Senders
from relay.providers.rules import Standing

_SHORT = re.compile(r"\b(?:hour(?:ly)?|minutes?)\b", re.IGNORECASE)  # the window of a limit that was exceeded


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """How long pauses last, in seconds."""

    busy: float = limits.PAUSE_FIRST  # doubled by each probe that fails
    busy_most: float = limits.PAUSE_MOST
    doubt_most: float = limits.PAUSE_DOUBT_MOST  # where each that tries ends in doubt
    key: float = limits.PAUSE_KEY_FIRST  # likewise
    key_most: float = limits.PAUSE_KEY_MOST
    used_up: float = limits.PAUSE_USED_UP  # where no clock of its quotas tells more
    not_set_up: float = limits.PAUSE_NOT_SET_UP


@dataclass(slots=True)
class Breaker:
    """The pauses of one provider."""

    lengths: Lengths = field(default_factory=Lengths)
    _whole: Pause | None = None  # for everyone
    _failures: dict[Standing, int] = field(default_factory=dict)  # in a row
    _guesses: Guesses[tuple[Standing, int]] = field(default_factory=Guesses)  # by how many must have met it, too
    senders: Senders = field(init=False)

    def __post_init__(self) -> None:
        """Give the pauses of single senders their length."""
        self.senders = Senders(self.lengths.not_set_up)

    def __iter__(self) -> Iterator[Pause]:
        yield from (self._whole,) if self._whole is not None else ()
        yield from self.senders

    @property
    def quiet(self) -> bool:
        """Whether there is nothing to end: the usual case, asked for every message."""
        return not (self._whole or self._guesses or self._failures or self.senders)

    def pause(self, sender: str = ALL) -> Pause | None:
        """The pause for everyone, or the one for this address or sender domain alone."""
        return self._whole if sender == ALL else self.senders.pause(sender)

    def failed(self, sign: Sign, now: float, jitter: float = 0.5, reset: float = 0.0) -> Pause | None:
        """Take ``sign`` into account; the pause that begins by it, if one does. ``jitter`` in [0, 1).

        ``reset``: in how many seconds the clock of a quota begins anew, 0.0 if none is known; believed once, since a
        clock that we had wrong must not cost a day; for a guess, or the limit of an hour, not believed. Failures inside
        a running pause are the same failure, unless they are of a kind that lasts longer.
        """
        if sign.standing is Standing.NOT_SET_UP:
            return self.senders.failed(sign, now, _shaken(jitter))
        if not self._enough(sign, now):
            return None
        running, length = self._whole, self._length(sign, jitter, reset)
        if running is not None and now < running.until and _covered(running, sign, now + length):
            return None
        before = self._failures.get(sign.standing, 0)
        self._failures[sign.standing] = before + 1
        self._whole = Pause(
            sender=ALL,
            standing=sign.standing,
            reason=sign.reason,
            until=now + length,
            known=sign.standing is Standing.USED_UP and length == reset and not before,
            spoken=sign.spoken,
        )
        return self._whole

    def reached(self, now: float, *, took: bool, sender: str = ALL) -> list[Pause]:
        """The provider answered and knew us; ``took``: it accepted a message of that sender, or judged its content. The
        pauses that end by it.

        A login says nothing of a quota. What was under way when a pause began says nothing about it either, unless it
        began for a connection that failed.
        """
        whole, ended = self._whole, self.senders.took(sender, now) if took else []
        if whole is not None and _ends(whole, now, took):
            self._forget()
            ended.append(whole)
        if self._whole is None:  # what a look left of a run of failures; a quota's run ends only by mail
            self._failures = {of: n for of, n in self._failures.items() if of is Standing.USED_UP and not took}
        if took:
            self._guesses.forget()
        return ended

    def found_ready(self, now: float, *, key: bool | None) -> list[Pause]:
        """A look without a message got through; ``key``: the provider took our login, None if it wants none. The pauses
        that end by it: one for a dead key if the key works, and any other once its time is over.

        Where all mail prefers another provider nothing else would ever end those, and their alarm would ring for ever.
        A look says less than mail (it may be taken and the mail still be put off), so the failures stay counted: the
        next one begins a pause as long as if no look had been.
        """
        whole = self._whole
        if whole is None:
            return []
        if whole.standing is Standing.KEY_DEAD and key is not None:
            if not key:
                return []
            self._forget()
        elif whole.left(now):
            return []
        else:
            self._whole = None
        return [whole]

    def lapse(self, now: float) -> list[Pause]:
        """Forget what is too old to count; the pauses that end by it."""
        self._guesses.age(now)
        return self.senders.lapse(now)

    def _enough(self, sign: Sign, now: float) -> bool:
        """Whether as many messages met it as are needed; one is enough where a pause for the same reason is probed."""
        if sign.needed <= 1 or (self._whole is not None and self._whole.standing is sign.standing):
            return True
        kind = (sign.standing, sign.needed)
        self._guesses.add(kind, sign.message, sign.reason, now)
        return self._guesses.messages(kind) >= sign.needed

    def _length(self, sign: Sign, jitter: float, reset: float) -> float:
        lengths, doubled = self.lengths, 2.0 ** min(self._failures.get(sign.standing, 0), 16)
        match sign.standing:
            case Standing.KEY_DEAD:
                length = min(lengths.key * doubled, lengths.key_most)
            case Standing.USED_UP:
                sure = sign.needed <= 1 and not _SHORT.search(sign.reason)
                return reset if reset and sure and doubled == 1 else min(reset or lengths.used_up, lengths.used_up)
            case _:
                length = min(lengths.busy * doubled, lengths.doubt_most if sign.doubt else lengths.busy_most)
        return length * _shaken(jitter)

    def _forget(self) -> None:
        self._whole = None
        self._failures.clear()
        self._guesses.forget()


def _ends(pause: Pause, now: float, took: bool) -> bool:
    match pause.standing:
        case Standing.USED_UP:
            return took and now >= pause.until
        case Standing.KEY_DEAD:
            return now >= pause.until
        case _:
            return now >= pause.until or not pause.spoken


def _shaken(jitter: float) -> float:
    """So that providers are not probed in step."""
    return 0.8 + 0.4 * jitter


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
