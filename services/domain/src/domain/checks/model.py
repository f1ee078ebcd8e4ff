"""Findings: what was looked at, what was found, and how to mend it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """``ADVICE``: works, but could be better. ``UNKNOWN``: could not be looked at, which is no verdict on the thing."""

    GOOD = "good"
    ADVICE = "advice"
    WRONG = "wrong"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the checklist. ``fix`` is one sentence, empty where there is nothing to mend."""

    domain: str
    check: str
    verdict: Verdict
    finding: str
    fix: str = ""
