"""What was accepted to be sent is never given to `capture`, and mail of the trial is never sent; both are held."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from relay.accounts import Account, Accounts
from relay.holding import Holding
from relay.limits import DOUBT_WAIT, HOUR
from relay.model import EventKind, State
from relay.spool.mode import reason
from support import invariants
from support.spooling import NOW, Opened, SetClock, a_message, eventually, offering, opened, results

TRIAL, REAL = True, False


async def states(one: Opened) -> list[State]:
    return [entry.state for entry in await one.spool.queue()]


async def takes_nothing(one: Opened) -> bool:
    """Whether there is nothing to be had: a mail that comes now is all that a claim gets."""
    probe = await one.add(a_message(account="probe", at=one.clock.now))
    (job,) = await one.spool.claim(offering(50))
    await one.spool.record(job, results(job, State.DELIVERED), [])
    return job.message.id == probe.id


@pytest.mark.parametrize("mode", [REAL, TRIAL])
async def test_mail_of_the_other_mode_is_held_with_the_reason_and_goes_when_the_settings_are_right_again(
    tmp_path: Path, mode: bool
) -> None:
    folder, clock = tmp_path / "spool", SetClock()
    async with opened(folder, clock, trial=mode) as one:
        sent = await one.add(a_message(to=["bob@example.net", "carl@example.net"]))
    clock.now += HOUR
    async with opened(folder, clock, trial=not mode) as one:
        assert await states(one) == [State.HELD] * 2
        assert [(event.kind, event.message, event.recipient, event.reply) for event in one.events] == [
            (EventKind.HELD, sent.id, name, reason(mode)) for name in ("bob@example.net", "carl@example.net")
        ]
        assert (await one.spool.stats()).held_by_mode == 2
        assert await takes_nothing(one)
    invariants.check(folder)
    clock.now += HOUR
    async with opened(folder, clock, trial=mode) as one:
        assert [event.kind for event in one.events] == [EventKind.RELEASED] * 2
        (job,) = await one.spool.claim(offering())
        assert job.message.id == sent.id
        assert [one.held for one in job.recipients] == [HOUR, HOUR], "it did not age meanwhile"
        (story,) = await one.spool.trace(message_id=sent.id)
        assert [event.kind for event in story.events][1:] == [EventKind.HELD] * 2 + [EventKind.RELEASED] * 2
    invariants.check(folder)


async def test_a_start_in_the_same_mode_touches_nothing_and_holds_nothing_twice(tmp_path: Path) -> None:
    for trial in (REAL, TRIAL):
        folder = tmp_path / str(trial)
        async with opened(folder, trial=trial) as one:
            await one.add()
        async with opened(folder, trial=trial) as one:
            assert (await states(one), one.events) == ([State.DUE], [])
        for _ in range(2):
            async with opened(folder, trial=not trial) as one:
                assert await states(one) == [State.HELD]
        assert one.events == [], "it was told at the first start"


async def test_the_operators_own_hold_is_not_released_by_settings(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    async with opened(folder) as one:
        mine, other = await one.add(), await one.add()
        assert await one.spool.hold(mine.id) == 1
    async with opened(folder, trial=True) as one:
        assert await states(one) == [State.HELD] * 2
        assert await one.spool.hold(other.id) == 1, "that one shall stay, too, whatever the settings"
    async with opened(folder) as one:
        assert await states(one) == [State.HELD] * 2
        assert await one.spool.unhold(account="anna") == 2


async def let_go(one: Opened, verb: str, message_id: str) -> int:
    return await one.spool.unhold(message_id) if verb == "unhold" else (await one.spool.retry(message_id)).changed


@pytest.mark.parametrize("verb", ["unhold", "retry"])
async def test_whoever_releases_it_sends_nothing_that_does_not_fit(tmp_path: Path, verb: str) -> None:
    folder = tmp_path / "spool"
    async with opened(folder) as one:
        held, waiting = await one.add(), await one.add()
        await one.spool.hold(held.id)
    async with opened(folder, trial=True) as one:
        fits = await one.add()
        await one.spool.hold(fits.id)
        assert [await let_go(one, verb, name.id) for name in (held, waiting, fits)] == [0, 0, 1]
        assert await states(one) == [State.HELD, State.HELD, State.DUE]
        # The operator's hold is over, though: only the settings keep it now.
        assert [await one.spool.held_by_mode(name.id) for name in (held, waiting, fits)] == [1, 1, 0]
        assert [(event.kind, event.message) for event in one.events[-2:]] == [
            (EventKind.HELD, held.id),
            (EventKind.RELEASED if verb == "unhold" else EventKind.RETRIED, fits.id),
        ]
        (job,) = await one.spool.claim(offering(50))
        assert job.message.id == fits.id
    async with opened(folder) as one:
        jobs = await one.spool.claim(offering(50))
        assert {job.message.id for job in jobs} == {held.id, waiting.id}


async def test_failed_mail_that_does_not_fit_is_held_when_it_is_retried(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    async with opened(folder) as one:
        message = await one.add()
        (job,) = await one.spool.claim(offering(1))
        await one.spool.record(job, results(job, State.REFUSED), [])
    async with opened(folder, trial=True) as one:
        assert (await one.spool.retry(message.id)).changed == 0
        assert (await states(one), await one.spool.held_by_mode(message.id)) == ([State.HELD], 1)
    async with opened(folder) as one:
        (job,) = await one.spool.claim(offering(1))
        assert job.message.id == message.id


async def test_the_end_of_hold_queue_lets_only_go_what_fits(tmp_path: Path) -> None:
    """A hold of the account and a hold of the settings end independently, in any order."""
    folder = tmp_path / "spool"
    async with opened(folder) as one:
        await one.add()
        await one.spool.hold(account="anna")
    async with opened(folder, trial=True) as one:
        held, free = (Account(name="anna", password_hash="", senders=(), hold_queue=yes) for yes in (True, False))
        holding, stop = Holding(one.spool, Accounts([held])), asyncio.Event()
        holding.accounts_changed(Accounts([held]), Accounts([free]))
        working = asyncio.create_task(holding.run(stop))
        await eventually(lambda: [event.kind for event in one.events] == [EventKind.HELD])
        stop.set()
        await working
        assert await states(one) == [State.HELD]
        assert await one.spool.held_by_mode(account="anna") == 1
    async with opened(folder) as one:
        assert await states(one) == [State.DUE]


async def test_a_held_account_keeps_its_mail_when_the_settings_are_right_again(tmp_path: Path) -> None:
    """A password was stolen, and mail is captured for a while: what it left in the queue must not go out then."""
    folder = tmp_path / "spool"
    async with opened(folder) as one:
        await one.add()
    async with opened(folder, trial=True) as one:
        assert await one.spool.hold(account="anna") == 1
        assert await one.spool.hold(account="anna") == 0
    async with opened(folder) as one:  # and the account is gone from the file: nobody holds it anew
        assert await states(one) == [State.HELD]
        assert await one.spool.unhold(account="anna") == 1
        assert await states(one) == [State.DUE]


async def test_it_can_be_dropped(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    async with opened(folder, trial=True) as one:
        message = await one.add()
    async with opened(folder) as one:
        assert await one.spool.drop(message.id) == 1
        assert (await one.spool.stats()).held_by_mode == 0
    assert invariants.check(folder)[message.id].body is None


async def test_what_may_have_been_sent_keeps_its_provider_and_its_wait(tmp_path: Path) -> None:
    folder, clock = tmp_path / "spool", SetClock()
    async with opened(folder, clock) as one:
        message = await one.add()
        (job,) = await one.spool.claim(offering(1, "sendgrid"))
        await one.spool.mark([job.recipients[0].delivery], "sendgrid")
    async with opened(folder, clock, trial=True) as one:
        assert await states(one) == [State.HELD]
        assert await one.spool.delayed(NOW + 1) == [], "a letter about it would end in a file"
    async with opened(folder, clock) as one:
        (entry,) = await one.spool.queue()
        assert (entry.state, entry.tied_to, entry.next_attempt) == (State.DUE, "sendgrid", NOW + DOUBT_WAIT)
        clock.now += DOUBT_WAIT
        (job,) = await one.spool.claim(offering(1, "sendgrid"))
        assert (job.message.id, job.tied_to) == (message.id, "sendgrid")


async def test_what_was_in_doubt_too_often_is_ended_under_its_own_providers(tmp_path: Path) -> None:
    """Its notice would be written to a file, and nobody told."""
    folder = tmp_path / "spool"
    async with opened(folder) as one:
        message = await one.add()
        (job,) = await one.spool.claim(offering(1, "sendgrid"))
        await one.spool.record(job, results(job, State.DUE, provider="sendgrid", doubts=2), [])
        (job,) = await one.spool.claim(offering(1, "sendgrid"))
        await one.spool.mark([job.recipients[0].delivery], "sendgrid")
    async with opened(folder, trial=True) as one:
        assert one.spool.recovered_unknown == ()
        assert await takes_nothing(one)
    async with opened(folder) as one:
        assert [job.message.id for job in one.spool.recovered_unknown] == [message.id]
        assert await one.spool.drop(message.id) == 0, "delivery has it in hand"
    async with opened(folder, trial=True) as one:
        assert await one.spool.drop(message.id) == 1, "as the queue says that one can"
    assert invariants.check(folder)[message.id].body is None


async def test_mail_that_is_to_be_sent_is_no_repeat_of_the_trials(tmp_path: Path) -> None:
    """The very mail that was tried out is sent once more as soon as there is a provider: it must go out then."""
    folder = tmp_path / "spool"
    async with opened(folder, trial=True) as one:
        await one.add(a_message()._replace(fingerprint=bytes(range(16))))
        assert len(await one.spool.fingerprints(0, 100)) == 1
    async with opened(folder) as one:
        assert await one.spool.fingerprints(0, 100) == []
