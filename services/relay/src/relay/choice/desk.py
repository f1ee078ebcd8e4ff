"""One claim's choices: every one that is made lessens the room and the quota for the next."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from relay.choice.allowance import Allowance
from relay.choice.choose import Asked, Choice, Take, Wait, blocked, choose, plain
from relay.choice.offer import Offer, Terms

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
        self._given, self._allowance = offer, allowance
        self._rooms, self._rooms_for = dict(offer.rooms), dict(offer.rooms_for)
        self._left: Offer | None = None  # the offer with our rooms in it; made when somebody asks for it
        self._plain: dict[tuple[str, str], Terms | None] = {}

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
        terms = self._given.terms.get(new.provider)
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
        return sum(self._rooms.values())

    @property
    def reserved(self) -> bool:
        """Whether something waits for a quota of which a part is only in hand, and may be given back."""
        return self._allowance.reserved

    def take(self, asked: Asked) -> Choice:
        """:func:`choose`; what is taken is reserved."""
        if not (asked.tried or asked.tied_to):
            terms = self._plainly(asked.account, asked.domain)
            if terms is not None and self._rooms.get(terms.name, 0) > 0 and not 0 < terms.size_limit < asked.size:
                self._rooms[terms.name] -= 1
                return Take(terms.name, asked.recipients)
        choice = self.look(asked)
        if isinstance(choice, Take):
            self._reserve(choice, asked)
        return choice

    def look(self, asked: Asked) -> Choice:
        """:func:`choose`, and nothing is reserved."""
        return choose(asked, self._offer(), self._allowance.left, self._allowance.resets)

    def blocked(self, flow: Asked) -> Wait | None:
        """:func:`relay.choice.choose.blocked`."""
        return blocked(flow, self._offer(), self._allowance.left, self._allowance.resets)

    def _plainly(self, account: str, domain: str) -> Terms | None:
        key = (account, domain)
        if key not in self._plain:
            self._plain[key] = plain(account, domain, self._given)
        return self._plain[key]

    def _reserve(self, take: Take, asked: Asked) -> None:
        if take.provider in self._rooms:
            self._rooms[take.provider] -= 1
            for pair in ((take.provider, asked.domain), (take.provider, asked.sender)):
                if pair in self._rooms_for:
                    self._rooms_for[pair] -= 1
            self._allowance.take(take.provider, take.recipients)

    def _offer(self) -> Offer:
        if self._left is None:
            self._left = replace(self._given, rooms=self._rooms, rooms_for=self._rooms_for)
        return self._left
