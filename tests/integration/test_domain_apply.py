"""``apply`` and ``plan`` against Cloudflare and SendGrid as processes of their own: what is there afterwards."""

from __future__ import annotations

import pytest

from domain.api import ApiError, NotAllowed
from domain.apply import Declined
from domain.steps import Kind
from support.domain.stage import Stage, cloudflare_state, record, zone

pytest_plugins = ["support.domain.fixtures"]

DMARC = '"v=DMARC1; p=none; rua=mailto:postmaster@example.org"'
CF_SPF = "v=spf1 include:_spf.mx.cloudflare.net ~all"


def test_an_empty_zone_becomes_a_mail_domain(stage: Stage) -> None:
    """A, SendGrid's CNAMEs, DMARC, MX and SPF are there, mail is routed, SendGrid is content, and nothing is left."""
    final = stage.apply()
    assert not final.different, final
    assert stage.texts("mail.example.org", "A") == ["192.0.2.25"]
    assert len([one for one in stage.records() if one["type"] == "CNAME"]) == 3
    assert stage.texts("_dmarc.example.org") == [DMARC]
    assert stage.texts("example.org") == [f'"{CF_SPF}"']
    state = stage.cloudflare.state["zones"][0]
    assert state["routing"]["enabled"]
    assert {rule["matchers"][0]["value"]: rule["actions"][0]["value"] for rule in state["rules"]} == {
        "hello@example.org": ["me@gmail.com"],
        "postmaster@example.org": ["me@gmail.com"],
    }
    assert stage.sendgrid.state["domains"][0]["valid"]
    assert not stage.cloudflare.wrong
    assert not stage.sendgrid.wrong


def test_a_second_apply_changes_nothing(stage: Stage) -> None:
    stage.apply()
    stage.cloudflare.spoil({})
    stage.sendgrid.spoil({})
    assert not stage.apply().different
    assert stage.cloudflare.writes == []
    assert stage.sendgrid.writes == []


def test_dns_changes_in_one_batch(stage: Stage) -> None:
    stage.apply()
    batches = [one for one in stage.cloudflare.journal if one["path"].endswith("/batch")]
    assert len(batches) == 1
    assert {one["type"] for one in batches[0]["body"]["posts"]} == {"A", "CNAME", "TXT"}


def test_the_person_may_say_no(stage: Stage) -> None:
    with pytest.raises(Declined):
        stage.apply(agree=False)
    assert stage.cloudflare.writes + stage.sendgrid.writes == []


def test_plan_writes_nothing(stage: Stage) -> None:
    assert stage.plan().different
    assert stage.cloudflare.writes + stage.sendgrid.writes == []


def test_the_zone_is_backed_up_before_the_first_change(stage: Stage) -> None:
    stage.cloudflare.set(cloudflare_state(zone("example.org", [record("A", "www.example.org", "198.51.100.7")])))
    stage.apply()
    [backup] = (stage.folder / "zones").glob("*.zone")
    assert "www.example.org.\t300\tIN\tA\t198.51.100.7" in backup.read_text()
    assert "mail.example.org" not in backup.read_text()
    assert backup.stat().st_mode & 0o777 == 0o600
    paths = [one["path"].removeprefix("/client/v4/zones/zone-example.org") for one in stage.cloudflare.journal]
    assert paths.index("/dns_records/export") < paths.index("/dns_records/batch")


def test_spf_records_are_merged_after_email_routing_is_unlocked(stage: Stage) -> None:
    """The owner's record and the one that Email Routing locked become one, in the owner's words."""
    records = [
        record("TXT", "example.org", "v=spf1 include:spf.mailjet.com -all", comment="mine"),
        record("TXT", "example.org", CF_SPF),
    ]
    made = zone("example.org", records, locked=True)
    made["routing"]["enabled"] = True
    stage.cloudflare.set(cloudflare_state(made, verified=("me@gmail.com",)))
    assert not stage.apply().different
    assert stage.texts("example.org") == ['"v=spf1 include:spf.mailjet.com include:_spf.mx.cloudflare.net -all"']
    writes = stage.cloudflare.writes
    assert writes[0] == "PATCH /client/v4/zones/zone-example.org/email/routing/dns"
    assert writes[1].endswith("/dns_records/batch")
    assert (
        next(one for one in stage.records() if one["name"] == "example.org" and one["type"] == "TXT")["comment"]
        == "mine"
    )


