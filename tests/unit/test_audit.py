"""Dependencies: every one pinned by its hash, and what `make audit` says of them."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import audit
import pytest

from support.appliance import ROOT

LOCKS = audit.locks()
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
    assert {lock.parent for lock in audit.locks()} == services | {
        ROOT / name for name in ("services", "tests", "tools")
    }
    dockerfile = re.sub(r"\\\n", "", (ROOT / "services/Dockerfile").read_text())
    installs = [line for line in dockerfile.splitlines() if re.search(r"pip\b.* install\b", line)]
    assert len(installs) == 2
    for line in installs:
        assert "--require-hashes" in line
        assert re.search(r"-r \S+\.txt$", line)
    for tool in ("venv", "lock"):
        (line,) = (line for line in (ROOT / "tools" / tool).read_text().splitlines() if "pip install" in line)
        assert "--require-hashes" in line


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


class Service(ThreadingHTTPServer):
    """Answers as OSV does; knows one hole in ``package``."""

    package = ""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: dict[str, str] = {}


class Answer(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = question["package"]["name"]
        self.server.asked[name] = question["version"]
        fixed = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.1"}]}]
        affected = [{"package": {"name": name, "ecosystem": "PyPI"}, "ranges": fixed}]
        hole = {"id": "PYSEC-2026-1", "aliases": ["CVE-2026-1"], "summary": "bad", "affected": affected}
        body = json.dumps({"vulns": [hole]} if name == self.server.package else {}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    with Service() as server:
        monkeypatch.setenv("PIP_AUDIT_VULNERABILITY_SERVICE", "osv")
        monkeypatch.setenv("PIP_AUDIT_OSV_URL", f"http://127.0.0.1:{server.server_port}/v1/query")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def pins() -> dict[str, str]:
    """Every pin that holds on this machine too."""
    lines = "\n".join(lock.read_text() for lock in LOCKS).splitlines()
    return dict(line.split(" ")[0].split("==") for line in lines if re.match(r"[a-z0-9.-]+==\S+ \\$", line))


def test_every_pinned_package_is_asked_for_and_none_has_a_hole(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit.main() == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out == f"ownpost: {len(service.asked)} packages, none with a known vulnerability.\n"
    assert pins().items() <= service.asked.items()
    assert {"aiosmtpd", "certbot", "dnspython", "prometheus-client", "cyclonedx-python-lib", "pytest"} <= set(pins())


def test_a_package_with_a_hole_fails_the_audit(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    service.package = "jinja2"
    assert audit.main() == 1
    found, hint = capsys.readouterr().err.splitlines()
    assert found == f"jinja2 {pins()['jinja2']}: PYSEC-2026-1, CVE-2026-1; mended in 99.1"
    assert "make lock" in hint


def test_a_list_that_cannot_be_had_fails_the_audit(
    service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIP_AUDIT_OSV_URL", f"http://127.0.0.1:{service.server_port}/gone")
    monkeypatch.setattr(Answer, "do_POST", lambda self: self.send_error(500))
    assert audit.main() == audit.EX_TEMPFAIL
    assert "nothing was audited" in capsys.readouterr().err
