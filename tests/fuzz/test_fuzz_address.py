"""Hostile MAIL and RCPT arguments: an address that every program reads alike, or a refusal of one line."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.address import ADDRESS_BYTES, RECIPIENT_BYTES, parse, parse_recipient
from relay.refusal import Refusal
from relay.submission.paths import NO_ADDRESS, Mail, read_mail, read_rcpt
from support.fuzzing import corpus, keep_at_it, mutated

PIECES = [
    b"<",
    b">",
    b"@",
    b".",
    b'"',
    b"\\",
    b" ",
    b"a",
    b"b.c",
    b"xn--",
    b"[",
    b"]",
    b"IPv6:",
    b"::1",
    b"192.0.2.1",
    b"%",
    b"!",
]
PIECES += [
    b"\0",
    b"\r\n",
    b"\t",
    b"\x7f",
    b"\xc3\xa9",
    b"\xe2\x80\xae",
    b"\xef\xbc\xa0",
    b"\xef\xb9\xa4",
    b"\xff",
    b"-",
    b"_",
    b",",
    b":",
    b"=",
    b"+2B",
]
PIECES += [b" SIZE=", b" BODY=8BITMIME", b" SMTPUTF8", b" AUTH=<>", b" RET=FULL", b"a" * 64, b"a." * 130]
arguments = st.lists(st.sampled_from(PIECES), max_size=12).map(b"".join) | st.binary(max_size=80) | mutated("address")


@given(arguments, st.booleans(), st.booleans())
@example(b"<a@b.c>\r\nRCPT TO:<d@e.f>", False, True)
@example(b"<" + b"a." * 126 + b"a@b.c>", False, False)
def check(argument: bytes, smtputf8: bool, lenient: bool) -> None:
    mail = read_mail(b"FROM:" + argument, smtputf8=smtputf8, lenient=lenient, rewrite=lenient)
    rcpt = read_rcpt(b"TO:" + argument, smtputf8=smtputf8, lenient=lenient)
    assert isinstance(mail, Mail | Refusal)
    sender = mail.sender if isinstance(mail, Mail) else ""
    assert sender in {"", NO_ADDRESS} or parse(sender.encode(), utf8=smtputf8) == sender
    assert len(sender.encode()) <= ADDRESS_BYTES
    for address in (sender, rcpt if isinstance(rcpt, str) else ""):
        assert address.isprintable()
        assert not {"<", ">"} & set(address)
        assert smtputf8 or address.isascii()
        assert address.rpartition("@")[2].isascii()
        outside = re.sub(r'"(?:[^"\\]|\\.)*"', "", address)
        assert not set(' "\\') & set(outside), "nothing ends the path but its bracket"
    if isinstance(rcpt, str):
        assert parse_recipient(rcpt.encode(), utf8=smtputf8) == rcpt
        assert len(rcpt.encode()) <= RECIPIENT_BYTES
        assert rcpt.rpartition("@")[2]
    for refusal in (mail, rcpt):
        if isinstance(refusal, Refusal):
            assert refusal.reply[:2] in {"50", "55"}
            assert refusal.reply.isascii()
            assert refusal.reply.isprintable()
            assert len(refusal.reply) <= 510


@pytest.mark.parametrize("argument", corpus("address"))
def test_corpus(argument: bytes) -> None:
    for smtputf8 in (False, True):
        for lenient in (False, True):
            check.hypothesis.inner_test(argument, smtputf8, lenient)  # type: ignore[attr-defined]


def test_arguments_of_mail_and_rcpt(request: pytest.FixtureRequest) -> None:
    keep_at_it(check, request)
