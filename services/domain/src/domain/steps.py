"""What a plan consists of: steps, each with its reason and the action that carries it out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .cloudflare import Rule
from .records import Record


class Kind(StrEnum):
    """``WAIT``: somebody else's turn, nothing to do now. ``BLOCKED``: the owner must decide before anything is done."""

    ADD = "add"
    CHANGE = "change"
    REMOVE = "remove"
    KEEP = "keep"
    WAIT = "wait"
    BLOCKED = "blocked"


DIFFERENT = frozenset({Kind.ADD, Kind.CHANGE, Kind.REMOVE, Kind.BLOCKED})


@dataclass(frozen=True, slots=True)
class Post:
    record: Record


@dataclass(frozen=True, slots=True)
class Patch:
    """``old`` becomes what ``new`` says; its TTL and comment stay its owner's."""

    old: Record
    new: Record


@dataclass(frozen=True, slots=True)
class Delete:
    record: Record


@dataclass(frozen=True, slots=True)
class Unlock:
    domain: str


@dataclass(frozen=True, slots=True)
class Enable:
    domain: str


@dataclass(frozen=True, slots=True)
class AddDestination:
    email: str


@dataclass(frozen=True, slots=True)
class PutRule:
    """``verified``: whether its destination is; a refusal of one that is not only means waiting."""

    rule: Rule
    verified: bool


@dataclass(frozen=True, slots=True)
class DeleteRule:
    rule: Rule


@dataclass(frozen=True, slots=True)
class Subaddress:
    wanted: bool


@dataclass(frozen=True, slots=True)
class Create:
    """A provider is told of the domain, and then names its records."""

    provider: str
    domain: str


@dataclass(frozen=True, slots=True)
class Validate:
    """A provider is asked to look at the records, which are all there."""

    provider: str
    domain: str


Dns = Post | Patch | Delete
Action = Dns | Unlock | Enable | AddDestination | PutRule | DeleteRule | Subaddress | Create | Validate


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One line of a plan. ``zone`` is where it belongs, ``what`` names the thing; ``before`` and ``after`` show it."""

    kind: Kind
    zone: str
    what: str
    reason: str
    before: str = ""
    after: str = ""
    action: Action | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps, zone by zone."""

    steps: tuple[Step, ...]

    @property
    def different(self) -> bool:
        """Whether anything differs from what should be."""
        return any(step.kind in DIFFERENT for step in self.steps)

    @property
    def work(self) -> tuple[Step, ...]:
        """The steps that ``apply`` has to carry out."""
        return tuple(step for step in self.steps if step.kind in DIFFERENT and step.action is not None)

    @property
    def blocked(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.kind is Kind.BLOCKED)

    @property
    def validations(self) -> tuple[Validate, ...]:
        return tuple(step.action for step in self.steps if isinstance(step.action, Validate))
