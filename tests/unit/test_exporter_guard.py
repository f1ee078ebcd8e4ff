"""Who may look: passwords, guesses, and the names that browsers call us by."""

from __future__ import annotations

import base64

import argon2
import pytest

from exporter.guard import ADDRESSES, FIRST_TRIES, TRIES, TRIES_OF_ALL, TRY_EVERY, Answer, Guard, Names

HASHER = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
PASSWORD = "grüße: und mehr"


class Counting(argon2.PasswordHasher):
    """Counts how often it was asked."""

    checks = 0

    def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # type: ignore[override] # noqa: A002
        self.checks += 1
        return super().verify(hash, password)


class House:
    def __init__(self, password: str = HASHER.hash(PASSWORD)) -> None:
        self.now = 1_000.0
        self.hasher = Counting(time_cost=1, memory_cost=8, parallelism=1)
        self.guard = Guard(password, lambda: self.now, self.hasher)

    async def ask(self, password: str, address: str = "192.0.2.1") -> Answer:
        return await self.guard.check(basic(password), address)


def basic(password: str, user: str = "anyone") -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.fixture
def house() -> House:
    return House()


async def test_without_a_password_everybody_is_welcome() -> None:
    assert await House("").guard.check("", "192.0.2.1") is Answer.WELCOME


@pytest.mark.parametrize("stored", [PASSWORD, HASHER.hash(PASSWORD)], ids=["as typed", "as a hash"])
async def test_the_password_opens_and_others_do_not(stored: str) -> None:
    house = House(stored)
    assert await house.ask(PASSWORD) is Answer.WELCOME
    assert await house.ask(PASSWORD + "x") is Answer.WHO_ARE_YOU
    assert await house.ask("") is Answer.WHO_ARE_YOU


@pytest.mark.parametrize(
    "header", ["", "Basic", "Basic !!!", "Bearer x", "Basic " + base64.b64encode(b"nocolon").decode(), "Basic \u00e9"]
)
async def test_what_is_no_password_costs_no_hash(house: House, header: str) -> None:
    assert await house.guard.check(header, "192.0.2.1") is Answer.WHO_ARE_YOU
    assert house.hasher.checks == 0


async def test_a_page_costs_no_second_hash(house: House) -> None:
    for _ in range(10):
        assert await house.ask(PASSWORD) is Answer.WELCOME
    assert house.hasher.checks == 1


async def test_guesses_are_slowed_down_and_cost_nothing_then(house: House) -> None:
    for _ in range(TRIES):
        assert await house.ask("guess") is Answer.WHO_ARE_YOU
    assert await house.ask("guess") is Answer.TOO_MANY
    assert await house.ask(PASSWORD) is Answer.TOO_MANY, "else the answer would tell which guess was right"
    assert house.hasher.checks == TRIES
    assert await house.ask(PASSWORD, "192.0.2.2") is Answer.WELCOME, "another address"
    house.now += TRY_EVERY
    assert await house.ask("guess") is Answer.WHO_ARE_YOU
    assert await house.ask("guess") is Answer.TOO_MANY


async def test_one_that_was_good_is_not_locked_out_by_others_guesses(house: House) -> None:
    await house.ask(PASSWORD)
    for number in range(TRIES_OF_ALL + 10):
        await house.ask("guess", f"198.51.100.{number}")
    assert await house.ask("guess", "203.0.113.1") is Answer.TOO_MANY
    assert await house.ask(PASSWORD) is Answer.WELCOME


@pytest.mark.parametrize("stored", [PASSWORD, HASHER.hash(PASSWORD)], ids=["as typed", "as a hash"])
async def test_many_who_guess_do_not_keep_out_one_who_has_not_been_there_yet(stored: str) -> None:
    house = House(stored)
    for number in range(50 * 20):
        await house.ask(f"guess{number}", f"198.51.100.{number % 20}")
        house.now += 0.01
    assert await house.ask("guess", "198.51.100.1") is Answer.TOO_MANY
    assert await house.ask(PASSWORD, "203.0.113.1") is Answer.WELCOME


@pytest.mark.parametrize("stored", [PASSWORD, HASHER.hash(PASSWORD)], ids=["as typed", "as a hash"])
async def test_a_stranger_who_has_used_up_his_guesses_learns_nothing_even_when_the_owner_is_in(stored: str) -> None:
    house = House(stored)
    assert await house.ask(PASSWORD) is Answer.WELCOME
    for _ in range(TRIES):
        assert await house.ask("guess", "198.51.100.1") is Answer.WHO_ARE_YOU
    assert await house.ask(PASSWORD, "198.51.100.1") is Answer.TOO_MANY
    assert await house.ask(PASSWORD) is Answer.WELCOME


async def test_guesses_of_ever_new_networks_have_a_limit_too(house: House) -> None:
    answers = [await house.ask("guess", f"2001:db8:{number:x}::1") for number in range(2 * FIRST_TRIES)]
    assert answers == [Answer.WHO_ARE_YOU] * FIRST_TRIES + [Answer.TOO_MANY] * FIRST_TRIES


async def test_a_network_of_ipv6_is_one_guesser(house: House) -> None:
    for number in range(TRIES):
        await house.ask("guess", f"2001:db8:1:2::{number}")
    assert await house.ask("guess", "2001:db8:1:2:ffff::1") is Answer.TOO_MANY
    assert await house.ask("guess", "2001:db8:1:3::1") is Answer.WHO_ARE_YOU


async def test_memory_stays_small(house: House) -> None:
    for number in range(2 * ADDRESSES):
        await house.ask("guess", f"10.0.{number // 256}.{number % 256}")
        house.now += 2.0
    assert len(house.guard._tries) <= ADDRESSES + 2


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:9325",
        "127.0.0.1:9325",
        "[::1]:9325",
        "192.168.1.2",
        "MAIL.example.org:9325",
        "page.lan.",
    ],
)
def test_our_names(host: str) -> None:
    assert Names(["mail.example.org", "page.lan"]).are_ours(host)


@pytest.mark.parametrize(
    "host", ["", "evil.example", "mail.example.org.evil.example", "127.0.0.1.evil.example", "a:b:c", "[x]"]
)
def test_others_names(host: str) -> None:
    assert not Names(["mail.example.org"]).are_ours(host)
