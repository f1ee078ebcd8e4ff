"""What AUTH carries, who gets in, and how long the others wait."""

from __future__ import annotations

import asyncio
import threading
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace

import argon2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import limits
from relay.accounts import Account, Accounts
from relay.refusal import Reason, Refusal
from relay.submission import auth
from relay.submission.auth import Authenticator, Credentials, Table, credentials, decode_login, decode_plain
from support.memory_spool import FakeClock

HASHER = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
RIGHT, OTHER = HASHER.hash("right"), HASHER.hash("other")
ANNA = Account(name="Anna", password_hash=RIGHT, senders=("anna@example.org",))
BOB = Account(name="bob", password_hash=RIGHT, senders=("bob@example.org",))


# --- what the client sends --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "credentials"),
    [
        (b"\0anna\0secret", Credentials(b"anna", b"secret")),
        (b"anna\0anna\0secret", Credentials(b"anna", b"secret")),
        ("\0jürgen\0pässwörd".encode(), Credentials("jürgen".encode(), "pässwörd".encode())),
        (b"\0a\0\xff\xfe", Credentials(b"a", b"\xff\xfe")),
        (b"\0" + b"l" * 1024 + b"\0" + b"p" * 1024, Credentials(b"l" * 1024, b"p" * 1024)),
    ],
)
def test_plain(message: bytes, credentials: Credentials) -> None:
    assert decode_plain(b64encode(message)) == credentials


@pytest.mark.parametrize(
    ("encoded", "reply", "reason"),
    [
        (b"*", "501 5.7.0", Reason.AUTH_CANCELLED),
        (b"=", "501 5.5.2", Reason.AUTH_MALFORMED),
        (b"", "501 5.5.2", Reason.AUTH_MALFORMED),
        (b"AGFubmEAc2VjcmV0=", "501 5.5.2 The login cannot be read: this is not base64", Reason.AUTH_MALFORMED),
        (b"AGFubmEA c2VjcmV0", "501 5.5.2 The login cannot be read: this is not base64", Reason.AUTH_MALFORMED),
        (b"AGFubmEAc2VjcmV\xff", "501 5.5.2", Reason.AUTH_MALFORMED),
        (b"A", "501 5.5.2", Reason.AUTH_MALFORMED),
        (b64encode(b"anna\0secret"), "501 5.5.2 The login cannot be read: AUTH PLAIN carries", Reason.AUTH_MALFORMED),
        (b64encode(b"\0anna\0sec\0ret"), "501 5.5.2", Reason.AUTH_MALFORMED),
        (b64encode(b"\0\0secret"), "501 5.5.2", Reason.AUTH_MALFORMED),
        (b64encode(b"\0anna\0"), "501 5.5.2", Reason.AUTH_MALFORMED),
        (b64encode(b"bob\0anna\0secret"), "535 5.7.8 One account cannot act for another", Reason.AUTH_MALFORMED),
        (b64encode(b"\0" + b"l" * 1025 + b"\0p"), "500 5.5.6", Reason.AUTH_MALFORMED),
        (b64encode(b"\0l\0" + b"p" * 1025), "500 5.5.6", Reason.AUTH_MALFORMED),
        (b"A" * (limits.AUTH_LINE + 4), "500 5.5.6", Reason.AUTH_MALFORMED),
    ],
)
def test_plain_that_is_refused(encoded: bytes, reply: str, reason: Reason) -> None:
    refusal = decode_plain(encoded)
    assert isinstance(refusal, Refusal)
    assert refusal.reply.startswith(reply)
    assert refusal.reason is reason
    assert "secret" not in refusal.reply


def test_login_step_by_step() -> None:
    assert decode_login(b64encode(b"anna@example.org")) == b"anna@example.org"
    assert decode_login(b64encode(b"p" * 1024)) == b"p" * 1024
    for encoded, code in ((b"*", "501 5.7.0"), (b"=", "501 5.5.2"), (b"", "501 5.5.2"), (b"?", "501 5.5.2")):
        refusal = decode_login(encoded)
        assert isinstance(refusal, Refusal)
        assert refusal.reply.startswith(code)
    assert isinstance(decode_login(b64encode(b"p" * 1025)), Refusal)


