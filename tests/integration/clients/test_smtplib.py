"""Python's smtplib: what scripts and web applications written in Python use."""

from __future__ import annotations

import smtplib
import ssl

import pytest

from support.clients import PASSWORD, USER, Matrix
from support.letters import BY_NAME, SENDER, Letter


def test_letters(matrix: Matrix, letter: Letter) -> None:
    context = ssl.create_default_context(cafile=matrix.ca)
    with smtplib.SMTP_SSL("localhost", matrix.relay.submissions, timeout=60, context=context) as smtp:
        smtp.login(USER, PASSWORD)
        refused = smtp.sendmail(SENDER, [*letter.recipients, *letter.refused], letter.data)
    assert sorted(refused) == sorted(letter.refused)
    matrix.arrived(letter)


def test_starttls(matrix: Matrix) -> None:
    with smtplib.SMTP("localhost", matrix.relay.submission, timeout=20) as smtp:
        smtp.starttls(context=ssl.create_default_context(cafile=matrix.ca))
        smtp.login(USER, PASSWORD)
        smtp.sendmail(SENDER, [*BY_NAME["dots"].recipients], BY_NAME["dots"].data, ["BODY=8BITMIME"])
    matrix.arrived(BY_NAME["dots"])


def test_a_stranger_s_from_is_refused_with_the_addresses_that_are_allowed(matrix: Matrix) -> None:
    context = ssl.create_default_context(cafile=matrix.ca)
    forged = BY_NAME["dots"].data.replace(b"<anna@example.org>", b"<boss@example.org>", 1)
    with smtplib.SMTP_SSL("localhost", matrix.relay.submissions, timeout=20, context=context) as smtp:
        smtp.login(USER, PASSWORD)
        with pytest.raises(smtplib.SMTPDataError) as caught:
            smtp.sendmail(SENDER, ["bob@example.net"], forged)
    assert caught.value.smtp_code == 550
    assert b"anna@example.org" in caught.value.smtp_error
    assert not matrix.provider.taken
