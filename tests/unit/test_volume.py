"""A stolen password: ten times the usual mail is an event, and pauses the account if its entry says so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from relay.accounts import Account, Accounts, AccountsError, parse
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


def paused(now: float = NOW) -> tuple[Volume, list[tuple[str, str]]]:
    """A volume in which anna is paused, and where the ends of pauses are told."""
    volume, told = week(1), list[tuple[str, str]]()
    volume.on_end = lambda name, why: told.append((name, why))
    volume.add("anna", 100, now)
    assert volume.judge(PAUSES, now)
    return volume, told


def test_only_who_wants_it_is_paused() -> None:
    volume = week(1)
    volume.add("anna", 100, NOW)
    assert volume.judge(ANNA, NOW)
    assert volume.paused_until("anna", NOW + 1) == 0


def test_a_pause_ends_after_a_day_and_its_end_is_told_once() -> None:
    volume, told = paused()
    assert volume.paused_until("anna", NOW + DAY - 1) == NOW + PAUSE
    assert told == []
    for _ in range(2):
        assert volume.paused_until("anna", NOW + PAUSE) == 0
    assert told == [("anna", "a day has passed")]


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (replace(PAUSES), None),  # read again
        (replace(PAUSES, notify="boss@example.org"), None),
        (replace(PAUSES, senders=("a@example.org",), recipients_per_day=9_000, disabled=True), None),
        (None, None),  # an editor that writes in place leaves half a file for a moment
        (replace(PAUSES, password_hash="new"), "new password"),
        (replace(PAUSES, pause_when_unusual=False), 'unusual_volume = "report"'),
    ],
)
def test_what_the_operator_can_do_about_a_pause(now: Account | None, why: str | None) -> None:
    volume, told = paused()
    volume.accounts_changed(Accounts([now] if now else []), NOW + 1)
    assert (volume.paused_until("anna", NOW + 2) == 0) is (why is not None)
    assert told == ([("anna", why)] if why else [])
    volume.accounts_changed(Accounts([PAUSES]), NOW + 3)
    assert (volume.paused_until("anna", NOW + 4) == 0) is (why is not None)


def test_after_a_new_password_the_hour_begins_anew_and_can_pause_again() -> None:
    volume, _ = paused()
    new = replace(PAUSES, password_hash="new")
    volume.accounts_changed(Accounts([new]), NOW + 1)
    volume.add("anna", FLOOR, NOW + 2)
    assert volume.judge(new, NOW + 2) is None
    volume.add("anna", 1, NOW + 3)
    assert volume.judge(new, NOW + 3) == Unusual(FLOOR + 1, 1)
    assert volume.paused_until("anna", NOW + 4) > 0


@pytest.mark.parametrize("after", [HOUR, DAY])
def test_the_burst_that_paused_an_account_does_not_become_its_usual(after: float) -> None:
    """By whichever end that comes later than the hour's; an account that is new has no other hours."""
    volume, new = Volume(), replace(PAUSES, password_hash="new")
    volume.add("anna", 2_000, NOW)
    assert volume.judge(PAUSES, NOW)
    now = NOW + after
    if after < DAY:
        volume.accounts_changed(Accounts([new]), now)
    assert volume.paused_until("anna", now) == 0
    volume.add("anna", FLOOR + 1, now + 1)
    assert volume.judge(new, now + 1) == Unusual(FLOOR + 1, 0)


def test_what_was_the_operators_own_may_become_it() -> None:
    volume, report = Volume(), replace(PAUSES, pause_when_unusual=False)
    volume.add("anna", 2_000, NOW)
    assert volume.judge(PAUSES, NOW)
    volume.accounts_changed(Accounts([report]), NOW + 1)
    volume.add("anna", 1, NOW + 2)
    assert volume.judge(report, NOW + 2) is None, "this hour is told"
    volume.add("anna", 2_000, NOW + HOUR)
    assert volume.judge(report, NOW + HOUR) is None


def test_an_hour_that_was_told_of_can_still_pause() -> None:
    """The operator has seen the alarm and writes ``unusual_volume = "pause"``."""
    volume = week(1)
    volume.add("anna", 100, NOW)
    assert volume.judge(ANNA, NOW)
    volume.add("anna", 1, NOW + 1)
    assert volume.judge(PAUSES, NOW + 1) == Unusual(101, 1)
    assert volume.paused_until("anna", NOW + 2) > 0


def test_what_could_not_be_kept_neither_pauses_nor_counts_as_told() -> None:
    volume, told = paused()
    volume.withdraw("anna", 100, NOW, judged=True)
    assert volume.paused_until("anna", NOW + 1) == 0
    assert told == [], "nobody was told of its beginning"
    assert volume.judge(PAUSES, NOW + 1) is None
    volume.add("anna", 100, NOW + 2)
    assert volume.judge(PAUSES, NOW + 2)
    volume.add("anna", 1, NOW + 3)
    volume.withdraw("anna", 1, NOW + 3, judged=False)
    assert volume.paused_until("anna", NOW + 4) > 0, "another one's failure"


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


async def test_a_message_that_could_not_be_kept_pauses_nobody() -> None:
    bare = BareSession("submissions", accounts=[person(pause_when_unusual=True)])
    people = [b"RCPT TO:<person%d@example.net>\r\n" % number for number in range(FLOOR + 1)]
    letter = [b"DATA\r\n", b"From: anna@example.org\r\n\r\nx\r\n.\r\n"]
    for step in (b"", *LOGIN):
        await bare.send(step)
    for full, answer, ended in (("commit", 452, 250), ("", 250, 450)):
        await bare.send(b"MAIL FROM:<anna@example.org>\r\n" + b"".join(people))
        bare.spool.full = full
        assert await bare.codes(*letter) == [354, answer]
        assert await bare.codes(b"MAIL FROM:<anna@example.org>\r\nRCPT TO:<bob@example.net>\r\n") == [250, ended]
        await bare.send(b"RSET\r\n")
    (kept,) = bare.spool.kept
    assert [event.kind for event in kept.events] == [EventKind.ACCEPTED, EventKind.UNUSUAL], "told with what is kept"


async def test_a_session_that_knows_an_older_entry_does_not_end_a_pause() -> None:
    bare = BareSession("submissions", accounts=[PAUSES])
    for step in (b"", *LOGIN, b"MAIL FROM:<anna@example.org>\r\n"):
        await bare.send(step)
    edited = replace(PAUSES, notify="boss@example.org")
    bare.file.current = Accounts([edited])
    volume, now = bare.session.desk.limiter.volume, bare.session.desk.clock.time()
    volume.accounts_changed(bare.file.current, now)
    volume.add("anna", 1_000, now)
    assert volume.judge(edited, now)
    assert await bare.codes(b"RCPT TO:<bob@example.net>\r\n") == [450]
    assert volume.paused_until("anna", now) > 0


def test_the_setting() -> None:
    text = '[accounts.a]\npassword_hash = ""\nsenders = ["a@b.c"]\n'
    assert [account.pause_when_unusual for account in parse(text.encode())] == [False]
    assert [account.pause_when_unusual for account in parse(text.encode() + b'unusual_volume = "pause"')] == [True]
    with pytest.raises(AccountsError, match=r'unusual_volume: .* allowed: "report" or "pause"'):
        parse(text.encode() + b"unusual_volume = true")
