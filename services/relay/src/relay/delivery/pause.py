"""The words in which a provider is left alone: what an attempt says against it, and a pause. Values only."""

from __future__ import annotations

from dataclasses import dataclass

from relay.providers.rules import Standing

ALL = ""  # in the place of a sender: every one


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """What one attempt says against a provider."""

    standing: Standing
    reason: str  # the provider's own sentence, or ours
    message: str = ""  # id of the message that met it
    sender: str = ALL  # its sender's address, folded
    needed: int = 1  # so many different messages must have met it
    spoken: bool = False  # it said so on a connection that it had accepted; False: the connection failed, or never was
    doubt: bool = False  # it had the whole message and gave no answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """One pause, running or being probed."""

    sender: str  # the address or the domain of senders that it holds for, or :data:`ALL`
    standing: Standing
    reason: str
    until: float
    known: bool = False  # it ends when a quota begins anew, by a clock that was not wrong yet
    spoken: bool = False  # as in the sign that began it

    def left(self, now: float) -> float:
        """Seconds until one message may try; 0.0 when it may."""
        return max(0.0, self.until - now)


def domain_of(sender: str) -> str:
    """The domain of an address; a domain is its own."""
    return sender.rpartition("@")[2]
