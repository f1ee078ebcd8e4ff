"""The certificate is exchanged while mail flows: nobody notices, and only good ones are ever shown."""

from __future__ import annotations

import datetime
import re
import shutil
import smtplib
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from cryptography import x509

from support.appliance import PASSWORD, Appliance, eventually
from support.sink import CountingSink
from support.unix_http import get

NAMES = ("localhost", "127.0.0.1", "mail.example.org")
WITHIN = 2.0  # seconds from publication to service


class Publisher:
    """Publishes pairs of one authority, good ones and bad ones, the way the renewer does."""

    def __init__(self, certs: Path) -> None:
        self.certs, self.authority, self.count = certs, trustme.CA(), 0
        self.authority.cert_pem.write_to_path(certs / "ca.pem")

    def good(self) -> str:
        return self._publish(self.authority.issue_cert(*NAMES))

    def expired(self) -> str:
        yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        return self._publish(self.authority.issue_cert(*NAMES, not_after=yesterday))

    def mismatched(self) -> str:
        return self._publish(self.authority.issue_cert(*NAMES), key=self.authority.issue_cert(*NAMES))

    def without_key(self) -> str:
        return self._publish(self.authority.issue_cert(*NAMES), leave_out="privkey.pem")

    def half_written(self) -> str:
        return self._publish(self.authority.issue_cert(*NAMES), cut=True)

    def _publish(
        self, pair: trustme.LeafCert, key: trustme.LeafCert | None = None, leave_out: str = "", cut: bool = False
    ) -> str:
        """Returns the leaf's serial number."""
        self.count += 1
        folder = self.certs / f"serial{self.count}"
        folder.mkdir()
        chain = b"".join(blob.bytes() for blob in pair.cert_chain_pems)
        (folder / "fullchain.pem").write_bytes(chain[: len(chain) // 3] if cut else chain)
        (folder / "privkey.pem").write_bytes((key or pair).private_key_pem.bytes())
        if leave_out:
            (folder / leave_out).unlink()
        link = self.certs / ".next"
        link.symlink_to(folder.name)
        link.rename(self.certs / "current")
        leaf = x509.load_pem_x509_certificate(pair.cert_chain_pems[0].bytes())
        return f"{leaf.serial_number:X}"


class Clients:
    """Threads that connect, send, and connect again on both ports, and note every failure and every certificate."""

    def __init__(self, relay: Appliance, publisher: Publisher) -> None:
        self.relay, self.stop = relay, threading.Event()
        self.context = ssl.create_default_context(cafile=str(publisher.certs / "ca.pem"))
        self.failures: list[BaseException] = []
        self.seen: list[tuple[float, str]] = []
        self.sent = 0
        self.lock = threading.Lock()
        self.threads = [threading.Thread(target=self.work, args=(port,)) for port in (465, 465, 587, 587)]
        for thread in self.threads:
            thread.start()

    def work(self, port: int) -> None:
        while not self.stop.is_set():
            try:
                with self.connect(port) as smtp:
                    self.note(smtp)
                    smtp.login("anna", PASSWORD)
                    for _ in range(3):
                        smtp.sendmail("anna@example.org", ["bob@example.net"], "From: anna@example.org\r\n\r\nhello")
                        with self.lock:
                            self.sent += 1
            except (OSError, smtplib.SMTPException) as failure:
                self.failures.append(failure)

    def connect(self, port: int) -> smtplib.SMTP:
        if port == 465:
            return smtplib.SMTP_SSL("localhost", self.relay.submissions, context=self.context, timeout=20)
        smtp = smtplib.SMTP("localhost", self.relay.submission, timeout=20)
        smtp.starttls(context=self.context)
        return smtp

    def note(self, smtp: smtplib.SMTP) -> None:
        assert isinstance(smtp.sock, ssl.SSLSocket)
        certificate = smtp.sock.getpeercert()
        assert certificate is not None
        with self.lock:
            self.seen.append((time.monotonic(), str(certificate["serialNumber"]).lstrip("0")))

    def close(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(30)

    def serials(self) -> set[str]:
        with self.lock:
            return {serial for _, serial in self.seen}


@pytest.fixture
def relay(tmp_path: Path, sink: CountingSink) -> Iterator[Appliance]:
    relay = Appliance(tmp_path, sink.settings)
    shutil.rmtree(tmp_path / "certs")
    (tmp_path / "certs").mkdir()
    yield relay
    relay.stop()


def test_twenty_exchanges_under_load_are_noticed_by_nobody(relay: Appliance, sink: CountingSink) -> None:
    publisher = Publisher(relay.folder / "certs")
    good, bad = [publisher.good()], []
    relay.start()
    clients = Clients(relay, publisher)
    steps = [publisher.mismatched, publisher.expired, publisher.without_key, publisher.half_written]
    try:
        for turn in range(20):
            if turn % 4 == 3:
                bad.append(steps[turn // 4 % len(steps)]())
                before = clients.sent
                eventually(lambda before=before: clients.sent > before + 8, "mail to flow on after a bad publication")
            else:
                published, serial = time.monotonic(), publisher.good()
                good.append(serial)
                eventually(lambda serial=serial: serial in clients.serials(), "the new certificate to be shown")
                first = min(at for at, seen in clients.seen if seen == serial)
                assert first - published < WITHIN
    finally:
        clients.close()
    assert clients.failures == []
    assert clients.serials() <= set(good)
    assert not clients.serials() & set(bad)
    eventually(lambda: len(sink.bodies) == clients.sent, "every mail to arrive", seconds=60)


def test_a_session_that_is_open_goes_on_with_its_old_certificate(relay: Appliance) -> None:
    publisher = Publisher(relay.folder / "certs")
    publisher.good()
    relay.start()
    context = ssl.create_default_context(cafile=str(publisher.certs / "ca.pem"))
    with smtplib.SMTP_SSL("localhost", relay.submissions, context=context, timeout=20) as smtp:
        smtp.login("anna", PASSWORD)
        publisher.good()
        eventually(lambda: relay.log.read_text().count("certificate_loaded") == 2, "the exchange")
        smtp.sendmail("anna@example.org", ["bob@example.net"], "From: anna@example.org\r\n\r\nstill here")


def test_the_relay_waits_for_its_first_certificate_and_opens_by_itself(relay: Appliance) -> None:
    relay.spawn()
    eventually(lambda: relay.socket.exists(), "the control socket")
    assert relay.ready() is False
    assert relay.status()["state"] == "starting"
    Publisher(relay.folder / "certs").good()
    eventually(relay.ready, "the ports to open")


def test_operators_see_what_each_port_shows(relay: Appliance) -> None:
    publisher = Publisher(relay.folder / "certs")
    publisher.good()
    relay.start()

    def certs() -> subprocess.CompletedProcess[str]:
        return relay.operator("certs")

    eventually(lambda: certs().returncode == 0, "the relay to have looked at itself")
    assert certs().stdout.count("this certificate, until") == 2
    publisher.expired()
    eventually(lambda: certs().returncode != 0, "the bad publication to be told")
    shown = certs().stdout
    assert "expired" in shown
    assert shown.count("this certificate, until") == 2  # the good one is still shown

    text = get(relay.socket, "/metrics")[1].decode()
    assert re.search(
        r'^ownpost_tls_certificate_not_after_timestamp_seconds\{listener="submissions"\} [1-9]', text, re.MULTILINE
    )
    assert "ownpost_tls_reload_failures_total 1.0" in text
