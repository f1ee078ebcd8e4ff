"""When certbot may run next: a pure schedule, and the few numbers that must survive a restart.

After a success: about twice a day, at random moments, as Let's Encrypt asks of its clients. After a failure: doubling
waits, from a minute where the authority was not troubled and from 15 minutes where it was. In both cases never before
the time that the other side named, and never more than four failed validations an hour (Let's Encrypt stops at five per
name and account, https://letsencrypt.org/docs/rate-limits/). A restart forgets the doubling (the operator has changed
something and wants to see it work) but neither of the last two.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from .outcome import Kind

HOUR = 3600.0
BETWEEN_LOOKS = 12 * HOUR  # certbot itself decides whether it is time (RFC 9773)
FIRST_WAIT, FIRST_WAIT_AUTHORITY = 60.0, 900.0
LONGEST_WAIT, LONGEST_WAIT_AUTHORITY = 1 * HOUR, 6 * HOUR
VALIDATIONS_PER_HOUR = 4
ASKED_THE_AUTHORITY = frozenset({Kind.VALIDATION, Kind.RATE_LIMIT, Kind.AUTHORITY, Kind.CERTBOT})


@dataclass(frozen=True, slots=True)
class Ledger:
    """What happened so far, for one ``order`` (server and names)."""

    order: str = ""
    failures: int = 0  # in a row, since the start
    validations: tuple[float, ...] = ()  # when one failed, within the last hour
    not_before: float = 0.0  # what the other side said
    sentence: str = ""  # and why
    kind: Kind = Kind.RATE_LIMIT

    def started(self, order: str) -> Ledger:
        """After a restart, perhaps with other settings: limits hold for the order they were told of."""
        return replace(self, failures=0) if self.order == order else Ledger(order)

    def succeeded(self) -> Ledger:
        return Ledger(self.order)

    def failed(self, kind: Kind, sentence: str, now: float, retry_at: float = 0.0) -> Ledger:
        recent = tuple(at for at in self.validations if at > now - HOUR)
        if kind is Kind.VALIDATION:
            recent = (*recent, now)
        failures = self.failures + 1
        return replace(self, failures=failures, validations=recent, not_before=retry_at, sentence=sentence, kind=kind)

    def earliest(self, now: float) -> float:
        """The Unix time before which the limits forbid an attempt; not later than ``now`` if they do not."""
        recent = [at for at in self.validations if at > now - HOUR]
        full = recent[-VALIDATIONS_PER_HOUR] + HOUR if len(recent) >= VALIDATIONS_PER_HOUR else 0.0
        return max(full, self.not_before)

    def next_attempt(self, now: float, chance: float) -> float:
        """When to try again; ``chance`` in [0, 1) spreads the attempts of many servers."""
        if not self.failures:
            return now + BETWEEN_LOOKS * (1 - chance / 12)
        careful = self.kind in ASKED_THE_AUTHORITY
        first, longest = (FIRST_WAIT_AUTHORITY, LONGEST_WAIT_AUTHORITY) if careful else (FIRST_WAIT, LONGEST_WAIT)
        wait = min(first * 2.0 ** min(self.failures - 1, 20), longest) * (1 + chance / 10)
        return max(now + wait, self.earliest(now))


def load(path: Path) -> Ledger:
    """The ledger kept at ``path``; an empty one if there is none or it cannot be understood."""
    try:
        kept = json.loads(path.read_text("utf-8"))
        kept["validations"] = tuple(map(float, kept["validations"]))
        return Ledger(**{**kept, "kind": Kind(kept["kind"]), "not_before": float(kept["not_before"])})
    except (OSError, ValueError, TypeError, KeyError):
        return Ledger()


def save(ledger: Ledger, path: Path) -> None:
    """Replace the file in one step. Raises OSError. Not synced: losing the last failure costs one attempt."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(asdict(ledger)), "utf-8")
    os.replace(new, path)
