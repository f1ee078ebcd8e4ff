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


def good(findings: Sequence[Finding]) -> bool:
    """Whether nothing is wrong; what could not be looked at is not wrong."""
    return all(finding.verdict is not Verdict.WRONG for finding in findings)


def checklist(console: Console, findings: Sequence[Finding]) -> None:
    for domain in dict.fromkeys(finding.domain for finding in findings):
        console.print(Text(printable(domain), style="bold"))
        for finding in (one for one in findings if one.domain == domain):
            line = f"  {MARKS[finding.verdict]} {finding.check}: {finding.finding}"
            console.print(Text(printable(line), style=STYLES[finding.verdict]), soft_wrap=True)
            if finding.fix:
                console.print(Text(f"    → {printable(finding.fix)}"), soft_wrap=True)
        console.print()
    wrong = sum(finding.verdict is Verdict.WRONG for finding in findings)
    unseen = sum(finding.verdict is Verdict.UNKNOWN for finding in findings)
    verdict = "All is well." if not wrong else f"{wrong} to mend."
    console.print(Text(f"{verdict} {unseen} could not be looked at." if unseen else verdict))


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
