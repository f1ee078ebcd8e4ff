"""The log: one line an event whatever strangers send, cheap, and never in the way of mail."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.log import KEPT, Log, LogHandler, take_over_logging
from relay.model import EventKind

AT = 1_790_000_000.1234
STAMP = "2026-09-21T14:13:20.123Z"
HOSTILE = {
    "newline": "a\r\nb",
    "escape": "\x1b[2J",
    "override": "\u202eevil",
    "c1": "\x9b31m",
    "delete": "\x7f",
    "nul": "\x00",
    "invalid utf-8": b"caf\xe9".decode("utf-8", "surrogateescape"),
    "quote": '" event=faked',
    "separator": "\u2028\u2029\x85",
}


class StoppedClock:
    def time(self) -> float:
        return AT

    def monotonic(self) -> float:
        return 0.0


class Pipe:
    """Standard output as a container has it."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)
        self.open = True

    def read(self) -> str:
        pieces = []
        try:
            while piece := os.read(self.reading, 1 << 20):
                pieces.append(piece)
        except BlockingIOError:
            pass
        return b"".join(pieces).decode("ascii")

    def hang_up(self) -> None:
        os.close(self.reading)
        self.open = False

    def close(self) -> None:
        if self.open:
            os.close(self.reading)
        os.close(self.writing)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def new_log(pipe: Pipe, form: Literal["text", "json"] = "text") -> Log:
    return Log(pipe.writing, form, StoppedClock())


async def a_turn() -> None:
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def test_text_for_people(pipe: Pipe) -> None:
    new_log(pipe).event("delivered", {"message": "01J", "reply": "2.0.0 Ok", "delay": 0.25, "size": 3, "kept": True})
    assert pipe.read() == f'{STAMP} relay delivered message=01J reply="2.0.0 Ok" delay=0.250 size=3 kept=true\n'


def test_json_for_machines(pipe: Pipe) -> None:
    new_log(pipe, "json").event("delivered", {"message": "01J", "reply": 'a "b"', "n": float("nan"), "ok": False})
    assert json.loads(pipe.read()) == {
        "time": STAMP,
        "service": "relay",
        "event": "delivered",
        "message": "01J",
        "reply": 'a "b"',
        "n": None,
        "ok": False,
    }


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_value_stays_in_its_place(pipe: Pipe, form: Literal["text", "json"], value: str) -> None:
    new_log(pipe, form).event("command_refused", {"reply": value, "last": "one"})
    line = pipe.read()
    assert line.isascii()
    assert line[:-1].isprintable()
    assert line[-1] == "\n"
    if form == "json":
        assert set(json.loads(line)) == {"time", "service", "event", "reply", "last"}
    else:
        assert line.endswith(" last=one\n")
        assert line.count(" event=") == line.count('\\" event=')


@given(st.text(st.characters(), max_size=40))
def test_any_text_is_one_line_of_valid_json(value: str) -> None:
    pipe = Pipe()
    try:
        new_log(pipe, "json").event("x", {"value": value})
        (line,) = pipe.read().splitlines()
    finally:
        pipe.close()
    assert json.loads(line)["value"].encode() == value.encode("utf-8", "backslashreplace")


@pytest.mark.parametrize("form", ["text", "json"])
def test_long_values_are_capped(pipe: Pipe, form: Literal["text", "json"]) -> None:
    log = new_log(pipe, form)
    log.event("x", {"value": "a" * 500})
    log.event("x", {"value": "a" * 501, "kind": EventKind.DELIVERED})
    whole, cut = pipe.read().splitlines()
    assert "a" * 500 in whole
    assert "a" * 497 + "..." in cut
    assert "delivered" in cut


async def test_lines_of_one_turn_are_one_write(pipe: Pipe) -> None:
    log = new_log(pipe)
    log.attach(asyncio.get_running_loop())
    for number in range(3):
        log.event("x", {"n": number})
    assert pipe.read() == ""
    await a_turn()
    assert [line[-1] for line in pipe.read().splitlines()] == ["0", "1", "2"]


