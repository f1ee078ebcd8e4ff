"""Mail at which the relay seems to die is tried alone, and held if it dies again; everything else goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from relay import limits
from relay.choice.offer import Closed, Offer, Terms
from relay.choice.routes import Routes
from relay.delivery.digest import Digests
from relay.model import Event, EventKind, Job, State
from relay.spool import changes, recovery, verbs
from relay.spool.queries import Queries, QueueEntry
from support.delivering import Outlook
from support.spooling import NOW, SetClock, a_message, accepted, ids, offer, offering, opened, results, seize

MINUTE = limits.MINUTE


class Relay:
    """Starts on the same spool again and again."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now = folder, NOW
        self.opened = recovery.open_store(folder, self.now)
        self.told: list[Event] = []

    def ends(self, in_order: bool = False) -> None:
        """The relay ends, as a kill or a power cut ends it or ``in_order``, and is started again."""
        self.opened.close(in_order=in_order)
        self.now += MINUTE
        self.opened = recovery.open_store(self.folder, self.now)
        self.told = self.opened.events

    def accept(self, number: int = 1, to: int = 1, account: str = "anna") -> list[str]:
        """Ids of so many new messages, due now and not claimed."""
        messages = [a_message(account, [f"r{n}@example.net" for n in range(to)], self.now) for _ in range(number)]
        numbers = self.opened.numbers
        group = [changes.add(numbers, numbers.key(), one, b"S: s\r\n\r\n", [accepted(one)]) for one in messages]
        self.opened.store.apply(group, self.now)
        return [one.id for one in messages]

    def claim(self, room: int | Offer = 100) -> list[Job]:
        self.opened.store.look()
        return seize(self.opened.store, room, self.now)

    def mark(self, job: Job) -> None:
        self.opened.store.apply([changes.mark(ids(job), job.provider)], self.now)

    def record(self, job: Job, state: State = State.DELIVERED, at: float = 0.0) -> None:
        some = results(job, state, at=at)
        self.opened.store.apply([changes.record(self.opened.numbers, job, some, [], (), self.now)], self.now)

    def verb(self, kind: EventKind, message: str) -> None:
        self.opened.store.apply([verbs.verb(kind, self.opened.numbers, self.now, message_id=message)], self.now)

    def retry(self, message: str) -> None:
        self.opened.store.apply([verbs.retry(self.opened.numbers, message, self.now)], self.now)

    def queue(self) -> dict[str, QueueEntry]:
        queries = Queries(self.folder / "spool.db")
        found = {entry.message.id: entry for entry in queries.queue(1000)}
        queries.close()
        return found

    def suspect(self, number: int = 1, to: int = 1) -> list[str]:
        """Ids of messages that were in hand at two unclean ends."""
        names = self.accept(number, to)
        for _ in range(2):
            assert self.claim()
            self.ends()
        return names


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Relay]:
    made = Relay(tmp_path / "spool")
    yield made
    made.opened.close()


def names(jobs: list[Job]) -> list[str]:
    return [job.message.id for job in jobs]


def test_fifty_that_two_power_cuts_met_are_tried_one_after_the_other_and_none_is_held(relay: Relay) -> None:
    innocent = relay.suspect(50)
    tried = []
    while jobs := relay.claim():
        (job,) = jobs
        assert job.suspect
        assert relay.claim() == [], "one at a time"
        tried.append(job.message.id)
        relay.record(job)
    assert sorted(tried) == sorted(innocent)
    assert relay.queue() == {}


def test_one_power_cut_makes_nobody_wait(relay: Relay) -> None:
    relay.accept(50)
    assert len(relay.claim()) == 50
    relay.ends()
    jobs = relay.claim()
    assert len(jobs) == 50
    assert not any(job.suspect for job in jobs)


@pytest.mark.parametrize("sent", [False, True])
def test_the_relay_dies_a_third_time_and_the_one_that_was_tried_alone_is_held_and_told_of(
    relay: Relay, sent: bool
) -> None:
    suspects = relay.suspect(3)
    (guilty,) = relay.claim()
    new = relay.accept(account="bert")
    if sent:
        relay.mark(guilty)
    relay.ends()
    name = guilty.message.id
    entry = relay.queue()[name]
    assert (entry.state, entry.doubts, entry.attempts) == (State.HELD, int(sent), int(sent))
    assert entry.reply.startswith("The relay stopped each time it was sending this message")
    assert ("may have been delivered already" in entry.reply) == sent
    assert f"make queue ARGS='release {name}'" in entry.reply
    assert len(entry.reply) < limits.REPLY_KEPT
    kinds = [EventKind.DOUBTFUL] * sent + [EventKind.HELD, EventKind.RECOVERED]
    assert [event.kind for event in relay.told] == kinds
    assert relay.told[-1].detail["held"] == 1
    held = relay.told[-2]
    assert (held.message, held.reply) == (name, entry.reply)
    (trace,) = Queries(relay.folder / "spool.db").trace(name, "", 1)
    assert trace.events[-1] == held
    rest = []
    while jobs := relay.claim():
        rest += names(jobs)
        for job in jobs:
            relay.record(job)
    assert sorted(rest) == sorted({*suspects, *new} - {name}), "all others go on"


