"""Any bytes from a client, cut anywhere: every answer is a reply of one line in ASCII, and what is kept is one message
for everybody, however carelessly a server behind us looks for its end.
"""

from __future__ import annotations

import asyncio
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.delivery.content import Stuffer
from support.bare_session import BareSession
from support.fuzzing import corpus, keep_at_it, mutated, pieces
from support.reception import person

REPLY = re.compile(rb"[2345][0-9][0-9][ -][ -~]{0,508}")
BARE = re.compile(
    rb"(?<!\r)\n|\r(?!\n)|\0"
)  # each way of smuggling needs one: SEC Consult's list, CVE-2023-51764 and kin


async def talk(name: str, data: bytes, cuts: list[int], normalize: bool) -> BareSession:
    bare = BareSession(name, accounts=[person(normalize_newlines=normalize)], size_limit=100_000)
    said = await bare.send(b"", *pieces(data, cuts))
    for line in said:
        assert REPLY.fullmatch(line), line
    assert sum(line.startswith(b"250 2.0.0 Kept safe") for line in said) == len(bare.spool.kept)
    await bare.end()
    assert not bare.journal.told("system"), "an exception inside"
    assert bare.spool.reserved == 0
    return bare


@given(
    mutated("stream"),
    st.lists(st.integers(0, 5_000), max_size=4),
    st.sampled_from(["submission", "submissions", "lan"]),
    st.booleans(),
)
def check(data: bytes, cuts: list[int], name: str, normalize: bool) -> None:
    bare = asyncio.run(talk(name, data, cuts, normalize))
    for kept in bare.spool.kept:
        stuffer = Stuffer()
        wire = stuffer.stuff(kept.data) + stuffer.end()
        assert wire.endswith(b"\r\n.\r\n")
        assert wire.count(b"\r\n.\r\n") == 1
        assert not BARE.search(wire)
        assert kept.message.sender in ("anna@example.org", "postmaster@example.org")


@pytest.mark.parametrize("data", corpus("stream"))
@pytest.mark.parametrize("name", ["submission", "submissions", "lan"])
def test_corpus(data: bytes, name: str) -> None:
    for cuts in ([], list(range(0, len(data), 3)), list(range(len(data)))):
        check.hypothesis.inner_test(data, cuts, name, False)  # type: ignore[attr-defined]


def test_streams(request: pytest.FixtureRequest) -> None:
    keep_at_it(check, request)
