"""Hostile headers of mail that failed: a notice that every program reads, with a Subject that a person can."""

from __future__ import annotations

import email
import email.policy

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.delivery import notice
from relay.delivery.notice import Failure, Post, subject
from relay.model import Message, State
from support.fuzzing import corpus, keep_at_it, mutated

PIECES = [
    b"Subject: ",
    b"=?",
    b"?=",
    b"?",
    b"?q?",
    b"?b?",
    b"=",
    b"_",
    b" ",
    b"\r\n ",
    b"\r\n",
    b"=E2",
    b"=82=AC",
    b"4oKs",
]
PIECES += [
    b"utf-8",
    b"utf-8*en",
    b"utf-7",
    b"gb18030",
    b"iso-2022-jp",
    b"idna",
    b"punycode",
    b"hex",
    b"us-ascii",
    b"\xff",
]
headers = st.lists(st.sampled_from(PIECES), max_size=20).map(lambda made: b"Subject: " + b"".join(made))
headers |= st.binary(max_size=80) | mutated("notice")
MESSAGE = Message(
    id="01JDA0000000000000000000AA",
    account="anna",
    sender="anna@example.org",
    recipients=(),
    size=1000,
    received_at=1_800_000_000.0,
    message_id="<question@example.org>",
    notify="anna@example.org",
)
REFUSED = Failure("bob@example.net", State.REFUSED, "sendgrid", 550, "5.1.1 No such user here")


@given(headers)
@example(b"Subject: =?a?q?" + b"=?a?q?" * 10_000)
def check(header: bytes) -> None:
    title = subject(header)
    assert title.isprintable()
    assert len(title) <= 200
    _, content = notice.failure(MESSAGE, header, [REFUSED], Post("mail.example.org", "postmaster@example.org"), 1.8e9)
    mail = email.message_from_bytes(content, policy=email.policy.default)
    human, _status, _header = mail.iter_parts()  # type: ignore[attr-defined]
    text = human.get_content()
    assert "did not reach everyone" in text
    assert title in text


@pytest.mark.parametrize("header", corpus("notice"))
def test_corpus(header: bytes) -> None:
    check.hypothesis.inner_test(header)  # type: ignore[attr-defined]


def test_notices(request: pytest.FixtureRequest) -> None:
    keep_at_it(check, request)
