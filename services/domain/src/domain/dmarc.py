"""DMARC records by RFC 9989 (which replaced RFC 7489 in 2026): read, compared, and one made where there is none. Pure.

``pct``, ``rf`` and ``ri`` are gone and never written; more than one record counts as none; a name without a record is
covered by the nearest one above it (the tree walk, section 4.10).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_VERSION = re.compile(r"v\s*=\s*DMARC1\s*(;|$)")
_STRICTNESS = {"none": 0, "quarantine": 1, "reject": 2}


def is_dmarc(text: str) -> bool:
    return _VERSION.match(text) is not None


def is_meant(text: str) -> bool:
    """Whether somebody meant it to be one, understood or not: in other letters, or without its semicolon."""
    return text.lstrip().lower().startswith("v=dmarc1")


def tags(text: str) -> dict[str, str]:
    """The record's tags, names in lower case; the first of each counts."""
    found: dict[str, str] = {}
    for part in text.split(";"):
        name, equals, value = part.partition("=")
        if equals:
            found.setdefault(name.strip().lower(), value.strip())
    return found


def strictness(text: str) -> int:
    """0 to 2 for p=none, quarantine, reject, one less where t=y (section 4.7) lowers what is done; -1 without p."""
    found = tags(text)
    policy = _STRICTNESS.get(found.get("p", "").lower(), -1)
    return policy - 1 if found.get("t", "").lower() == "y" and policy > 0 else policy


def strictest(texts: Sequence[str]) -> str:
    """The one to keep of several: the strictest, of equals one with a report address, of these the first."""
    return max(texts, key=lambda text: (strictness(text), "rua" in tags(text)))


def first(reports: str) -> str:
    """The record for a domain that has none: it changes nothing about delivery and asks for reports."""
    return f"v=DMARC1; p=none; rua=mailto:{reports}"


def report_consent(domain: str, reports: str) -> tuple[str, str] | None:
    """Name and text of the record by which another domain agrees to get reports (RFC 9990), None within one domain."""
    target = reports.rpartition("@")[2]
    if target == domain or domain.endswith("." + target) or target.endswith("." + domain):
        return None
    return f"{domain}._report._dmarc.{target}", "v=DMARC1"