@given(
    st.binary(max_size=80).filter(lambda b: b and b"\0" not in b),
    st.binary(max_size=80).filter(lambda b: b and b"\0" not in b),
)
def test_any_login_and_password_survive_the_way(login: bytes, password: bytes) -> None:
    login = b"l" + login + b"l"  # around a name there may be spaces
    assert decode_plain(b64encode(b"\0" + login + b"\0" + password)) == Credentials(login, password)


@pytest.mark.parametrize(
    "around", ["{} ", " {}", "\t{}\r\n", "\u00a0{}\u00a0", "{}\u3000", "\ufeff{}", "\u200b{} \u200e"]
)
def test_what_a_keyboard_puts_around_a_name_is_no_part_of_it_and_of_a_password_it_is(around: str) -> None:
    name, password = around.format("anna").encode(), around.format("secret").encode()
    wanted = Credentials(b"anna", password)
    assert decode_plain(b64encode(b"\0" + name + b"\0" + password)) == wanted
    assert decode_plain(b64encode(name + b"\0anna\0" + password)) == wanted
    assert credentials(name, password) == wanted


@pytest.mark.parametrize("name", [" ", "\u00a0", "\u200b"])
def test_a_name_of_spaces_is_none(name: str) -> None:
    assert isinstance(credentials(name.encode(), b"p"), Refusal)


def test_spaces_around_a_line_of_base64_are_no_part_of_it() -> None:
    assert decode_login(b" YW5uYQ== \t") == b"anna"
    assert isinstance(decode_login(b"YW5u YQ=="), Refusal)


def test_a_login_names_domain_is_the_same_however_it_is_written() -> None:
    account = Account(name="anna@xn--mnchen-3ya.example", password_hash="", senders=())
    for text in ("anna@m\u00fcnchen.example", "Anna@M\u00dcNCHEN.example", "anna@xn--mnchen-3ya.example"):
        found = credentials(text.encode(), b"p")
        assert isinstance(found, Credentials)
        assert found.login.lower() == account.name.encode(), "failures are counted by this"
        assert Accounts([account]).find(text) is account


# --- who gets in ------------------------------------------------------------------------------------------------------


