"""The certificate changes while mail flows, renewer and relay each in its container: clients see nothing but that."""

from __future__ import annotations

import smtplib
import ssl
import threading

import pytest
import trustme
from cryptography import x509

from support.appliance import eventually
from support.project import Project

pytestmark = pytest.mark.timeout(400)
MAIL = "From: demo@example.org\r\nTo: you@example.net\r\n\r\nhello\r\n"


class Supplied:
    """Pairs of one authority, put where OWNPOST_TLS=files looks for them."""

    def __init__(self, project: Project) -> None:
        self.authority, self.folder = trustme.CA(), project.folder / "secrets/renewer"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.context = ssl.create_default_context(cadata=self.authority.cert_pem.bytes().decode())

    def put(self) -> int:
        """A new pair, its two files written one after the other as any tool does; its serial number."""
        pair = self.authority.issue_cert("mail.example.org", "127.0.0.1")
        chain = [*pair.cert_chain_pems, self.authority.cert_pem]
        (self.folder / "fullchain.pem").write_bytes(b"".join(blob.bytes() for blob in chain))
        (self.folder / "privkey.pem").write_bytes(pair.private_key_pem.bytes())
        return x509.load_pem_x509_certificate(pair.cert_chain_pems[0].bytes()).serial_number


class Client:
    """A thread that logs in and sends, again and again, and notes what it is shown and what fails."""

    def __init__(self, project: Project, context: ssl.SSLContext) -> None:
        self.project, self.context = project, context
        self.sent, self.serials, self.failures = 0, set[int](), list[Exception]()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.work)
        self.thread.start()

    def work(self) -> None:
        while not self.stop.wait(1.0):  # the trial account may send a hundred mails an hour
            try:
                with smtplib.SMTP_SSL("127.0.0.1", self.project.submissions, context=self.context, timeout=60) as smtp:
                    assert isinstance(smtp.sock, ssl.SSLSocket)
                    certificate = smtp.sock.getpeercert()
                    assert certificate is not None
                    self.serials.add(int(str(certificate["serialNumber"]), 16))
                    smtp.login("demo", "demo-password")
                    smtp.sendmail("demo@example.org", ["you@example.net"], MAIL)
                    self.sent += 1
            except (OSError, smtplib.SMTPException) as failure:
                self.failures.append(failure)

    def close(self) -> None:
        self.stop.set()
        self.thread.join(90)


def test_a_new_certificate_reaches_clients_while_mail_flows(project: Project) -> None:
    supplied = Supplied(project)
    first = supplied.put()
    project.configure(OWNPOST_TLS="files", RENEWER_FILES_CERT="/secrets/fullchain.pem")
    project.configure(RENEWER_FILES_KEY="/secrets/privkey.pem")
    project.make("up")
    client = Client(project, supplied.context)
    try:
        eventually(lambda: first in client.serials, "the first certificate to be shown")
        second = supplied.put()
        eventually(lambda: second in client.serials, "the new certificate to be shown", seconds=150)
        after = client.sent
        eventually(lambda: client.sent > after + 3, "mail to flow on with the new certificate")
    finally:
        client.close()
    assert client.failures == []
    assert client.serials == {first, second}
    assert "this certificate, until" in project.make("certs")
    eventually(lambda: len(project.captured()) == client.sent, "every mail to arrive")
