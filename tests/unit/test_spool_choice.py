"""Claims with several providers: who is chosen, what is reserved, and that what nobody takes costs nothing."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest

from relay.choice import waiting
from relay.choice.offer import Closed, Offer, Terms
from relay.choice.quota import Quota
from relay.choice.routes import Route, Routes
from relay.model import EventKind, Job, Message, State
from relay.spool import changes, recovery, verbs
from relay.spool.claims import PUT_OFF, Claims
from relay.spool.pruning import Pruner
from relay.spool.recovery import Opened
from support.spooling import NOW, SetClock, a_message, eventually, ids, results, seize
from support.spooling import opened as opened_spool

DAY = Quota(limit=10, period="day")
SHUT = Closed(math.inf, "it is shut")


def offer(*names: str, room: int = 5, **more: Any) -> Offer:
    terms = {name: Terms(name) for name in names}
    return Offer(**{"terms": terms, "routes": Routes(names), "rooms": dict.fromkeys(names, room), "closed": {}, **more})


def with_quota(given: Offer, name: str, *quotas: Quota, reserve: float = 0.0) -> Offer:
    return replace(given, terms={**given.terms, name: Terms(name, quotas=quotas, reserve=reserve)})


@pytest.fixture
def opened(scratch: Path) -> Iterator[Opened]:
    made = recovery.open_store(scratch / "spool", NOW)
    yield made
    made.close()


def add(
    opened: Opened, account: str = "anna", to: int = 1, at: float = NOW, body: bytes = b"b", **more: Any
) -> Message:
    message = a_message(account, [f"r{n}@x.example" for n in range(to)], at)._replace(**more)
    opened.store.apply([changes.add(opened.numbers, opened.numbers.key(), message, body, [])], at)
    return message


def end(opened: Opened, job: Job, state: State, now: float = NOW, *, consumed: bool | None = None, **more: Any) -> None:
    consumed = state is State.DELIVERED if consumed is None else consumed
    some = [one._replace(consumed=consumed, provider=job.provider, **more) for one in results(job, state, at=now)]
    opened.store.apply([changes.record(opened.numbers, job, some, [], (), now)], now)


def providers(jobs: Sequence[Job]) -> list[str]:
    return [job.provider for job in jobs]


def in_hand(opened: Opened) -> dict[str, int]:
    statement = "SELECT provider, count(*) FROM delivery WHERE state IN ('claimed', 'sending') GROUP BY provider"
    return dict(opened.store.connection.execute(statement))


# --- who gets it
def test_the_chosen_provider_is_in_the_job_and_in_the_row(opened: Opened) -> None:
    add(opened)
    (job,) = seize(opened.store, offer("brevo", "ses"))
    assert (job.provider, job.tied_to) == ("brevo", "")
    assert in_hand(opened) == {"brevo": 1}


def test_new_mail_is_chosen_for_in_the_commit_that_accepts_it(opened: Opened) -> None:
    message, waits = a_message("anna"), a_message("shop")
    routes = Routes(("brevo",), (Route(("ses",), account="shop"),))
    given = offer("brevo", "ses", routes=routes, closed={"ses": SHUT})
    group = [changes.add(opened.numbers, opened.numbers.key(), one, b"x", []) for one in (message, waits)]
    jobs = opened.store.apply(group, NOW, given)
    assert [(job.message.id, job.provider) for job in jobs] == [(message.id, "brevo")]
    assert opened.store.next_due == math.inf  # the other is due, and nothing but a better offer changes that
    (job,) = seize(opened.store, replace(given, closed={}))
    assert (job.message.id, job.provider) == (waits.id, "ses")


def test_a_route_sends_an_accounts_mail_its_own_way(opened: Opened) -> None:
    add(opened, "anna")
    add(opened, "shop")
    given = offer("brevo", "ses", routes=Routes(("brevo",), (Route(("ses",), account="shop"),)))
    assert {job.message.account: job.provider for job in seize(opened.store, given)} == {"anna": "brevo", "shop": "ses"}


def test_what_is_full_is_followed_by_the_next(opened: Opened) -> None:
    for _ in range(5):
        add(opened)
    given = offer("brevo", "ses", rooms={"brevo": 2, "ses": 2})
    assert providers(seize(opened.store, given)) == ["brevo", "brevo", "ses", "ses"]
    assert seize(opened.store, replace(given, rooms={})) == []


def test_recipients_that_were_offered_elsewhere_go_on_without_the_others(opened: Opened) -> None:
    add(opened, to=3)
    (job,) = seize(opened.store, offer("brevo", "ses"))
    some = results(job, State.DUE, at=NOW)
    some = [some[0]._replace(tried="brevo"), some[1]._replace(tried="brevo"), some[2]._replace(state=State.DUE)]
    opened.store.apply([changes.record(opened.numbers, job, some, [], (), NOW)], NOW)
    jobs = {job.provider: job for job in seize(opened.store, offer("brevo", "ses"))}
    assert [one.address for one in jobs["ses"].recipients] == ["r0@x.example", "r1@x.example"]
    assert [one.address for one in jobs["brevo"].recipients] == ["r2@x.example"]
    assert jobs["ses"].recipients[0].tried == frozenset({"brevo"})


def test_recipients_with_different_pasts_go_together_where_they_go_the_same_way(opened: Opened) -> None:
    add(opened, to=2)
    (job,) = seize(opened.store, offer("brevo", "ses"))
    some = results(job, State.DUE, at=NOW)
    opened.store.apply(
        [changes.record(opened.numbers, job, [some[0]._replace(tried="brevo"), some[1]], [], (), NOW)], NOW
    )
    (job,) = seize(opened.store, offer("brevo", "ses", closed={"brevo": SHUT}))
    assert (job.provider, len(job.recipients)) == ("ses", 2)


def test_a_message_with_more_recipients_than_a_provider_takes_goes_in_parts(opened: Opened) -> None:
    add(opened, to=7)
    given = replace(offer("ses"), terms={"ses": Terms("ses", recipients=3)})
    jobs = seize(opened.store, given)
    assert [len(job.recipients) for job in jobs] == [3, 3, 1]
    assert sorted(one.address for job in jobs for one in job.recipients) == [f"r{n}@x.example" for n in range(7)]
    assert {job.body for job in jobs} == {b"b"}


def test_a_retry_by_the_operator_begins_a_new_round(opened: Opened) -> None:
    message = add(opened)
    (job,) = seize(opened.store, offer("brevo", "ses"))
    end(opened, job, State.DUE, tried="brevo")
    opened.store.apply([verbs.retry(opened.numbers, message.id, NOW)], NOW)
    (job,) = seize(opened.store, offer("brevo", "ses"))
    assert (job.provider, job.recipients[0].tried) == ("brevo", frozenset())


# --- quotas
def test_what_is_claimed_is_reserved_and_what_is_given_back_is_free_again(opened: Opened) -> None:
    for _ in range(3):
        add(opened, to=4)
    given = with_quota(offer("brevo", "ses"), "brevo", DAY)
    jobs = seize(opened.store, given)
    assert [(job.provider, len(job.recipients)) for job in jobs] == [("brevo", 4), ("brevo", 4), ("ses", 4)]
    opened.store.apply([changes.release([jobs[0]])], NOW)
    (job,) = seize(opened.store, given)
    assert job.provider == "brevo"


def test_delivered_counts_and_refused_does_not(opened: Opened) -> None:
    given = with_quota(offer("brevo", "ses"), "brevo", DAY)
    for state, provider in ((State.DELIVERED, "brevo"), (State.REFUSED, "brevo"), (State.DELIVERED, "brevo")):
        add(opened, to=5)
        (job,) = seize(opened.store, given)
        assert job.provider == provider
        end(opened, job, state)
    add(opened)
    assert providers(seize(opened.store, given)) == ["ses"]
    add(opened)
    assert providers(seize(opened.store, given, NOW + 86400)) == ["brevo"]


def test_an_outcome_that_gives_quota_back_lets_go_what_waited_for_it(opened: Opened) -> None:
    given = with_quota(offer("brevo"), "brevo", Quota(limit=1, period="day"))
    add(opened)
    add(opened)
    (job,) = seize(opened.store, given)
    assert opened.store.apply([], NOW, given) == []
    some = [one._replace(provider="brevo") for one in results(job, State.REFUSED)]
    (other,) = opened.store.apply([changes.record(opened.numbers, job, some, [], (), NOW)], NOW, given)
    assert other.message.id != job.message.id


def test_all_used_up_waits_for_the_first_reset_and_not_before(opened: Opened) -> None:
    for name in ("brevo", "ses"):
        opened.store.count_used(opened.store.connection, [(name, NOW, 10)])
    rolling = Quota(limit=10, period="rolling", hours=2)
    given = with_quota(with_quota(offer("brevo", "ses"), "brevo", DAY), "ses", rolling)
    add(opened)
    assert seize(opened.store, given) == []
    opens = opened.store.next_due
    assert NOW + 7200 <= opens <= NOW + 7200 + 900
    assert opened.store.apply([], opens - 1, given) == []
    assert providers(opened.store.apply([], opens, given)) == ["ses"]


def test_the_reserve_lets_a_password_reset_out_after_a_newsletter(opened: Opened) -> None:
    given = with_quota(offer("brevo", room=50, high=frozenset({"app"})), "brevo", DAY, reserve=0.2)
    for _ in range(20):
        add(opened, "news")
    assert len(seize(opened.store, given)) == 8
    add(opened, "app")
    assert [job.message.account for job in seize(opened.store, given)] == ["app"]


def test_a_crash_gives_back_what_was_claimed_and_counts_what_may_have_been_sent(tmp_path: Path) -> None:
    opened = recovery.open_store(tmp_path / "spool", NOW)
    add(opened, to=4)
    add(opened, to=4)
    given = with_quota(offer("brevo"), "brevo", DAY)
    first, _ = seize(opened.store, given)
    opened.store.apply([changes.mark(ids(first), "brevo")], NOW)
    opened.close()
    again = recovery.open_store(tmp_path / "spool", NOW + 1)
    assert again.store.connection.execute("SELECT provider, used FROM quota").fetchall() == [("brevo", 4)]
    add(again, to=3)
    jobs = seize(again.store, given, NOW + 1)
    assert sum(len(job.recipients) for job in jobs) == 6
    again.close()


# --- what nobody takes
class Steps:
    """Counts what SQLite does."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self.statements = self.steps = 0

    def _done(self, event: dict[str, Any]) -> None:
        self.statements += 1
        self.steps += event["stmt_status"]["SQLITE_STMTSTATUS_VM_STEP"]

    def __enter__(self) -> Steps:
        self._connection.trace_v2(apsw.SQLITE_TRACE_PROFILE, self._done)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.trace_v2(0, None)


