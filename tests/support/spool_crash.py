"""Runs a small load on a spool in a child process, ends it at the n-th change of a file, and looks at what is left.

`python -m support.spool_crash FOLDER kill|cut FIRST LAST STRIDE`: ``kill`` is kill -9, where the system keeps what was
written; ``cut`` is a power cut at its worst: of every file only what was synced is left. Prints one line, and exits
with 1 at the first wrong thing found. It forks, so it is a program without threads and not a function of the tests.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from relay import limits
from relay.model import Event, EventKind, Job, State
from relay.spool import changes, kept, recovery, verbs
from relay.spool.errors import SpoolUnusable
from relay.spool.recovery import Opened
from support import invariants
from support.faulty_disk import FaultyDisk
from support.spooling import NOW, a_message, accepted, ids, results, seize

LARGE = b"y" * limits.CHUNK


def load(opened: Opened, say: Any) -> None:
    """Everything a spool does; ``say`` is called after each commit with what is now promised."""
    store, numbers = opened.store, opened.numbers
    refused: list[str] = []
    for turn in range(4):
        small = [a_message(account, to=("a@x.example", "b@x.example")) for account in ("anna", "bert")]
        batch = [changes.add(numbers, numbers.key(), one, b"S: s\r\n\r\nsmall\r\n", [accepted(one)]) for one in small]
        store.apply(batch, NOW)
        say(*(f"accepted {one.id}" for one in small))
        large, key = a_message("anna", to=("c@x.example",)), numbers.key()
        store.apply([changes.chunk(key, 0, LARGE)], NOW)
        store.apply([changes.chunk(key, 1, LARGE)], NOW)
        store.apply([changes.add(numbers, key, large, b"end", [accepted(large)], written=2, size=2 * len(LARGE))], NOW)
        say(f"accepted {large.id}")
        lost = numbers.key()
        store.apply([changes.chunk(lost, 0, LARGE)], NOW)
        jobs: list[Job] = []
        while turn % 2 and (more := seize(store, 2, NOW)):
            jobs += more
        for n, job in enumerate(jobs):
            _deliver(opened, n, job, say)
        refused += [job.message.id for n, job in enumerate(jobs) if n % 4 == 1]
        if turn % 2:
            _look_after(opened, refused, say)
        if turn == 2:
            store.checkpoint()
        store.apply([changes.forget(lost)], NOW)


def _look_after(opened: Opened, refused: list[str], say: Any) -> None:
    """An operator sees to what was refused: one is tried again, one acknowledged, and one gives its body up."""
    store, numbers = opened.store, opened.numbers
    if len(refused) < 4:
        return
    again, seen, *_ = refused
    say(f"retrying {again}")
    store.apply([verbs.retry(numbers, again, NOW)], NOW)
    say(f"retried {again}")
    say(f"acknowledging {seen}")
    store.apply([verbs.verb(EventKind.ACKNOWLEDGED, numbers, NOW, message_id=seen)], NOW)
    say(f"acknowledged {seen}")
    say(*(f"giving {name}" for name in refused[2:]))  # one of them
    store.apply([kept.give_up(1, NOW)], NOW)
    del refused[:2]


def _deliver(opened: Opened, n: int, job: Job, say: Any) -> None:
    store, numbers = opened.store, opened.numbers
    name = job.message.id
    if n % 4 == 3:
        store.apply([changes.release([job])], NOW)
        return
    say(f"marking {name}")
    store.apply([changes.mark(ids(job), "sink")], NOW)
    say(f"marked {name}")
    if n % 4 == 0:
        done = Event(kind=EventKind.DELIVERED, at=NOW, message=name)
        store.apply([changes.record(numbers, job, results(job, State.DELIVERED), [done], (), NOW)], NOW)
        say(f"delivered {name}")
    elif n % 4 == 1:
        notice = a_message("anna", to=("anna@example.org",))
        refused = changes.record(
            numbers, job, results(job, State.REFUSED), [], [(notice, b"S: failed\r\n\r\n", [])], NOW
        )
        store.apply([refused], NOW)
        say(f"refused {name} {notice.id}")
    else:
        store.apply([changes.record(numbers, job, results(job, State.DUE, at=NOW + 60), [], (), NOW)], NOW)
        store.apply([verbs.verb(EventKind.HELD, numbers, NOW, message_id=name)], NOW)
        say(f"held {name}")


def child(folder: Path, at: int, images: Path, pipe: int, cut: bool) -> None:
    """The load, ended at step ``at``."""
    disk = FaultyDisk("crash")
    if cut:
        disk.images = images

    def trouble(step: int, what: str, path: Path) -> int:
        if step == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return 0

    disk.trouble = trouble
    opened = recovery.open_store(folder, NOW, vfs="crash")
    load(opened, lambda *lines: os.write(pipe, "".join(f"{line}\n" for line in lines).encode()))
    os.write(pipe, b"end\n")


def run_child(folder: Path, at: int, images: Path, cut: bool) -> list[list[str]]:
    """What the child had promised when it ended."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(read)
            child(folder, at, images, write, cut)
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read) as said:
        lines = [line.split() for line in said]
    _, status = os.waitpid(pid, 0)
    if not os.WIFSIGNALED(status) and os.waitstatus_to_exitcode(status) != 0:
        raise AssertionError("the child failed by itself")
    return lines


