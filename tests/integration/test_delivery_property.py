"""Whatever a provider does, over any number of messages: none is lost, none bounces for the provider's fault, and
only what was in doubt is sent twice.
"""

from __future__ import annotations

import asyncio
from collections import Counter

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from relay.delivery.connection import Times
from relay.model import State
from support.delivering import BODY, delivering, provider_for
from support.memory_spool import FakeClock, MemorySpool
from support.scripted_provider import CLOSE, HANG, RESET, USUAL, Act, ScriptedProvider

TIMES = Times(connect=0.15, reply=0.15, block=0.15, final=0.15, quit=0.15, rate=1e6)
LOST: list[Act] = [CLOSE, RESET, "garbage", b"\xff\r\n", b"250-half", "421 4.3.2 closing", ["421 4.3.2 closing", CLOSE]]
QUOTA = ["451 4.3.0 later", "550 5.4.5 Daily user sending quota exceeded", "452 4.5.3 Daily message limit exceeded"]

# Nothing here is the message's own fault, except what REFUSALS say.
FAULTS: dict[str, list[Act]] = {
    "greeting": [*LOST, "554 5.3.2 no", HANG],
    "ehlo": [*LOST, "451 4.3.0 later"],
    "auth": [*LOST, "535 5.7.8 wrong", "451 Maximum credits exceeded", "454 4.7.0 later"],
    "mail": [
        *LOST,
        *QUOTA,
        "550 5.7.1 not you",
        "553 5.7.1 sender rejected: not owned by user",
        "530 5.7.0 login first",
    ],
    "rcpt": [
        *LOST,
        "450 4.2.0 greylisted",
        "452 4.5.3 too many recipients",
        "554 5.7.1 Relay access denied",
        "553 5.7.1 Sender address rejected: not owned by user bob",
    ],
    "data": [*LOST, *QUOTA, "554 5.5.1 no", "250 what"],
    "body": [[CLOSE], [RESET], [b"garbage\r\n", CLOSE]],
    "final": [
        *LOST,
        *QUOTA,
        "550 The from address does not match a verified Sender Identity.",
        "554 Message rejected: Sending suspended for this account.",
        "354 what",
        HANG,
    ],
}
REFUSALS: dict[str, list[Act]] = {
    "mail": ["552 5.3.4 too big"],
    "rcpt": ["550 5.1.1 unknown"],
    "body": [["552 5.3.4 stop", CLOSE]],
    "final": ["550 5.7.1 spam"],
}
FAULT = st.sampled_from([(stage, act) for stage, acts in FAULTS.items() for act in acts])
REFUSAL = st.sampled_from([(stage, act) for stage, acts in REFUSALS.items() for act in acts])


async def play(recipients: list[int], script: list[tuple[str, Act]], pipelining: bool, connections: int) -> None:
    extensions = ("PIPELINING",) if pipelining else ()
    async with ScriptedProvider(users={"user": "secret"}, extensions=extensions) as peer:
        for stage, act in script:
            peer.once(stage, act)
        spool = MemorySpool(FakeClock(), piece=4000, inline=30_000)
        messages = [
            spool.add(BODY + b"x" * 30_000 * (n % 2) + b"%d\r\n" % n, [f"r{n}-{m}@example.net" for m in range(count)])
            for n, count in enumerate(recipients)
        ]
        async with delivering(spool, provider_for(peer, connections=connections), times=TIMES):
            await spool.settled(*messages)
            for _ in range(200):
                if not spool.open:
                    break
                spool.advance(max(min(row.next_attempt for row in spool.open) - spool.clock.now, 1))
                await spool.settled(*messages)
        check(spool, peer, script)


def check(spool: MemorySpool, peer: ScriptedProvider, script: list[tuple[str, Act]]) -> None:
    note(str([(row.recipient, row.history, row.reply) for row in spool.rows.values()]))
    contents = {body: number for number, body in spool.bodies.items()}
    kept = Counter((contents[got.content], recipient) for got in peer.kept for recipient in got.recipients)
    dotted = any(stage in ("body", "final") for stage, _ in script)  # a small body and its dot are one write
    allowed = {State.DELIVERED, State.UNKNOWN}
    if any(act in acts for stage, acts in REFUSALS.items() for act in acts if (stage, act) in script):
        allowed.add(State.REFUSED)
    for row in spool.rows.values():
        times = kept[row.message.id, row.recipient]
        assert row.state in allowed, "lost, or bounced for the provider's fault"
        assert times >= 1 or row.state is not State.DELIVERED, "called delivered and was not"
        assert times <= 1 + row.doubts, "sent twice without a doubt"
        assert row.doubts == 0 or dotted, "in doubt without a dot"
    failed = {row.message.id for row in spool.rows.values() if row.state is not State.DELIVERED}
    assert len(spool.notices) >= len(failed), "a failure that nobody was told of"


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.integers(1, 3), min_size=1, max_size=5),
    st.lists(st.one_of(FAULT, FAULT, REFUSAL), max_size=8),
    st.booleans(),
    st.integers(1, 2),
)
def test_nothing_is_lost_whatever_the_provider_does(
    recipients: list[int], script: list[tuple[str, Act]], pipelining: bool, connections: int
) -> None:
    asyncio.run(play(recipients, script, pipelining, connections))


def test_the_usual_answers_are_not_faults() -> None:
    assert not {str(act) for acts in FAULTS.values() for act in acts} & set(USUAL.values())
