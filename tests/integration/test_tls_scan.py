"""testssl.sh looks at both ports as an auditor would: nothing of medium severity or worse."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from renewer import selfsigned
from renewer.publish import Publisher
from support.appliance import Appliance
from support.peers import need

BAD = ("MEDIUM", "HIGH", "CRITICAL")
# About the authority that signed, not about us: a private one has no revocation service and no CAA record.
OF_THE_AUTHORITY = frozenset({"cert_revocation", "DNS_CAArecord", "cert_ocspURL", "cert_crlDistributionPoints"})


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Appliance]:
    relay = Appliance(tmp_path)
    publisher = Publisher(tmp_path / "certs")
    publisher.publish(selfsigned.make(["localhost", "mail.example.org"], time.time()), authority=True)
    publisher.close()
    relay.start()
    yield relay
    relay.stop()


@pytest.mark.timeout(600)
def test_no_finding_of_medium_severity_or_worse(relay: Appliance, tmp_path: Path) -> None:
    testssl = need("testssl")
    targets = {
        "starttls": ["--starttls", "smtp", f"localhost:{relay.submission}"],
        "tls": [f"localhost:{relay.submissions}"],
    }
    scans = {}
    for name, target in targets.items():
        options = ["--quiet", "--color", "0", "--warnings", "off", "--ip", "127.0.0.1", "--add-ca", str(relay.ca)]
        command = [testssl, *options, "--jsonfile", str(tmp_path / f"{name}.json"), *target]
        scans[name] = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path
        )
    for scan in scans.values():
        scan.wait(570)
    for name in targets:
        findings = json.loads((tmp_path / f"{name}.json").read_text())
        seen = {finding["id"]: finding for finding in findings}
        assert seen["TLS1_2"]["severity"] == "OK", "the scan did not get to talk TLS"
        bad = [one for one in findings if one["severity"] in BAD and one["id"].split(" ")[0] not in OF_THE_AUTHORITY]
        assert bad == [], name
