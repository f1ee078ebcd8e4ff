"""Records as values: quoting, comparing, and what stands in whose way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import dmarc
from domain.diff import Claim, Scene, Want, compare
from domain.records import Record, quote, read, unquote
from domain.steps import Kind

SCENE = Scene("example.org", "Ownpost mail.example.org", frozenset({"example.org", "post.example.org"}))


@given(st.text(max_size=600))
def test_quoting_loses_nothing(text: str) -> None:
    assert unquote(quote(text)) == text.encode(errors="replace").decode(errors="replace")
    assert all(len(part) <= 255 * 4 + 2 for part in quote(text).split('" "'))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("v=spf1 -all", "v=spf1 -all"),
        ('"v=spf1 " "-all"', "v=spf1 -all"),
        ('"a\\"b\\\\c"', 'a"b\\c'),
        ('"\\195\\164"', "ä"),
        ('"ä"', "ä"),
        ('"not closed', '"not closed'),
    ],
)
def test_contents_as_they_come_back(content: str, text: str) -> None:
    assert unquote(content) == text


def test_a_long_text_is_split_into_strings_of_255_bytes() -> None:
    assert [len(part.strip('"')) for part in quote("x" * 600).split(" ")] == [255, 255, 90]


def test_a_record_of_the_api() -> None:
    item = {
        "id": "1",
        "type": "CNAME",
        "name": "A.Example.org",
        "content": "X.example.",
        "proxied": True,
        "meta": {"read_only": True},
    }
    found = read(item)
    assert (found.name, found.value, found.proxied, found.locked) == ("a.example.org", "x.example", True, True)


def at(kind: str, name: str, content: str, **more: object) -> Record:
    return Record(type=kind, name=name, content=content, id=f"{kind}{name}{content}", **more)  # type: ignore[arg-type]


def outcome(existing: list[Record], *wants: Want, orphans: bool = True) -> list[tuple[Kind, str, str]]:
    steps = compare(SCENE, existing, wants, remove_orphans=orphans)
    return [(step.kind, step.what, step.before or step.after) for step in steps]


HOST = Want(Record(type="A", name="mail.example.org", content="192.0.2.1"), "why", Claim.TYPE)
CNAME = Want(Record(type="CNAME", name="em.example.org", content="u.example.net"), "why", Claim.TYPE)
KEY = Want(Record(type="TXT", name="k._domainkey.example.org", content="v=DKIM1; p=AB"), "why", Claim.DKIM)
TEXT = Want(Record(type="TXT", name="post.example.org", content="v=spf1 -all"), "why", Claim.SPF)


@pytest.mark.parametrize(
    ("existing", "want", "expected"),
    [
        ([], HOST, ["add"]),
        ([at("A", "mail.example.org", "192.0.2.1")], HOST, ["keep"]),
        ([at("A", "mail.example.org", "192.0.2.1", proxied=True)], HOST, ["change"]),
        ([at("A", "mail.example.org", "192.0.2.9")], HOST, ["change"]),
        (
            [at("A", "mail.example.org", "192.0.2.9"), at("A", "mail.example.org", "192.0.2.8")],
            HOST,
            ["remove", "change"],
        ),
        ([at("AAAA", "mail.example.org", "2001:db8::1"), at("TXT", "mail.example.org", "x")], HOST, ["add"]),
        ([at("CNAME", "mail.example.org", "x.example")], HOST, ["remove", "add"]),
        ([at("NS", "mail.example.org", "ns.example")], HOST, ["blocked"]),
        ([at("CNAME", "em.example.org", "U.example.net.")], CNAME, ["keep"]),
        (
            [at("A", "em.example.org", "192.0.2.1"), at("TXT", "em.example.org", "x")],
            CNAME,
            ["remove", "remove", "add"],
        ),
        ([at("TXT", "k._domainkey.example.org", "k=rsa; p=A B")], KEY, ["keep"]),
        (
            [at("TXT", "k._domainkey.example.org", "p=OLD"), at("TXT", "k._domainkey.example.org", "note")],
            KEY,
            ["change"],
        ),
        ([at("CNAME", "post.example.org", "web.example")], TEXT, ["blocked"]),
        ([at("TXT", "post.example.org", "note")], TEXT, ["add"]),
    ],
)
def test_what_is_in_the_way_and_what_is_not(existing: list[Record], want: Want, expected: list[str]) -> None:
    assert [kind for kind, _, _ in outcome(existing, want)] == expected


def test_a_cname_at_the_zones_own_name_may_stay_beside_text() -> None:
    want = Want(Record(type="TXT", name="example.org", content="v=spf1 -all"), "why", Claim.SPF)
    assert [kind for kind, _, _ in outcome([at("CNAME", "example.org", "web.example")], want)] == ["add"]


def test_two_wants_that_exclude_each_other_are_for_the_owner() -> None:
    other = Want(Record(type="CNAME", name="em.example.org", content="v.example.net"), "another reason", Claim.TYPE)
    assert [kind for kind, _, _ in outcome([], CNAME, other)] == ["blocked", "add"]


def test_ours_that_nobody_wants_goes_unless_something_is_not_known() -> None:
    ours = at("CNAME", "old.example.org", "x.example", comment="Ownpost mail.example.org")
    assert outcome([ours], HOST) == [
        (Kind.ADD, "A mail.example.org", "192.0.2.1"),
        (Kind.REMOVE, "CNAME old.example.org", "x.example"),
    ]
    assert [kind for kind, _, _ in outcome([ours], HOST, orphans=False)] == ["add"]


@pytest.mark.parametrize(
    ("texts", "kept"),
    [
        (["v=DMARC1; p=none", "v=DMARC1; p=reject"], 1),
        (["v=DMARC1; p=reject; t=y", "v=DMARC1; p=reject"], 1),
        (["v=DMARC1; p=none", "v=DMARC1; p=none; rua=mailto:x@example.org"], 1),
        (["v=DMARC1; p=quarantine", "v=DMARC1; p=quarantine"], 0),
        (["v=DMARC1; sp=none", "v=DMARC1; p=none"], 1),
    ],
)
def test_the_strictest_dmarc_record(texts: list[str], kept: int) -> None:
    assert dmarc.strictest(texts) is texts[kept]
