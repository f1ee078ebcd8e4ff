"""Connecting by name (RFC 8305): what an address that leads nowhere costs, on the loops that our programs run on."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import uvloop

from common.connect import MOST, REMEMBERED, Address, Dialer, NoConnection, by_turns, connect_now
from support.dual import DUAL, black_hole, listening, name_it
from support.ports import free_port

SIX, FOUR, EITHER = socket.AF_INET6, socket.AF_INET, socket.AF_UNSPEC
LONG = 20.0  # seconds; what waits so long has failed
Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    with asyncio.Runner(loop_factory=request.param, debug=True) as runner:
        yield runner.run


def at(*hosts: str) -> Callable[[str, int, int], Any]:
    """A resolver that knows these addresses, whatever it is asked for."""

    async def resolve(_: str, port: int, family: int) -> Sequence[Address]:
        found = [Address(SIX if ":" in host else FOUR, (host, port)) for host in hosts]
        return [one for one in found if family in (EITHER, one.family)]

    return resolve


async def family_of(dialer: Dialer, port: int) -> int:
    """By which family a connection came to stand."""
    with await dialer.connect(DUAL, port, LONG) as won:
        return won.family


def sockets() -> int:
    return sum(
        os.readlink(entry).startswith("socket:") for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()
    )


# --- the order
@pytest.mark.parametrize(
    ("addresses", "first", "order"),
    [
        ([], EITHER, []),
        (["::1", "::2", "::3", "10.0.0.1"], EITHER, ["::1", "10.0.0.1", "::2", "::3"]),
        (["10.0.0.1", "10.0.0.2", "::1"], EITHER, ["10.0.0.1", "::1", "10.0.0.2"]),
        (["::1", "::2", "10.0.0.1"], FOUR, ["10.0.0.1", "::1", "::2"]),
        (["10.0.0.1", "10.0.0.2"], SIX, ["10.0.0.1", "10.0.0.2"]),
    ],
)
def test_families_take_turns_and_each_keeps_the_systems_order(
    addresses: list[str], first: int, order: list[str]
) -> None:
    given = [Address(SIX if ":" in one else FOUR, (one, 1)) for one in addresses]
    assert [one.at[0] for one in by_turns(given, first)] == order


# --- an address that leads nowhere
def test_a_black_hole_costs_a_moment_and_not_the_connection(run: Run) -> None:
    with listening("127.0.0.1") as port, black_hole(port):
        assert run(family_of(Dialer(resolve=at("::1", "127.0.0.1")), port)) == FOUR


def test_a_refusal_is_not_waited_for(run: Run) -> None:
    with listening("127.0.0.1") as port:
        assert run(family_of(Dialer(resolve=at("::1", "127.0.0.1"), delay=LONG), port)) == FOUR


def test_many_refusals_are_not_waited_for_beside_an_address_that_is_silent(run: Run) -> None:
    began = time.monotonic()
    refusing = [f"127.0.0.{n}" for n in range(2, 14)]
    with listening("127.0.0.1") as port, black_hole(port):
        run(family_of(Dialer(resolve=at("::1", *refusing, "127.0.0.1"), delay=0.5), port))
    assert time.monotonic() - began < 5.0


def test_what_answers_within_the_delay_is_taken_alone(run: Run) -> None:
    with listening("::1") as port, listening("127.0.0.1", port):
        assert run(family_of(Dialer(resolve=at("::1", "127.0.0.1"), delay=LONG), port)) == SIX


def test_the_family_that_worked_goes_first_for_a_while(run: Run) -> None:
    clock = [0.0]
    dialer = Dialer(resolve=at("::1", "127.0.0.1"), now=lambda: clock[0], delay=0.05)
    with listening("127.0.0.1") as port:
        with black_hole(port):
            assert run(family_of(dialer, port)) == FOUR
        with listening("::1", port):
            assert run(family_of(dialer, port)) == FOUR
            clock[0] += REMEMBERED
            assert run(family_of(dialer, port)) == SIX


@pytest.mark.parametrize("trouble", [ConnectionResetError, TimeoutError, None], ids=str)
def test_a_connection_that_stood_and_led_nowhere_lets_the_other_family_go_first(run: Run, trouble: Any) -> None:
    dialer = Dialer(resolve=at("::1", "127.0.0.1"))

    async def fail(seconds: float) -> None:
        async with dialer.connected(DUAL, port, seconds) as won:
            won.close()
            if trouble is not None:
                raise trouble
            await asyncio.sleep(LONG)  # it answers nothing: the block's time ends

    with listening("::1") as port, listening("127.0.0.1", port):
        for expected in (FOUR, SIX):
            with pytest.raises(trouble or TimeoutError):
                run(fail(LONG if trouble else 0.1))
            assert run(family_of(dialer, port)) == expected


# --- who loses
async def left(before: int) -> None:
    """Waits until no more sockets are open than before: tasks that were cancelled end a moment later."""
    async with asyncio.timeout(LONG):
        while sockets() > before:  # noqa: ASYNC110 (nobody tells)
            await asyncio.sleep(0.01)


def test_nothing_is_left_of_a_race(run: Run) -> None:
    async def given_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await Dialer(resolve=at("::1", "::1"), delay=0.0).connect(DUAL, port, LONG)

    async def many() -> None:
        before = sockets()
        won = [family_of(Dialer(resolve=at("::1", "127.0.0.1"), delay=0.02), port) for _ in range(20)]
        await asyncio.gather(*won, *(given_up() for _ in range(50)))
        await left(before)

    with listening("127.0.0.1") as port, black_hole(port):
        run(many())


def test_of_several_that_come_to_stand_one_is_kept(run: Run) -> None:
    async def several() -> None:
        before = sockets()
        await family_of(Dialer(resolve=at(*(f"127.0.0.{n}" for n in range(1, 17))), delay=0.0), port)
        await left(before)

    with listening("0.0.0.0") as port:
        run(several())


# --- when all fail
def test_the_sentence_says_what_each_address_met(run: Run) -> None:
    with black_hole(port := free_port()):
        dialer = Dialer(resolve=at("::1", "127.0.0.1", "127.0.0.2"), delay=0.02)
        with pytest.raises(NoConnection) as problem:
            run(dialer.connect(DUAL, port, 0.5))
    assert str(problem.value) == "127.0.0.1 and 127.0.0.2 refused the connection, ::1 did not answer"


def test_no_host_has_more_addresses_than_are_tried(run: Run) -> None:
    dialer = Dialer(resolve=at(*(f"127.0.{n // 250}.{n % 250 + 1}" for n in range(1000))))
    with pytest.raises(NoConnection) as problem:
        run(dialer.connect(DUAL, free_port(), LONG))
    assert str(problem.value).count("127.") == MOST


def test_many_addresses_of_one_family_leave_room_for_the_other(run: Run) -> None:
    silent = [f"::1:{n:x}" for n in range(MOST * 2)]
    with listening("127.0.0.1") as port:
        assert run(family_of(Dialer(resolve=at(*silent, "127.0.0.1"), delay=0.0), port)) == FOUR


# --- names
def test_a_name_that_nobody_knows_is_told_so(run: Run) -> None:
    with pytest.raises(socket.gaierror):
        run(Dialer().connect("nobody.invalid", 1, LONG))
    with pytest.raises(socket.gaierror):
        run(Dialer().connect("x" * 64 + ".example", 1, LONG))


class Resolver:
    """Answers as it is told: after so many seconds, or never; by family."""

    def __init__(self, **answers: tuple[float, list[str]]) -> None:
        families = {"either": EITHER, "six": SIX, "four": FOUR}
        self.told = {families[name]: value for name, value in answers.items()}
        self.asked: list[int] = []

    async def __call__(self, _: str, port: int, family: int) -> Sequence[Address]:
        self.asked.append(family)
        seconds, hosts = self.told.get(family, (LONG * 2, []))
        await asyncio.sleep(seconds)
        return [Address(SIX if ":" in host else FOUR, (host, port)) for host in hosts]


def test_a_resolver_that_swallows_the_question_for_one_family_does_not_keep_us_from_the_other(run: Run) -> None:
    resolver = Resolver(four=(0.0, ["127.0.0.1"]))
    with listening("127.0.0.1") as port:
        assert run(family_of(Dialer(resolve=resolver, patience=0.02), port)) == FOUR
    assert resolver.asked == [EITHER, SIX, FOUR]


def test_addresses_that_come_late_join_the_race(run: Run) -> None:
    resolver = Resolver(six=(0.0, ["::1"]), four=(0.1, ["127.0.0.1"]))
    with listening("127.0.0.1") as port, black_hole(port):
        assert run(family_of(Dialer(resolve=resolver, patience=0.02), port)) == FOUR


def test_a_resolver_that_answers_in_time_is_asked_once(run: Run) -> None:
    resolver = Resolver(either=(0.0, ["127.0.0.1"]))
    with listening("127.0.0.1") as port:
        run(family_of(Dialer(resolve=resolver), port))
    assert resolver.asked == [EITHER]


def test_a_silent_resolver_is_told_of(run: Run) -> None:
    with pytest.raises(socket.gaierror, match="no answer in time"):
        run(Dialer(resolve=Resolver(), patience=0.02).connect(DUAL, 1, 0.1))


def test_a_resolver_that_hangs_keeps_neither_another_question_nor_the_end_waiting(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, over = socket.getaddrinfo, threading.Event()

    def hang(host: Any, *rest: Any) -> Any:
        if host == DUAL:
            over.wait()
        return real("127.0.0.1", *rest)

    async def many() -> None:
        hung = [asyncio.create_task(Dialer().connect(DUAL, 1, LONG)) for _ in range(50)]
        await asyncio.sleep(0)
        (await Dialer().connect("another.test", port, LONG)).close()
        for one in hung:
            one.cancel()
        await asyncio.wait(hung)

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    try:
        with listening("127.0.0.1") as port:
            run(many())
    finally:
        over.set()


# --- without a loop
def test_a_program_without_a_loop_connects_likewise(monkeypatch: pytest.MonkeyPatch) -> None:
    name_it(monkeypatch)
    with listening("127.0.0.1") as port, black_hole(port), connect_now(DUAL, port, 5.0, Dialer()) as won:
        assert (won.family, won.gettimeout()) == (FOUR, 5.0)
