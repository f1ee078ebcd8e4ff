"""Hostile AUTH responses: the password as it was sent, the name without what stands around it, or a refusal that
repeats nothing of them.
"""

from __future__ import annotations

from base64 import b64decode, b64encode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay import limits
from relay.refusal import Reason, Refusal
from relay.submission.auth import Credentials, decode_login, decode_plain
from support.fuzzing import corpus, keep_at_it, mutated

PIECES = [
    b"=",
    b"==",
    b"*",
    b"A",
    b"AA==",
    b"AGEAYg==",
    b"\0",
    b" ",
    b"\r\n",
    b"-",
    b"_",
    b"+",
    b"/",
    b"\xff",
    b"A" * 4096,
]
responses = st.lists(st.sampled_from(PIECES), max_size=6).map(b"".join) | st.binary(max_size=60)
responses |= mutated("auth")
responses |= st.binary(max_size=60).map(b64encode)


@given(responses)
@example(b"AGEAYg==AGEAYg==")
@example(b"AGEAYh==")
@example(b" AGEgAGIg ")
def check(response: bytes) -> None:
    plain = decode_plain(response)
    if isinstance(plain, Credentials):
        _, login, password = b64decode(response.strip()).split(b"\0")
        assert password == plain.password
        assert plain.login in login or not login.isascii()
        assert 0 < len(plain.login) <= limits.PASSWORD_BYTES
        assert 0 < len(plain.password) <= limits.PASSWORD_BYTES
    answer = decode_login(response)
    if not isinstance(answer, Refusal):
        assert b64encode(answer) == response.strip()
        assert 0 < len(answer) <= limits.PASSWORD_BYTES
    for refusal in (plain, answer):
        if isinstance(refusal, Refusal):
            assert refusal.reason in {Reason.AUTH_MALFORMED, Reason.AUTH_CANCELLED}
            assert refusal.reply[:3] in {"500", "501", "535"}
            assert len(response) < 8 or response.decode("latin-1") not in refusal.reply


@pytest.mark.parametrize("response", corpus("auth"))
def test_corpus(response: bytes) -> None:
    check.hypothesis.inner_test(response)  # type: ignore[attr-defined]


def test_auth_responses(request: pytest.FixtureRequest) -> None:
    keep_at_it(check, request)