def waiting_messages(opened: Opened, number: int) -> None:
    for _ in range(number // 500):
        group = [changes.add(opened.numbers, opened.numbers.key(), a_message("loud"), b"x", []) for _ in range(500)]
        opened.store.apply(group, NOW)


def test_ten_thousand_messages_of_a_paused_provider_are_one_look_at_one_flow(opened: Opened) -> None:
    waiting_messages(opened, 10_000)
    add(opened, "quiet", sender="q@other.example")
    given = offer(
        "brevo", "ses", closed={"brevo": SHUT}, routes=Routes(("brevo",), (Route(("ses",), account="quiet"),))
    )
    with Steps(opened.store.connection) as first:
        assert providers(seize(opened.store, given)) == ["ses"]
    assert first.statements < 15
    assert first.steps < 1_000
    with Steps(opened.store.connection) as later:  # asked again and again, and nothing is due as far as is known
        for _ in range(100):
            assert opened.store.apply([], NOW + 1, given) == []
    assert later.statements == 200  # BEGIN and COMMIT
    with Steps(opened.store.connection) as mail:  # others' mail passes them by
        for _ in range(20):
            new = changes.add(opened.numbers, opened.numbers.key(), a_message("quiet"), b"x", [])
            assert providers(opened.store.apply([new], NOW + 1, given)) == ["ses"]
    assert mail.statements == 20 * 5 + 1  # with message, chunk and delivery; and once that they are to be synced


async def test_a_waiting_claim_does_not_look_while_the_provider_is_paused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    take = Claims.take

    def counted(self: Claims, given: Offer, now: float) -> tuple[list[Job], float]:
        nonlocal looks
        looks += 1
        return take(self, given, now)

    monkeypatch.setattr(Claims, "take", counted)
    async with opened_spool(tmp_path / "spool") as one:
        for _ in range(20):
            await asyncio.gather(*(one.add(a_message("anna")) for _ in range(25)))
        now_offered = offer("brevo", closed={"brevo": SHUT})
        claim = asyncio.create_task(one.spool.claim(lambda: now_offered))
        await eventually(lambda: looks)
        for _ in range(50):  # mail that joins those that wait is not looked at either
            await one.add(a_message("anna"))
        assert looks == 1
        now_offered = offer("brevo")
        one.spool.poke()
        assert len(await asyncio.wait_for(claim, 20)) == 5
        assert looks == 2


async def test_the_reset_of_a_quota_wakes_the_claim_by_itself(tmp_path: Path) -> None:
    clock = SetClock()
    given = with_quota(offer("brevo", room=20), "brevo", DAY)
    async with opened_spool(tmp_path / "spool", clock) as one:
        for _ in range(12):
            await one.add()
        first = await one.spool.claim(lambda: given)
        assert len(first) == 10
        for job in first:
            some = [each._replace(consumed=True, provider="brevo") for each in results(job, State.DELIVERED)]
            await one.spool.record(job, some, [])
        claim = asyncio.create_task(one.spool.claim(lambda: given))
        await eventually(lambda: one.spool._next_due > NOW + 3600)
        assert await one.spool.usage(NOW - 86400) == {"brevo": [(NOW, 10)]}
        assert await one.spool.in_hand() == {}
        clock.now = one.spool._next_due
        one.spool._arrange()  # its timer would do so within a minute
        assert len(await claim) == 2
        assert await one.spool.in_hand() == {"brevo": 2}


def test_new_mail_does_not_overtake_what_waits_for_room(opened: Opened) -> None:
    waits = [add(opened, at=NOW - 60) for _ in range(3)]
    given = offer("brevo", room=1)
    assert [job.message.id for job in seize(opened.store, given)] == [waits[0].id]
    new = a_message("anna", at=NOW)
    jobs = opened.store.apply([changes.add(opened.numbers, opened.numbers.key(), new, b"x", [])], NOW, given)
    assert [job.message.id for job in jobs] == [waits[1].id]


def test_new_mail_that_finds_no_room_is_not_looked_at_again_before_there_is(opened: Opened) -> None:
    full = offer("brevo", room=0)
    group = [changes.add(opened.numbers, opened.numbers.key(), a_message(), b"x", []) for _ in range(3)]
    assert opened.store.apply(group, NOW, full) == []
    assert opened.store.next_due == math.inf
    assert len(seize(opened.store, offer("brevo"))) == 3


def test_what_only_a_paused_provider_can_carry_is_put_off_and_bars_nobodys_way(opened: Opened) -> None:
    large = [add(opened, at=NOW - 60, body=b"x" * 1001) for _ in range(3)]
    small = add(opened, at=NOW - 30)
    terms = {"brevo": Terms("brevo", size_limit=1000), "ses": Terms("ses", size_limit=5000)}
    given = offer("brevo", "ses", terms=terms, closed={"ses": Closed(NOW + 4000, "SES is busy")})
    assert [job.message.id for job in seize(opened.store, given)] == [small.id]
    assert opened.store.next_due == NOW + waiting.AGAIN  # it may open earlier than it says
    with Steps(opened.store.connection) as later:
        opened.store.apply([], NOW + waiting.AGAIN - 1, given)
    assert later.statements == 2
    jobs = seize(opened.store, replace(given, closed={}), NOW + waiting.AGAIN)
    assert [(job.message.id, job.provider) for job in jobs] == [(one.id, "ses") for one in large]


def test_an_address_that_is_left_alone_bars_no_other_of_its_domain(opened: Opened) -> None:
    for _ in range(4 * PUT_OFF):
        add(opened, at=NOW - 60, sender="bob@example.org")
    other = add(opened, at=NOW - 30, sender="anna@example.org")
    given = offer("brevo", room=100, closed_for={("brevo", "bob@example.org"): Closed(NOW + 3000, "not set up")})
    jobs = [job for _ in range(5) for job in seize(opened.store, given)]
    assert [job.message.id for job in jobs] == [other.id]
    assert opened.store.next_due == NOW + waiting.AGAIN
    one, *_ = seize(
        opened.store, replace(given, closed_for={}, rooms_for={("brevo", "bob@example.org"): 1}), NOW + 3600
    )
    assert one.message.sender == "bob@example.org"
    assert seize(opened.store, given, NOW + 3600) == []


def test_thousands_of_an_address_that_is_left_alone_are_put_off_in_a_few_claims(opened: Opened) -> None:
    for number in range(2000):
        add(opened, at=NOW - 60, sender="Bob@Example.org" if number % 2 else "bob@example.org", to=1 + number % 3 // 2)
    other = add(opened, at=NOW - 30, sender="anna@example.org")
    given = offer("brevo", room=10, closed_for={("brevo", "bob@example.org"): Closed(NOW + 200, "not set up")})
    claims, jobs = 0, list[Job]()
    while opened.store.next_due <= NOW:
        jobs += opened.store.apply([], NOW, given)
        claims += 1
    assert claims <= 8
    assert [job.message.id for job in jobs] == [other.id]
    attempts = opened.store.connection.execute("SELECT DISTINCT next_attempt FROM delivery WHERE state = 'due'")
    assert attempts.fetchall() == [(NOW + 200,)]


def test_what_waits_for_a_probe_is_looked_at_again_within_seconds(opened: Opened) -> None:
    bob = add(opened, at=NOW - 60, sender="bob@example.org")
    probed = Closed(math.inf, "it is being tried", probed=True)
    given = offer("brevo", "ses", closed={"ses": SHUT}, closed_for={("brevo", "bob@example.org"): probed})
    assert seize(opened.store, given) == []
    assert opened.store.next_due == NOW + waiting.PROBE
    (job,) = seize(opened.store, offer("brevo"), NOW + waiting.PROBE)
    assert job.message.id == bob.id


def test_the_one_message_that_tries_an_address_is_due_when_it_is_given_back(opened: Opened) -> None:
    sent = [add(opened, at=NOW - 60 + n, sender="bob@example.org") for n in range(5)]
    given = offer("brevo", rooms_for={("brevo", "bob@example.org"): 1})
    (job,) = seize(opened.store, given)
    assert job.message.id == sent[0].id
    opened.store.apply([changes.release([job])], NOW)
    assert [job.message.id for job in opened.store.apply([], NOW, given)] == [sent[0].id]


def test_of_many_that_are_put_off_one_claim_looks_at_a_few(opened: Opened) -> None:
    for _ in range(4 * PUT_OFF):
        add(opened, at=NOW - 60, body=b"x" * 1001)
    terms = {"brevo": Terms("brevo", size_limit=1000), "ses": Terms("ses", size_limit=5000)}
    given = offer("brevo", "ses", room=500, terms=terms, closed={"ses": SHUT})
    for turn in range(1, 5):
        assert seize(opened.store, given) == []
        later = opened.store.connection.execute("SELECT count(*) FROM delivery WHERE next_attempt > ?", (NOW,)).get
        assert later == turn * PUT_OFF
    assert opened.store.next_due == NOW + waiting.AGAIN


def test_what_is_put_off_for_one_account_costs_no_other_its_turn(opened: Opened) -> None:
    for _ in range(4 * PUT_OFF):
        add(opened, "anna", at=NOW - 60, body=b"x" * 1001)
    other = add(opened, "bert", at=NOW - 30)
    terms = {"brevo": Terms("brevo", size_limit=1000), "ses": Terms("ses", size_limit=5000)}
    given = offer("brevo", "ses", room=500, terms=terms, closed={"ses": SHUT})
    assert seize(opened.store, given) == []
    assert [job.message.id for job in seize(opened.store, given)] == [other.id]


def test_a_tie_to_a_paused_provider_waits_for_it_while_other_mail_goes_on(opened: Opened) -> None:
    tied = add(opened)
    (job,) = seize(opened.store, offer("ses", "brevo"))
    end(opened, job, State.DUE, consumed=True, doubts=1)
    other = add(opened)
    given = offer("ses", "brevo", closed={"ses": SHUT})
    assert [(job.message.id, job.provider) for job in seize(opened.store, given)] == [(other.id, "brevo")]
    (job,) = seize(opened.store, offer("brevo", "ses"))
    assert (job.message.id, job.provider, job.tied_to) == (tied.id, "ses", "ses")


def test_a_round_begins_anew_when_the_untried_stay_shut(opened: Opened) -> None:
    add(opened)
    (job,) = seize(opened.store, offer("brevo", "ses"))
    end(opened, job, State.DUE, tried="brevo")
    given = offer("brevo", "ses", closed={"ses": Closed(NOW + 3600, "SES is busy")})
    assert seize(opened.store, given) == []
    assert opened.store.next_due == NOW + waiting.ROUND
    (job,) = seize(opened.store, given, NOW + waiting.ROUND)
    assert (job.provider, job.recipients[0].tried) == ("brevo", frozenset())


def test_a_new_round_leaves_out_who_will_never_take_it(opened: Opened) -> None:
    add(opened)
    (job,) = seize(opened.store, offer("brevo", "ses", "mailjet"))
    end(opened, job, State.DUE, tried="!brevo brevo ses")
    given = offer("brevo", "ses", "mailjet", closed={"mailjet": Closed(NOW + 3600, "it is busy")})
    assert seize(opened.store, given) == []
    (job,) = seize(opened.store, given, NOW + waiting.ROUND)
    assert (job.provider, job.recipients[0].tried) == ("ses", frozenset({"!brevo", "brevo"}))


def test_what_the_others_will_never_take_waits_for_the_one_that_is_left(opened: Opened) -> None:
    add(opened)
    (job,) = seize(opened.store, offer("brevo", "ses"))
    end(opened, job, State.DUE, tried="!brevo brevo")
    given = offer("brevo", "ses", closed={"ses": Closed(NOW + 3600, "SES is busy")})
    assert seize(opened.store, given) == []
    assert opened.store.next_due == NOW + 3600
    assert providers(seize(opened.store, offer("brevo", "ses"), NOW + 1)) == ["ses"]


def test_a_pause_that_ends_soon_is_waited_for(opened: Opened) -> None:
    add(opened)
    (job,) = seize(opened.store, offer("brevo", "ses"))
    end(opened, job, State.DUE, tried="brevo")
    given = offer("brevo", "ses", closed={"ses": Closed(NOW + 60, "SES is busy")})
    assert seize(opened.store, given) == []
    assert opened.store.next_due == NOW + 60
    assert providers(seize(opened.store, offer("brevo", "ses"), NOW + 1)) == ["ses"]


def test_a_pause_that_should_be_over_is_no_busy_loop(opened: Opened) -> None:
    add(opened)
    assert seize(opened.store, offer("brevo", closed={"brevo": Closed(NOW - 1, "it was shut")})) == []
    assert opened.store.next_due == NOW + waiting.LATE


# --- too old
def overdue(opened: Opened, given: Offer, before: float, limit: int = 10, now: float = NOW) -> list[Job]:
    change = changes.Change(at=now, work=lambda store: store.claims.overdue(given, before, limit, now))
    opened.store.apply([change], now)
    jobs: list[Job] = change.answer
    return jobs


@pytest.mark.parametrize(
    ("given", "ended"),
    [
        (offer("brevo"), False),
        (offer("brevo", room=0), False),  # it is only busy just now
        (offer("brevo", closed={"brevo": SHUT}), True),
        (offer("brevo", terms={"brevo": Terms("brevo", senders=("x@y.example",))}), True),
    ],
)
def test_what_grew_too_old_is_handed_out_to_be_ended_only_if_nobody_takes_it(
    opened: Opened, given: Offer, ended: bool
) -> None:
    old, young = add(opened, at=NOW - 500, to=2), add(opened, at=NOW - 50)
    jobs = overdue(opened, given, NOW - 100)
    assert [job.message.id for job in jobs] == ([old.id] if ended else [])
    if ended:
        (job,) = jobs
        assert (job.provider, len(job.recipients)) == ("", 2)
        assert in_hand(opened) == {"": 2}
        end(opened, job, State.EXPIRED)
        assert [job.message.id for job in seize(opened.store, offer("brevo"))] == [young.id]


def test_what_was_held_does_not_grow_old_by_that(opened: Opened) -> None:
    message = add(opened, at=NOW - 500)
    for kind, at in ((EventKind.HELD, NOW - 490), (EventKind.RELEASED, NOW - 20)):
        opened.store.apply([verbs.verb(kind, opened.numbers, at, message_id=message.id)], at)
    shut = offer("brevo", closed={"brevo": SHUT})
    assert overdue(opened, shut, NOW - 100) == []
    assert len(overdue(opened, shut, NOW - 100, now=NOW + 431)) == 0
    assert len(overdue(opened, shut, NOW - 29)) == 1


def test_what_is_in_doubt_stays_tied_though_it_is_ended_or_the_relay_dies(tmp_path: Path) -> None:
    opened = recovery.open_store(tmp_path / "spool", NOW)
    add(opened, at=NOW - 500)
    (job,) = seize(opened.store, offer("ses"))
    end(opened, job, State.DUE, doubts=1)
    shut = offer("ses", "brevo", closed={"ses": SHUT})
    (job,) = overdue(opened, shut, NOW - 100)
    assert (job.provider, job.tied_to) == ("", "ses")
    assert in_hand(opened) == {"ses": 1}  # as the queue shows it
    opened.close()
    again = recovery.open_store(tmp_path / "spool", NOW)
    assert seize(again.store, shut) == []
    assert providers(seize(again.store, offer("brevo", "ses"))) == ["ses"]
    again.close()


async def test_the_spool_hands_out_what_is_overdue(tmp_path: Path) -> None:
    clock = SetClock()
    async with opened_spool(tmp_path / "spool", clock) as one:
        for _ in range(3):
            await one.add()
        clock.now = NOW + 1000
        shut: Callable[[], Offer] = lambda: offer("brevo", closed={"brevo": SHUT})  # noqa: E731
        assert await one.spool.claim_overdue(shut, NOW, 10) == []
        assert len(await one.spool.claim_overdue(shut, NOW + 1, 2)) == 2
        assert len(await one.spool.claim_overdue(shut, NOW + 1, 2)) == 1


def test_quota_of_long_ago_is_forgotten(opened: Opened) -> None:
    opened.store.count_used(opened.store.connection, [("brevo", NOW - 63 * 86400, 1), ("brevo", NOW - 61 * 86400, 2)])
    opened.store.apply([changes.Change(at=NOW, work=lambda store: Pruner(30 * 86400).turn(store, NOW))], NOW)
    assert opened.store.connection.execute("SELECT used FROM quota").fetchall() == [(2,)]
