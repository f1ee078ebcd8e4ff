"""A stolen password: ten times the usual mail is an event, and pauses the account if its entry says so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.accounts import AccountsError, parse
from relay.limits import DAY, HOUR
from relay.model import EventKind
from relay.submission.volume import FLOOR, PAUSE, TIMES, Unusual, Volume
from support.bare_session import BareSession
from support.fakes import FakeJournal
from support.reception import person

NOW = 1_800_000_000.0 // HOUR * HOUR
ANNA = person()
PAUSES = person(pause_when_unusual=True)
LOGIN = [b"EHLO a\r\n", b"AUTH PLAIN AGFubmEAY29ycmVjdCBob3JzZQ==\r\n"]


def week(each_hour: int) -> Volume:
    """An account that has sent to so many recipients in each of fifty hours."""
    volume = Volume()
    for hour in range(1, 51):
        volume.add("anna", each_hour, NOW - hour * HOUR)
    return volume


@pytest.mark.parametrize(("usual", "most"), [(0, FLOOR), (1, FLOOR), (FLOOR // TIMES, FLOOR), (9, 90), (100, 1000)])
def test_at_the_limit_and_beyond(usual: int, most: int) -> None:
    volume = week(usual)
    volume.add("anna", most, NOW)
    assert volume.judge(ANNA, NOW) is None
    volume.add("anna", 1, NOW + 1)
    assert volume.judge(ANNA, NOW + 1) == Unusual(most + 1, usual)


def test_one_busy_hour_is_not_the_usual() -> None:
    volume = week(2)
    volume.add("anna", 5_000, NOW - 3 * HOUR)
    volume.add("anna", FLOOR + 1, NOW)
    assert volume.judge(ANNA, NOW) == Unusual(FLOOR + 1, 2)


def test_it_is_told_once_an_hour_and_of_one_account() -> None:
    volume = week(1)
    volume.add("anna", 100, NOW)
    assert volume.judge(ANNA, NOW)
    assert volume.judge(ANNA, NOW + HOUR - 1) is None
    assert volume.judge(person("boss"), NOW) is None
    volume.add("anna", 100, NOW + HOUR)
    assert volume.judge(ANNA, NOW + HOUR)


def test_what_was_not_accepted_does_not_count() -> None:
    volume = week(1)
    volume.add("anna", 100, NOW)
    volume.add("anna", -100, NOW)
    assert volume.judge(ANNA, NOW) is None


def test_a_week_is_kept_and_no_more() -> None:
    volume = Volume()
    for hour in range(2_000):
        volume.add("anna", 1, NOW + hour * HOUR)
    assert len(volume._hours["anna"]) <= 7 * 24


@pytest.mark.parametrize("account", [ANNA, PAUSES])
def test_a_pause_ends_after_a_day(account: object) -> None:
    volume = week(1)
    volume.add("anna", 100, NOW)
    assert volume.judge(account, NOW)  # type: ignore[arg-type]
    until = volume.paused_until(account, NOW + DAY - 1)  # type: ignore[arg-type]
    assert until == (NOW + PAUSE if account is PAUSES else 0)
    assert volume.paused_until(account, NOW + PAUSE) == 0  # type: ignore[arg-type]


def test_a_new_password_ends_it_and_the_same_entry_read_again_does_not() -> None:
    volume = week(1)
    volume.add("anna", 100, NOW)
    volume.judge(PAUSES, NOW)
    assert volume.paused_until(replace(PAUSES), NOW + 1) > 0
    assert volume.paused_until(replace(PAUSES, password_hash="new"), NOW + 1) == 0
    assert volume.paused_until(PAUSES, NOW + 2) == 0


@pytest.mark.parametrize("pauses", [False, True])
async def test_in_a_session(pauses: bool) -> None:
    bare = BareSession("submissions", accounts=[person(pause_when_unusual=pauses)])
    for step in (b"", *LOGIN):
        await bare.send(step)
    people = [b"RCPT TO:<person%d@example.net>\r\n" % number for number in range(FLOOR + 1)]
    letter = [b"DATA\r\n", b"From: anna@example.org\r\n\r\nx\r\n.\r\n"]
    codes = await bare.codes(b"MAIL FROM:<anna@example.org>\r\n" + b"".join(people))
    assert codes == [250] * (FLOOR + 2)
    assert await bare.codes(*letter) == [354, 250]
    (kept,) = bare.spool.kept
    accepted, unusual = kept.events
    assert (accepted.kind, unusual.kind) == (EventKind.ACCEPTED, EventKind.UNUSUAL)
    assert dict(unusual.detail) == {"recipients": FLOOR + 1, "usual": 0, "paused": pauses}
    said = await bare.send(b"MAIL FROM:<anna@example.org>\r\nRCPT TO:<bob@example.net>\r\n")
    assert said[1].startswith(b"450 4.7.1 Account anna sends far more than usual" if pauses else b"250 ")


async def test_a_message_that_is_under_way_when_the_pause_begins_is_not_taken() -> None:
    account = person(pause_when_unusual=True)
    bare = BareSession("submissions", accounts=[account])
    for step in (b"", *LOGIN, b"MAIL FROM:<anna@example.org>\r\n", b"RCPT TO:<bob@example.net>\r\n", b"DATA\r\n"):
        await bare.send(step)
    volume, now = bare.session.desk.limiter.volume, bare.session.desk.clock.time()
    volume.add("anna", 1_000, now)
    assert volume.judge(account, now)
    assert await bare.codes(b"From: anna@example.org\r\n\r\nx\r\n.\r\n") == [450]
    assert bare.spool.kept == []
    assert isinstance(bare.journal, FakeJournal)


def test_the_setting() -> None:
    text = '[accounts.a]\npassword_hash = ""\nsenders = ["a@b.c"]\n'
    assert [account.pause_when_unusual for account in parse(text.encode())] == [False]
    assert [account.pause_when_unusual for account in parse(text.encode() + b'unusual_volume = "pause"')] == [True]
    with pytest.raises(AccountsError, match=r'unusual_volume: .* allowed: "report" or "pause"'):
        parse(text.encode() + b"unusual_volume = true")
