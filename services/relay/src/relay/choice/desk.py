"""One claim's choices: every one that is made lessens the room and the quota for the next."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from relay.choice.allowance import Allowance
from relay.choice.choose import Asked, Choice, Take, Wait, blocked, choose
from relay.choice.offer import Offer

T = TypeVar("T")


@dataclass(slots=True)
class Part(Generic[T]):
    """Recipients of one message that one provider takes in one transaction."""

    provider: str
    tied_to: str
    recipients: list[T]


class Desk:
    """Make one for each claim, of the offer as it is then."""

    def __init__(self, offer: Offer, allowance: Allowance) -> None:
        self._offer, self._allowance = offer, allowance
        self._rooms: dict[str, int] | None = None  # copied when it is looked at a second time, which mostly is never
        self._rooms_for: dict[tuple[str, str], int] = {}
        self._taken: tuple[Take, str] | None = None  # the latest, with the sender's domain; not yet subtracted

    def share(self, groups: Iterable[tuple[Asked, list[T]]]) -> tuple[list[Part[T]], list[tuple[Choice, list[T]]]]:
        """Give one message's recipients, those with the same past together, to providers: the parts, and those that
        nobody takes now with why.
        """
        parts: list[Part[T]] = []
        left: list[tuple[Choice, list[T]]] = []
        for asked, some in groups:
            while some:
                choice = self.take(asked._replace(recipients=len(some)))
                if not isinstance(choice, Take):
                    left.append((choice, some))
                    break
                self._give(parts, Part(choice.provider, asked.tied_to, some[: choice.recipients]))
                some = some[choice.recipients :]
        return parts, left

    def _give(self, parts: list[Part[T]], new: Part[T]) -> None:
        """Into one part with others that go the same way, if the provider takes so many."""
        terms = self._offer.terms.get(new.provider)
        most = terms.recipients if terms is not None else 0
        for part in parts:
            alike = part.provider == new.provider and part.tied_to == new.tied_to
            if alike and (not most or len(part.recipients) + len(new.recipients) <= most):
                part.recipients += new.recipients
                return
        parts.append(new)

    @property
    def room(self) -> int:
        """Jobs that all providers together may still be given."""
        return sum(self._now().rooms.values())

    @property
    def reserved(self) -> bool:
        """Whether something waits for a quota of which a part is only in hand, and may be given back."""
        return self._allowance.reserved

    def take(self, asked: Asked) -> Choice:
        """:func:`choose`; what is taken is reserved."""
        choice = choose(asked, self._now(), self._allowance.left, self._allowance.resets)
        if isinstance(choice, Take):
            self._taken = (choice, asked.domain)
        return choice

    def look(self, asked: Asked) -> Choice:
        """:func:`choose`, and nothing is reserved."""
        return choose(asked, self._now(), self._allowance.left, self._allowance.resets)

    def blocked(self, flow: Asked) -> Wait | None:
        """:func:`relay.choice.choose.blocked`."""
        return blocked(flow, self._now(), self._allowance.left, self._allowance.resets)

    def _now(self) -> Offer:
        """The offer less what was taken."""
        if self._taken is None:
            return self._offer
        ((name, recipients), domain), self._taken = self._taken, None
        if self._rooms is None:
            self._rooms, self._rooms_for = dict(self._offer.rooms), dict(self._offer.rooms_for)
            self._offer = replace(self._offer, rooms=self._rooms, rooms_for=self._rooms_for)
        if name in self._rooms:
            self._rooms[name] -= 1
            if (name, domain) in self._rooms_for:
                self._rooms_for[name, domain] -= 1
            self._allowance.take(name, recipients)
        return self._offer
