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


WRONG_TERMS = """
    ip4:203.0.113.0/33 ip4:300.1.2.3 ip4 ip4: ip4:192.0.2.01 ip4:192.0.2 ip4:192.0.2.0/ ip4:192.0.2.0/08 ip4:::1 ip4/24
    ip4:192.0.2.0//24 ip6:1.2.3.4 ip6:2001:db8::/129 ip6:fe80::1%eth0 ip6: include: include include:localhost include/24
    include:a.example/24 include:ä.example +include
    a/33 a//129 a/a:b.example/24 a/24/64 a/ a/024 a: a:/24 a:192.0.2.1
    a:- a:a..example.org mx: mx/33 mx:mail ptr/24 ptr: exists exists: exists:% exists:%{i exists:a.%-
    exists:%{x}.a.example
    exists:%{c}.a.example exists:%{i0}.a.example exists:%{ir2}.a.example exists:a.example/24 all:x all/0 -all. ++a
    -redirect=a.example redirect= redirect=localhost redirect=a.example/24 exp= exp=%{z}.a.example x=%{ x=ä 1x=y a; a, "
    ipv4:192.0.2.1 spf =x a=%
"""
WRONG = [
    *WRONG_TERMS.split(),
    *("a\tmx", "a\x0bmx", "a\n", f"a:{'x' * 64}.example.org", f"a:{'x.' * 130}example.org"),
    "redirect=a.example redirect=b.example",
    "redirect=a.example Redirect=a.example",
    "exp=a.example exp=b.example",
]
RIGHT_TERMS = """
    +a -mx ~ptr ?all A:MX.Example.org. a/0 a/32 a//0 a//128 a/24//64 a:b.example/24//64 mx/28 mx:a.example//64
    ptr:a.example ip4:192.0.2.1 ip4:192.0.2.1/0 ip4:192.0.2.255/24 ip6:2001:db8::/32 ip6:::1 ip6:::ffff:192.0.2.1/128
    IP6:2001:DB8:: include:_spf.a.example include:a.xn--p1ai include:a.b-c include:%{d2}.spf.a.example
    a:foo:8080.example
    exists:%{i}._spf.%{d} exists:%{ir}.a.example exists:%{l1r-+}.a.example exists:%{S}.a.example
    exists:%%._spf.a.example
    redirect=%{d} exp=why.%{d} x= x=%{i}%_ x.y_z-1=anything:/24 include=a.example
"""
RIGHT = RIGHT_TERMS.split()


@pytest.mark.parametrize("term", WRONG)
def test_a_term_that_receivers_do_not_accept_is_not_merged_into_anything(term: str) -> None:
    """One wrong term makes the whole record an error to them, wherever it stands (section 4.6)."""
    for text in (f"v=spf1 {term} ~all", f"v=spf1 ~all {term}"):
        with pytest.raises(spf.Unreadable):
            spf.merge([text], ["include:_spf.mx.cloudflare.net"])


@pytest.mark.parametrize("term", RIGHT)
def test_a_term_that_receivers_accept_stays(term: str) -> None:
    merged = spf.merge([f"v=spf1  {term}  "], ["include:a.example"]).text
    assert "all" in term or set(term.split()) <= set(merged.split())
    assert judged([f"v=spf1 {term}"], "192.0.2.77")[0] != "permerror" or term.partition(":")[0] in (
        "include",
        "redirect=%{d}",
    )


@given(
    term=st.sampled_from(RIGHT),
    at=st.integers(0, 30),
    cut=st.integers(0, 2),
    put=st.text(alphabet="ax1.:/%{}-_= +?", max_size=2),
)
def test_no_misspelt_term_is_taken_that_pyspf_takes_for_an_error(term: str, at: int, cut: int, put: str) -> None:
    """Names are looked up nowhere, so only a mechanism's syntax can make a record an error."""
    text = "v=spf1 " + term[:at] + put + term[at + cut :]
    try:
        record = spf.parse(text)
    except spf.Unreadable:
        return
    assume(not record.redirect and not record.modifiers)
    assume(not any("include" in one.lower() for one in record.mechanisms))
    assert judge({(HOME, "TXT"): [text]}, HOME, "192.0.2.77")[0] != "permerror", text


def test_a_record_whose_version_receivers_do_not_see_gets_no_second_beside_it() -> None:
    for text in ("v=spf1\tmx -all", "v=spf1;mx -all", "'v=spf1 mx -all'", " v=spf1 mx -all", "v=spf1mx"):
        assert not spf.is_spf(text)
        assert spf.is_meant(text)
        with pytest.raises(spf.Unreadable, match="does not begin with"):
            spf.merge([text], [])
    assert not spf.is_meant("v=spf10 mx -all")


def test_two_explanations_would_be_an_error() -> None:
    merged = spf.merge(["v=spf1 mx exp=a.example -all", "v=spf1 a EXP=b.example x=1 -all"], []).text
    assert merged == "v=spf1 mx a -all exp=a.example x=1"


def test_what_a_service_added_comes_behind_the_owners_own() -> None:
    texts = ["v=spf1 include:_spf.mx.cloudflare.net ~all", "v=spf1 ip4:192.0.2.1 -all"]
    merged = spf.merge(texts, ["include:_spf.mx.cloudflare.net"]).text
    assert merged == "v=spf1 ip4:192.0.2.1 include:_spf.mx.cloudflare.net -all"


def test_modifiers_that_nobody_knows_may_be_there_how_often_they_like() -> None:
    """Section 6."""
    assert spf.parse("v=spf1 x=1 x=2 -all").modifiers == ("x=1", "x=2")


def test_what_receivers_accept_and_its_owner_hardly_means_is_told() -> None:
    notes = spf.merge(["v=spf1 ptr include=a.example -all"], []).notes
    assert ["ptr" in notes[0], "include:a.example" in notes[1]] == [True, True]


def test_what_is_wrong_below_a_record_is_told() -> None:
    """Receivers take the whole record for an error then, and plan and check say so."""
    world: dict[tuple[str, str], tuple[str, ...]] = {
        ("two.example", "TXT"): ("v=spf1 -all", "v=spf1 a -all"),
        ("wrong.example", "TXT"): ("v=spf1 ip4:1.2.3.4/33 -all",),
        ("many.example", "MX"): tuple(f"{n} mx{n}.example" for n in range(11)),
    }
    text = "v=spf1 include:none.example include:two.example include:wrong.example mx:many.example redirect=example.org"
    broken = spf.cost(text, HOME, lambda name, kind: world.get((name, kind), ())).broken
    words = ["none.example has no", "two.example has 2", "wrong.example is wrong", "11 MX records", "leads back"]
    assert [word in one for word, one in zip(words, broken, strict=True)] == [True] * 5


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