def test_an_spf_record_that_email_routing_adds_is_merged_in_the_same_run(stage: Stage) -> None:
    """Nobody documents whether it does; both ways lead to one record."""
    stage.cloudflare.set(
        cloudflare_state(
            zone("example.org", [record("TXT", "example.org", "v=spf1 -all")]),
            verified=("me@gmail.com",),
            adds_spf=True,
        )
    )
    assert not stage.apply().different
    assert stage.texts("example.org") == ['"v=spf1 include:_spf.mx.cloudflare.net -all"']


def test_a_proxied_mail_host_is_taken_off_the_proxy(stage: Stage) -> None:
    host = record("A", "mail.example.org", "192.0.2.25", proxied=True, comment="mine")
    stage.cloudflare.set(cloudflare_state(zone("example.org", [host])))
    stage.apply()
    [after] = [one for one in stage.records() if one["name"] == "mail.example.org"]
    assert after == {**host, "proxied": False}


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
    stage.cloudflare.set(cloudflare_state(zone("example.org"), refuse_unverified=True))
    final = stage.apply()
    waiting = {step.what for step in final.steps if step.kind is Kind.WAIT and step.what.startswith("rule")}
    assert waiting == {"rule hello@example.org", "rule postmaster@example.org"}
    assert not final.different
    assert any("waits until its destination is verified" in line for line in stage.said)
    assert stage.cloudflare.state["zones"][0]["routing"]["enabled"], "the rest is done"


def test_a_provider_that_is_given_up_takes_our_records_along_and_no_other(stage: Stage) -> None:
    stage.apply()
    state = stage.cloudflare.state
    state["zones"][0]["records"].append(record("CNAME", "s9._domainkey.example.org", "else.example.net"))
    stage.cloudflare.set(state)
    stage.env = {"OWNPOST_PROVIDERS": "capture", "DOMAIN_SENDGRID_API_KEY": ""}
    assert not stage.apply().different
    assert [one["name"] for one in stage.records() if one["type"] == "CNAME"] == ["s9._domainkey.example.org"]


def test_nothing_of_ours_is_given_up_while_a_providers_records_are_not_known(stage: Stage) -> None:
    stage.apply()
    stage.env = {"DOMAIN_SENDGRID_API_KEY": ""}
    before = stage.records()
    stage.apply()
    kept = [one for one in stage.records() if one["type"] == "CNAME"]
    assert kept == [one for one in before if one["type"] == "CNAME"]


def test_a_stricter_dmarc_record_is_never_weakened_and_a_second_one_goes(stage: Stage) -> None:
    strict = record("TXT", "_dmarc.example.org", "v=DMARC1; p=reject; rua=mailto:x@example.net")
    stage.cloudflare.set(
        cloudflare_state(zone("example.org", [record("TXT", "_dmarc.example.org", "v=DMARC1; p=none"), strict]))
    )
    stage.apply()
    assert [one for one in stage.records() if one["name"] == "_dmarc.example.org"] == [strict]


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
    stage.cloudflare.set(cloudflare_state(zone("example.org"), zone("xn--bcher-kva.example")))
    stage.env = {"OWNPOST_DOMAINS": "example.org, bücher.example"}
    stage.aliases = 'hello = "me@gmail.com"\n["bücher.example"]\ninfo = "me@gmail.com"\n"*" = "drop"'
    assert not stage.apply().different
    assert stage.texts("_dmarc.xn--bcher-kva.example", zone="xn--bcher-kva.example") != []
    rules = {rule["matchers"][0]["value"] for one in stage.cloudflare.state["zones"] for rule in one["rules"]}
    assert "info@xn--bcher-kva.example" in rules
    assert [one["email"] for one in stage.cloudflare.state["addresses"]["account"]] == ["me@gmail.com"]
    assert {one["domain"] for one in stage.sendgrid.state["domains"]} == {"example.org", "xn--bcher-kva.example"}
    assert len(list((stage.folder / "zones").glob("*.zone"))) == 2


