"""The event listener's decisions: who is killed, and when everything ends."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from watch import MISSES, STARTING, Watch, fields_of


@dataclass
class World:
    """What the listener sees and does."""

    answers: dict[str, bool] = field(default_factory=dict)
    time: float = 0.0
    killed: list[int] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def watch(self) -> Watch:
        return Watch(
            alive=lambda name: self.answers[name],
            kill=self.killed.append,
            give_up=self.given_up.append,
            say=self.said.append,
            now=lambda: self.time,
        )


@pytest.fixture
def world() -> World:
    return World(answers={"relay": True, "renewer": True})


def running(watch: Watch, name: str, pid: int) -> None:
    watch.event("PROCESS_STATE_RUNNING", {"processname": name, "pid": str(pid)})


def tick(watch: Watch, times: int = 1) -> None:
    for _ in range(times):
        watch.event("TICK_5", {"when": "0"})


def test_a_program_that_stops_answering_is_killed_at_the_third_miss_and_not_before(world: World) -> None:
    watch = world.watch()
    running(watch, "relay", 7)
    tick(watch)
    world.answers["relay"] = False
    tick(watch, MISSES - 1)
    assert world.killed == []
    tick(watch)
    assert world.killed == [7]
    assert "relay" in world.said[0]


def test_one_answer_in_between_forgives_the_misses(world: World) -> None:
    watch = world.watch()
    running(watch, "relay", 7)
    for answer in [True, False, False, True, False, False]:
        world.answers["relay"] = answer
        tick(watch)
    assert world.killed == []


def test_it_is_killed_once_not_at_every_tick_after(world: World) -> None:
    watch = world.watch()
    running(watch, "relay", 7)
    tick(watch)
    world.answers["relay"] = False
    tick(watch, MISSES * 3)
    assert world.killed == [7]


def test_a_program_that_has_not_answered_yet_may_recover_a_large_spool_for_five_minutes(world: World) -> None:
    watch = world.watch()
    world.answers["relay"] = False
    running(watch, "relay", 7)
    world.time = STARTING
    tick(watch, 50)
    assert world.killed == []
    world.time = STARTING + 1
    tick(watch)
    assert world.killed == [7]


def test_a_restarted_program_begins_anew(world: World) -> None:
    watch = world.watch()
    running(watch, "relay", 7)
    tick(watch)
    watch.event("PROCESS_STATE_EXITED", {"processname": "relay"})
    world.answers["relay"] = False
    tick(watch, MISSES)
    running(watch, "relay", 8)
    tick(watch, MISSES)
    assert world.killed == []


def test_only_the_one_that_hangs_is_killed(world: World) -> None:
    watch = world.watch()
    running(watch, "relay", 7)
    running(watch, "renewer", 8)
    tick(watch)
    world.answers["renewer"] = False
    tick(watch, MISSES)
    assert world.killed == [8]


def test_a_program_that_cannot_be_kept_alive_ends_everything(world: World) -> None:
    watch = world.watch()
    watch.event("PROCESS_STATE_FATAL", {"processname": "relay", "groupname": "relay", "from_state": "BACKOFF"})
    assert len(world.given_up) == 1
    assert world.given_up[0].startswith("relay ")


def test_fields_of_supervisors_lines() -> None:
    header = "ver:3.0 server:supervisor serial:21 pool:watch poolserial:10 eventname:PROCESS_STATE_RUNNING len:54\n"
    assert fields_of(header)["eventname"] == "PROCESS_STATE_RUNNING"
    assert fields_of(header)["len"] == "54"
    assert fields_of("") == {}
