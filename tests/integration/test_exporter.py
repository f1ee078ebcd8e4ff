"""The exporter beside a real relay and a real renewer, watched by a real Prometheus, while things go wrong."""

from __future__ import annotations

import datetime
import http.server
import json
import re
import smtplib
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml

from support.appliance import PASSWORD, ROOT, Appliance, account, eventually
from support.exporter import Exporter, Prometheus, fetch
from support.fake_relay import FakeRelay
from support.peers import need
from support.ports import free_port
from support.renewer import Renewer

pytestmark = pytest.mark.timeout(240)
BENT = str(ROOT / "tests/support/bent_world.py")
ALERTS = {
    one["alert"]: one["expr"]
    for one in yaml.safe_load((ROOT / "config/prometheus/alerts.yaml").read_text())["groups"][0]["rules"]
}
NAME = re.compile(r"\bownpost_[a-z0-9_]+")
MAIL = b"From: anna@example.org\r\nTo: bob@example.net\r\nSubject: x\r\n\r\nbody\r\n"


class House:
    """Relay, renewer and exporter that share a folder for their sockets."""

    def __init__(self, folder: Path, provider: dict[str, str] | None = None) -> None:
        self.folder = folder
        accounts = {"anna": account(["*@example.org"])}
        self.relay = Appliance(folder, settings={"BENT_WORLD": str(folder)}, accounts=accounts)
        if provider:
            self.relay.provider = provider
        (folder / "renewer").mkdir()
        self.renewer = Renewer(folder / "renewer", RENEWER_RUN=str(folder / "run"))

    def start(self) -> None:
        self.relay.start(sys.executable, BENT)
        self.renewer.start()
        self.exporter = Exporter(self.folder, self.folder / "run")
        eventually(lambda: self.exporter.value("collector_success", collector="renewer_metrics"), "the renewer")

    def stop(self) -> None:
        self.exporter.stop()
        self.renewer.kill()
        self.relay.stop()

    def client(self) -> smtplib.SMTP_SSL:
        context = ssl.create_default_context(cafile=str(self.relay.ca))
        smtp = smtplib.SMTP_SSL("127.0.0.1", self.relay.submissions, context=context, timeout=30)
        smtp.login("anna", PASSWORD)
        return smtp

    def send(self, sender: str = "anna@example.org") -> None:
        with self.client() as smtp:
            smtp.sendmail(sender, ["bob@example.net"], MAIL.replace(b"anna@example.org", sender.encode()))

    def bend(self, name: str, value: float | None) -> None:
        path = self.folder / name
        path.unlink(missing_ok=True) if value is None else path.write_text(str(value))

    def publish(self, days: float, whole: float = 90.0) -> None:
        """A certificate that ends in so many days."""
        now = datetime.datetime.now(datetime.UTC)
        end = now + datetime.timedelta(days=days)
        pair = trustme.CA().issue_cert(
            "localhost", "mail.example.org", not_before=end - datetime.timedelta(days=whole), not_after=end
        )
        folder = self.folder / "certs" / str(time.time_ns())
        folder.mkdir()
        (folder / "fullchain.pem").write_bytes(b"".join(blob.bytes() for blob in pair.cert_chain_pems))
        (folder / "privkey.pem").write_bytes(pair.private_key_pem.bytes())
        link = self.folder / "certs/.next"
        link.symlink_to(folder.name)
        link.rename(self.folder / "certs/current")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    house = House(tmp_path_factory.mktemp("watched"))
    house.start()
    yield house
    house.stop()