def test_an_attempt_that_was_completed_clears_it_of_suspicion(relay: Relay) -> None:
    relay.accept()
    for state in (State.DUE, State.DUE, State.DUE):
        (job,) = relay.claim()
        assert not job.suspect
        relay.ends()
        (job,) = relay.claim()
        relay.record(job, state, at=relay.now)


def test_ends_in_order_do_not_count(relay: Relay) -> None:
    (name,) = relay.accept()
    for _ in range(5):
        (job,) = relay.claim()
        assert not job.suspect
        relay.ends(in_order=True)
    assert relay.queue()[name].state is State.DUE
    relay.ends()  # and what is said of one end is not said of the next
    (job,) = relay.claim()
    relay.ends()
    (job,) = relay.claim()
    relay.ends()
    (job,) = relay.claim()
    assert job.suspect
    relay.ends(in_order=True)
    assert relay.queue()[name].state is State.DUE, "nor do they hold it, and it stays a suspect"
    (job,) = relay.claim()
    assert job.suspect


def test_what_is_in_hand_is_waited_for_a_minute_and_so_is_the_suspect(relay: Relay) -> None:
    (suspect,) = relay.accept()
    for wait in (limits.DOUBT_WAIT, limits.DOUBT_WAIT - MINUTE):
        (job,) = relay.claim()
        relay.mark(job)
        relay.ends()
        relay.now += wait
    before = relay.accept(account="bert")
    assert names(relay.claim()) == before, "it is not its time yet: others are not concerned"
    relay.now += MINUTE
    meanwhile = relay.accept(account="cleo")
    assert relay.claim() == []
    assert relay.opened.store.next_due == relay.now + MINUTE
    relay.now += MINUTE
    assert names(relay.claim()) == [suspect], "what is in hand has had its minute"
    assert relay.claim() == []
    relay.now += MINUTE
    assert names(relay.claim()) == meanwhile, "no provider's ten minutes keep all other mail"


def test_new_mail_is_not_handed_out_by_the_commit_that_accepts_it_while_a_suspect_is_tried(relay: Relay) -> None:
    relay.suspect()
    (job,) = relay.claim()
    message = a_message("bert", at=relay.now)
    add = changes.add(relay.opened.numbers, relay.opened.numbers.key(), message, b"b", [])
    assert relay.opened.store.apply([add], relay.now, offer(100)) == []
    some = changes.record(relay.opened.numbers, job, results(job, State.DELIVERED), [], (), relay.now)
    (next_one,) = relay.opened.store.apply([some], relay.now, offer(100))
    assert next_one.message.id == message.id, "it follows at once when that is done"
    message = a_message("bert", at=relay.now)
    add = changes.add(relay.opened.numbers, relay.opened.numbers.key(), message, b"b", [])
    assert len(relay.opened.store.apply([add], relay.now, offer(100))) == 1


def test_a_suspect_that_no_provider_takes_holds_up_nobody(relay: Relay) -> None:
    relay.suspect()
    (new,) = relay.accept(account="bert")
    only_bert = Offer({"sink": Terms("sink", senders=("bert@example.org",))}, Routes(("sink",)), {"sink": 100})
    assert names(relay.claim(only_bert)) == [new]
    small = Offer(
        {"sink": Terms("sink")}, Routes(("sink",)), {"sink": 100}, rooms_for={("sink", "anna@example.org"): 0}
    )
    newer = relay.accept(account="bert")
    relay.now += 2 * MINUTE
    assert names(relay.claim(small)) == newer
    unknown = Closed(relay.now + limits.DAY, "it does not know the address")
    unset = Offer(
        {"sink": Terms("sink")}, Routes(("sink",)), {"sink": 100}, {}, {("sink", "anna@example.org"): unknown}
    )
    for _ in range(3):  # while bert's are in hand, and each time that it is looked at anew
        newest = relay.accept(account="bert")
        assert names(relay.claim(unset)) == newest, "what is in hand is not waited for in vain"
        relay.now += 6 * MINUTE


