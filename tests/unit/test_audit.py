"""Dependencies: every one pinned by its hash, and what `make audit` says of them."""

from __future__ import annotations

import re
from pathlib import Path

import audit
import pytest

from support.appliance import ROOT

LOCKS = [*audit.locks(), ROOT / "tests/requirements.txt"]
HOLE = {"id": "PYSEC-2026-1", "aliases": ["CVE-2026-1"], "fix_versions": ["2.1"], "description": "bad"}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: str(lock.relative_to(ROOT)))
def test_every_package_is_pinned_to_a_version_and_the_hashes_of_its_files(lock: Path) -> None:
    text = lock.read_text()
    entries = re.sub(r" \\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    assert entries
    for entry in filter(None, entries):
        assert re.match(r"[a-z0-9.-]+(\[[a-z,-]+\])?==[^ ]+ .*--hash=sha256:[0-9a-f]{64}( |$)", entry), entry
        assert "://" not in entry, "an address of an index"


def test_every_service_has_its_pins_and_images_are_made_of_nothing_else() -> None:
    services = {file.parent for file in (ROOT / "services").glob("*/pyproject.toml")}
    assert {lock.parent for lock in audit.locks()} == services | {ROOT / "services"}
    dockerfile = re.sub(r"\\\n", "", (ROOT / "services/Dockerfile").read_text())
    installs = [line for line in dockerfile.splitlines() if re.search(r"pip\b.* install\b", line)]
    assert len(installs) == 2
    for line in installs:
        assert "--require-hashes" in line
        assert re.search(r"-r \S+\.txt$", line)
    assert "--require-hashes" in (ROOT / "tools/venv").read_text()


def test_nothing_known_is_good() -> None:
    lines, code = audit.judge({"dependencies": [{"name": "h11", "version": "0.16.0", "vulns": []}] * 2})
    assert (lines, code) == (["ownpost: 1 packages, none with a known vulnerability."], 0)


def test_a_known_hole_is_told_once_with_what_mends_it() -> None:
    bad = {"name": "jinja2", "version": "2.0", "vulns": [HOLE, {**HOLE, "id": "PYSEC-2026-2", "fix_versions": []}]}
    lines, code = audit.judge({"dependencies": [bad, bad, {"name": "h11", "skip_reason": "not found"}]})
    assert code == 1
    assert lines[:2] == [
        "jinja2 2.0: PYSEC-2026-1, CVE-2026-1; mended in 2.1",
        "jinja2 2.0: PYSEC-2026-2, CVE-2026-1; no fix",
    ]


@pytest.mark.parametrize("report", [None, {"dependencies": [{"name": "h11", "skip_reason": "not found"}]}])
def test_an_audit_that_saw_nothing_is_none(report: dict[str, object] | None) -> None:
    (line,), code = audit.judge(report)
    assert code == audit.EX_TEMPFAIL
    assert "nothing was audited" in line


def test_a_package_that_could_not_be_looked_up_is_named() -> None:
    seen = [{"name": "h11", "version": "0.16.0", "vulns": []}, {"name": "uvloop", "skip_reason": "not found"}]
    (line,), code = audit.judge({"dependencies": seen})
    assert code == audit.EX_TEMPFAIL
    assert "uvloop" in line
