"""Postfix as a null client: what servers that send their own mail run."""

from __future__ import annotations

import smtplib
from collections.abc import Iterator
from dataclasses import replace

import pytest

from support.appliance import eventually
from support.clients import HOP, PASSWORD, USER, Matrix
from support.letters import BY_NAME, SENDER, Letter
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


def null_client(matrix: Matrix, user: str) -> Postfix:
    values = {"port": matrix.relay.submission, "ca": matrix.ca, "user": user, "password": PASSWORD}
    return Postfix(NULL_CLIENT.format(**values))


@pytest.fixture(scope="module")
def postfix(running: Matrix) -> Iterator[Postfix]:
    with null_client(running, "rewriting") as postfix:
        yield postfix


def send(postfix: Postfix, letter: Letter) -> None:
    """`x@nowhere.22` ends in a number, which no domain does: Postfix takes it, we do not."""
    with smtplib.SMTP("127.0.0.1", postfix.port, timeout=60) as smtp:
        assert smtp.sendmail(SENDER, [*letter.recipients, *letter.refused], letter.data, ["BODY=8BITMIME"]) == {}


def test_letters(matrix: Matrix, postfix: Postfix, letter: Letter) -> None:
    """Whom we refuse its sender hears of: the account has `from = "rewrite"`, and what is its own is left as it is.

    `smtp_line_length_limit = 0`: by default it breaks lines of more than 998 bytes on its way out, as it documents.
    """
    send(postfix, letter)
    count = -(-len(letter.recipients) // 50)  # it sends to fifty at a time
    matrix.arrived(letter, own=HOP, count=count, author="nas@example.org")


def test_its_own_report_about_the_refused_ones_is_refused_where_the_account_does_not_let_it(matrix: Matrix) -> None:
    """Its From is no address of the account: nobody is told, but for the log."""
    letter = replace(BY_NAME["to-97-and-3-refused"], recipients=("bob@example.net",))
    with null_client(matrix, USER) as postfix:
        send(postfix, letter)
        matrix.arrived(letter, own=HOP)
        why = "in the field From is not one of account anna"
        log = eventually(lambda: why in postfix.log() and postfix.log(), "its report to be refused")
    assert "501 5.1.3" in log
    assert "The address <MAILER-DAEMON@" in log
