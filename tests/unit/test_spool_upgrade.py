"""A spool that an earlier version left in the middle of work is taken over: everything in it goes on as it was."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from relay.model import State
from relay.spool import Spool, recovery, schema
from relay.spool.queries import QueueEntry
from support import invariants
from support.spooling import NOW, SetClock, a_message, offer, offering, opened, results, seize


def left_by(dump: str, folder: Path) -> Path:
    """``folder`` as a spool that an earlier version has left."""
    folder.mkdir(mode=0o700)
    connection = apsw.Connection(str(folder / "spool.db"))
    connection.execute(Path(__file__).with_name(dump).read_text())
    connection.close()
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return left_by("spool_version_1.sql", tmp_path / "spool")


async def entries(spool: Spool) -> dict[str, list[QueueEntry]]:
    found: dict[str, list[QueueEntry]] = {}
    for entry in await spool.queue():
        found.setdefault(entry.message.id.rstrip("0"), []).append(entry)
    return found


async def test_every_delivery_is_where_it_was_and_what_was_in_doubt_stays_tied(folder: Path) -> None:
    async with opened(folder) as one:
        found = await entries(one.spool)
        assert {name: [entry.state for entry in some] for name, some in found.items()} == {
            "CLAIMED": [State.DUE],
            "DEFERRED": [State.DUE, State.DUE],
            "DOUBTFUL": [State.DUE],
            "SENDING": [State.DUE],
            "STUCK": [State.SENDING],
            "REFUSED": [State.REFUSED],
            "HELD": [State.HELD],
            "QUOTED": [State.DUE],
            "WAITING": [State.DUE],
        }
        assert (found["DOUBTFUL"][0].tied_to, found["SENDING"][0].tied_to) == ("sendgrid", "sendgrid")
        assert [entry.attempts for entry in found["DEFERRED"]] == [1, 1]
        assert [job.tied_to for job in one.spool.recovered_unknown] == ["sendgrid"]
        assert b"".join([data async for data in one.spool.read("WAITING".ljust(26, "0"))]).endswith(b"hello\r\n")
        # Of what was on its way when the relay stopped, the provider may have counted one.
        assert await one.spool.usage(0) == {"sendgrid": [(NOW, 1)]}


async def test_it_is_delivered_by_who_may_have_it(folder: Path) -> None:
    clock = SetClock(NOW + 1000)
    async with opened(folder, clock) as one:
        await one.spool.unhold(account="anna")
        jobs = await one.spool.claim(offering(20, "brevo"))
        names = {job.message.id.rstrip("0"): job.provider for job in jobs}
        assert names == {
            "CLAIMED": "brevo",
            "DEFERRED": "brevo",
            "DOUBTFUL": "sendgrid",  # which is not configured any more: delivery puts it aside
            "HELD": "brevo",
            "QUOTED": "brevo",
            "WAITING": "brevo",
        }
        assert [len(job.recipients) for job in jobs if job.message.id.startswith("DEFERRED")] == [2]
        for job in jobs:
            await one.spool.record(job, results(job, State.DELIVERED, provider=job.provider), [])
    kept = invariants.check(folder)
    assert {name.rstrip("0") for name, one in kept.items() if one.body is not None} == {"SENDING", "STUCK"}


def test_the_sender_domain_is_what_the_claim_goes_by(folder: Path) -> None:
    again = recovery.open_store(folder, NOW + 100)
    rows = again.store.connection.execute("SELECT DISTINCT account, domain FROM delivery WHERE state = 'due'")
    assert set(rows) == {("anna", "example.org"), ("shop", "shop.example"), ("bert", "example.org")}
    (job,) = (job for job in seize(again.store, offer(20), NOW + 100) if job.message.account == "shop")
    assert job.message.sender == '"odd@name"@shop.example'
    again.close()


def test_an_upgrade_that_is_cut_off_leaves_the_old_version_whole(folder: Path) -> None:
    connection = apsw.Connection(str(folder / "spool.db"))
    with pytest.raises(apsw.SQLError):
        schema.migrate(connection, (schema.MIGRATIONS[0], schema.MIGRATIONS[1] + "; SELECT nothing FROM nowhere"))
    assert connection.pragma("user_version") == 1
    assert "tried" not in [row[1] for row in connection.execute("PRAGMA table_info(delivery)")]
    connection.close()
    recovery.open_store(folder, NOW).close()


@pytest.fixture
def second(tmp_path: Path) -> Path:
    return left_by("spool_version_2.sql", tmp_path / "spool")


async def test_mail_of_version_2_goes_on_in_all_its_pieces(second: Path) -> None:
    async with opened(second, SetClock(NOW + 1000)) as one:
        found = await entries(one.spool)
        assert {name: entry.state for name, (entry, *_) in found.items()} == {
            "CLAIMED": State.DUE,
            "DEFERRED": State.DUE,
            "DOUBTFUL": State.DUE,
            "SENDING": State.DUE,
            "STUCK": State.SENDING,
            "REFUSED": State.REFUSED,
            "HELD": State.HELD,
            "QUOTED": State.DUE,
            "WAITING": State.DUE,
        }
        (left,) = found["DEFERRED"]
        assert left.recipient == "carl@example.net", "bob has it already"
        body = b"".join([data async for data in one.spool.read("WAITING".ljust(26, "0"))])
        pieces = [letter * 70 + b"\r\n" for letter in (b"a", b"b", b"c")]
        assert body.partition(b"\r\n\r\n")[2] == b"".join(pieces)
    invariants.check(second)


@pytest.mark.parametrize("dump", ["spool_version_1.sql", "spool_version_2.sql"])
async def test_mail_of_earlier_versions_was_accepted_to_be_sent(tmp_path: Path, dump: str) -> None:
    """`capture` must not take it; and it goes on, once there are providers."""
    spool = left_by(dump, tmp_path / "spool")
    async with opened(spool, trial=True) as one:
        assert {entry.state for entry in await one.spool.queue()} == {State.HELD, State.REFUSED, State.SENDING}
    async with opened(spool) as one:
        assert [entry.state for entry in await one.spool.queue()].count(State.HELD) == 1, "the operator's own"


async def test_mail_of_version_2_is_never_taken_for_a_repeat(second: Path) -> None:
    async with opened(second) as one:
        assert await one.spool.fingerprints(0, 100) == []
        message = a_message()._replace(fingerprint=bytes(range(16)))
        await one.add(message)
        assert await one.spool.fingerprints(0, 100) == [(NOW, bytes(range(16)), message.id)]
        assert await one.spool.states_of(message.id) == {State.DUE}
    again = apsw.Connection(str(second / "spool.db"))
    assert again.pragma("user_version") == schema.VERSION
    assert again.execute("SELECT count(*) FROM message WHERE fingerprint IS NULL").get == 10
    again.close()


async def test_what_failed_under_version_2_has_no_body_any_more_and_what_fails_now_has(second: Path) -> None:
    async with opened(second, SetClock(NOW + 1000)) as one:
        refused, *_ = await one.spool.failed()
        (story,) = await one.spool.trace(message_id=refused.message.id)
        assert await one.spool.retry(refused.message.id) == (0, 0, story.ended_at)
        job = next(job for job in await one.spool.claim(offering(20)) if job.message.id.startswith("WAITING"))
        await one.spool.record(job, results(job, State.REFUSED), [])
        assert (await one.spool.retry(job.message.id)).changed == 1
    invariants.check(second)
