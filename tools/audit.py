"""``make audit``: asks for known vulnerabilities of every package that the images hold, are built with or tested by.

Asked is PyPI itself, whatever index pip is set to; PIP_AUDIT_VULNERABILITY_SERVICE=osv asks OSV instead.

Prints one line for each finding. Exit code 0 when all were looked up and none has any, 1 when one has, 75 (EX_TEMPFAIL)
when some could not be looked up: an audit that saw nothing must not pass for one that found nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
EX_TEMPFAIL = 75


def locks() -> list[Path]:
    """Every file of pins: of the images, of what writes their lists, of the tests, of what makes the pins."""
    services = sorted((ROOT / "services").glob("*/requirements.txt"))
    return [*services, *(ROOT / name for name in ("services/bom.txt", "tests/requirements.txt", "tools/uv.txt"))]


def findings(dependencies: list[dict[str, Any]]) -> list[str]:
    """A line for each known vulnerability: package, version, its names, what mends it."""
    lines = []
    for one in dependencies:
        for hole in one.get("vulns", []):
            names = ", ".join([hole["id"], *hole.get("aliases", [])])
            mended = ", ".join(hole["fix_versions"])
            lines.append(f"{one['name']} {one['version']}: {names}; " + (f"mended in {mended}" if mended else "no fix"))
    return sorted(set(lines))


def judge(report: dict[str, Any] | None) -> tuple[list[str], int]:
    """What to print, and the exit code; ``report`` is pip-audit's, None if it could make none."""
    dependencies = report["dependencies"] if report else []
    missed = sorted({one["name"] for one in dependencies if "skip_reason" in one})
    known = sorted({one["name"] for one in dependencies if "skip_reason" not in one})
    found = findings(dependencies)
    if found:
        return [*found, "ownpost: `make lock` takes the newest versions; then `make test-all`."], 1
    if not known:
        return ["ownpost: nothing was audited: the list of known vulnerabilities cannot be had from here."], EX_TEMPFAIL
    if missed:
        return [
            f"ownpost: none found in {len(known)} packages, but nothing is known of {', '.join(missed)}."
        ], EX_TEMPFAIL
    return [f"ownpost: {len(known)} packages, none with a known vulnerability."], 0


def main() -> int:
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off", "--timeout", "15"]
    command += ["--disable-pip", "--require-hashes"]  # what is pinned is looked up, nothing is resolved or installed
    for file in locks():
        command += ["--requirement", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"})
    try:
        report = json.loads(done.stdout)
    except ValueError:
        report = None
        print(done.stderr.strip().rpartition("\n")[2], file=sys.stderr)
    lines, code = judge(report)
    print("\n".join(lines), file=sys.stderr if code else sys.stdout)
    return code


if __name__ == "__main__":
    sys.exit(main())
