"""Whatever several providers do, over any number of messages: none is lost, none bounces for a provider's fault, no
quota is exceeded, and only what was in doubt is sent twice. Providers are values here (``support/world.py``), so that
many worlds fit into a second; ``test_delivery_property.py`` does the like with one provider and real sockets.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, NamedTuple
from unittest import mock

from hypothesis import HealthCheck, event, given, note, settings
from hypothesis import strategies as st

from relay import limits
from relay.choice.offer import Offer
from relay.choice.quota import Quota, since
from relay.choice.routes import Route, Routes
from relay.delivery.breaker import Breaker
from relay.delivery.dispatcher import Dispatcher
from relay.delivery.onward import Onward
from relay.model import Message, State
from relay.providers.presets import PRESETS
from relay.providers.provider import Provider
from support.delivering import BODY, at_rest, delivering
from support.memory_spool import FakeClock, MemorySpool, Row
from support.world import DOUBTS, FAULTS, NEVER, REFUSALS, TAKES, Deed, World

NAMES = ("one", "two", "three")
DOMAINS = ("example.org", "example.com")
ENDS = {State.DELIVERED, State.UNKNOWN, State.HELD, State.REFUSED, State.EXPIRED}


class Mail(NamedTuple):
    """A message to come."""

    recipients: int
    domain: str
    account: str
    large: bool
    after: float  # seconds after the one before


MAIL = st.builds(
    Mail,
    st.integers(1, 4),
    st.sampled_from(DOMAINS),
    st.sampled_from(["anna", "bert"]),
    st.booleans(),
    st.sampled_from([0.0, 0.0, 0.0, 7.0, 1000.0, 40_000.0]),
)
DEED = st.one_of(*map(st.sampled_from, (FAULTS, FAULTS, DOUBTS, REFUSALS, (TAKES, NEVER))))
QUOTA = st.one_of(
    st.builds(Quota, limit=st.integers(4, 12), period=st.sampled_from(["day", "month"]), zone=st.just("Asia/Kolkata")),
    st.builds(Quota, limit=st.integers(4, 12), period=st.just("rolling"), hours=st.sampled_from([1, 24])),
)
FACTS = st.fixed_dictionaries(
    {
        "connections": st.integers(1, 3),
        "recipients": st.sampled_from([0, 0, 1, 2]),
        "size_limit": st.sampled_from([0, 0, 5000]),
        "quotas": st.one_of(st.just(()), st.just(()), st.tuples(QUOTA)),
        "senders": st.sampled_from([(), (), ("*@example.org",)]),
    }
)
ROUTES = st.sampled_from(
    [
        Routes(NAMES),
        Routes(NAMES, (Route(("two", "one"), account="bert"),)),
        Routes(NAMES, (Route(NAMES, weights=(3, 1, 1)),)),
    ]
)


def provider(name: str, facts: dict[str, Any]) -> Provider:
    rules = PRESETS["sendgrid"].rules
    return Provider(name=name, title=name.title(), host="", ports=((1, "none"),), rules=rules, **facts)


async def live(
    spool: MemorySpool, world: World, providers: list[Provider], routes: Routes, mails: list[Mail]
) -> list[Message]:
    """Lets all of it happen; time passes whenever nothing else does."""
    messages = []
    with mock.patch("relay.delivery.dispatcher.SmtpCarrier", world.carrier):
        high = lambda: frozenset({"bert"})  # noqa: E731
        async with delivering(spool, *providers, breaker=Breaker, routes=routes, high=high) as dispatcher:
            world.watch = lambda name, _: one_probe_at_a_time(dispatcher, world, name)
            for n, mail in enumerate(mails):
                spool.advance(mail.after)
                body = BODY + b"x" * (6000 if mail.large else 10) + b"%d\r\n" % n
                to = [f"r{n}-{m}@example.net" for m in range(mail.recipients)]
                messages.append(spool.add(body, to, account=mail.account, sender=f"{mail.account}@{mail.domain}"))
                await asyncio.sleep(0)
            for step in range(250):
                await at_rest(spool, dispatcher)
                if all(row.state in ENDS for row in spool.rows.values()):
                    break
                spool.advance(next_change(spool, dispatcher) if step < 150 else 3 * 3600.0)
                await dispatcher.sweep()
            assert not dispatcher._offers._probes
            assert not spool._in_hand()
    return messages


def next_change(spool: MemorySpool, dispatcher: Dispatcher) -> float:
    """Seconds until something is due or a pause is over; at least one, at most an hour."""
    now = spool.clock.now
    due = [row.next_attempt - now for row in spool.rows.values() if row.state is State.DUE]
    left = [pause.left(spool.clock.monotonic()) for one in dispatcher._offers.breakers.values() for pause in one]
    return min([wait for wait in (*due, *left) if wait > 0] + [3600.0]) + 1.0


def one_probe_at_a_time(dispatcher: Dispatcher, world: World, name: str) -> None:
    pause = dispatcher._offers.breakers[name].pause()
    assert pause is None or world.in_hand[name] <= 1 or pause.left(dispatcher._clock.monotonic()) > 0


def check(spool: MemorySpool, world: World, providers: list[Provider], routes: Routes) -> None:
    rows, offer = spool.rows, Offer({one.name: one.terms for one in providers}, routes, {})
    note("\n".join(f"{n} {row.recipient} {row.history[-9:]} {row.provider} {row.reply}" for n, row in rows.items()))
    note(str(world.dots[-30:]))
    kept = Counter((number, dot.provider) for dot in world.dots if dot.kept for number in dot.recipients)
    dots = Counter(number for dot in world.dots for number in dot.recipients)
    for number, row in rows.items():
        where = [name for (one, name) in kept if one == number]
        times = sum(times for (one, _), times in kept.items() if one == number)
        assert row.state in ENDS, "lost"
        assert times >= 1 or row.state is not State.DELIVERED, "called delivered and was not"
        assert dots[number] <= 1 + row.doubts, "sent twice without a doubt"
        assert len(where) <= 1, "two providers have it"
        allowed = Onward(row.message, offer, lambda *_: 1).allowed()
        assert row.state is not State.REFUSED or number in world.refused or world.never.get(number, set()) >= allowed, (
            "bounced"
        )
        check_end(row, spool.clock.now)
    failed = [row for row in rows.values() if row.state in (State.REFUSED, State.EXPIRED, State.UNKNOWN)]
    told = b"".join(content for _, content in spool.notices)
    assert all(row.recipient.encode() in told for row in failed), "a failure that nobody was told of"
    for one in providers:
        for quota in one.quotas:
            check_quota(one.name, quota, world)


def check_end(row: Row, now: float) -> None:
    if row.state is State.EXPIRED:
        assert now - row.message.received_at > limits.LIFETIME, "given up too early"
        assert not row.doubts
    elif row.state is State.HELD:
        assert row.doubts, "only what may have been delivered is put aside"


def check_quota(name: str, quota: Quota, world: World) -> None:
    sent = [(dot.at, len(dot.recipients)) for dot in world.dots if dot.provider == name]
    for at, _ in sent:
        begun = since(quota, at) if quota.period != "rolling" else at - quota.hours * 3600.0
        used = sum(number for when, number in sent if begun <= when <= at)
        assert used <= quota.limit, f"{name} had {used} of {quota}"


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(MAIL, min_size=1, max_size=12),
    st.lists(st.lists(DEED, max_size=10), min_size=1, max_size=3),
    st.lists(FACTS, min_size=3, max_size=3),
    ROUTES,
    st.one_of(st.just({}), st.dictionaries(st.sampled_from(NAMES), st.sampled_from(FAULTS + DOUBTS), max_size=2)),
)
def test_nothing_is_lost_or_bounced_or_sent_twice_whatever_the_providers_do(
    mails: list[Mail],
    scripts: list[list[Deed]],
    facts: list[dict[str, Any]],
    routes: Routes,
    then: dict[str, Deed],
) -> None:
    spool = MemorySpool(FakeClock())
    names = NAMES[: len(scripts)]
    providers = [provider(name, fact) for name, fact in zip(names, facts, strict=False)]
    world = World(spool.clock, dict(zip(names, scripts, strict=True)), then)
    asyncio.run(live(spool, world, providers, routes, mails))
    for state in {row.state for row in spool.rows.values()}:
        event(str(state))
    check(spool, world, providers, routes)
    if not then and not any(one.quotas or one.senders for one in providers):
        event("all providers get well")
        assert not any(row.state is State.EXPIRED for row in spool.rows.values()), "they were well again for days"
