"""What a domain should hold, where no other test looks: unknown addresses, policies kept elsewhere, limits."""

from __future__ import annotations

import io
from ipaddress import ip_address

import pytest
from rich.console import Console

from domain import show, wants
from domain.diff import Claim
from domain.records import Record
from domain.steps import Kind, Plan, Step
from domain.wants import Wishes


def nothing(*_: str) -> tuple[str, ...]:
    return ()


def txt(name: str, content: str) -> Record:
    return Record(type="TXT", name=name, content=content, id=name + content)


def test_a_server_whose_address_is_not_known() -> None:
    """What is published stays, off the proxy; where nothing is, the owner is asked."""
    wishes = Wishes()
    wants.host(wishes, "example.org", [], "mail.example.org", None)
    assert [step.kind for step in wishes.steps] == [Kind.BLOCKED]
    wishes = Wishes()
    there = Record(type="A", name="mail.example.org", content="192.0.2.7", proxied=True, id="1")
    wants.host(wishes, "example.org", [there], "mail.example.org", None)
    assert [(want.record.content, want.record.proxied) for want in wishes.wants] == [("192.0.2.7", False)]
    assert wishes.steps == []


def test_an_address_of_the_other_family_stays() -> None:
    wishes = Wishes()
    there = Record(type="AAAA", name="mail.example.org", content="2001:db8::7", id="1")
    wants.host(wishes, "example.org", [there], "mail.example.org", [ip_address("192.0.2.1")])
    assert [want.record.type for want in wishes.wants] == ["A", "AAAA"]


def test_the_hosts_records_are_left_alone_on_request() -> None:
    wishes = Wishes()
    wants.host(wishes, "example.org", [], "mail.example.org", ())
    assert wishes == Wishes()


def test_dmarc_that_is_looked_after_elsewhere() -> None:
    wishes = Wishes()
    cname = Record(type="CNAME", name="_dmarc.example.org", content="x.vendor.example", id="1")
    assert not wants.dmarc_record(wishes, "example.org", [cname], "example.org", "a@example.org", nothing)
    assert wishes.wants == []


def test_no_policy_is_made_while_nobody_knows_of_one_above() -> None:
    wishes = Wishes()
    zone = "post.example.org"
    assert not wants.dmarc_record(wishes, zone, [], zone, f"a@{zone}", lambda *_: None)
    assert [step.kind for step in wishes.steps] == [Kind.WAIT]


@pytest.mark.parametrize(
    ("record", "needs", "kind", "words"),
    [
        (
            "v=spf1 a:x.example a:y.example a:z.example -all",
            ["include:w.example"],
            Kind.BLOCKED,
            "names in SPF do not exist",
        ),
        ("v=spf1 redirect=a.example", [], Kind.WAIT, "a.example has no SPF record"),
        ("v=spf1 a:x.example a:y.example a:z.example -all", [], Kind.BLOCKED, "names in SPF do not exist"),
        ("v=spf1 ip4:192.0.2.1 -all", [], None, ""),
        ("v=spf1\tip4:192.0.2.1 -all", [], Kind.BLOCKED, "does not begin with"),
        ("v=spf1 exists:%{i}.x.example ?all", [], Kind.WAIT, "lets anybody send"),
        ("v=spf1 nonsense -all", [], Kind.BLOCKED, "Mend it by hand"),
    ],
)
def test_what_is_said_about_an_spf_record(record: str, needs: list[str], kind: Kind | None, words: str) -> None:
    wishes = Wishes()
    wishes.spf["example.org"] = [(need, "why") for need in needs]
    wants.merged_spf(wishes, "example.org", [txt("example.org", record)], nothing)
    assert [step.kind for step in wishes.steps] == ([] if kind is None else [kind])
    assert all(words in step.reason for step in wishes.steps)


def test_many_and_unknown_look_ups_are_told() -> None:
    wishes = Wishes()
    wishes.spf["example.org"] = [(f"include:n{number}.example", "why") for number in range(8)]
    wants.merged_spf(wishes, "example.org", [], lambda *_: None)
    assert [("8 of 10" in step.reason, "n7.example" in step.reason) for step in wishes.steps] == [
        (True, False),
        (False, True),
    ]
    assert wishes.wants[0].claim is Claim.SPF


def test_reports_to_somebody_elses_domain_take_their_consent() -> None:
    zones = {"example.org": Wishes()}
    wants.consent(zones, "example.org", [], "example.org", "x@reports.example")
    assert "reports.example must publish" in zones["example.org"].steps[0].reason


def test_inbound_records_only_where_asked() -> None:
    wishes = Wishes()
    wants.inbound(wishes, "example.org", mta_sts=False, tls_reports="")
    assert wishes.wants == []
    wants.inbound(wishes, "example.org", mta_sts=True, tls_reports="tls@example.org")
    assert [want.record.name for want in wishes.wants] == ["_mta-sts.example.org", "_smtp._tls.example.org"]


@pytest.mark.parametrize(
    ("kinds", "words"),
    [
        ((Kind.KEEP,), "Nothing is left to do."),
        ((Kind.KEEP, Kind.WAIT), "1 of the lines above wait for others"),
        ((Kind.WAIT, Kind.BLOCKED), "The rest is done."),
    ],
)
def test_an_apply_that_waits_for_others_does_not_say_that_nothing_is_left(kinds: tuple[Kind, ...], words: str) -> None:
    out = io.StringIO()
    steps = tuple(
        Step(kind=kind, zone="example.org", what="DKIM of Brevo", reason="It looks for it.") for kind in kinds
    )
    show.rest(Console(file=out, width=200), Plan(steps=steps))
    assert words in out.getvalue()
