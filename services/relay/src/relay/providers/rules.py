"""The words in which a provider's replies are understood: where a reply came, what it may mean, and the rules of one
provider.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    """How far a transaction had come when the answer was given."""

    CONNECT = "connect"
    TLS = "tls"
    LOGIN = "login"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"  # the command
    BODY = "body"  # the content is on its way, its final dot not written
    FINAL = "final"  # the final dot was written


class Standing(StrEnum):
    """What an answer says of the provider."""

    FINE = "fine"
    USED_UP = "used up"  # its quota
    KEY_DEAD = "key dead"
    NOT_SET_UP = "not set up"  # this sender, or its domain, there
    BUSY = "busy"  # or not to be reached


class Meaning(StrEnum):
    """What a rule says of a reply. The first four are the provider's state and move the message on to another."""

    USED_UP = "used up"
    KEY_DEAD = "key dead"
    NOT_SET_UP = "not set up"
    BUSY = "busy"
    ELSEWHERE = "elsewhere"  # this message cannot go here, another provider may take it; this one is fine
    REFUSED = "refused"  # the message's own matter: no other provider is asked

    @property
    def standing(self) -> Standing:
        """What it says of the provider."""
        return Standing.FINE if self in (Meaning.ELSEWHERE, Meaning.REFUSED) else Standing(self.value)


@dataclass(frozen=True, slots=True)
class Rule:
    """A provider's own words: ``pattern`` in a reply at ``stages`` with one of ``codes`` (none: any failure) means
    ``meaning``.
    """

    stages: frozenset[Stage]
    codes: frozenset[int]
    pattern: re.Pattern[str]
    meaning: Meaning
    guess: bool = False  # it pauses the provider only after several different messages
