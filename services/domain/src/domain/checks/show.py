"""The checklist for people, fit to paste into a support thread, and as JSON for scripts and the exporter."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from common.names import printable

from .model import Finding, Verdict

MARKS = {Verdict.GOOD: "✔", Verdict.ADVICE: "•", Verdict.WRONG: "✘", Verdict.UNKNOWN: "?"}
STYLES = {Verdict.GOOD: "green", Verdict.ADVICE: "yellow", Verdict.WRONG: "red", Verdict.UNKNOWN: "cyan"}
FORMAT = 1  # of the JSON


def count(findings: Sequence[Finding], verdict: Verdict) -> int:
    return sum(finding.verdict is verdict for finding in findings)


def blind(findings: Sequence[Finding]) -> bool:
    """Whether more than half could not be looked at: then finding nothing wrong means nothing."""
    return 2 * count(findings, Verdict.UNKNOWN) > len(findings)


def good(findings: Sequence[Finding]) -> bool:
    """Whether nothing is wrong, as far as enough could be looked at to say so."""
    return not count(findings, Verdict.WRONG) and not blind(findings)


def verdict(findings: Sequence[Finding]) -> str:
    """The last line. "All is well" is said only if all of it was looked at."""
    wrong, unseen = count(findings, Verdict.WRONG), count(findings, Verdict.UNKNOWN)
    if unseen == len(findings):
        return f"Nothing could be looked at: {findings[0].finding}."
    could = f"{unseen} of {len(findings)} could not be looked at."
    if wrong:
        return f"{wrong} to mend." + (f" {could}" if unseen else "")
    return f"Nothing wrong was found, but {could}" if unseen else "All is well."


def checklist(console: Console, findings: Sequence[Finding]) -> None:
    for domain in dict.fromkeys(finding.domain for finding in findings):
        console.print(Text(printable(domain), style="bold"))
        for finding in (one for one in findings if one.domain == domain):
            line = f"  {MARKS[finding.verdict]} {finding.check}: {finding.finding}"
            console.print(Text(printable(line), style=STYLES[finding.verdict]), soft_wrap=True)
            if finding.fix:
                console.print(Text(f"    → {printable(finding.fix)}"), soft_wrap=True)
        console.print()
    console.print(Text(printable(verdict(findings))))


def as_json(findings: Sequence[Finding], now: float) -> str:
    """``docs/domain.md`` describes it."""
    rows = [
        {
            "domain": one.domain,
            "check": one.check,
            "verdict": str(one.verdict),
            "finding": printable(one.finding),
            "fix": printable(one.fix),
        }
        for one in findings
    ]
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    report = {"format": FORMAT, "checked_at": stamp, "good": good(findings), "findings": rows}
    return json.dumps(report, indent=2)


def publish(run: Path, text: str) -> None:
    """Puts the report where the exporter finds it, ``run/domain/check.json``, in one step. Raises OSError."""
    folder = run / "domain"
    folder.mkdir(mode=0o755, exist_ok=True)
    descriptor, path = tempfile.mkstemp(dir=folder)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path, 0o644)
    os.replace(path, folder / "check.json")
