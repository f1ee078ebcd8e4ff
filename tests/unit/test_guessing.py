"""Guessing passwords: what the time of an answer tells, and whom it slows down."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from argon2 import PasswordHasher

from relay.accounts import Account, Accounts
from relay.clock import SystemClock
from relay.submission.auth import MOST_DELAY, Authenticator

HASHER = PasswordHasher(time_cost=2, memory_cost=1024, parallelism=1)
ROUNDS, TRIES = 80, 4
GATEWAY = "172.18.0.1"


@dataclass
class Door:
    """Real Argon2; delays are noted instead of waited for."""

    accounts: Accounts
    waits: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.passwords = Authenticator(
            lambda: self.accounts, clock=SystemClock(), gateways=frozenset({GATEWAY}), sleep=self._sleep
        )

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    async def enter(self, login: str, password: str, peer: str) -> bool:
        return await self.passwords.check(login.encode(), password.encode(), peer) is not None


@pytest.fixture
def door() -> Iterator[Door]:
    def account(name: str, disabled: bool = False) -> Account:
        return Account(name=name, password_hash=HASHER.hash("right"), senders=("a@example.org",), disabled=disabled)

    door = Door(Accounts([account("anna"), account("gone", True), Account(name="none", password_hash="", senders=())]))
    yield door
    door.passwords.close()


async def times(door: Door, part: int) -> dict[str, float]:
    """What an answer takes for each kind of name, by interleaved guesses, each from an address of its own.

    The lower quartile: other programs of the machine only ever add to a time.
    """
    taken: dict[str, list[float]] = {login: [] for login in ("anna", "nobody", "gone", "none")}
    for number in range(ROUNDS):
        for login, those in taken.items():
            began = time.perf_counter()
            assert not await door.enter(login, f"guess{number}", f"198.51.{part}.{number}")
            those.append(time.perf_counter() - began)
    return {login: statistics.quantiles(those, n=4)[0] for login, those in taken.items()}


async def test_known_and_unknown_accounts_take_the_same_time(door: Door) -> None:
    """Noise makes a difference once in a while; a difference that is one is there every time."""
    found = []
    for part in range(TRIES):
        typical = await times(door, part)
        found.append(max(typical.values()) / min(typical.values()))
        if found[-1] < 1.15:
            return
    raise AssertionError(f"an account can be told by the time of its answer: {found}")


async def test_many_addresses_slow_themselves_down_and_not_the_owner(door: Door) -> None:
    assert await door.enter("anna", "right", "203.0.113.5")
    async with asyncio.TaskGroup() as tasks:
        for number in range(100):
            tasks.create_task(door.enter("anna", f"guess{number}", f"198.51.100.{number}"))
    assert statistics.median(door.waits) == MOST_DELAY, "an account's failures count wherever they come from"
    door.waits.clear()
    assert await door.enter("anna", "right", "203.0.113.5")
    assert await door.enter("anna", "right", "203.0.113.99"), "nor at another place"
    assert door.waits == []
    assert not await door.enter("anna", "mistyped", "203.0.113.5")
    assert door.waits == [1.0], "and a slip of the owner at home costs a second"


async def test_behind_a_gateway_nobody_is_at_home(door: Door) -> None:
    """All clients have its address: that an owner came from there makes no guesser the owner."""
    waits = {}
    assert await door.enter("anna", "right", GATEWAY)
    for login in ("anna", "nobody"):
        for number in range(7):
            assert not await door.enter(login, f"guess{number}", f"::ffff:{GATEWAY}" if number % 2 else GATEWAY)
        waits[login], door.waits = door.waits, []
    assert waits["anna"] == waits["nobody"] == [1, 2, 4, 8, 16, MOST_DELAY, MOST_DELAY]
    assert await door.enter("anna", "right", GATEWAY)
    assert door.waits == [], "the right password is never put off"


async def test_who_has_logged_in_before_does_not_stand_in_the_guessers_queue(door: Door) -> None:
    assert await door.enter("anna", "right", "203.0.113.5")
    guesses = [asyncio.create_task(door.enter("anna", f"{n}", f"198.51.100.{n}")) for n in range(200)]
    await asyncio.sleep(0)
    assert await door.enter("anna", "right", "203.0.113.5")
    assert sum(guess.done() for guess in guesses) < 20
    assert not any(await asyncio.gather(*guesses))


async def test_spraying_one_password_over_many_accounts_slows_the_address(door: Door) -> None:
    for number in range(8):
        assert not await door.enter(f"person{number}", "Summer2026", "198.51.100.7")
    assert door.waits == [1, 2, 4, 8, 16, MOST_DELAY, MOST_DELAY, MOST_DELAY]
