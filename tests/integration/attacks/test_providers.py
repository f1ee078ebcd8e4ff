"""A provider without shame: replies that never end, at every stage. Mail waits, and memory does not grow."""

from __future__ import annotations

import tracemalloc

import pytest

from relay.delivery.connection import Times
from relay.limits import MIB
from relay.model import State
from support.delivering import BODY, delivering, provider_for
from support.memory_spool import FakeClock, MemorySpool
from support.scripted_provider import Act, ScriptedProvider

TIMES = Times(connect=2, reply=2, block=2, final=2, quit=0.3, rate=1e6)
ENDLESS: dict[str, Act] = {
    "a line without an end": b"2" * 20 * MIB,
    "lines without an end": b"220-more\r\n" * (2 * MIB),
    "nothing but newlines": b"\r\n" * (10 * MIB),
    "another code in each line": b"220-a\r\n250-b\r\n" * MIB,
    "nul": b"\0" * 20 * MIB,
    "a code of no class": b"999 hello\r\n",
    "a negative code": b"-20 hello\r\n",
    "digits that are none in ascii": "٢٢٠ hello\r\n".encode(),
}
STAGES = ["greeting", "ehlo", "starttls", "auth", "mail", "rcpt", "data"]


@pytest.mark.parametrize("trick", ENDLESS)
@pytest.mark.parametrize("stage", STAGES)
async def test_it_gets_no_mail_and_no_memory(stage: str, trick: str) -> None:
    async with ScriptedProvider(tls="starttls", users={"user": "secret"}) as peer:
        peer.always(stage, ENDLESS[trick])
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY)
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        async with delivering(spool, provider_for(peer), times=TIMES):
            await spool.settled(message)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        (row,) = spool.of(message)
        assert row.state is State.DUE
        assert row.reply.isprintable()
        assert len(row.reply) <= 500
        assert not peer.kept
        assert peak - before < 70 * MIB, "what the provider's side holds of its own words is most of it"
