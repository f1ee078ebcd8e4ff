"""What counts as a message sent again, for how long, and what twins that come at once are told."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.model import FAILED_STATES, OPEN_STATES, State
from relay.submission.repeats import SIZE, Fingerprint, Recent, Repeats
from support.spooling import SetClock

SEEN = b"From: anna@example.org\r\nMessage-ID: <1@x>\r\nSubject: Door open\r\n"
BODY = bytes(random.Random(1).randbytes(100_000))


def digest(
    account: str = "anna",
    sender: str = "anna@example.org",
    recipients: tuple[str, ...] = ("bob@example.net", "carol@example.net"),
    seen: bytes = SEEN,
    body: bytes = b"hello\r\n",
) -> bytes:
    one = Fingerprint(account, sender, recipients, seen)
    one.add(body)
    return one.digest()


# --- the fingerprint ---


@pytest.mark.parametrize(
    "other",
    [
        {"account": "bert"},
        {"sender": "anna@example.com"},
        {"sender": ""},
        {"recipients": ("bob@example.net",)},
        {"recipients": ("bob@example.net", "carol@example.net", "dora@example.net")},
        {"recipients": ("bob@example.net carol@example.net",)},
        {"seen": SEEN.replace(b"<1@x>", b"<2@x>")},
        {"seen": SEEN.replace(b"Door open", b"Door shut")},
        {"seen": SEEN + b"hello\r\n", "body": b""},
        {"body": b"hello\r\n\r\n"},
    ],
)
def test_another_envelope_field_or_body_is_another_message(other: dict[str, str]) -> None:
    assert digest(**other) != digest()  # type: ignore[arg-type]


def test_the_order_of_recipients_is_nothing() -> None:
    assert digest(recipients=("carol@example.net", "bob@example.net")) == digest()
    assert len(digest()) == SIZE


def test_addresses_that_are_no_utf_8_have_one_too() -> None:
    assert digest(recipients=("b\udcfc@example.net",)) != digest(recipients=("b\\udcfc@example.net",))


@given(st.lists(st.integers(0, len(BODY)), max_size=8))
def test_how_the_body_is_cut_is_nothing(cuts: list[int]) -> None:
    one = Fingerprint("anna", "anna@example.org", ["bob@example.net", "carol@example.net"], SEEN)
    for start, end in pairwise([0, *sorted(cuts), len(BODY)]):
        one.add(BODY[start:end])
    assert one.digest() == digest(body=BODY)


# --- the window ---

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("keep"), st.integers(0, 5), st.sampled_from([0.0, 0.0, -3.0, 4.0, 30.0])),
        st.tuples(st.just("wait"), st.sampled_from([0.0, 0.5, 1.0, 9.5, 10.0, 11.0]), st.none()),
    ),
    max_size=40,
)


@given(STEPS, st.integers(1, 6))
def test_the_last_messages_of_the_window_are_known_and_no_others(
    steps: list[tuple[str, float, float]], most: int
) -> None:
    clock = SetClock(0.0)
    recent = Recent(clock, 10.0, most)
    kept: list[tuple[float, bytes, str]] = []  # the model: everything, for ever
    for number, (step, value, age) in enumerate(steps):
        if step == "wait":
            clock.now += value
        else:
            name, message = b"%d" % value, f"message {number}"
            recent.add(name, message, age)
            kept.append((clock.now - max(0.0, age), name, message))
        assert len(recent) <= most
        last = {name: (at, message) for at, name, message in kept}
        for name, (at, message) in last.items():
            known = clock.now - at < 10.0 and (at, name, message) in kept[-most:]
            assert recent.find(name) == (message if known else "")
    clock.now += 10.0
    assert not any(recent.find(name) for _, name, _ in kept)


def test_what_is_out_of_the_window_takes_no_memory() -> None:
    clock = SetClock(0.0)
    recent = Recent(clock, 10.0, 1000)
    for number in range(500):
        clock.now = number / 8
        recent.add(b"%d" % number, "id")
        assert len(recent) == len(recent._entries) <= 80


# --- twins ---


class World:
    """Messages that are kept or not, and whose deliveries are in the states that the test says."""

    def __init__(self) -> None:
        self.clock = SetClock(0.0)
        self.states: dict[str, set[State]] = {}
        self.repeats = Repeats(Recent(self.clock, 600.0), self.states_of)
        self.writing = 0

    async def states_of(self, message: str) -> set[State]:
        await asyncio.sleep(0)
        return self.states.get(message, set())

    async def arrive(self, name: str, turns: int, works: bool) -> str:
        """The id in the client's 250; empty: it got a refusal."""
        if earlier := await self.repeats.first(b"x"):
            return earlier
        kept = ""
        self.writing += 1
        assert self.writing == 1, "two of the same were being kept at once"
        try:
            for _ in range(turns):
                await asyncio.sleep(0)
            if works:
                kept, self.states[name] = name, {State.DUE}
        finally:
            self.writing -= 1
            self.repeats.ended(b"x", kept)
        return kept


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans()), min_size=1, max_size=12))
def test_of_twins_one_is_kept_however_many_fail_before(clients: list[tuple[int, int, bool]]) -> None:
    async def play() -> None:
        world = World()

        async def client(number: int, late: int, turns: int, works: bool) -> str:
            for _ in range(late):
                await asyncio.sleep(0)
            return await world.arrive(f"m{number}", turns, works)

        answers = await asyncio.gather(*(client(number, *how) for number, how in enumerate(clients)))
        assert len(world.states) <= 1
        assert {answer for answer in answers if answer} == set(world.states)
        assert world.repeats._under_way == {}

    asyncio.run(play())


async def test_a_twin_that_is_cancelled_takes_nobody_along() -> None:
    world = World()
    first = asyncio.create_task(world.arrive("one", 10, True))
    await asyncio.sleep(0)
    twins = [asyncio.create_task(world.arrive("two", 1, True)) for _ in range(2)]
    await asyncio.sleep(0)
    twins[0].cancel()
    assert await asyncio.gather(first, twins[1]) == ["one", "one"]
    with pytest.raises(asyncio.CancelledError):
        await twins[0]


@pytest.mark.parametrize("state", [*sorted(OPEN_STATES), State.DELIVERED])
async def test_what_is_on_its_way_or_there_is_repeated(state: State) -> None:
    world = World()
    await world.arrive("one", 0, True)
    world.states["one"] = {state, State.DELIVERED}
    assert await world.arrive("two", 0, True) == "one"


@pytest.mark.parametrize("state", [*sorted(FAILED_STATES), State.DROPPED, None])
async def test_what_came_to_nothing_and_is_sent_again_is_meant(state: State | None) -> None:
    world = World()
    await world.arrive("one", 0, True)
    world.states["one"] = {state, State.DELIVERED} if state else set()  # no states: it was pruned
    answers = await asyncio.gather(world.arrive("two", 1, True), world.arrive("three", 1, True))
    assert answers == ["two", "two"]
    assert await world.arrive("four", 0, True) == "two"


async def test_after_the_window_it_is_a_new_message() -> None:
    world = World()
    await world.arrive("one", 0, True)
    world.clock.now = 599.9
    assert await world.arrive("two", 0, True) == "one"
    world.clock.now = 600.0
    assert await world.arrive("three", 0, True) == "three"
