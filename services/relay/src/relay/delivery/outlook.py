"""How providers stand and what waiting mail waits for, in words for people. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from relay import limits
from relay.choice.allowance import Allowance
from relay.choice.choose import Choice, Nobody, Wait, choose
from relay.choice.offer import Offer
from relay.clock import Clock
from relay.delivery.breaker import Breaker
from relay.delivery.onward import Onward, asked
from relay.delivery.pause import Pause
from relay.model import Message, State
from relay.providers.provider import Provider
from relay.providers.rules import Standing
from relay.spool import QueueEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainPause:
    """A provider is left alone for one sender domain, or for one address of it."""

    domain: str  # or the address
    standing: str
    reason: str
    until: float  # Unix seconds; past while it is being probed


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderState:
    """How one provider stands."""

    name: str
    title: str
    state: str  # open, paused, probing
    standing: str = ""  # why, in one word of :class:`~relay.providers.rules.Standing`
    reason: str = ""  # why, in a sentence: mostly the provider's own
    until: float = 0.0  # Unix seconds; 0.0 when open
    domains: tuple[DomainPause, ...] = ()
    in_hand: int = 0  # messages
    port: int = 0  # in use, or tried first; 0 where there is none


def state_of(provider: Provider, breaker: Breaker, clock: Clock, in_hand: int, port: int) -> ProviderState:
    """How ``provider`` stands now."""
    now, wall = clock.monotonic(), clock.time()
    domains = tuple(
        DomainPause(domain=one.sender, standing=str(one.standing), reason=one.reason, until=wall + one.until - now)
        for one in breaker.senders
    )
    title, pause = provider.title or provider.name, breaker.pause()
    if pause is None:
        return ProviderState(name=provider.name, title=title, state="open", domains=domains, in_hand=in_hand, port=port)
    return ProviderState(
        name=provider.name,
        title=title,
        state="paused" if pause.left(now) else "probing",
        standing=str(pause.standing),
        reason=pause.reason,
        until=wall + pause.until - now,
        domains=domains,
        in_hand=in_hand,
        port=port,
    )


def waits(entry: QueueEntry, offer: Offer, allowance: Allowance, unknown: Sequence[str] = ()) -> str:
    """What a waiting delivery waits for besides its time; empty if nothing is in its way. ``unknown``: what
    :func:`strangers` says of it.
    """
    if entry.state is not State.DUE:
        return ""
    match _choice(entry.message, offer, allowance, entry.tied_to):
        case Wait(for_room=False) as wait if wait.reasons:
            until = "" if math.isinf(wait.until) else f" until {_date(wait.until)}"
            return f"waits{until}: {'; '.join(wait.reasons)}"
        case Nobody(sentence):
            return f"waits: {sentence}"
        case _:
            return f"waits: {'; '.join(unknown)}" if unknown else ""


def reasons(message: Message, offer: Offer, allowance: Allowance, tied_to: str = "") -> tuple[str, ...]:
    """Why no provider takes ``message`` now."""
    match _choice(message, offer, allowance, tied_to):
        case Wait() as wait:
            return wait.reasons
        case Nobody(sentence):
            return (sentence,)
        case _:
            return ()


class Delay(Enum):
    """Why a delivery is late, as far as that decides when its sender is told."""

    ORDINARY = "it was tried in vain, or waits for somebody to act; told after some hours"
    QUOTA = "only quotas are in its way, one of which is known to end before its five days do; not told"
    NOT_SET_UP = "no provider knows its sender, or all seem not to; told soon, since waiting does not help"


def strangers(message: Message, offer: Offer, allowance: Allowance, breakers: Mapping[str, Breaker]) -> tuple[str, ...]:
    """A sentence for each provider that may carry ``message``, if none of them knows its sender; else none.

    Such mail is told of soon, and never bounced: the words may be guessed, and the domain may be set up any minute.
    """
    sender, sentences = asked(message).sender, list[str]()
    for name in sorted(Onward(message, offer, allowance.left).allowed()):
        found = breakers[name].senders.stranger(sender, message.id)
        if found is None:
            return ()
        sentences.append(f"{offer.terms[name].title or name} does not seem to know {found[0]} as a sender: {found[1]}")
    return tuple(sentences)


def delay_of(entry: QueueEntry, offer: Offer, allowance: Allowance, breakers: Mapping[str, Breaker]) -> Delay:
    """See :class:`Delay`."""
    message = entry.message
    if strangers(message, offer, allowance, breakers):
        return Delay.NOT_SET_UP
    names = Onward(message, offer, allowance.left).allowed()
    high = offer.is_high(message.account)
    last = message.received_at + entry.held + limits.LIFETIME
    pauses = {name: breakers[name].pause() for name in names}
    quota = names and all(_by_quota(pause, allowance.left(name, high)) for name, pause in pauses.items())
    if quota and any(pause.known if pause else allowance.resets(name, high) < last for name, pause in pauses.items()):
        return Delay.QUOTA
    return Delay.ORDINARY


def _by_quota(pause: Pause | None, left: int) -> bool:
    return left <= 0 if pause is None else pause.standing is Standing.USED_UP


def _choice(message: Message, offer: Offer, allowance: Allowance, tied_to: str) -> Choice:
    return choose(asked(message, tied_to=tied_to), offer, allowance.left, allowance.resets)


def _date(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