def test_dmarc_reports_to_another_zone_of_ours_are_agreed_to_there(stage: Stage) -> None:
    stage.cloudflare.set(cloudflare_state(zone("example.org"), zone("example.net"), verified=("me@gmail.com",)))
    stage.env = {"OWNPOST_DOMAINS": "example.org,example.net", "DOMAIN_DMARC_REPORTS": "dmarc@example.net"}
    stage.apply()
    assert stage.texts("example.org._report._dmarc.example.net", zone="example.net") == ['"v=DMARC1"']


@pytest.mark.parametrize(
    ("lacks", "named"),
    [
        (["Zone"], ["Zone · Zone · Read"]),
        (["DNS"], ["Zone · DNS · Edit"]),
        (["Settings", "Rules"], ["Zone · Zone Settings · Edit"]),
        (
            ["Rules", "Addresses", "DNS"],
            ["Zone · Email Routing Rules · Edit", "Account · Email Routing Addresses · Edit", "Zone · DNS · Edit"],
        ),
    ],
)
def test_missing_permissions_are_named_as_the_dashboard_names_them(
    stage: Stage, lacks: list[str], named: list[str]
) -> None:
    """All that can be seen at once, before anything is written."""
    stage.cloudflare.set({**stage.cloudflare.state, "lacks": lacks})
    with pytest.raises(NotAllowed) as refused:
        stage.apply()
    assert all(one in str(refused.value) for one in named)
    assert stage.cloudflare.writes == []


@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("cfat_account", "account-owned token"),
        ("cfut_wrong", "not accepted. Make a user token with: Zone · Zone · Read; "),
    ],
)
def test_a_token_of_no_use_is_told_first(stage: Stage, token: str, words: str) -> None:
    stage.env = {"DOMAIN_CLOUDFLARE_API_TOKEN": token}
    with pytest.raises(NotAllowed, match=words) as refused:
        stage.plan()
    assert token not in str(refused.value)


def test_an_expired_token_is_told(stage: Stage) -> None:
    stage.cloudflare.set({**stage.cloudflare.state, "status": "expired"})
    with pytest.raises(NotAllowed, match="expired"):
        stage.plan()


def test_sendgrid_refuses_the_key(stage: Stage) -> None:
    stage.sendgrid.set({"key": "SG.test", "domains": [], "forbidden": True})
    with pytest.raises(NotAllowed, match=r"Domain Authentication, Full Access.*access forbidden"):
        stage.plan()


def test_sendgrid_that_does_not_see_the_records_yet_is_waited_for(stage: Stage) -> None:
    stage.sendgrid.set({"key": "SG.test", "domains": [], "published": []})
    final = stage.apply()
    assert not final.different
    assert any(step.kind is Kind.WAIT and "not validated" in step.reason for step in final.steps)
    assert any("Expected CNAME" in line for line in stage.said)


def test_long_lists_are_read_to_their_end(stage: Stage) -> None:
    """120 records over three pages, of which the last one is in the way."""
    records = [record("TXT", f"t{number}.example.org", "x") for number in range(119)]
    records.append(record("A", "mail.example.org", "198.51.100.9"))
    stage.cloudflare.set(cloudflare_state(zone("example.org", records)))
    stage.apply()
    assert stage.texts("mail.example.org", "A") == ["192.0.2.25"]
    assert len([one for one in stage.records() if one["name"].startswith("t")]) == 119


def test_more_changes_than_one_batch_takes(stage: Stage) -> None:
    stage.providers = "[x.dns]\nrecords = [" + ", ".join(f'"n{number} TXT v"' for number in range(250)) + "]"
    stage.env = {"OWNPOST_PROVIDERS": "x", "DOMAIN_SENDGRID_API_KEY": ""}
    assert not stage.apply().different
    assert len([one for one in stage.records() if one["type"] == "TXT" and one["name"].startswith("n")]) == 250


def test_too_many_requests_are_waited_for_as_told(stage: Stage) -> None:
    stage.cloudflare.spoil({2: {"status": 429, "headers": {"Retry-After": "7"}}})
    stage.plan()
    assert stage.slept == [7.0]


def test_a_write_that_got_no_answer_is_not_sent_twice(stage: Stage) -> None:
    """Whether it was carried out is not known; the next apply looks, and goes on from there."""
    stage.apply()
    batch = next(n for n, one in enumerate(stage.cloudflare.journal, 1) if one["path"].endswith("/batch"))
    stage.cloudflare.set(cloudflare_state(zone("example.org"), verified=("me@gmail.com",)))
    stage.sendgrid.set({"key": "SG.test", "domains": []})
    stage.cloudflare.spoil({batch: {"hang_up": "after"}})
    with pytest.raises(ApiError, match="did not answer"):
        stage.apply()
    assert len([one for one in stage.cloudflare.writes if one.endswith("/batch")]) == 1
    assert not stage.apply().different