class Door:
    """An authenticator whose accounts can be exchanged; ``waits`` are the delays it asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *accounts: Account) -> None:
        self.accounts = Accounts(accounts)
        self.clock = FakeClock()
        self.waits: list[float] = []
        self.checked: list[str] = []  # hashes that Argon2 was asked about
        self.threads: set[str] = set()
        self._verify = auth.verify
        monkeypatch.setattr(auth, "verify", self._watched)
        self.passwords = Authenticator(
            lambda: self.accounts, clock=self.clock, gateways=frozenset({"172.18.0.1"}), sleep=self._sleep
        )

    def _watched(self, stored: str, password: bytes) -> bool:
        self.checked.append(stored)
        self.threads.add(threading.current_thread().name)
        return self._verify(stored, password)

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    async def enter(self, login: str = "anna", password: str = "right", peer: str = "192.0.2.1") -> str | None:
        account = await self.passwords.check(login.encode(), password.encode(), peer)
        return account.name if account else None


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    door = Door(monkeypatch, ANNA, BOB)
    yield door
    door.passwords.close()


async def test_the_right_password_opens_at_once_in_any_letter_case_of_the_name(door: Door) -> None:
    assert await door.enter("ANNA") == "Anna"
    assert await door.enter("anna", "Right") is None
    assert door.threads
    assert all(name.startswith("passwords") for name in door.threads), "never in the event loop"
    assert door.waits == [1.0]


async def test_a_second_login_costs_no_argon2(door: Door) -> None:
    assert [await door.enter() for _ in range(3)] == ["Anna"] * 3
    assert door.checked == [RIGHT]


async def test_a_remembered_login_opens_no_other_account(door: Door) -> None:
    assert await door.enter("anna") == "Anna"
    assert await door.enter("bob") == "bob"
    assert len(door.checked) == 2


async def test_clients_that_come_all_at_once_with_the_same_login_cost_argon2_hardly_more_than_one(door: Door) -> None:
    names = await asyncio.gather(*(door.enter(peer=f"192.0.2.{n}") for n in range(50)))
    assert names == ["Anna"] * 50
    assert len(door.checked) <= limits.PASSWORD_CHECKS_AT_ONCE


async def test_waiting_behind_somebody_who_knows_the_password_opens_to_nobody_who_does_not(door: Door) -> None:
    passwords = ["right"] * 5 + ["wrong"] * 5 + ["right"] * 5
    names = await asyncio.gather(*(door.enter("anna", one, f"192.0.2.{n}") for n, one in enumerate(passwords)))
    assert names == ["Anna"] * 5 + [None] * 5 + ["Anna"] * 5


async def test_a_changed_password_counts_at_once(door: Door) -> None:
    assert await door.enter() == "Anna"
    door.accounts = Accounts([replace(ANNA, password_hash=OTHER)])
    assert await door.enter() is None
    assert await door.enter(password="other") == "Anna"


async def test_removed_and_disabled_accounts_and_such_without_password_are_shut(door: Door) -> None:
    assert await door.enter() == "Anna"
    for accounts in ([], [replace(ANNA, disabled=True)], [replace(ANNA, password_hash="")]):
        door.accounts = Accounts(accounts)
        assert await door.enter() is None
        assert await door.enter(password="") is None


async def test_an_account_that_goes_while_its_password_is_checked_is_shut(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(stored: str, password: bytes) -> bool:
        door.accounts = Accounts([BOB])
        return True

    monkeypatch.setattr(auth, "verify", meanwhile)
    assert await door.enter() is None


async def test_strangers_cost_the_same_work_as_accounts(door: Door) -> None:
    door.accounts = Accounts([replace(ANNA, disabled=True), BOB])
    for login in ("anna", "nobody", "bob", "\xff" * 3000):
        assert await door.enter(login, "wrong") is None
    costs = {stored.split("$")[3] for stored in door.checked}
    assert len(door.checked) == 4
    assert costs == {RIGHT.split("$")[3]}
    door.accounts = Accounts()
    assert await door.enter() is None
    assert door.checked[-1].split("$")[3] == "m=19456,t=2,p=1"


async def test_where_hashes_differ_strangers_cost_what_the_dearest_does(door: Door) -> None:
    dear, dearest = (f"$argon2id$v=19$m={m},t=2,p=1$c29tZXNhbHRzb21l${'A' * 43}" for m in (16, 32))
    door.accounts = Accounts([ANNA, replace(BOB, password_hash=dear), replace(BOB, name="c", password_hash=dearest)])
    assert await door.enter("nobody") is None
    assert door.checked[-1].split("$")[3] == "m=32,t=2,p=1"
    door.accounts = Accounts([ANNA, replace(BOB, password_hash=dear, disabled=True)])
    assert await door.enter("bob") is None
    assert door.checked[-1].split("$")[3] == RIGHT.split("$")[3]


async def test_a_broken_hash_opens_nothing(door: Door) -> None:
    door.accounts = Accounts([replace(ANNA, password_hash="$argon2id$v=19$m=8,t=1,p=1$AAAA$AAAA")])
    assert await door.enter() is None


# --- how long the others wait -----------------------------------------------------------------------------------------


async def test_failures_of_an_address_double_up_to_half_a_minute(door: Door) -> None:
    for n in range(8):
        await door.enter(f"guess{n}", "wrong")
    assert door.waits == [1, 2, 4, 8, 16, 30, 30, 30]
    assert await door.enter() == "Anna", "the right password does not wait"
    assert len(door.waits) == 8


async def test_failures_of_an_account_double_wherever_they_come_from(door: Door) -> None:
    for n in range(6):
        await door.enter("anna", "wrong", f"192.0.2.{n}")
    assert door.waits == [1, 2, 4, 8, 16, 30]
    await door.enter("bob", "wrong", "198.51.100.1")
    assert door.waits[-1] == 1


async def test_unknown_accounts_are_as_slow_as_known_ones(door: Door) -> None:
    for n in range(3):
        await door.enter("nobody", "wrong", f"192.0.2.{n}")
        await door.enter("NOBODY", "wrong", f"198.51.100.{n}")
    assert door.waits == [1, 2, 4, 8, 16, 30]


async def test_the_owner_at_home_is_not_slowed_down_by_others(door: Door) -> None:
    assert await door.enter(peer="203.0.113.5") == "Anna"
    for n in range(10):
        await door.enter("anna", "guess", f"192.0.2.{n}")
    door.waits.clear()
    await door.enter("anna", "typo", "203.0.113.5")
    assert door.waits == [1]
    await door.enter("anna", "typo", "203.0.113.6")
    assert door.waits[-1] == 30, "elsewhere the account is slow"


async def test_an_ipv6_household_counts_as_one(door: Door) -> None:
    for n in range(3):
        await door.enter(f"guess{n}", "wrong", f"2001:db8:1:2::{n}")
    assert door.waits == [1, 2, 4]


async def test_a_gateway_is_not_slowed_down_but_the_account_is(door: Door) -> None:
    for n in range(3):
        await door.enter(f"guess{n}", "wrong", "172.18.0.1")
    assert door.waits == [1, 1, 1]
    for _ in range(2):
        await door.enter("anna", "wrong", "172.18.0.1")
    assert door.waits[3:] == [1, 2]


async def test_failures_are_forgotten_after_an_hour(door: Door) -> None:
    for _ in range(4):
        await door.enter("anna", "wrong")
    door.clock.passed += 3590
    await door.enter("anna", "wrong")
    assert door.waits[-1] == 16
    door.clock.passed += 3601
    await door.enter("anna", "wrong")
    assert door.waits[-1] == 1


async def test_a_flood_from_one_address_keeps_nobody_else_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    door = Door(monkeypatch, ANNA)
    order: list[str] = []

    async def one(peer: str, password: str) -> None:
        await door.enter("anna", password, peer)
        order.append(peer)

    try:
        async with asyncio.TaskGroup() as tasks:
            for n in range(40):
                tasks.create_task(one("192.0.2.66", f"guess{n}"))
            await asyncio.sleep(0)
            tasks.create_task(one("203.0.113.5", "right"))
    finally:
        door.passwords.close()
    assert order.index("203.0.113.5") <= 4
    assert not door.passwords._gates._gates, "nothing is left of who has gone"


async def test_at_most_two_passwords_are_checked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    running, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(2)

    def slow(stored: str, password: bytes) -> bool:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(10)
        with lock:
            running -= 1
        return False

    door = Door(monkeypatch, ANNA)
    monkeypatch.setattr(auth, "verify", slow)
    try:
        await asyncio.gather(*(door.enter(peer=f"192.0.2.{n}") for n in range(6)))
    finally:
        door.passwords.close()
    assert most == 2


async def test_who_does_not_wait_for_a_turn_leaves_the_queue_and_who_has_had_one_pays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, answer = threading.Semaphore(0), threading.Event()

    def slow(stored: str, password: bytes) -> bool:
        begun.release()
        return not answer.wait(10)

    door, judged = Door(monkeypatch, ANNA), set[int]()
    monkeypatch.setattr(auth, "verify", slow)

    def guess(n: int) -> asyncio.Task[Account | None]:
        peer = f"192.0.2.{n}"
        return asyncio.create_task(door.passwords.check(b"anna", b"%d" % n, peer, lambda: judged.add(n)))

    guesses = [guess(n) for n in range(20)]
    try:
        for _ in range(limits.PASSWORD_CHECKS_AT_ONCE):
            assert await asyncio.to_thread(begun.acquire, timeout=10)
        assert len(judged) == limits.PASSWORD_CHECKS_AT_ONCE
        queue = [one for n, one in enumerate(guesses) if n not in judged]
        for one in queue:
            one.cancel()
        await asyncio.wait(queue, timeout=10)
        assert all(one.cancelled() for one in queue)
        assert len(door.passwords._gates._gates) == limits.PASSWORD_CHECKS_AT_ONCE, "those that Argon2 is at"
        answer.set()
        await asyncio.wait(guesses, timeout=10)
        assert [guesses[n].result() for n in judged] == [None] * limits.PASSWORD_CHECKS_AT_ONCE
        assert not door.passwords._gates._gates
        assert door.waits == [1.0, 2.0]
        assert not begun.acquire(blocking=False), "nobody else was asked about"
        await door.enter("anna", "wrong", "198.51.100.1")
        assert door.waits[2:] == [4.0]
    finally:
        door.passwords.close()


async def test_a_login_that_is_remembered_is_not_judged(door: Door) -> None:
    judged: list[None] = []
    for _ in range(2):
        assert await door.passwords.check(b"anna", b"right", "192.0.2.1", lambda: judged.append(None)) is ANNA
    assert judged == [None]


def test_tables_are_bounded_and_keep_what_is_used() -> None:
    table: Table[int] = Table(3)
    for n in range(3):
        table.put(n, n)
    assert table.get(0) == 0
    table.put(3, 3)
    assert [table.get(n) for n in range(4)] == [0, None, 2, 3]
    table.put(3, 4)
    assert len(table) == 3
