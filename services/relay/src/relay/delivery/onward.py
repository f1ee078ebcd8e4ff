"""Where a message may still go when a provider did not take it.

Pure: it asks the same :func:`~relay.choice.choose.choose` as the spool's claim, about the offer of this moment. So a
message is made due at once exactly when the next claim finds someone for it, and never runs in circles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import Enum

from relay import address
from relay.choice.allowance import ANY
from relay.choice.choose import Asked, Choice, Take, choose
from relay.choice.offer import Offer
from relay.model import Message

Left = Callable[[str, bool], int]  # recipients that a provider's quotas still allow; True: with the reserve


class Way(Enum):
    """What comes next for a recipient."""

    OPEN = "a provider that was not tried in this round takes it now"
    OVER = "the round is over: every provider that is open was tried"
    SHUT = "no provider takes it now, tried or not: all are paused or used up"


def asked(message: Message, tried: frozenset[str] = frozenset(), tied_to: str = "", recipients: int = 1) -> Asked:
    """What to ask :func:`~relay.choice.choose.choose` about ``message``."""
    sender = address.fold(message.sender)
    return Asked(
        message.account, sender, sender.rpartition("@")[2], message.size, recipients, tried, tied_to, message.id
    )


def senders(message: Message) -> tuple[str, str]:
    """The domain and the address that a pause of ``message``'s sender may hold for."""
    known = asked(message)
    return known.domain, known.sender


class Onward:
    """The prospects of one message, as the offer stands."""

    __slots__ = ("_left", "_message", "_offer", "_tied_to")

    def __init__(self, message: Message, offer: Offer, left: Left, tied_to: str = "") -> None:
        self._message, self._left, self._tied_to = message, left, tied_to
        # a lane that has no room at this moment will have some: that is no reason to go on
        self._offer = replace(offer, rooms=dict.fromkeys(offer.terms, 1), rooms_for={})

    def way(self, tried: frozenset[str]) -> Way:
        """What comes next when this round has been offered to ``tried``."""
        choice = self._choose(tried)
        if isinstance(choice, Take) and choice.provider not in tried:  # one that is tied was tried by its provider
            return Way.OPEN
        return Way.OVER if isinstance(self._choose(frozenset()), Take) else Way.SHUT

    def allowed(self) -> frozenset[str]:
        """The providers that may carry this message, open or not."""
        opened, found = replace(self._offer, closed={}, closed_for={}), frozenset[str]()
        while True:
            choice = choose(asked(self._message, found, self._tied_to), opened, lambda _provider, _high: ANY)
            if not isinstance(choice, Take) or choice.provider in found:
                return found
            found |= {choice.provider}

    def _choose(self, tried: frozenset[str]) -> Choice:
        return choose(asked(self._message, tried, self._tied_to), self._offer, self._left)
