"""Email Routing as ``apply`` leaves it: aliases, switching over, domains below a zone, several zones."""

from __future__ import annotations

import pytest

from domain.api import NotAllowed
from domain.steps import Kind
from support.domain.stage import Stage, cloudflare_state, record, zone

pytest_plugins = ["support.domain.fixtures"]

DMARC = '"v=DMARC1; p=none; rua=mailto:postmaster@example.org"'
CF_SPF = "v=spf1 include:_spf.mx.cloudflare.net ~all"


@pytest.mark.parametrize("replaces", [False, True])
def test_the_owners_spf_record_outlives_the_switch(stage: Stage, replaces: bool) -> None:
    """Cloudflare leaves one that is there alone, and users have seen it replaced: both ways lead to one record."""
    own = record("TXT", "example.org", "v=spf1 ip4:192.0.2.1 -all")
    made = zone("example.org", [own])
    stage.cloudflare.set(cloudflare_state(made, verified=("me@gmail.com",), replaces_spf=replaces))
    assert not stage.apply().different
    [merged] = stage.texts("example.org")
    assert set(merged.strip('"').split()) == {"v=spf1", "ip4:192.0.2.1", "include:_spf.mx.cloudflare.net", "-all"}


def test_mail_received_elsewhere_is_left_alone(stage: Stage) -> None:
    """Without an alias for the domain its MX records stay, and the person is told about postmaster."""
    mx = record("MX", "example.org", "aspmx.l.google.com", priority=1)
    stage.cloudflare.set(cloudflare_state(zone("example.org", [mx])))
    stage.aliases = ""
    final = stage.apply()
    assert not final.different
    assert mx in stage.records()
    assert not stage.cloudflare.state["zones"][0]["routing"]["enabled"]
    assert any("postmaster@example.org" in step.reason for step in final.steps)


def test_mail_is_not_switched_over_before_its_destinations_are_verified(stage: Stage) -> None:
    mx = record("MX", "example.org", "aspmx.l.google.com", priority=1)
    stage.cloudflare.set(cloudflare_state(zone("example.org", [mx])))
    stage.apply()
    assert mx in stage.records()
    assert [one["email"] for one in stage.cloudflare.state["addresses"]["account"]] == ["me@gmail.com"]
    assert any("me@gmail.com gets a mail" in line for line in stage.said)
    state = stage.cloudflare.state
    state["addresses"]["account"][0]["verified"] = "2026-01-01T00:00:00Z"
    stage.cloudflare.set(state)
    plan = stage.plan()
    assert [step.before for step in plan.steps if step.kind is Kind.REMOVE] == ["1 aspmx.l.google.com"], (
        "what goes is named"
    )
    assert not stage.apply().different
    assert sorted(stage.texts("example.org", "MX")) == [f"route{n}.mx.cloudflare.net" for n in (1, 2, 3)]


def test_an_alias_that_is_taken_out_takes_its_rule_along_and_no_other(stage: Stage) -> None:
    stage.aliases = 'hello = "me@gmail.com"\nshop = "drop"\nbot = { worker = "w" }\n"*" = "me@gmail.com"'
    stage.apply()
    state = stage.cloudflare.state
    by_hand = {**state["zones"][0]["rules"][0], "id": "mine", "name": "by hand"}
    by_hand["matchers"] = [{"type": "literal", "field": "to", "value": "hand@example.org"}]
    state["zones"][0]["rules"].append(by_hand)
    stage.cloudflare.set(state)
    stage.aliases = 'hello = "me@gmail.com"'
    assert not stage.apply().different
    after = stage.cloudflare.state["zones"][0]
    assert {rule["matchers"][0]["value"] for rule in after["rules"]} == {
        "hello@example.org",
        "postmaster@example.org",
        "hand@example.org",
    }
    assert not after["catch_all"]["enabled"]


def test_a_rule_that_email_routing_refuses_waits_for_its_destination(stage: Stage) -> None:
    stage.cloudflare.set(cloudflare_state(zone("example.org")))
    final = stage.apply()
    waiting = {step.what for step in final.steps if step.kind is Kind.WAIT and step.what.startswith("rule")}
    assert waiting == {"rule hello@example.org", "rule postmaster@example.org"}
    assert not final.different
    assert any("waits until its destination is verified" in line for line in stage.said)
    assert stage.cloudflare.state["zones"][0]["routing"]["enabled"], "the rest is done"


def test_all_but_one_of_an_addresss_rules_go_also_while_that_one_waits(stage: Stage) -> None:
    """Two of them look the same; each has a line of its own in the plan, and one run is enough."""
    to = {"type": "literal", "field": "to", "value": "hello@example.org"}
    forward, drop = {"type": "forward", "value": ["me@gmail.com"]}, {"type": "drop"}
    rules = [
        {"id": f"r{number}", "name": "by hand", "enabled": True, "matchers": [to], "actions": [action], "priority": 0}
        for number, action in enumerate((drop, forward, forward))
    ]
    made = zone("example.org", rules=rules)
    made["routing"]["enabled"] = True
    stage.cloudflare.set(cloudflare_state(made))
    assert [step.what for step in stage.plan().steps if step.kind is Kind.REMOVE] == ["rule hello@example.org"] * 2
    final = stage.apply()
    assert not final.different
    assert [one["id"] for one in stage.cloudflare.state["zones"][0]["rules"]] == ["r1"], "the one that is right stays"


