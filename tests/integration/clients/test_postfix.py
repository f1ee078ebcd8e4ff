"""Postfix as a null client: what servers that send their own mail run."""

from __future__ import annotations

import re
import smtplib
from collections.abc import Iterator

import pytest

from support.clients import PASSWORD, USER, Matrix
from support.letters import SENDER, Letter
from support.postfix import Postfix

NULL_CLIENT = """
default_transport = smtp
virtual_mailbox_domains =
message_size_limit = 60000000
relayhost = [localhost]:{port}
smtp_host_lookup = native
mynetworks = 127.0.0.0/8
smtpd_tls_security_level = may
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_restrictions =
smtp_line_length_limit = 0
smtp_tls_security_level = verify
smtp_tls_CAfile = {ca}
smtp_tls_verify_cert_match = hostname
smtp_sasl_auth_enable = yes
smtp_sasl_security_options = noanonymous
smtp_sasl_password_maps = inline:{{{{ [localhost]:{port} = {user}:{password} }}}}
"""
OWN = rb"Received: from (?:.|\r\n[ \t])*?\r\n(?=[^ \t])"


@pytest.fixture(scope="module")
def postfix(running: Matrix) -> Iterator[Postfix]:
    values = {"port": running.relay.submission, "ca": running.ca, "user": USER, "password": PASSWORD}
    with Postfix(NULL_CLIENT.format(**values)) as postfix:
        yield postfix


def test_letters(matrix: Matrix, postfix: Postfix, letter: Letter) -> None:
    """It sends `MAIL FROM:<…> SIZE=… BODY=8BITMIME AUTH=<>`-like parameters that other servers stumble over.

    `smtp_line_length_limit = 0`: by default it breaks lines of more than 998 bytes on its way out, as it documents.
    """
    with smtplib.SMTP("127.0.0.1", postfix.port, timeout=60) as smtp:
        smtp.sendmail(SENDER, letter.recipients, letter.data, ["BODY=8BITMIME"])
    matrix.arrived(letter, own=OWN, count=-(-len(letter.recipients) // 50))  # it sends to fifty at a time
    assert re.search(rb"MAIL FROM:<anna@example.org> ", b"".join(matrix.provider.commands))


def test_recipients_that_we_refuse_are_told_by_it_and_the_others_get_their_mail(
    matrix: Matrix, postfix: Postfix
) -> None:
    """`nowhere` has no dot: Postfix takes it, we do not."""
    with smtplib.SMTP("127.0.0.1", postfix.port, timeout=20) as smtp:
        body = (
            b"From: anna@example.org\r\nMessage-ID: <part@example.org>\r\nDate: Tue, 24 Nov 2026 12:00:00 +0000\r\n\r\n"
        )
        smtp.sendmail(SENDER, ["bob@example.net", "x@nowhere"], body)
    matrix.arrived(Letter("part", body), own=OWN)
    assert "501 5.1.3" in postfix.log()