def test_a_destination_in_other_letters_is_the_same(stage: Stage) -> None:
    stage.aliases = 'hello = "Me@gmail.com"'
    stage.apply()
    state = stage.cloudflare.state
    for rule in state["zones"][0]["rules"]:
        rule["actions"][0]["value"] = ["me@gmail.com"]
    stage.cloudflare.set(state)
    assert not stage.plan().different


def test_a_domain_authenticated_by_hand_needs_no_include(stage: Stage) -> None:
    """Without a key of SendGrid's: its CNAMEs are there, so its own SPF is not wanted at the domain."""
    keys = [record("CNAME", f"s{n}._domainkey.example.org", f"s{n}.domainkey.u7.wl.sendgrid.net") for n in (1, 2)]
    stage.cloudflare.set(cloudflare_state(zone("example.org", keys), verified=("me@gmail.com",)))
    stage.env = {"DOMAIN_SENDGRID_API_KEY": ""}
    stage.apply()
    assert stage.texts("example.org") == [f'"{CF_SPF}"']
    stage.cloudflare.set(cloudflare_state(zone("example.org"), verified=("me@gmail.com",)))
    stage.apply()
    assert stage.texts("example.org") == ['"v=spf1 include:sendgrid.net include:_spf.mx.cloudflare.net ~all"']


def test_a_zone_that_nobody_sees_yet_is_told(stage: Stage) -> None:
    stage.cloudflare.set(
        cloudflare_state(zone("example.org", status="pending", name_servers=["a.ns.example", "b.ns.example"]))
    )
    assert any("a.ns.example and b.ns.example" in step.reason for step in stage.plan().steps if step.kind is Kind.WAIT)


def test_what_the_owner_must_decide_does_not_hold_up_the_rest(stage: Stage) -> None:
    """An SPF record that cannot be understood, and a mail domain that is a CNAME, are left as they are."""
    wrong = record("TXT", "example.org", "v=spf1 ipv4:192.0.2.1 -all")
    stage.cloudflare.set(cloudflare_state(zone("example.org", [wrong]), verified=("me@gmail.com",)))
    final = stage.apply()
    assert [step.what for step in final.blocked] == ["TXT example.org"]
    assert "ipv4:192.0.2.1" in final.blocked[0].reason
    assert wrong in stage.records()
    assert stage.texts("mail.example.org", "A") == ["192.0.2.25"]


def test_spf_is_left_alone_rather_than_broken_by_an_eleventh_look_up(stage: Stage) -> None:
    includes = " ".join(f"include:i{number}.example" for number in range(10))
    stage.dns = {**stage.dns, **{(f"i{number}.example", "TXT"): ("v=spf1 -all",) for number in range(10)}}
    full = record("TXT", "example.org", f"v=spf1 {includes} -all")
    stage.cloudflare.set(cloudflare_state(zone("example.org", [full]), verified=("me@gmail.com",)))
    final = stage.apply()
    assert any("11 DNS look-ups" in step.reason for step in final.blocked)
    assert full in stage.records()


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


def test_a_provider_that_does_not_list_what_it_created_is_not_asked_again(stage: Stage) -> None:
    stage.sendgrid.set({"key": "SG.test", "domains": [], "forgets": True})
    with pytest.raises(ApiError, match="is not listed yet"):
        stage.apply()
    assert stage.sendgrid.writes == ["POST /v3/whitelabel/domains"]


def test_a_policy_above_the_zone_is_not_weakened(stage: Stage) -> None:
    """The zone is a part of a larger domain whose DNS is elsewhere."""
    stage.cloudflare.set(cloudflare_state(zone("post.example.org"), verified=("me@gmail.com",)))
    stage.env = {"OWNPOST_DOMAINS": "post.example.org"}
    stage.dns = {**stage.dns, ("_dmarc.example.org", "TXT"): ("v=DMARC1; p=reject",)}
    stage.apply()
    assert stage.texts("_dmarc.post.example.org", zone="post.example.org") == []