def test_a_sub_domain_as_mail_domain(stage: Stage) -> None:
    """Everything stands below it in its parent's zone, and the parent's stricter DMARC policy goes on covering it."""
    parent = [
        record("TXT", "_dmarc.example.org", "v=DMARC1; p=reject"),
        record("MX", "example.org", "aspmx.l.google.com", priority=1),
        record("TXT", "example.org", "v=spf1 include:spf.mailjet.com -all"),
    ]
    stage.cloudflare.set(cloudflare_state(zone("example.org", parent), verified=("me@gmail.com",)))
    stage.env = {"OWNPOST_DOMAINS": "post.example.org"}
    assert not stage.apply().different
    assert all(one in stage.records() for one in parent)
    assert stage.texts("_dmarc.post.example.org") == []
    assert stage.texts("mail.post.example.org", "A") == ["192.0.2.25"]
    assert len(stage.texts("post.example.org", "MX")) == 3
    assert stage.texts("post.example.org") == [f'"{CF_SPF}"']
    names = {rule["matchers"][0]["value"] for rule in stage.cloudflare.state["zones"][0]["rules"]}
    assert names == {"hello@post.example.org", "postmaster@post.example.org"}
    stage.cloudflare.spoil({})
    stage.apply()
    assert stage.cloudflare.writes == []


def test_several_zones_and_another_script(stage: Stage) -> None:
    """A domain in another script is named in punycode everywhere; a destination of two domains is asked once."""
    stage.cloudflare.set(
        cloudflare_state(zone("example.org"), zone("xn--bcher-kva.example"), verified=("me@gmail.com",))
    )
    stage.env = {"OWNPOST_DOMAINS": "example.org, bücher.example"}
    stage.aliases = 'hello = "me@gmail.com"\n["bücher.example"]\ninfo = "me@gmail.com"\n"*" = "drop"'
    assert not stage.apply().different
    assert stage.texts("_dmarc.xn--bcher-kva.example", zone="xn--bcher-kva.example") != []
    rules = {rule["matchers"][0]["value"] for one in stage.cloudflare.state["zones"] for rule in one["rules"]}
    assert "info@xn--bcher-kva.example" in rules
    assert {one["domain"] for one in stage.sendgrid.state["domains"]} == {"example.org", "xn--bcher-kva.example"}
    assert len(list((stage.folder / "zones").glob("*.zone"))) == 2


def test_a_destination_in_other_letters_is_the_same(stage: Stage) -> None:
    stage.aliases = 'hello = "Me@gmail.com"'
    stage.apply()
    state = stage.cloudflare.state
    for rule in state["zones"][0]["rules"]:
        rule["actions"][0]["value"] = ["me@gmail.com"]
    stage.cloudflare.set(state)
    assert not stage.plan().different


def test_rules_are_made_before_mail_is_taken_over(stage: Stage) -> None:
    """Else mail that comes in between would be refused for good."""
    stage.apply()
    writes = [
        one.removeprefix("POST /client/v4/zones/zone-example.org/email/routing") for one in stage.cloudflare.writes
    ]
    assert writes.index("/rules") < writes.index("/dns")


def test_rules_that_need_email_routing_first_follow_in_the_same_run(stage: Stage) -> None:
    stage.cloudflare.set(cloudflare_state(zone("example.org"), verified=("me@gmail.com",), rules_need_routing=True))
    assert not stage.apply().different
    assert len(stage.cloudflare.state["zones"][0]["rules"]) == 2


def test_mx_records_come_back_if_email_routing_cannot_be_switched_on(stage: Stage) -> None:
    mx = record("MX", "example.org", "aspmx.l.google.com", priority=1, comment="mine")
    stage.cloudflare.set(cloudflare_state(zone("example.org", [mx]), verified=("me@gmail.com",)))
    stage.apply()
    at = next(
        n
        for n, one in enumerate(stage.cloudflare.journal, 1)
        if one["method"] == "POST" and one["path"].endswith("routing/dns")
    )
    stage.cloudflare.set(cloudflare_state(zone("example.org", [mx]), verified=("me@gmail.com",)))
    stage.sendgrid.set({"key": "SG.test", "domains": []})
    stage.cloudflare.spoil(
        {at: {"status": 403, "body": {"success": False, "errors": [{"code": 10000, "message": "no"}]}}}
    )
    with pytest.raises(NotAllowed, match="Zone · Zone Settings · Edit"):
        stage.apply()
    [after] = [one for one in stage.records() if one["type"] == "MX"]
    assert {**after, "id": ""} == {**mx, "id": ""}
    assert not stage.apply().different
