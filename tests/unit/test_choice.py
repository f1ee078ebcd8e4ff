"""Which provider takes a message: one test for each reason to take it, to pass it by, or to let it wait."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from hypothesis import given as with_any
from hypothesis import settings
from hypothesis import strategies as st

from relay.choice.allowance import Allowance
from relay.choice.choose import Asked, Choice, Nobody, Take, Wait, blocked, choose, plain
from relay.choice.desk import Desk
from relay.choice.offer import Closed, Offer, Terms
from relay.choice.quota import Quota
from relay.choice.routes import Route, Routes, order

MIB = 1024 * 1024
DAILY = (Quota(limit=300, period="day"),)
MAIL = Asked("anna", "anna@example.org", "example.org", 1000, 1, key="01J")


def offer(*names: str, **more: Any) -> Offer:
    """Providers with room for five jobs each, in this order."""
    known: dict[str, Any] = {
        "terms": {name: Terms(name) for name in names},
        "routes": Routes(names),
        "rooms": dict.fromkeys(names, 5),
        "closed": {},
    }
    return Offer(**{**known, **more})


def quotas(**left: int) -> Callable[[str, bool], int]:
    return lambda provider, high: left.get(provider, 1 << 30)


def ask(asked: Asked, given: Offer, *, resets: Mapping[str, float] | None = None, **left: int) -> Choice:
    return choose(asked, given, quotas(**left), lambda provider, high: (resets or {}).get(provider, math.inf))


def with_terms(given: Offer, *terms: Terms) -> Offer:
    return replace(given, terms={**given.terms, **{one.name: one for one in terms}})


# --- order
def test_the_first_of_the_order_takes_it() -> None:
    assert ask(MAIL, offer("brevo", "ses")) == Take("brevo", 1)


def test_a_route_by_account_and_by_sender_domain_counts_before_the_default() -> None:
    routes = Routes(
        ("brevo",),
        (
            Route(("ses",), account="shop"),
            Route(("gmail",), domain="gmail.com"),
            Route(("brevo", "ses"), account="shop"),
        ),
    )
    given = offer("brevo", "ses", "gmail", routes=routes)
    assert ask(MAIL, given) == Take("brevo", 1)
    assert ask(MAIL._replace(account="shop"), given) == Take("ses", 1)
    assert ask(MAIL._replace(sender="a@gmail.com", domain="gmail.com"), given) == Take("gmail", 1)


def test_weights_share_the_messages_out_and_say_the_same_at_every_look() -> None:
    route = Route(("ses", "brevo"), (3, 1))
    keys = [f"{n:026}" for n in range(4000)]
    first = [order(route, key)[0] for key in keys]
    assert first == [order(route, key)[0] for key in keys]
    assert 0.72 < first.count("ses") / len(first) < 0.78
    assert all(set(order(route, key)) == {"ses", "brevo"} for key in keys[:50])
    assert all(order(Route(("ses", "brevo"), (1, 0)), key) == ("ses", "brevo") for key in keys[:50])


def test_weights_are_kept_by_the_choice() -> None:
    given = offer("ses", "brevo", routes=Routes(("ses",), (Route(("ses", "brevo"), (1, 1)),)))
    taken = [ask(MAIL._replace(key=f"{n:026}"), given) for n in range(200)]
    assert 70 < taken.count(Take("ses", 1)) < 130
    assert taken.count(Take("ses", 1)) + taken.count(Take("brevo", 1)) == 200


# --- who may
def test_a_provider_for_some_addresses_only_gets_no_others() -> None:
    given = with_terms(offer("gmail", "brevo"), Terms("gmail", senders=("anna@example.org", "*@gmail.com")))
    assert ask(MAIL, given) == Take("gmail", 1)
    assert ask(MAIL._replace(sender="bob@example.org"), given) == Take("brevo", 1)
    assert ask(MAIL._replace(sender="bob@gmail.com", domain="gmail.com"), given) == Take("gmail", 1)


def test_whom_no_provider_serves_is_told_so() -> None:
    given = with_terms(offer("gmail"), Terms("gmail", senders=("anna@gmail.com",)))
    assert ask(MAIL, given) == Nobody("No provider is set up for mail from anna@example.org.")


def test_one_that_was_tried_in_this_round_is_passed_by_and_after_all_of_them_a_round_begins() -> None:
    given = offer("brevo", "ses")
    assert ask(MAIL._replace(tried=frozenset({"brevo"})), given) == Take("ses", 1)
    assert ask(MAIL._replace(tried=frozenset({"brevo", "ses"})), given) == Take("brevo", 1)
    assert ask(MAIL._replace(tried=frozenset({"gone"})), given) == Take("brevo", 1)


# --- pauses and room
def test_a_paused_provider_is_passed_by() -> None:
    given = offer("brevo", "ses", closed={"brevo": Closed(99.0, "Brevo is busy")})
    assert ask(MAIL, given) == Take("ses", 1)


def test_a_pause_for_one_sender_domain_is_a_pause_for_no_other() -> None:
    given = offer("brevo", "ses", closed_for={("brevo", "example.org"): Closed(99.0, "not set up")})
    assert ask(MAIL, given) == Take("ses", 1)
    assert ask(MAIL._replace(sender="a@other.example", domain="other.example"), given) == Take("brevo", 1)


def test_a_pause_for_one_address_is_a_pause_for_no_other_of_its_domain() -> None:
    given = offer("brevo", closed_for={("brevo", MAIL.sender): Closed(99.0, "not set up")})
    assert ask(MAIL, given) == Wait(99.0, ("not set up",))
    assert ask(MAIL._replace(sender="bert@example.org"), given) == Take("brevo", 1)
    assert blocked(MAIL._replace(sender=""), given, lambda *_: 1) is None, "others of its domain may wait there"


def test_when_all_are_paused_it_waits_for_the_first_that_opens_and_says_why() -> None:
    closed = {"brevo": Closed(200.0, "Brevo's quota is used up"), "ses": Closed(99.0, "SES refused the key")}
    found = ask(MAIL, offer("brevo", "ses", closed=closed))
    assert found == Wait(99.0, ("Brevo's quota is used up", "SES refused the key"))


def test_without_room_it_goes_on_unless_the_provider_is_worth_waiting_for() -> None:
    full = offer("brevo", "ses", rooms={"brevo": 0, "ses": 5})
    assert ask(MAIL, full) == Take("ses", 1)
    patient = replace(full, patient=frozenset({"brevo", "ses"}))
    assert ask(MAIL, patient) == Wait(math.inf, (), for_room=True)
    assert ask(MAIL, replace(full, rooms={})) == Wait(math.inf, (), for_room=True)


def test_nobody_waits_for_the_room_of_one_whose_quota_is_used_up() -> None:
    given = offer("brevo", "ses", rooms={"brevo": 0, "ses": 5}, patient=frozenset({"brevo", "ses"}))
    given = with_terms(given, Terms("brevo", quotas=DAILY))
    assert ask(MAIL, given, brevo=0) == Take("ses", 1)


def test_a_sender_domain_that_is_being_tried_gets_one_job_at_a_time() -> None:
    given = offer("brevo", "ses", rooms_for={("brevo", "example.org"): 0})
    assert ask(MAIL, given) == Take("ses", 1)
    assert ask(MAIL, replace(given, rooms_for={("brevo", "example.org"): 1})) == Take("brevo", 1)
    assert ask(MAIL._replace(sender="a@other.example", domain="other.example"), given) == Take("brevo", 1)
    given = offer("brevo", "ses", rooms_for={("brevo", MAIL.sender): 0, ("brevo", "example.org"): 1})
    assert ask(MAIL, given) == Take("ses", 1), "nor does an address"
    assert ask(MAIL._replace(sender="bert@example.org"), given) == Take("brevo", 1)


# --- size and recipients
def test_what_is_too_large_for_one_goes_to_one_that_can_carry_it() -> None:
    given = with_terms(offer("brevo", "ses"), Terms("brevo", size_limit=20 * MIB), Terms("ses", size_limit=40 * MIB))
    assert ask(MAIL._replace(size=20 * MIB), given) == Take("brevo", 1)
    assert ask(MAIL._replace(size=20 * MIB + 1), given) == Take("ses", 1)
    assert ask(MAIL._replace(size=41 * MIB), given) == Take("ses", 1)  # its refusal is what the sender is told


def test_what_only_one_can_carry_waits_for_that_one() -> None:
    given = offer("brevo", "ses", closed={"ses": Closed(99.0, "SES is busy")})
    given = with_terms(given, Terms("brevo", size_limit=20 * MIB), Terms("ses", size_limit=40 * MIB))
    assert ask(MAIL._replace(size=30 * MIB), given) == Wait(99.0, ("SES is busy",))


def test_too_many_recipients_for_one_transaction_go_in_parts() -> None:
    given = with_terms(offer("ses"), Terms("ses", recipients=50))
    assert ask(MAIL._replace(recipients=50), given) == Take("ses", 50)
    assert ask(MAIL._replace(recipients=51), given) == Take("ses", 50)


# --- quotas
def test_the_first_whose_quota_holds_all_recipients_takes_them() -> None:
    given = with_terms(offer("brevo", "ses"), Terms("brevo", quotas=DAILY), Terms("ses", quotas=DAILY))
    assert ask(MAIL._replace(recipients=10), given, brevo=10, ses=300) == Take("brevo", 10)
    assert ask(MAIL._replace(recipients=11), given, brevo=10, ses=300) == Take("ses", 11)


def test_when_no_quota_holds_all_the_first_takes_as_many_as_fit() -> None:
    given = with_terms(offer("brevo", "ses"), Terms("brevo", quotas=DAILY), Terms("ses", quotas=DAILY))
    assert ask(MAIL._replace(recipients=20), given, brevo=3, ses=12) == Take("brevo", 3)
    assert ask(MAIL._replace(recipients=20), given, brevo=0, ses=12) == Take("ses", 12)


def test_when_all_quotas_are_used_up_it_waits_for_the_first_reset() -> None:
    given = with_terms(
        offer("brevo", "ses"), Terms("brevo", quotas=DAILY, title="Brevo"), Terms("ses", quotas=DAILY, title="SES")
    )
    found = ask(MAIL, given, resets={"brevo": 500.0, "ses": 400.0}, brevo=0, ses=0)
    assert found == Wait(400.0, ("Brevo's quota is used up", "SES's quota is used up"))


def test_an_account_of_high_priority_is_asked_for_as_one() -> None:
    given = with_terms(offer("brevo", high=frozenset({"shop"})), Terms("brevo", quotas=DAILY))
    asked: list[bool] = []

    def left(provider: str, high: bool) -> int:
        asked.append(high)
        return 1

    choose(MAIL, given, left)
    choose(MAIL._replace(account="shop"), given, left)
    choose(MAIL, replace(given, high=frozenset()), left)  # nobody is: then nothing is kept for anybody
    assert asked == [False, True, True]


# --- ties
def test_what_may_have_arrived_goes_to_the_provider_that_may_have_it_and_to_no_other() -> None:
    tied = MAIL._replace(tied_to="ses")
    assert ask(tied, offer("brevo", "ses")) == Take("ses", 1)
    assert ask(tied, offer("brevo", "ses", closed={"ses": Closed(99.0, "SES is busy")})) == Wait(99.0, ("SES is busy",))
    assert ask(tied, offer("brevo", "ses", rooms={"brevo": 5})) == Wait(math.inf, (), for_room=True)


def test_what_is_tied_to_a_provider_that_is_gone_is_handed_out_for_that_name_to_be_put_aside() -> None:
    assert ask(MAIL._replace(tied_to="gone"), offer("brevo")) == Take("gone", 1)


# --- flows
@pytest.mark.parametrize(
    ("flow", "given", "open_"),
    [
        (MAIL, offer("brevo"), True),
        (MAIL, offer("brevo", closed={"brevo": Closed(99.0, "x")}), False),
        (MAIL, offer("brevo", "ses", closed={"brevo": Closed(99.0, "x")}), True),
        (MAIL, offer("brevo", rooms={}), False),
        (MAIL._replace(tried=frozenset({"ses"})), offer("brevo", "ses", closed={"brevo": Closed(9.0, "x")}), False),
        (MAIL._replace(tied_to="ses"), offer("brevo", "ses", closed={"ses": Closed(9.0, "x")}), False),
        (MAIL._replace(tied_to="gone"), offer("brevo", rooms={}), True),
        (MAIL, with_terms(offer("gmail"), Terms("gmail", senders=("zoe@example.org",))), True),
        (MAIL, with_terms(offer("gmail"), Terms("gmail", senders=("zoe@gmail.com",))), False),
    ],
)
def test_a_flow_is_blocked_when_no_message_of_it_could_be_taken(flow: Asked, given: Offer, open_: bool) -> None:
    found = blocked(flow._replace(sender="", size=0), given, quotas())
    assert (found is None) == open_


# --- a claim's short cuts
PLAIN = offer("brevo", "ses")


@pytest.mark.parametrize(
    "given",
    [
        with_terms(PLAIN, Terms("brevo", quotas=DAILY)),
        with_terms(PLAIN, Terms("brevo", senders=("anna@example.org",))),
        with_terms(PLAIN, Terms("brevo", recipients=50)),
        replace(PLAIN, closed={"brevo": Closed(9.0, "x")}),
        replace(PLAIN, closed_for={("brevo", "example.org"): Closed(9.0, "x")}),
        replace(PLAIN, rooms_for={("brevo", "example.org"): 1}),
        replace(PLAIN, routes=Routes(("brevo",), (Route(("brevo", "ses"), (1, 1)),))),
        replace(PLAIN, routes=Routes(("gone", "brevo"))),
        replace(PLAIN, routes=Routes(())),
    ],
)
def test_nothing_is_taken_without_asking_where_the_answer_may_differ(given: Offer) -> None:
    assert plain("anna", "example.org", PLAIN) == Terms("brevo")
    assert plain("anna", "example.org", given) is None


ALL = ("brevo", "ses", "gmail")
T = TypeVar("T")


def seldom(usual: T, *rare: T) -> st.SearchStrategy[T]:
    """Mostly ``usual``: with everything unusual at once, the ordinary would never be tried."""
    return st.integers(0, 9).flatmap(lambda n: st.sampled_from(rare) if n == 7 else st.just(usual))


SOME = seldom(frozenset[str](), *(frozenset({name}) for name in ALL))


def terms_of(name: str) -> st.SearchStrategy[Terms]:
    return st.builds(
        Terms,
        name=st.just(name),
        senders=seldom((), ("anna@example.org",)),
        size_limit=seldom(0, 500, 1000),
        recipients=seldom(0, 2),
        quotas=seldom((), DAILY),
    )


@st.composite
def offers(draw: st.DrawFn) -> Offer:
    names = tuple(draw(st.permutations(ALL)))[: draw(st.integers(1, 3))]
    weights = draw(seldom((), (1, 2, 3)))[: len(names)]
    pairs = {name: (name, draw(st.sampled_from(["example.org", "anna@example.org"]))) for name in ALL}
    return Offer(
        {name: draw(terms_of(name)) for name in (*ALL, "spare")},
        Routes(("gone", *names), (Route(names, weights, account="anna"),)),
        {name: draw(st.integers(0, 3)) for name in ALL},
        dict.fromkeys(draw(SOME), Closed(99.0, "shut")),
        {pairs[name]: Closed(99.0, "shut") for name in draw(SOME)},
        {pairs[name]: 1 for name in draw(SOME)},
        patient=draw(st.sampled_from([frozenset[str](), frozenset(ALL)])),
    )


ASKED = st.builds(
    Asked,
    account=seldom("anna", "bert"),
    sender=st.sampled_from(["anna@example.org", "bert@example.org"]),
    domain=st.just("example.org"),
    size=st.sampled_from([100, 700, 2000]),
    recipients=st.integers(1, 4),
    tried=SOME,
    tied_to=seldom("", "ses"),
    key=st.sampled_from(["a", "b"]),
)


@settings(max_examples=300)
@with_any(offers(), st.lists(ASKED, min_size=1, max_size=8))
def test_choices_of_one_claim_are_those_of_an_offer_that_shrinks(offered: Offer, messages: list[Asked]) -> None:
    """What a claim takes at once, without asking, is what asking would have said."""
    desk = Desk(offered, Allowance(offered.terms, 0.0, lambda name, since: [(0.0, 290)], dict))
    rooms, rooms_for, taken = dict(offered.rooms), dict(offered.rooms_for), dict.fromkeys(offered.terms, 0)
    for asked in messages:
        now = replace(offered, rooms=dict(rooms), rooms_for=dict(rooms_for))
        found = desk.take(asked)
        expected = ask(asked, now, **{name: 10 - number for name, number in taken.items()})
        assert type(found) is type(expected)
        if isinstance(found, Take) and found.provider in rooms:
            assert found == expected
            rooms[found.provider] -= 1
            for pair in ((found.provider, asked.domain), (found.provider, asked.sender)):
                if pair in rooms_for:
                    rooms_for[pair] -= 1
            taken[found.provider] = taken.get(found.provider, 0) + found.recipients
        assert desk.room == sum(rooms.values())
