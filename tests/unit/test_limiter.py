"""How many recipients an account reaches in an hour and a day, and how many connections are open at once."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import limits
from relay.accounts import Account
from relay.clients import address_key
from relay.refusal import Reason
from relay.submission.limiter import Exceeded, Limiter, Window
from support.memory_spool import START, FakeClock

HOUR, DAY = limits.HOUR, limits.DAY
ANNA = Account(
    name="anna", password_hash="", senders=("anna@example.org",), recipients_per_hour=10, recipients_per_day=25
)


def limiter(clock: FakeClock | None = None, **settings: int) -> Limiter:
    return Limiter(clock=clock or FakeClock(), gateways=frozenset({"172.18.0.1", "fd00::1"}), **settings)


def test_the_hour_at_the_limit_and_beyond() -> None:
    clock = FakeClock()
    limit = limiter(clock)
    assert limit.check(ANNA, 10) is None
    assert limit.check(ANNA, 11) == Exceeded("hour", 10, 0, inf)
    assert limit.take(ANNA, 10) is None
    assert limit.check(ANNA, 1) == Exceeded("hour", 10, 10, START + HOUR)
    clock.now += HOUR - 1
    assert limit.check(ANNA, 1) is not None
    clock.now += 1
    assert limit.check(ANNA, 10) is None


def test_the_day_at_the_limit_and_beyond() -> None:
    clock = FakeClock()
    limit = limiter(clock)
    for _ in range(2):
        assert limit.take(ANNA, 10) is None
        clock.now += HOUR
    assert limit.check(ANNA, 5) is None
    assert limit.check(ANNA, 6) == Exceeded("day", 25, 20, START + DAY)
    assert limit.check(ANNA, 26) == Exceeded("day", 25, 20, inf)
    assert limit.take(ANNA, 5) is None
    clock.now = START + DAY
    assert limit.check(ANNA, 10) is None, "the first ten have left the window"
    assert limit.check(ANNA, 11) == Exceeded("day", 25, 15, START + HOUR + DAY)


def test_the_window_slides_and_has_no_midnight() -> None:
    clock = FakeClock()
    limit = limiter(clock)
    assert limit.take(ANNA, 4) is None
    clock.now += HOUR / 2
    assert limit.take(ANNA, 6) is None
    assert limit.check(ANNA, 4) == Exceeded("hour", 10, 10, START + HOUR)
    assert limit.check(ANNA, 5) == Exceeded("hour", 10, 10, START + HOUR * 1.5)
    clock.now = START + HOUR
    assert limit.take(ANNA, 4) is None
    assert limit.take(ANNA, 1) is not None


def test_what_was_not_accepted_is_given_back() -> None:
    limit = limiter()
    assert limit.take(ANNA, 10) is None
    limit.give_back("anna", 10)
    assert limit.take(ANNA, 10) is None
    limit.give_back("nobody", 10)
    assert limit.check(replace(ANNA, name="nobody"), 11) == Exceeded("hour", 10, 0, inf)


def test_a_restart_changes_nothing() -> None:
    clock = FakeClock()
    limit = limiter(clock)
    for at, count in ((START - DAY - 1, 20), (START - 2 * HOUR, 15), (START - 60, 8)):
        limit.add("anna", count, at)
    assert limit.check(ANNA, 2) is None
    assert limit.check(ANNA, 3) == Exceeded("day", 25, 23, START - 2 * HOUR + DAY)
    assert limit.check(replace(ANNA, recipients_per_day=None), 3) == Exceeded("hour", 10, 8, START - 60 + HOUR)


def test_accounts_do_not_share_and_unlimited_ones_are_not_counted() -> None:
    limit = limiter()
    assert limit.take(ANNA, 10) is None
    assert limit.take(replace(ANNA, name="bob"), 10) is None
    free = replace(ANNA, name="free", recipients_per_day=None, recipients_per_hour=None)
    assert all(limit.check(free, 1000) is None and limit.take(free, 1000) is None for _ in range(3))
    assert limit.take(replace(free, recipients_per_hour=10), 10) is None


@given(st.lists(st.tuples(st.floats(0, 2000), st.integers(1, 9)), max_size=40), st.integers(5, 30))
def test_no_hour_holds_more_than_its_limit(steps: list[tuple[float, int]], most: int) -> None:
    clock = FakeClock()
    limit = limiter(clock)
    account = replace(ANNA, recipients_per_hour=most, recipients_per_day=None)
    taken: list[tuple[float, int]] = []
    for wait, count in steps:
        clock.now += wait
        exceeded = limit.take(account, count)
        if exceeded is None:
            taken.append((clock.now, count))
        elif exceeded.until < inf:
            clock.now = exceeded.until
            assert limit.check(account, count) is None, "what was promised"
        assert sum(n for at, n in taken if at > clock.now - HOUR) <= most


def test_a_window_stays_small_whatever_comes() -> None:
    window = Window(HOUR)
    for n in range(20_000):
        window.add(START + n * 0.25, 1)
        window.forget(START + n * 0.25)
    assert window.total <= 4 * HOUR + 4
    assert len(window._entries) <= 3602


def test_connections_of_one_address_at_the_limit_and_beyond() -> None:
    limit = limiter(connections=10, connections_per_address=2)
    assert limit.connect("192.0.2.1") is None
    assert limit.connect("192.0.2.1") is None
    refusal = limit.connect("192.0.2.1")
    assert refusal is not None
    assert refusal.reason is Reason.CONNECTIONS_OF_ADDRESS
    assert refusal.reply.startswith("421 4.7.0 Your address has 2 connections open already")
    assert "RELAY_CONNECTIONS_PER_ADDRESS" in refusal.reply
    assert limit.connect("192.0.2.2") is None
    limit.disconnect("192.0.2.1")
    assert limit.connect("192.0.2.1") is None


def test_all_connections_at_the_limit_and_beyond() -> None:
    limit = limiter(connections=3, connections_per_address=2)
    assert [limit.connect(f"192.0.2.{n}") for n in range(3)] == [None] * 3
    for peer in ("192.0.2.9", "172.18.0.1"):
        refusal = limit.connect(peer)
        assert refusal is not None
        assert refusal.reason is Reason.CONNECTIONS
        assert refusal.reply.startswith("421 4.3.2 All 3 connections are in use")
    limit.disconnect("192.0.2.0")
    assert limit.connections == 2
    assert limit.connect("192.0.2.9") is None


@pytest.mark.parametrize("gateway", ["172.18.0.1", "::ffff:172.18.0.1", "fd00::1"])
def test_a_gateway_has_no_limit_of_its_own(gateway: str) -> None:
    limit = limiter(connections=10, connections_per_address=2)
    assert [limit.connect(gateway) for _ in range(10)] == [None] * 10
    assert limit.connect(gateway) is not None, "the total holds"


@pytest.mark.parametrize("connections", [1, 2, 5, 1000])
def test_connections_of_one_account_at_the_limit_and_beyond(connections: int) -> None:
    limit, half = limiter(connections=connections), (connections + 1) // 2
    assert [limit.log_in("192.0.2.1", n, "anna") for n in range(half)] == [None] * half
    refusal = limit.log_in("192.0.2.2", "one more", "anna")
    assert refusal is not None
    assert refusal.reason is Reason.CONNECTIONS_OF_ACCOUNT
    assert refusal.reply == (
        f"421 4.7.0 Account anna has {half} connections open already; close some "
        "(an account may have half of RELAY_CONNECTIONS, which the operator can raise)."
    )
    assert limit.log_in("192.0.2.2", "another", "bert") is None
    limit.gone("192.0.2.2", "one more")
    limit.gone("192.0.2.1", 0)
    assert limit.log_in("192.0.2.2", "one more", "anna") is None
    for n in [*range(half), "one more", "another"]:
        limit.gone("192.0.2.1", n)
    assert not limit._logged_in
    assert not limit._of_account


@pytest.mark.parametrize(
    ("peer", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("no:address", "no:address"),
        ("", ""),
    ],
)
def test_an_ipv6_household_is_one_address(peer: str, key: str) -> None:
    assert address_key(peer) == key