def judge(folder: Path, said: list[list[str]]) -> None:
    """Assert that the spool keeps what was promised, before and after its recovery."""
    recovery.open_store(folder, NOW + 1).close()
    found = invariants.check(folder)
    touched = {line[1] for line in said if line[0] in ("retrying", "acknowledging", "giving")}
    for what, name, *more in (line for line in said if line != ["end"]):
        states = set(found[name].deliveries.values()) if name in found else None
        assert states is not None, f"{name} was {what} and is lost"
        assert State.CLAIMED not in states, "recovery left something claimed"
        if what == "delivered" or (what == "refused" and name not in touched):
            assert states == {State(what)}, f"{name} was {what} and is {states}"
            assert all(one in found for one in more), "a notice is lost"
        if what == "refused" and name not in touched:
            assert found[name].body is not None, f"{name} was refused, and nobody can try it again"
        if what == "retried":
            assert states == {State.DUE}, f"{name} was to be tried again and is {states}"
        if what == "acknowledged":
            assert found[name].body is None, f"{name} was acknowledged, and its body is still there"
        if what == "held":
            assert states == {State.HELD}, f"{name} was held and is {states}"
        if (
            what == "marked" and name not in touched
        ):  # whatever was committed since, it is not as if the dot had never been written
            assert states != {State.DUE} or 0 not in found[name].attempts.values(), f"{name}: the dot is forgotten"
    again = recovery.open_store(folder, NOW + 2)
    assert again.store.connection.execute("SELECT count(*) FROM upload").get == 0, "an upload was not cleaned away"
    assert again.events == [], "recovery had to be done twice"
    again.close()


def main(arguments: list[str]) -> int:
    """See the module."""
    parent, cut = Path(arguments[0]), arguments[1] == "cut"
    at, last, stride = (int(one) for one in arguments[2:])
    done = 0
    while at <= last:
        folder, images = parent / f"{at}" / "spool", parent / f"{at}" / "images"
        images.mkdir(parents=True)
        said = run_child(folder, at, images, cut)
        if cut and said[-1:] != [["end"]]:
            shutil.rmtree(folder)
            folder.mkdir(mode=0o700)
            for image in images.iterdir():
                shutil.copyfile(image, folder / image.name)
        try:
            judge(folder, said)
        except (AssertionError, KeyError, SpoolUnusable) as error:
            print(f"at step {at}: {type(error).__name__}: {error}")
            return 1
        shutil.rmtree(parent / f"{at}")
        done += 1
        if said[-1:] == [["end"]]:
            break
        at += stride
    print(f"{done} {'power cuts' if cut else 'kills'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
