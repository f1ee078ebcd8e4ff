"""Messages that begin and do not go on: what they may hold of the memory, and that the others come through whole."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest

from relay import limits
from relay.clock import SystemClock
from relay.refusal import Reason
from relay.submission.intake import Intake
from relay.submission.limiter import Limiter
from support.bare_session import BareSession
from support.fakes import FakeSpool
from support.reception import PASSWORD, person

PEOPLE = [person("anna"), person("bert")]
LINES = b"a line of the text\r\n" * 10_000
LONG = b"".join(b"X-%d: %b\r\n" % (number, b"x" * 900) for number in range(100))


async def in_data(name: str, limiter: Limiter, spool: FakeSpool) -> BareSession:
    """A session that has got its 354."""
    bare = BareSession("submissions", accounts=PEOPLE, limiter=limiter, spool=spool)
    login = b"AUTH PLAIN " + b64encode(f"\0{name}\0{PASSWORD}".encode()) + b"\r\n"
    envelope = f"MAIL FROM:<{name}@example.org>\r\nRCPT TO:<bob@example.net>\r\nDATA\r\n".encode()
    assert (await bare.codes(b"", b"EHLO client\r\n", login, envelope))[-1] == 354
    await bare.send(f"From: {name}@example.org\r\n".encode())
    return bare


async def test_bodies_that_stall_go_to_the_disk_when_too_many_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BODIES_IN_PARTS", 2)
    limiter, spool = Limiter(clock=SystemClock()), FakeSpool()
    stalled = [await in_data("anna", limiter, spool) for _ in range(3)]
    for bare in stalled:
        await bare.send(b"\r\n" + LINES)
        assert spool.largest >= len(LINES) if bare is stalled[2] else spool.largest == 0
    for bare in stalled:
        assert await bare.codes(b"end\r\n.\r\n") == [250]
    assert [kept.data.partition(b"\r\n\r\n")[2] for kept in spool.kept] == [LINES + b"end\r\n"] * 3
    assert not limiter.gathering._bodies


async def test_large_headers_that_stall_make_way_for_anothers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEADERS_IN_PARTS", 2)
    limiter, spool = Limiter(clock=SystemClock()), FakeSpool()
    stalled = [await in_data("anna", limiter, spool) for _ in range(2)]
    for bare in stalled:
        assert await bare.codes(LONG) == []
    other = await in_data("bert", limiter, spool)
    assert await other.codes(LONG, b"\r\nhello\r\n.\r\n") == [250]
    assert (await stalled[0].send(b""))[0].startswith(b"421 4.3.2 ")
    assert stalled[0].closed
    assert [args[3] for args, _ in stalled[0].journal.told("refused")] == [Reason.TOO_SLOW]
    assert await stalled[1].codes(b"\r\nhello\r\n.\r\n") == [250], "one had to go, and no more"
    assert [kept.message.account for kept in spool.kept] == ["bert", "anna"]
    assert not limiter.gathering._accounts


async def test_what_comes_after_a_header_that_had_to_go_is_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HEADERS_IN_PARTS", 1)
    limiter, spool = Limiter(clock=SystemClock()), FakeSpool()
    stalled = await in_data("anna", limiter, spool)
    await stalled.send(LONG)
    other = await in_data("bert", limiter, spool)
    other.session.data_received(LONG)
    stalled.session.data_received(b"From: anna@example.org\r\n\r\nhalf\r\n.\r\n")  # before the connection is cut
    await other.settle()
    await stalled.settle()
    assert spool.kept == []


async def test_a_body_that_comes_by_the_byte_is_not_kept_as_objects_of_a_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes fifty bytes besides: 500 clients with a whole chunk of such would take gigabytes."""
    monkeypatch.setattr(limits, "PIECES", 10)
    intakes: list[Intake] = []

    def remember(*parts: Any) -> Intake:
        intakes.append(Intake(*parts))
        return intakes[0]

    monkeypatch.setattr("relay.submission.session.Intake", remember)
    spool = FakeSpool()
    bare = await in_data("anna", Limiter(clock=SystemClock()), spool)
    await bare.send(b"\r\n")
    for _ in range(100):
        await bare.send(b"xy")
        assert len(intakes[0]._pieces) <= limits.PIECES
    assert await bare.codes(b"\r\n.\r\n") == [250]
    assert spool.kept[0].data.endswith(b"\r\n\r\n" + b"xy" * 100 + b"\r\n")
