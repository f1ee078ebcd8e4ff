"""Which senders a provider does not know: addresses, and whole domains.

Pure; times are monotonic seconds. Providers say in the same words that a *domain* is not set up there and that one
*address* is not (a mailbox that may send only as itself, a sender that must be confirmed), and a printer with a wrong
From must not stop the mail of all the others. So the address alone is left alone at first, and its domain once a second
address met the same and no mail of the domain was taken in between. An address that met it before somebody else's mail
was taken is a matter of its own, and says nothing of the domain any more.

A pause of a domain is short at first, and always ends before those of the addresses that brought it about, so that
somebody else of the domain tries first. Those ask again in turn, whoever did so last after all the others: one of them
may have been set up meanwhile. What a domain costs that is really not set up is bounded by both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from relay import limits
from relay.delivery.guesses import Guesses
from relay.delivery.pause import Pause, Sign, domain_of

Guess = tuple[str, int]  # the address, and how many messages must have met it
SUSPECTS = 2  # addresses that make it the domain's matter
FIRST, MOST = 1 / 12, 3 / 4  # the pauses of a domain, each twice the last, as parts of those of its addresses


@dataclass(slots=True)
class Senders:
    """The pauses of one provider that hold for some senders only."""

    length: float = limits.PAUSE_NOT_SET_UP
    _pauses: dict[str, Pause] = field(default_factory=dict)  # by address or domain
    _suspects: dict[str, set[str]] = field(default_factory=dict)  # by domain: addresses that may show what it lacks
    _runs: dict[str, int] = field(default_factory=dict)  # by domain: its pauses in a row
    _guesses: Guesses[Guess] = field(default_factory=Guesses)

    def __iter__(self) -> Iterator[Pause]:
        return iter(list(self._pauses.values()))

    def __bool__(self) -> bool:
        return bool(self._pauses or self._guesses)

    def pause(self, sender: str) -> Pause | None:
        """The pause of this very address or domain."""
        return self._pauses.get(sender)

    def stranger(self, sender: str, message: str) -> tuple[str, str] | None:
        """Who of this address and its domain is not known, and why, as far as all mail or ``message`` alone tells; None
        where it may be known.

        A guess counts here only when the same message met it again in a later round: one odd reply, whatever its words,
        may be a fault of that moment.
        """
        pause = self._pauses.get(domain_of(sender)) or self._pauses.get(sender)
        if pause is not None:
            return pause.sender, pause.reason
        kinds = [kind for kind in self._guesses.kinds() if kind[0] == sender]
        said = [self._guesses.said(kind, message) for kind in kinds]
        return next(((sender, one[-1]) for one in said if len(one) >= limits.ROUNDS_TO_BELIEVE), None)

    def domains(self) -> frozenset[str]:
        """Domains with a sender that the provider does not know, or that it was guessed of."""
        return frozenset(map(domain_of, (*self._pauses, *(address for address, _ in self._guesses.kinds()))))

    def failed(self, sign: Sign, now: float, stretch: float) -> Pause | None:
        """Take ``sign`` into account; the widest pause that begins by it, if one does."""
        address, domain = sign.sender, domain_of(sign.sender)
        if not domain or not self._enough(sign, now):
            return None
        if address not in self._pauses:
            self._suspects.setdefault(domain, set()).add(address)
        begun = self._begin(address, sign, now, now + self.length * stretch)
        if domain in self._pauses or len(self._suspects.get(domain, ())) >= SUSPECTS:
            begun = self._of_domain(domain, sign, now, now + self.length * stretch) or begun
        return begun

    def took(self, sender: str, now: float) -> list[Pause]:
        """It accepted mail from this address, or judged its content. The pauses that end by it."""
        domain, own = domain_of(sender), self._pauses.get(sender)
        if own is not None and now < own.until:  # it was under way when the pause began
            return []
        suspects = self._suspects.pop(domain, set())
        self._runs.pop(domain, None)
        # whom it did not know, and knows now, was not known for the domain's sake: so the others may be known as well
        ending = {sender, domain, *(suspects if own is not None else ())}
        ended = [pause for pause in self if pause.sender in ending]
        for pause in ended:
            del self._pauses[pause.sender]
        self._guesses.forget(lambda kind: kind[0] in ending)
        return ended

    def try_now(self, sender: str, now: float) -> bool:
        """End the time of what holds for this address, so that one message may try; whether there was time to wait."""
        waiting = [one for one in self if one.sender in (sender, domain_of(sender)) and one.left(now)]
        for pause in waiting:
            self._pauses[pause.sender] = replace(pause, until=now)
        return bool(waiting)

    def lapse(self, now: float) -> list[Pause]:
        """Drop what ended some time ago and no mail asked about since: the next one does, and there may be none for
        weeks. The pauses that were dropped.
        """
        self._guesses.age(now)
        ended = [pause for pause in self if now - pause.until >= limits.PAUSE_LAPSES]
        for pause in ended:
            self._drop(pause.sender)
        return ended

    def _enough(self, sign: Sign, now: float) -> bool:
        """Whether as many messages of the address met it as are needed, or as many addresses of its domain; one is
        enough where a pause is being probed.
        """
        domain = domain_of(sign.sender)
        if sign.needed <= 1 or sign.sender in self._pauses or domain in self._pauses:
            return True
        self._guesses.add((sign.sender, sign.needed), sign.message, sign.reason, now)
        addresses = {address for address, _ in self._guesses.kinds() if domain_of(address) == domain}
        return max(self._guesses.messages((sign.sender, sign.needed)), len(addresses)) >= sign.needed

    def _begin(self, sender: str, sign: Sign, now: float, until: float) -> Pause | None:
        """A pause, unless one is running: what was under way then met the same failure."""
        running = self._pauses.get(sender)
        if running is not None and running.left(now):
            return None
        if running is None and len(self._pauses) >= limits.STRANGERS:
            self._drop(self._least({sign.sender, domain_of(sign.sender)}))
        pause = Pause(sender=sender, standing=sign.standing, reason=sign.reason, until=until)
        self._pauses[sender] = pause
        return pause

    def _of_domain(self, domain: str, sign: Sign, now: float, until: float) -> Pause | None:
        run = self._runs.get(domain, 0)
        begun = self._begin(domain, sign, now, now + (until - now) * min(FIRST * 2 ** min(run, 9), MOST))
        if begun is not None:
            self._runs[domain] = run + 1
            self._in_turn(sign.sender, begun.until, until)
        return begun

    def _in_turn(self, prober: str, first: float, last: float) -> None:
        """Have those of the prober's domain that met it ask again one by one between ``first`` and ``last``, it last:
        with one time for all, the one with the oldest mail would ask for ever.
        """
        domain = domain_of(prober)
        met = [pause for pause in self if domain_of(pause.sender) == domain != pause.sender]
        met.sort(key=lambda pause: (pause.sender == prober, pause.until))
        for place, pause in enumerate(met, 1):
            until = first + (last - first) * place / len(met)
            self._pauses[pause.sender] = replace(pause, until=max(pause.until, until))

    def _least(self, needed: set[str]) -> str:
        """Whose pause is missed least: of an address whose domain is paused anyway, and of what ends first."""
        others = [pause for pause in self if pause.sender not in needed]
        return min(others, key=lambda pause: (not self._twice(pause.sender), pause.until)).sender

    def _twice(self, sender: str) -> bool:
        """Whether the domain of this address is paused as well."""
        return sender != domain_of(sender) in self._pauses

    def _drop(self, sender: str) -> None:
        del self._pauses[sender]
        self._runs.pop(sender, None)
        suspects = self._suspects.get(domain_of(sender), set())
        suspects.discard(sender)
        if not suspects:
            self._suspects.pop(domain_of(sender), None)
