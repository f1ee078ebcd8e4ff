"""Merged SPF records, judged by pyspf: who passed still passes, every provider passes, with ten look-ups at most."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from domain import spf
from support.domain.evaluate import judge

HOME = "example.org"
WORLD: dict[tuple[str, str], list[Any]] = {
    ("_spf.mx.cloudflare.net", "TXT"): ["v=spf1 ip4:104.30.0.0/20 ~all"],
    ("sendgrid.net", "TXT"): ["v=spf1 ip4:167.89.0.0/17 ~all"],
    ("mailgun.org", "TXT"): ["v=spf1 include:_a.mailgun.org include:_b.mailgun.org ~all"],
    ("_a.mailgun.org", "TXT"): ["v=spf1 ip4:161.38.192.0/20 ~all"],
    ("_b.mailgun.org", "TXT"): ["v=spf1 ip4:69.72.32.0/20 ~all"],
    ("friend.example", "TXT"): ["v=spf1 ip4:198.51.100.0/25 a:mx.friend.example -all"],
    ("mx.friend.example", "A"): ["203.0.113.77"],
    (HOME, "A"): ["203.0.113.1"],
    (HOME, "MX"): [(10, "mx.friend.example")],
}
NEEDS = {
    "include:_spf.mx.cloudflare.net": "104.30.1.1",
    "include:sendgrid.net": "167.89.3.3",
    "include:mailgun.org": "69.72.33.1",
}
SENDERS = [
    "198.51.100.7",
    "198.51.100.200",
    "203.0.113.1",
    "203.0.113.77",
    "203.0.113.9",
    "192.0.2.200",
    *NEEDS.values(),
]
MECHANISMS = st.sampled_from(
    [
        *("a", "mx", "A", "ip4:198.51.100.7", "-ip4:198.51.100.200", "?ip4:203.0.113.9", "ip4:203.0.113.0/28"),
        *("ip6:2001:db8::/32", "include:friend.example", "a:mx.friend.example", "INCLUDE:SendGrid.net"),
        *("+mx:example.org", "exists:%{i}.x.example"),
    ]
)


@st.composite
def records(draw: st.DrawFn) -> str:
    terms = draw(st.lists(MECHANISMS, max_size=5))
    end = draw(
        st.sampled_from(["-all", "~all", "?all", "+all", "all", "", "redirect=friend.example", "-all ip4:192.0.2.0/24"])
    )
    return " ".join(filter(None, ["v=spf1", *terms, end, draw(st.sampled_from(["", "exp=why.example.org", "x=y"]))]))


def judged(texts: list[str], sender: str) -> tuple[str, int]:
    """The result of SPF for mail from ``sender`` where example.org publishes ``texts``, and the look-ups it took."""
    return judge({**WORLD, (HOME, "TXT"): texts}, HOME, sender)


def fetch(name: str, kind: str) -> tuple[str, ...]:
    return tuple(map(str, WORLD.get((name, kind), ())))


@given(record=records(), needs=st.lists(st.sampled_from(sorted(NEEDS)), unique=True))
def test_nobody_loses_a_pass_and_every_provider_gains_one(record: str, needs: list[str]) -> None:
    merged = spf.merge([record], needs).text
    cost = spf.cost(merged, HOME, fetch)
    assume(cost.lookups <= spf.LOOKUPS and cost.voids <= spf.VOIDS)
    before = {sender: judged([record], sender)[0] for sender in SENDERS}
    after = {sender: judged([merged], sender) for sender in SENDERS}
    for sender in SENDERS:
        if before[sender] == "pass":
            assert after[sender][0] == "pass", (record, merged, sender)
        assert after[sender][1] <= cost.lookups, (merged, sender)
    for need in needs:
        assert after[NEEDS[need]][0] == "pass", (record, merged, need)


@given(texts=st.lists(records(), min_size=2, max_size=3), needs=st.lists(st.sampled_from(sorted(NEEDS)), unique=True))
def test_several_records_become_one_that_lets_no_stranger_in(texts: list[str], needs: list[str]) -> None:
    """Two records are an error to receivers, so nobody passed; merged, whoever one of them allowed passes."""
    try:
        merged = spf.merge(texts, needs).text
    except spf.Unreadable:
        assert len({one.redirect for one in map(spf.parse, texts) if one.redirect}) > 1
        return
    assert spf.is_spf(merged)
    assert spf.merge([merged], needs).text == merged, "merging again changes nothing"
    if not all(spf.parse(text).all == "+" for text in texts):
        assert "+all" not in merged


@pytest.mark.parametrize(
    ("texts", "needs", "merged"),
    [
        ([], ["include:a.example"], "v=spf1 include:a.example ~all"),
        (["v=spf1 -all"], ["include:a.example"], "v=spf1 include:a.example -all"),
        (["v=spf1 mx -all"], [], "v=spf1 mx -all"),
        (["V=SPF1  Include:A.example   -ALL"], ["include:a.example"], "V=SPF1  Include:A.example   -ALL"),
        (["v=spf1 redirect=b.example"], ["include:a.example"], "v=spf1 include:a.example redirect=b.example"),
        (["v=spf1 mx -all", "v=spf1 a ?all"], [], "v=spf1 mx a ~all"),
        (["v=spf1 mx -all", "v=spf1 a mx -all"], [], "v=spf1 mx a -all"),
        (["v=spf1 mx -all include:late.example"], ["include:a.example"], "v=spf1 mx include:a.example -all"),
        (["v=spf1 mx exp=e.example ~all"], ["include:a.example"], "v=spf1 mx include:a.example ~all exp=e.example"),
        (["v=spf1 mx"], ["include:a.example"], "v=spf1 mx include:a.example ~all"),
        (
            ["v=spf1 mx -all", "v=spf1 include:a.example ~all"],
            ["include:a.example"],
            "v=spf1 mx include:a.example -all",
        ),
        (["v=spf1 mx +all"], ["include:a.example"], "v=spf1 mx include:a.example +all"),
        (["v=spf1 mx +all", "v=spf1 a +all"], [], "v=spf1 mx a ~all"),
    ],
)
def test_merged(texts: list[str], needs: list[str], merged: str) -> None:
    assert spf.merge(texts, needs).text == merged


def test_wrong_records_are_not_guessed_at() -> None:
    with pytest.raises(spf.Unreadable, match="ipv4"):
        spf.merge(["v=spf1 ipv4:192.0.2.1 -all"], [])
    with pytest.raises(spf.Unreadable, match="different places"):
        spf.merge(["v=spf1 redirect=a.example", "v=spf1 redirect=b.example"], [])


def test_an_owners_refusal_of_a_provider_stays_and_is_told() -> None:
    merged = spf.merge(["v=spf1 -include:sendgrid.net ~all"], ["include:sendgrid.net"])
    assert merged.text == "v=spf1 -include:sendgrid.net ~all"
    assert "-include:sendgrid.net" in merged.notes[0]


@pytest.mark.parametrize("count", [10, 11])
def test_look_ups_are_counted_over_the_tree(count: int) -> None:
    world = {
        (f"n{number}.example", "TXT"): (f"v=spf1 include:n{number + 1}.example -all",) for number in range(1, count)
    }
    world[f"n{count}.example", "TXT"] = ("v=spf1 -all",)
    cost = spf.cost("v=spf1 include:n1.example -all", HOME, lambda name, kind: world.get((name, kind), ()))
    assert cost.lookups == count
    assert cost.voids == 0


def test_names_that_do_not_exist_and_names_that_nobody_knows() -> None:
    table: dict[str, tuple[str, ...] | None] = {"gone.example": (), "silent.example": None}
    cost = spf.cost(
        "v=spf1 include:gone.example a:gone.example mx:silent.example -all", HOME, lambda name, _: table.get(name, ())
    )
    assert (cost.lookups, cost.voids, cost.unknown) == (3, 2, ["silent.example"])


def test_records_that_include_each_other_end() -> None:
    assert spf.cost(f"v=spf1 include:{HOME} -all", HOME, lambda *_: (f"v=spf1 include:{HOME} -all",)).lookups == 1