def test_promtool_finds_nothing_to_say(house: House) -> None:
    text = fetch(house.exporter.url + "/metrics")[1]
    done = subprocess.run(
        [need("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_every_program_is_in_it_and_every_collector_succeeds(house: House) -> None:
    series = house.exporter.series()
    names = {name for name, _ in series}
    assert {"ownpost_build_info", "ownpost_renewer_attempts_total", "ownpost_exporter_build_info"} <= names
    success = {labels: value for (name, labels), value in series.items() if name == "ownpost_collector_success"}
    assert len(success) == 8
    assert set(success.values()) == {1.0}


def test_the_days_numbers_hold_the_message_that_was_just_sent(house: House) -> None:
    """Whoever sends a first mail looks at once, and finds it among the latest messages too."""

    def accepted() -> int:
        slots = json.loads(fetch(house.exporter.url + "/status.json")[1])["history"]["slots"]
        return sum(slot["accepted"] for slot in slots)

    before = accepted()
    house.send()
    eventually(lambda: accepted() == before + 1, "the next look, a second later", seconds=15)


def test_what_dashboard_and_alarms_ask_for_is_there(house: House) -> None:
    names = {name for name, _ in house.exporter.series()}
    dashboard = json.loads((ROOT / "config/grafana/dashboards/ownpost.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert all(panel["targets"] and panel["description"] for panel in panels)
    asked = {panel["title"]: " ".join(one["expr"] for one in panel["targets"]) for panel in panels} | ALERTS
    for title, expression in asked.items():
        found = set(NAME.findall(expression))
        assert found, title
        assert found <= names, title


def test_every_expression_is_understood_by_prometheus(house: House, tmp_path: Path) -> None:
    dashboard = json.loads((ROOT / "config/grafana/dashboards/ownpost.json").read_text())
    expressions = [one["expr"] for panel in dashboard["panels"] for one in panel.get("targets", [])]
    given = [one.replace("$__rate_interval", "1m").replace("$instance", ".*") for one in expressions]
    rules = [{"record": f"r:{number}", "expr": one} for number, one in enumerate(given)]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    command = [need("promtool"), "check", "rules", str(tmp_path / "rules.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_thousand_senders_add_no_series(house: House) -> None:
    house.send()
    before = set(house.exporter.series())
    with house.client() as smtp:
        for number in range(1_000):
            smtp.ehlo(f"host{number}.example")
            sender = f"sender{number}@example.org"
            smtp.sendmail(sender, [f"to{number}@example.net"], MAIL.replace(b"anna@example.org", sender.encode()))
    accepted = eventually(lambda: house.exporter.value("messages_accepted_total", listener="submissions"), "the count")
    assert accepted >= 1_000
    assert set(house.exporter.series()) == before


def test_the_page_tells_of_a_message_and_leads_to_its_story(house: House) -> None:
    house.send()

    def delivered() -> Any:
        latest = house.exporter.status()["latest"]["messages"]
        return latest[0] if latest and latest[0]["states"] == {"delivered": 1} else None

    message = eventually(delivered, "the delivery")
    assert (message["sender"], message["first_recipients"]) == ("a…@example.org", ["b…@example.net"])
    code, page = fetch(f"{house.exporter.url}/message/{message['message']}")
    assert code == 200
    assert "accepted by the provider" in page
    assert "bob@example.net" not in page
    assert message["message"] in fetch(house.exporter.url + "/")[1]
    assert fetch(f"{house.exporter.url}/message/{'0' * 26}")[0] == 404
    assert fetch(f"{house.exporter.url}/message/..%2f..%2fetc")[0] == 404


def test_exemplars_carry_the_message(house: House) -> None:
    house.send()
    bucket = r'ownpost_accept_duration_seconds_bucket\{le="[^"]+"\} [0-9.]+ # \{message="[0-9A-Z]{26}"\}'

    def page() -> str:
        return fetch(house.exporter.url + "/metrics", Accept="application/openmetrics-text; version=1.0.0")[1]

    eventually(lambda: re.search(bucket, page()), "an exemplar")
    assert page().endswith("# EOF\n")


# --- things that go wrong


def test_alarms_find_what_is_wrong(tmp_path: Path) -> None:
    program = need("prometheus")
    nobody = {"GENERIC_HOST": "127.0.0.1", "GENERIC_PORT": str(free_port()), "GENERIC_TLS": "none"}
    house = House(tmp_path, {"OWNPOST_PROVIDERS": "generic", **nobody})
    house.start()
    prometheus = Prometheus(program, tmp_path, house.exporter.url)
    try:
        _break_one_thing_after_another(house, prometheus)
    finally:
        prometheus.stop()
        house.stop()


def _break_one_thing_after_another(house: House, prometheus: Prometheus) -> None:
    def rings(*names: str) -> None:
        for name in names:
            eventually(lambda name=name: prometheus.query(ALERTS[name]), f"{name} to find something")  # type: ignore[misc]

    def silent(*names: str) -> None:
        for name in names:
            assert prometheus.query(ALERTS[name]) == [], name

    eventually(lambda: prometheus.query("ownpost_ready == 1"), "the first scrape")
    rings("OwnpostProviderNotReady")  # nobody listens where the provider should be
    silent(*ALERTS.keys() - {"OwnpostProviderNotReady"})

    house.send()
    rings("OwnpostProviderPaused", "OwnpostAllProvidersPaused")
    silent("OwnpostMailLate", "OwnpostMailStuck", "OwnpostNotReady", "OwnpostRelaySilent")
    assert fetch(house.exporter.url + "/readyz")[0] == 200, "a provider's outage is no unreadiness"

    house.bend("ahead", 1_900)
    rings("OwnpostMailLate")
    silent("OwnpostMailStuck")
    house.bend("ahead", 15_000)
    rings("OwnpostMailStuck")
    house.bend("ahead", None)

    silent("OwnpostSpoolFull", "OwnpostSpoolFillsUp")
    house.bend("free", 1_200 * 1024**2)  # of which the floor is the greater part
    rings("OwnpostSpoolFillsUp")
    house.bend("free", 1_000_000)
    rings("OwnpostSpoolFull", "OwnpostNotReady")
    assert fetch(house.exporter.url + "/readyz")[0] == 503
    house.bend("free", None)

    silent("OwnpostCertificateExpiring")
    house.publish(days=15)
    rings("OwnpostCertificateExpiring")
    silent("OwnpostCertificateExpired")
    house.publish(days=1)
    rings("OwnpostCertificateExpired")
    house.publish(days=-1)
    rings("OwnpostCertificateNotTaken")

    (house.folder / "config/accounts.toml").write_text("nonsense")
    rings("OwnpostAccountsBroken")

    exemplars = prometheus.ask(
        "query_exemplars",
        query="ownpost_accept_duration_seconds_bucket",
        start=str(time.time() - 600),
        end=str(time.time() + 60),
    )
    assert exemplars, "Prometheus keeps the message's id beside the bucket"

    house.relay.kill()
    rings("OwnpostRelaySilent", "OwnpostNotReady")
    assert house.exporter.status()["verdict"]["level"] == "critical"
    house.exporter.stop()
    eventually(lambda: prometheus.query("up == 0"), "the exporter to be missed")


# --- programs that misbehave


class Misbehaving:
    """A renewer's socket that answers as it is told: with a body, or never."""

    def __init__(self, run: Path) -> None:
        self.body: bytes | None = b""
        self.enough = threading.Event()
        misbehaving = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if misbehaving.body is None:
                    misbehaving.enough.wait(60)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(misbehaving.body)))
                self.end_headers()
                self.wfile.write(misbehaving.body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Nobody wants to read that."""

        (run / "renewer").mkdir()
        self._server = socketserver.ThreadingUnixStreamServer(str(run / "renewer/renewer.sock"), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self.enough.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def test_one_that_hangs_or_talks_nonsense_costs_itself_only(tmp_path: Path) -> None:
    relay, renewer = FakeRelay(tmp_path), Misbehaving(tmp_path)
    relay.answers["GET /metrics"] = (200, b"# TYPE ownpost_build_info gauge\nownpost_build_info 1\n")
    exporter = Exporter(tmp_path, tmp_path)
    try:
        for body in (b"nonsense {{{", b"[]", None):
            renewer.body = body
            started = time.monotonic()
            wanted = {"renewer_metrics": 0.0, "renewer_status": 0.0, "relay_metrics": 1.0, "domain_check": 1.0}
            for name, success in wanted.items():
                eventually(
                    lambda name=name, success=success: (  # type: ignore[misc]
                        exporter.value("collector_success", collector=name) == success
                    ),
                    f"{name} {success}",
                )
            assert exporter.value("build_info") == 1.0
            assert time.monotonic() - started < 30
        eventually(lambda: "No answer within 3 seconds." in fetch(exporter.url + "/")[1], "the page to say so")
    finally:
        exporter.stop()
        renewer.close()
        relay.close()


def test_with_a_password_only_those_who_know_it_see_anything(tmp_path: Path) -> None:
    inside = free_port()
    (tmp_path / "password").write_text("correct horse")
    words = {"EXPORTER_PASSWORD": "another one", "EXPORTER_PASSWORD_FILE": str(tmp_path / "password")}
    exporter = Exporter(tmp_path, tmp_path, EXPORTER_INSIDE_PORT=str(inside), **words)
    try:
        for path in ("/", "/metrics", "/status.json", "/readyz", "/style.css", "/nothing"):
            assert fetch(exporter.url + path)[0] == 401, path
        right = "Basic YW55b25lOmNvcnJlY3QgaG9yc2U="
        assert fetch(exporter.url + "/", Authorization=right)[0] == 200
        assert fetch(f"http://127.0.0.1:{inside}/metrics")[0] == 200
        assert fetch(f"http://127.0.0.1:{inside}/")[0] == 404
        assert fetch(exporter.url + "/", Authorization=right, Host="evil.example")[0] == 421
        assert "correct horse" not in exporter.log.read_text()
        assert "EXPORTER_PASSWORD: given together with EXPORTER_PASSWORD_FILE" in exporter.log.read_text()
    finally:
        assert exporter.stop() == 0


def test_it_ends_at_once_while_one_who_is_told_does_not_listen(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        deaf.settimeout(20)
        exporter = Exporter(tmp_path, tmp_path, EXPORTER_NOTIFY_URL=f"http://127.0.0.1:{deaf.getsockname()[1]}/ping")
        with deaf.accept()[0]:
            started = time.monotonic()
            assert exporter.stop() == 0
            assert time.monotonic() - started < 8
