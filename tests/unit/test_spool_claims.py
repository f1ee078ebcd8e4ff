"""Who is served next: oldest first within an account, in turn between accounts, a message's recipients together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from relay import limits
from relay.model import Job, Message, State
from relay.spool import changes, recovery
from relay.spool.recovery import Opened
from support.spooling import NOW, a_message, ids, results, seize


@pytest.fixture
def opened(scratch: Path) -> Iterator[Opened]:
    made = recovery.open_store(scratch / "spool", NOW)
    yield made
    made.close()


def add(opened: Opened, account: str, at: float, to: Sequence[str] = ("x@y.example",), body: bytes = b"b") -> Message:
    message = a_message(account, to, at)
    opened.store.apply([changes.add(opened.numbers, opened.numbers.key(), message, body, [])], at)
    return message


def claim(opened: Opened, limit: int, now: float = NOW) -> list[Job]:
    return seize(opened.store, limit, now)


def test_oldest_first_within_an_account(opened: Opened) -> None:
    sent = [add(opened, "anna", at) for at in (NOW - 10, NOW - 30, NOW - 20)]
    assert [job.message.id for job in claim(opened, 2)] == [sent[1].id, sent[2].id]
    assert [job.message.id for job in claim(opened, 2)] == [sent[0].id]
    assert claim(opened, 2) == []


def test_a_flood_of_one_account_does_not_hold_up_another(opened: Opened) -> None:
    for _ in range(50):
        add(opened, "loud", NOW - 100)
    quiet = add(opened, "quiet", NOW - 1)
    assert quiet.id in [job.message.id for job in claim(opened, 2)]


def test_accounts_take_turns_even_one_message_at_a_time(opened: Opened) -> None:
    for account in ("anna", "bert", "cleo"):
        for _ in range(4):
            add(opened, account, NOW - 5)
    turns = [claim(opened, 1)[0].message.account for _ in range(12)]
    assert turns == ["anna", "bert", "cleo"] * 4


def test_what_some_do_not_use_of_a_claim_others_get(opened: Opened) -> None:
    for _ in range(20):
        add(opened, "anna", NOW - 5)
    add(opened, "bert", NOW - 5)
    accounts = [job.message.account for job in claim(opened, 10)]
    assert sorted(accounts) == ["anna"] * 9 + ["bert"]


def test_recipients_of_a_message_are_claimed_together(opened: Opened) -> None:
    to = [f"r{n}@x.example" for n in range(30)]
    message = add(opened, "anna", NOW - 5, to)
    other = add(opened, "anna", NOW - 4)
    jobs = claim(opened, 2)
    assert [one.address for one in jobs[0].recipients] == to
    assert jobs[0].message.id == message.id
    assert other.id in [job.message.id for job in jobs + claim(opened, 2)]


def test_recipients_that_are_not_yet_due_are_left(opened: Opened) -> None:
    add(opened, "anna", NOW - 5, ["now@x.example", "later@x.example"])
    (job,) = claim(opened, 1)
    both = results(job, State.DUE, at=NOW + 60)
    now, later = both[0], results(job, State.DUE, at=NOW + 900)[1]
    opened.store.apply([changes.record(opened.numbers, job, [now, later], [], (), NOW)], NOW)
    assert claim(opened, 5, NOW + 59) == []
    (job,) = claim(opened, 5, NOW + 60)
    assert [(one.address, one.attempts) for one in job.recipients] == [("now@x.example", 1)]
    (job,) = claim(opened, 5, NOW + 900)
    assert [one.address for one in job.recipients] == ["later@x.example"]


def test_a_small_body_comes_with_the_claim_and_a_larger_one_does_not(opened: Opened) -> None:
    bodies = [b"", b"x", b"y" * limits.INLINE, b"z" * (limits.INLINE + 1), b"w" * (limits.CHUNK + 1)]
    for n, body in enumerate(bodies):
        add(opened, "anna", NOW - 10 + n, body=body)
    jobs = claim(opened, 10)
    assert [job.body for job in jobs] == [*bodies[:3], None, None]
    assert [job.chunks for job in jobs] == [0, 1, 1, 1, 2]
    assert [job.message.size for job in jobs] == [len(body) for body in bodies]


def test_claimed_with_the_commit_that_accepts_it_is_the_same_as_claimed_later(opened: Opened) -> None:
    for body in (b"", b"x", b"z" * (limits.INLINE + 1), b"w" * (limits.CHUNK + 1)):
        message = a_message(to=["a@x.example", "b@x.example"])
        (at_once,) = seize(opened.store, 5, NOW, changes.add(opened.numbers, opened.numbers.key(), message, body, []))
        opened.store.apply([changes.release([at_once])], NOW)
        (later,) = claim(opened, 5)
        assert at_once == later


def test_new_mail_does_not_overtake_what_waits(opened: Opened) -> None:
    waiting = add(opened, "anna", NOW - 60)
    new = a_message("anna", at=NOW)
    jobs = seize(opened.store, 1, NOW, changes.add(opened.numbers, opened.numbers.key(), new, b"x", []))
    assert [job.message.id for job in jobs] == [waiting.id]


def test_when_nothing_is_due_the_store_knows_until_when(opened: Opened) -> None:
    add(opened, "anna", NOW)
    (job,) = claim(opened, 1)
    opened.store.apply([changes.record(opened.numbers, job, results(job, State.DUE, at=NOW + 60), [], (), NOW)], NOW)
    assert claim(opened, 1) == []
    assert opened.store.next_due == NOW + 60
    opened.store.apply([changes.mark(ids(job), "sink")], NOW)
    assert opened.store.next_due == NOW + 60