def test_the_recipients_of_a_message_that_are_not_suspected_go_their_own_way(relay: Relay) -> None:
    (name,) = relay.accept(to=3)
    few = Offer({"sink": Terms("sink", recipients=1)}, Routes(("sink",)), {"sink": 100})
    for _ in range(2):
        first, *others = sorted(relay.claim(few), key=ids)
        for job in others:
            relay.record(job, State.DUE, at=relay.now)
        relay.ends()
    (alone,) = relay.claim(few)
    assert alone.suspect
    assert ids(alone) == ids(first)
    relay.now += MINUTE
    others = relay.claim(few)
    assert len(others) == 2
    assert not {delivery for job in others for delivery in ids(job)} & set(ids(alone))
    relay.ends()
    states = sorted(entry.state for entry in Queries(relay.folder / "spool.db").queue(10))
    assert states == [State.DUE, State.DUE, State.HELD]
    assert name in relay.queue()


def test_what_the_operator_releases_is_tried_alone_and_held_again(relay: Relay) -> None:
    (name,) = relay.suspect()
    relay.claim()
    relay.ends()
    relay.verb(EventKind.RELEASED, name)
    (job,) = relay.claim()
    assert job.suspect
    relay.mark(job)
    relay.ends()
    entry = relay.queue()[name]
    assert (entry.state, entry.tied_to) == (State.HELD, "sink"), "now it may have been delivered, by that one only"
    relay.retry(name)
    (job,) = relay.claim()
    assert not job.suspect


def test_a_suspect_stays_one_through_doubts_and_new_rounds(relay: Relay) -> None:
    (name,) = relay.accept()
    for doubts in (1, 2):
        (job,) = relay.claim()
        relay.mark(job)
        relay.ends()
        assert relay.queue()[name].tied_to == "sink"
        assert relay.queue()[name].doubts == doubts
        relay.now += limits.DOUBT_WAIT
    (job,) = relay.claim()
    assert (job.suspect, job.tied_to) == (True, "sink")


def test_what_is_in_doubt_too_often_is_ended_with_its_header_unread_if_the_relay_died_of_that(relay: Relay) -> None:
    (name,) = relay.accept()
    for n in range(3):
        (job,) = relay.claim()
        relay.mark(job)
        if n < 2:
            unanswered = results(job, State.DUE, at=relay.now, doubts=1)
            relay.opened.store.apply(
                [changes.record(relay.opened.numbers, job, unanswered, [], (), relay.now)], relay.now
            )
    seen = []
    for _ in range(2):
        relay.ends()
        (stuck,) = relay.opened.stuck
        seen.append(stuck.suspect)
    assert seen == [False, True]
    relay.ends()
    assert relay.opened.stuck == ()
    assert relay.queue()[name].state is State.HELD


def test_of_what_grew_too_old_suspects_are_ended_one_at_a_time(relay: Relay) -> None:
    suspects = relay.suspect(2)
    old = relay.accept(3)
    none = Offer({"sink": Terms("sink")}, Routes(("sink",)), {}, {"sink": Closed(relay.now + 1e6, "paused")})

    def overdue() -> list[Job]:
        claims, found = relay.opened.store.claims, list[Job]()
        work = changes.Change(
            at=relay.now, work=lambda _: found.extend(claims.overdue(none, relay.now + 1, 100, relay.now))
        )
        relay.opened.store.apply([work], relay.now)
        return found

    assert names(overdue()) == [suspects[0]]
    assert sorted(names(overdue())) == sorted(old), "not beside another"
    relay.ends()
    states = {name: entry.state for name, entry in relay.queue().items()}
    assert states == {suspects[0]: State.HELD} | dict.fromkeys([suspects[1], *old], State.DUE)


async def test_its_sender_is_told_after_four_hours_that_it_waits_and_is_safe(tmp_path: Path) -> None:
    clock, name = SetClock(), ""
    for _ in range(3):
        async with opened(tmp_path / "spool", clock) as one:
            name = name or (await one.add()).id
            assert await one.spool.claim(offering(1))
            await one.spool.close(in_order=False)
    async with opened(tmp_path / "spool", clock) as one:
        assert (await one.spool.stats()).put_aside == 1
        clock.now += limits.DELAY_NOTICE_AFTER + 1
        digests = Digests(one.spool, clock, "mail.example.org", "postmaster@example.org", Outlook())
        assert await digests.look() == 1
        assert await digests.look() == 0
        (letter,) = await one.spool.claim(offering(5))
        text = (letter.body or b"").decode()
        assert name in text
        assert "They are safe, and\r\nwait until whoever runs it decides" in text
