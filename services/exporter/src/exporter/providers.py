"""What the relay says of its providers, as values: their pauses, their quotas, and what its last look found.

``docs/architecture.md`` describes the answers. ``from_json`` raises as in :mod:`.facts`. Times are Unix seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .words import stamp

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What a provider takes in a window of time, in recipients."""

    limit: int
    period: str  # day, month, rolling
    hours: int  # of a rolling one
    used: int
    in_hand: int  # on their way
    resets_at: float  # when there is room again

    @classmethod
    def from_json(cls, found: Json) -> Quota:
        return cls(
            limit=int(found["limit"]),
            period=str(found["period"]),
            hours=int(found["hours"]),
            used=int(found["used"]),
            in_hand=int(found["in_hand"]),
            resets_at=float(found["resets_at"]),
        )

    @property
    def taken(self) -> int:
        """What nobody else can have."""
        return self.used + self.in_hand

    @property
    def share(self) -> float:
        """The part of it that is taken."""
        return self.taken / self.limit if self.limit > 0 else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """A provider is left alone for one sender domain, or for one address of it."""

    domain: str  # or the address
    reason: str
    until: float | None  # None: not known

    @classmethod
    def from_json(cls, found: Json) -> Pause:
        return cls(domain=str(found["domain"]), reason=str(found["reason"]), until=_time(found["until"]))

    def running(self, now: float) -> bool:
        """Whether its time is not over: else the next mail from there asks anew."""
        return self.until is None or self.until > now


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """What the relay says of a provider."""

    name: str
    state: str = "open"  # paused, probing (one message tries it)
    standing: str = ""  # why: used up, key dead, busy
    reason: str = ""  # a sentence, the provider's or ours
    until: float | None = None
    domains: tuple[Pause, ...] = ()
    quotas: tuple[Quota, ...] = ()
    ready: bool | None = None  # whether the last look could log in; None: not looked yet
    problem: str = ""  # why it could not
    last_success: float = 0.0  # when it last took mail; 0: never since the relay started; of the metrics

    @classmethod
    def from_json(cls, found: Json) -> Provider:
        look = found["look"] or {}
        return cls(
            name=str(found["name"]),
            state=str(found["state"]),
            standing=str(found["standing"]),
            reason=str(found["reason"]),
            until=_time(found["until"]),
            domains=tuple(map(Pause.from_json, found["domains"])),
            quotas=tuple(map(Quota.from_json, found["quotas"])),
            ready=bool(look["ready"]) if look else None,
            problem=str(look.get("sentence", "")),
        )

    @property
    def paused(self) -> bool:
        """Whether it is left alone, but for a message that may try it."""
        return self.state != "open"

    @property
    def nearest(self) -> Quota | None:
        """The quota that is nearest to its limit."""
        return max(self.quotas, key=lambda one: one.share, default=None)


def _time(found: object) -> float | None:
    return None if found is None else float(str(found))


WHY = {  # of one provider, of several
    "used up": ("has used up its quota", "have used up their quotas"),
    "key dead": ("refuses our login", "refuse our login"),
    "busy": ("fails", "fail"),
    "": ("fails", "fail"),
}
TO_DO = {
    "used up": "A quota opens again by itself.",
    "key dead": "Make a new key there, put it into .env, then make up.",
    "busy": "What fails is tried again by itself.",
    "": "What fails is tried again by itself.",
}


def why_paused(paused: Sequence[Provider]) -> tuple[str, str]:
    """Which providers are paused and why, and what to do about it; those with the same reason in one breath."""
    by_reason: dict[str, list[Provider]] = {}
    for one in paused:
        by_reason.setdefault(one.standing if one.standing in WHY else "", []).append(one)
    said = []
    for standing, some in by_reason.items():
        one_does, several_do = WHY[standing]
        names = _and([one.name + _until(one) for one in some])
        said.append(f"{names} {one_does if len(some) == 1 else several_do}")
    return "; ".join(said), " ".join([*(TO_DO[standing] for standing in by_reason), "make providers says more."])


def _until(one: Provider) -> str:
    """A quota has an end that is known; of other pauses it is only the next try."""
    known = one.standing == "used up" and one.until is not None and one.state == "paused"
    return f" (until {stamp(one.until)})" if known and one.until is not None else ""


def _and(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
