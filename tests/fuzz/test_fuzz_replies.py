"""Hostile providers: their bytes become replies that were asked for, or a failure; and no reply loses or bounces mail
that its code does not bounce.
"""

from __future__ import annotations

import asyncio
import time
from unittest.mock import MagicMock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import limits
from relay.delivery.outcome import Deferred, Delivered, Doubtful, Finding, Refused, Reply, Stage, clean, judge
from relay.delivery.replies import Link
from relay.providers.presets import PRESETS
from support.fuzzing import corpus, keep_at_it, mutated, pieces

PIECES = [
    b"limit ",
    b"exceeded ",
    b"quota ",
    b"sender ",
    b"not ",
    b"account ",
    b"from ",
    b"relay ",
    b"exceed",
    b"5.7.1 ",
]


def read(data: bytes, cuts: list[int], wanted: int) -> tuple[list[Reply], BaseException | None]:
    """What a link that expects ``wanted`` replies makes of ``data``, cut anywhere."""
    loop = asyncio.new_event_loop()
    link = Link(loop, MagicMock(spec=asyncio.Transport))
    link._wanted = wanted
    for piece in pieces(data, cuts):
        link.data_received(piece)
    loop.close()
    return link._got, link.failure


@given(
    st.lists(mutated("replies"), min_size=1, max_size=3).map(b"".join),
    st.lists(st.integers(0, 5_000), max_size=4),
    st.integers(0, 3),
    st.sampled_from(list(Stage)),
)
def check(data: bytes, cuts: list[int], wanted: int, stage: Stage) -> None:
    replies, failure = read(data, cuts, wanted)
    assert (replies, repr(failure)) == (lambda again: (again[0], repr(again[1])))(read(data, [], wanted))
    assert len(replies) <= wanted
    for reply in replies:
        assert 200 <= reply.code <= 599
        assert len(reply.text) <= limits.REPLY_LINE * limits.REPLY_LINES
        judged(stage, reply)


def judged(stage: Stage, reply: Reply) -> None:
    to = ["bob@example.net"]
    for preset in PRESETS.values():
        outcome = judge(Finding(stage, reply), preset.rules, to, to).outcome
        match outcome:
            case Delivered():
                assert stage is Stage.FINAL
                assert reply.code < 300
            case Refused():
                assert reply.code >= 500
            case Doubtful():
                assert stage is Stage.FINAL
            case Deferred():
                pass
        assert clean(outcome.text).isprintable()


@pytest.mark.parametrize("data", corpus("replies"))
def test_corpus(data: bytes) -> None:
    for stage in Stage:
        check.hypothesis.inner_test(data, [1, 5, 9, 33], 2, stage)  # type: ignore[attr-defined]


def test_replies(request: pytest.FixtureRequest) -> None:
    keep_at_it(check, request)


@pytest.mark.parametrize("piece", PIECES)
def test_the_longest_reply_of_one_thing_takes_little_time(piece: bytes) -> None:
    text = (piece * limits.REPLY_LINE)[: limits.REPLY_LINE * limits.REPLY_LINES // 8].decode()
    began = time.process_time()
    for stage in (Stage.RCPT, Stage.FINAL):
        judged(stage, Reply(550, text))
    assert time.process_time() - began < 3, "linear: some 0.1 s"


def test_addresses_that_are_none_take_little_time() -> None:
    text = ("address is not verified: " + "a." * (limits.REPLY_LINE * limits.REPLY_LINES))[: limits.MIB]
    began = time.process_time()
    judged(Stage.FINAL, Reply(554, text))
    assert time.process_time() - began < 3, "some 0.03 s for each preset; of the whole text it was 0.7 s"
