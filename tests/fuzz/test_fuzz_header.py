"""Hostile headers: what leaves names only the account's senders, for us and for Python's own parser; or a refusal."""

from __future__ import annotations

import email
import email.policy
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.accounts import Account
from relay.header import split
from relay.refusal import Refusal
from relay.submission.prepare import Prepared, Trace, prepare
from support.fuzzing import corpus, keep_at_it, mutated

STRICT = Account(name="anna", password_hash="", senders=("anna@example.org",))
REWRITE = Account(name="nas", password_hash="", senders=("anna@example.org",), rewrite=True)
TRACE = Trace.make(hostname="mail.example.org", domain="example.org", client_name="pc", client_address="192.0.2.1")
ID = "01KC6W3V2M7Z9QH8R5T4XY0AB1"

PIECES = [
    b"From:",
    b"from :",
    b"Sender:",
    b"Resent-From:",
    b"Bcc:",
    b"Date:",
    b"Message-ID:",
    b"Reply-To:",
    b"Received: x\r\n",
]
PIECES += [
    b"anna@example.org",
    b"<anna@example.org>",
    b"evil@bank.example",
    b"<evil@bank.example>",
    b"Anna ",
    b'"A, B" ',
]
PIECES += [
    b"\r\n",
    b"\r\n ",
    b"\r\n\t",
    b"\r",
    b"\n",
    b"\0",
    b",",
    b";",
    b":",
    b"(",
    b")",
    b"<",
    b">",
    b'"',
    b"\\",
    b"@",
    b" ",
]
PIECES += [
    b"=?utf-8?q?a=40b=2Ec?=",
    b"=?utf-8?b?YUBiLmM=?=",
    b"\xe2\x80\xae",
    b"\xff",
    b"G:",
    b"<@a.example:",
    b"root",
    b"[",
    b"]",
]
headers = st.lists(st.sampled_from(PIECES), max_size=14).map(b"".join) | st.binary(max_size=120) | mutated("header")


def prepared(header: bytes, account: Account, sender: str, *, lenient: bool) -> Prepared | Refusal:
    now = 1_800_000_000.0
    return prepare(header, account=account, sender=sender, trace=TRACE, message_id=ID, now=now, lenient=lenient)


@given(headers, st.booleans(), st.sampled_from(["", "anna@example.org"]))
@example(b"From: anna@example.org\r\n\r\nFrom: evil@bank.example\r\n", False, "")
@example(b'From: "evil@bank.example" <anna@example.org>\r\n', False, "")
@example(b"From: evil@bank.example, <anna@example.org>\r\n", True, "")
def check(start: bytes, rewrite: bool, sender: str) -> None:
    header = start + b"\r\n\r\n"
    account = REWRITE if rewrite else STRICT
    result = prepared(header, account, sender, lenient=rewrite)
    if isinstance(result, Refusal):
        assert result.reply.isascii()
        assert result.reply.isprintable()
        assert result.reply[:2] == "55"
        return
    assert isinstance(result, Prepared)
    assert result.sender in {"anna@example.org", "postmaster@example.org"}
    again = prepared(result.header, STRICT, "", lenient=False)
    assert isinstance(again, Prepared), again
    fields = split(result.header)
    assert not isinstance(fields, Refusal)
    assert [field.name for field in fields].count(b"from") == 1
    assert not {b"bcc", b"resent-bcc"} & {field.name for field in fields}
    if any(result.header[field.colon - 1] in b" \t" for field in fields):
        return  # to Python's parser the text begins there; RFC 5322, 4.5 knows that form
    seen = email.message_from_bytes(result.header, policy=email.policy.compat32)
    assert len(seen.get_all("From", [])) == 1, "another parser sees the same fields"
    assert not seen.get_all("Bcc", [])


@pytest.mark.parametrize("header", corpus("header"))
def test_corpus(header: bytes) -> None:
    for rewrite in (False, True):
        check.hypothesis.inner_test(header, rewrite, "")  # type: ignore[attr-defined]


def test_headers(request: pytest.FixtureRequest) -> None:
    keep_at_it(check, request)


@pytest.mark.parametrize("piece", PIECES)
def test_a_header_full_of_one_thing_takes_little_time(piece: bytes) -> None:
    for start in (b"From: ", b"Resent-From: ", b""):
        header = start + piece * (100_000 // len(piece)) + b"\r\n\r\n"
        began = time.process_time()
        for account in (STRICT, REWRITE):
            prepared(header, account, "", lenient=account.rewrite)
        assert time.process_time() - began < 2, "linear: some 10 ms"