async def test_closing_writes_what_waits(pipe: Pipe) -> None:
    log = new_log(pipe)
    log.attach(asyncio.get_running_loop())
    log.event("stopped", {})
    log.close()
    assert pipe.read().endswith("relay stopped\n")
    log.event("late", {})
    assert pipe.read().endswith("relay late\n")


def test_a_broken_output_stops_nothing(pipe: Pipe) -> None:
    log = new_log(pipe)
    pipe.hang_up()
    log.event("x", {})
    log.event("y", {})


def test_a_disk_that_was_full_is_told_of(tmp_path: Path) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    there = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    log = Log(full, "text", StoppedClock())
    log.event("lost", {})
    os.dup2(there, full)
    log.event("kept", {})
    os.close(full)
    os.close(there)
    lines = (tmp_path / "log").read_text().split("\n")
    assert [line.partition(" relay ")[2] for line in lines if line] == ["kept", "log_lines_lost lines=1"]


async def test_a_reader_that_sleeps_blocks_nobody_and_gets_whole_lines(pipe: Pipe) -> None:
    log = new_log(pipe)
    log.attach(asyncio.get_running_loop())
    filler = "x" * 400
    for number in range(6000):  # more than a pipe and our memory for it hold
        log.event("x", {"n": number, "filler": filler})
        if number % 100 == 0:
            await a_turn()
    got = pipe.read()

    async def drained() -> bool:
        nonlocal got
        await asyncio.sleep(0.01)
        got += pipe.read()
        return "log_lines_lost" in got

    while not await drained():
        pass
    lines = got.splitlines()
    lost = int(lines[-1].rpartition("=")[2])
    numbers = [int(line.split(" n=")[1].split()[0]) for line in lines[:-1]]
    assert numbers == list(range(len(numbers)))  # none is cut, none is missing in between
    assert len(numbers) + lost == 6000
    assert len(got) > KEPT
    log.close()


@pytest.fixture
def logging_taken(pipe: Pipe) -> Iterator[Log]:
    """The standard library's logging sent to a log, and put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    disabled = {name: logging.getLogger(name).disabled for name in ("mail", "mail.log", "mail.debug")}
    log = new_log(pipe, "json")
    take_over_logging(log)
    yield log
    logging.captureWarnings(False)
    root.handlers = handlers
    root.setLevel(level)
    for name, value in disabled.items():
        logging.getLogger(name).disabled = value


def test_what_libraries_complain_of_is_one_line(pipe: Pipe, logging_taken: Log) -> None:
    logger = logging.getLogger("some.library")
    logger.info("not this")
    logger.warning("odd: %s", "a\nb")
    try:
        raise OSError("gone")
    except OSError:
        logger.exception("failed")
    LogHandler(logging_taken).emit(logging.LogRecord("x", logging.WARNING, "", 0, "wrong %d", ("arguments",), None))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("old", UserWarning, stacklevel=1)
    first, second, third, fourth = map(json.loads, pipe.read().splitlines())
    assert (first["event"], first["logger"], first["text"]) == ("warning", "some.library", "odd: a\nb")
    assert second["event"] == "error"
    assert second["traceback"].endswith("OSError: gone")
    assert third["text"] == "wrong %d"
    assert "UserWarning: old" in fourth["text"]


def test_aiosmtpd_which_logs_passwords_is_silent(pipe: Pipe, logging_taken: Log) -> None:
    logging.getLogger("mail.log").error("hunter2")
    assert pipe.read() == ""


async def test_other_threads_may_complain(pipe: Pipe, logging_taken: Log) -> None:
    logging_taken.attach(asyncio.get_running_loop())
    thread = threading.Thread(target=lambda: logging.getLogger("writer").warning("slow disk"))
    thread.start()
    thread.join()
    text = ""
    async with asyncio.timeout(20):
        while '"text":"slow disk"' not in text:  # a slow machine may have asyncio complain on a line of its own
            await asyncio.sleep(0)
            text += pipe.read()
    logging_taken.close()
