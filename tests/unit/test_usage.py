"""What was sent before a restart still counts after it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from relay.accounts import Account, Accounts
from relay.limits import DAY
from relay.model import Event, EventKind, State
from relay.settings import read
from relay.spool import lately
from relay.usage import lan_budget, limiter, repeats
from support.delivering import FakeJournal
from support.spooling import NOW, Opened, SetClock, a_message, ids, offering, opened, results

ANNA = Account(name="anna", password_hash="", senders=("anna@example.org",), recipients_per_day=6)
SETTINGS = read(
    {
        "OWNPOST_DOMAINS": "example.org",
        "RELAY_LAN_BIND": "192.168.1.2",
        "RELAY_LAN_NETWORKS": "192.168.1.0/24",
        "RELAY_LAN_ACCOUNT": "Anna",
        "RELAY_LAN_RECIPIENTS_PER_DAY": "3",
    }
)


async def accept(one: Opened, listener: str, recipients: int, age: float = 10.0) -> None:
    message = a_message("anna", [f"{number}@x.example" for number in range(recipients)], NOW - age)
    event = Event(kind=EventKind.ACCEPTED, at=NOW - age, message=message.id, detail={"listener": listener})
    await one.spool.upload(message.id).commit(message, b"x", [event])


async def test_a_restart_gives_neither_an_account_nor_the_lan_port_a_second_days_worth(tmp_path: Path) -> None:
    assert SETTINGS.lan is not None
    budget = lan_budget(SETTINGS.lan)
    async with opened(tmp_path / "spool") as one:
        await accept(one, "lan", 2)
        await accept(one, "submission", 3)
        await accept(one, "lan", 3, age=86_401)
        counts = await limiter(SETTINGS, Accounts([ANNA]), one.spool, one.clock, frozenset(), FakeJournal())
        assert counts.check(ANNA, 1) is None
        assert counts.check(ANNA, 2) is not None
        assert counts.check(budget, 1) is None
        assert counts.check(budget, 2) is not None


async def test_the_end_of_a_pause_is_told(tmp_path: Path) -> None:
    journal = FakeJournal()
    async with opened(tmp_path / "spool") as one:
        await accept(one, "submission", 100)
        counts = await limiter(SETTINGS, Accounts([ANNA]), one.spool, one.clock, frozenset(), journal)
        assert counts.volume.judge(replace(ANNA, pause_when_unusual=True), NOW - 10.0)
        assert counts.volume.paused_until("anna", NOW + DAY) == 0
    assert journal.said == [("account_resumed", {"account": "anna", "why": "a day has passed"})]


async def keep(one: Opened, fingerprint: bytes, age: float) -> str:
    message = a_message(at=NOW - age)._replace(fingerprint=fingerprint)
    await one.spool.upload(message.id).commit(message, b"x", [])
    return message.id


async def test_what_was_kept_before_a_restart_is_known_for_the_rest_of_its_window(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as one:
        await keep(one, b"o" * 16, 600.0)
        old = await keep(one, b"a" * 16, 590.0)
        await keep(one, b"", 1.0)
        new = await keep(one, b"b" * 16, 1.0)
        late = await keep(one, b"c" * 16, -5.0)  # the machine's clock was set back since
    clock = SetClock()
    async with opened(tmp_path / "spool", clock) as one:
        known = await repeats(SETTINGS, one.spool, clock)
        assert known is not None
        assert [await known.first(name * 16) for name in (b"a", b"b", b"c")] == [old, new, late]
        assert await known.first(b"o" * 16) == ""
        clock.now += 10.0
        assert await known.first(b"a" * 16) == ""
        assert await known.first(b"b" * 16) == new


async def test_what_ended_without_reaching_anybody_is_not_known(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as one:
        known = await repeats(SETTINGS, one.spool, one.clock)
        assert known is not None
        for state, name in ((State.DELIVERED, b"a"), (State.REFUSED, b"b"), (State.DUE, b"c")):
            assert await known.first(name * 16) == ""
            message = await keep(one, name * 16, 0.0)
            known.ended(name * 16, message)
            (job,) = await one.spool.claim(offering(1))
            assert await known.first(name * 16) == message
            await one.spool.mark(ids(job), "sink")
            assert await known.first(name * 16) == message
            await one.spool.record(job, results(job, state, at=NOW + 60), [])
            assert await known.first(name * 16) == ("" if state is State.REFUSED else message)
        await one.spool.hold(message)
        assert await known.first(b"c" * 16) == message
        await one.spool.drop(message)
        assert await known.first(b"c" * 16) == ""


async def test_only_as_many_are_read_back_as_are_remembered(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as one:
        names = [await keep(one, b"%016d" % n, 100.0 - n) for n in range(25)]
        run = one.spool._questions._run
        for step in (1, 7, 100):
            found = lately.fingerprints(run, NOW - 600, 10, step)
            assert [name for _, _, name in found] == names[-10:]
            assert lately.fingerprints(run, NOW - 90, 100, step)[0][2] == names[10]


async def test_nobody_wants_to_know(tmp_path: Path) -> None:
    async with opened(tmp_path / "spool") as one:
        assert await repeats(replace(SETTINGS, repeat_minutes=0), one.spool, one.clock) is None
