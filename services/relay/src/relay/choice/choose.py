"""Which provider takes a message now. Pure: ``docs/spool.md``, "Choice", says it in words.

:func:`choose` is asked for every message on its way out, in the spool's transaction: it makes nothing that it does not
need for its answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from relay.choice.offer import Offer, Terms
from relay.choice.rounds import LAST
from relay.choice.routes import order


class Asked(NamedTuple):
    """A message, or those of its recipients that have the same past."""

    account: str
    sender: str  # folded
    domain: str  # of the sender, folded
    size: int  # bytes
    recipients: int
    tried: frozenset[str] = frozenset()  # providers that this round has been offered to
    tied_to: str = ""  # the provider that a doubtful message stays with
    key: str = ""  # the message's id: draws the order of a weighted route


class Take(NamedTuple):
    """The provider takes so many of the recipients now."""

    provider: str
    recipients: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Nobody can take it before ``until``, as far as is known."""

    until: float  # infinite: not known
    reasons: tuple[str, ...] = ()  # one for each provider that is closed or used up, in the order of preference
    for_room: bool = False  # a provider is open and only has no room at this moment
    for_probe: bool = False  # one is closed until it has answered the message of this sender that it was given


@dataclass(frozen=True, slots=True)
class Nobody:
    """No provider of the route serves this sender."""

    sentence: str


Choice = Take | Wait | Nobody


def _never(_provider: str, _high: bool) -> float:
    return math.inf


def choose(
    asked: Asked, offer: Offer, left: Callable[[str, bool], int], resets: Callable[[str, bool], float] = _never
) -> Choice:
    """Who takes the message. ``left`` says how many recipients a provider's quotas still allow (a number as large as
    any where it has none), ``resets`` when they allow more once they are used up; both for an account of high
    priority or not.

    A message that is tied to a provider which is not configured any more goes to that name all the same: delivery puts
    it aside, and nobody else may have it.
    """
    tied = asked.tied_to
    if tied:
        if tied not in offer.terms:
            return Take(tied, asked.recipients)
        return _first([offer.terms[tied]], asked, offer, left, resets, True)
    route = offer.routes.of(asked.account, asked.domain)
    names = order(route, asked.key) if route.weights else route.providers
    known = (offer.terms[name] for name in names if name in offer.terms)
    able = [terms for terms in known if terms.serves(asked.sender, asked.domain)]
    if not able:
        return Nobody(f"No provider is set up for mail from {asked.sender}.")
    able = _untried(_carriers(able, asked.size), asked.tried)
    return _first(able, asked, offer, left, resets, not route.weights)


def plain(account: str, domain: str, offer: Offer) -> Terms | None:
    """The provider that takes all new mail of this account and sender domain, as long as it has room and can carry the
    size, without more being asked: the first of the route, if it is open and takes any sender and any number.

    That is nearly always so; it saves asking for each message.
    """
    route = offer.routes.of(account, domain)
    if route.weights or not route.providers or offer.closed_for or offer.rooms_for:
        return None
    terms = offer.terms.get(route.providers[0])
    if terms is None or terms.quotas or terms.senders or terms.recipients or terms.name in offer.closed:
        return None
    return terms


def blocked(
    flow: Asked, offer: Offer, left: Callable[[str, bool], int], resets: Callable[[str, bool], float] = _never
) -> Wait | None:
    """Why no message of a flow (account, domain, past) can be taken, whatever its size, sender and number of
    recipients; None when one may be. So its waiting messages need not be looked at one by one.
    """
    tied = flow.tied_to
    if tied and tied not in offer.terms:
        return None
    route = offer.routes.of(flow.account, flow.domain)
    names = (tied,) if tied else route.providers
    able = [offer.terms[name] for name in names if name in offer.terms and offer.terms[name].serves_some(flow.domain)]
    one = flow._replace(recipients=1)
    found = _first(_untried(able, flow.tried), one, offer, left, resets, bool(tied) or not route.weights)
    return found if isinstance(found, Wait) else None


def _carriers(able: list[Terms], size: int) -> list[Terms]:
    """Those that can carry the size; if none can, the one that carries most: its refusal is what the sender is told."""
    carriers = [terms for terms in able if not 0 < terms.size_limit < size]
    return carriers or [max(able, key=lambda terms: terms.size_limit)]


def _untried(able: list[Terms], tried: frozenset[str]) -> list[Terms]:
    """Those that this round has not been offered to, and behind the others what a notice had better avoid; when it has
    been to all of them, it begins anew.
    """
    if not tried:
        return able
    left = [terms for terms in able if terms.name not in tried] or able
    return sorted(left, key=lambda terms: LAST + terms.name in tried)


def _first(
    able: list[Terms],
    asked: Asked,
    offer: Offer,
    left: Callable[[str, bool], int],
    resets: Callable[[str, bool], float],
    patient: bool,
) -> Take | Wait:
    """The first that takes all; else the first that takes some; else how long to wait."""
    high = offer.is_high(asked.account)
    until, reasons, crowded, probed = math.inf, [], False, False
    some: Take | None = None
    for terms in able:
        name = terms.name
        closed = offer.closing(name, asked.domain, asked.sender)
        if closed is not None:
            until, probed = min(until, closed.until), probed or closed.probed
            reasons.append(closed.reason)
            continue
        quota = left(name, high) if terms.quotas else asked.recipients
        if quota <= 0:
            until = min(until, resets(name, high))
            reasons.append(f"{terms.title or name}'s quota is used up")
        elif offer.room(name, asked.domain, asked.sender) <= 0:
            crowded = True
            if patient and name in offer.patient and quota >= asked.recipients:
                return Wait(until, tuple(reasons), for_room=True)
        elif quota >= asked.recipients:
            return Take(name, min(asked.recipients, terms.recipients or asked.recipients))
        elif some is None:
            some = Take(name, min(quota, terms.recipients or quota))
    return some or Wait(until, tuple(reasons), for_room=crowded, for_probe=probed)
