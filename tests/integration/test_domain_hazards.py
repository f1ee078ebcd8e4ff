"""What could wreck a live mail domain, and must not: what worked before an ``apply`` works after it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from domain.api import ApiError, Unreachable
from support.appliance import sources
from support.domain.stage import Stage, cloudflare_state, record, zone

pytest_plugins = ["support.domain.fixtures"]

ROOT = Path(__file__).parents[2]
OURS = "Ownpost mail.example.org"
CF_MX = [record("MX", "example.org", f"route{n}.mx.cloudflare.net", priority=n) for n in (1, 2, 3)]


def spf_records(stage: Stage) -> list[str]:
    return [text for text in stage.texts("example.org") if "v=spf1" in text]


def test_email_routing_waits_while_its_spf_cannot_be_merged(stage: Stage) -> None:
    """Switching it on may add a second SPF record: with it, mail that passes now would fail for good."""
    includes = " ".join(f"include:i{number}.example" for number in range(10))
    stage.dns = {**stage.dns, **{(f"i{number}.example", "TXT"): ("v=spf1 -all",) for number in range(10)}}
    full = record("TXT", "example.org", f"v=spf1 {includes} -all")
    mx = record("MX", "example.org", "mx.example.net", priority=1)
    made = zone("example.org", [full, mx])
    stage.cloudflare.set(cloudflare_state(made, verified=("me@gmail.com",)))
    final = stage.apply()
    assert spf_records(stage) == [full["content"]]
    assert stage.texts("example.org", "MX") == ["mx.example.net"]
    assert {step.what for step in final.blocked} == {"TXT example.org", "Email Routing example.org"}


@pytest.mark.parametrize("elsewhere", [True, False])
def test_rules_wait_with_email_routing_that_waits_for_its_spf(stage: Stage, elsewhere: bool) -> None:
    """Email Routing that is off may refuse rules: apply does the rest, and all of it once the record is mended."""
    broken = record("TXT", "example.org", "v=spf1 nonsense:1 -all")
    mx = [record("MX", "example.org", "mx.example.net", priority=1)] if elsewhere else []
    old = {"id": "old", "name": "Ownpost: old@example.org", "enabled": True, "actions": [{"type": "drop"}]}
    old["matchers"] = [{"type": "literal", "field": "to", "value": "old@example.org"}]
    made = zone("example.org", [broken, *mx], rules=[old])
    stage.aliases = 'hello = "me@gmail.com"\nshop = "drop"\n"*" = { worker = "w" }'
    stage.cloudflare.set(cloudflare_state(made, verified=("me@gmail.com",), rules_need_routing=True))
    final = stage.apply()
    assert {step.what for step in final.blocked} == {"TXT example.org", "Email Routing example.org"}
    assert not final.work
    assert not any("/email/routing" in one for one in stage.cloudflare.writes)
    assert stage.texts("example.org", "MX") == [one["content"] for one in mx]
    assert stage.texts("_dmarc.example.org") != [], "the rest is done"
    state = stage.cloudflare.state
    mended = next(one for one in state["zones"][0]["records"] if one["content"] == broken["content"])
    mended["content"] = '"v=spf1 -all"'
    stage.cloudflare.set(state)
    assert not stage.apply().different
    after = stage.cloudflare.state["zones"][0]
    names = {rule["name"].removeprefix("Ownpost: ").partition("@")[0] for rule in after["rules"]}
    assert (names, after["catch_all"]["enabled"]) == ({"hello", "shop", "postmaster"}, True)
    assert len(stage.texts("example.org", "MX")) == 3


def test_rules_of_email_routing_that_is_on_follow_the_aliases_though_a_domain_below_waits(stage: Stage) -> None:
    """It has lost an MX record and its SPF cannot be merged; the other two still bring its mail to the rules."""
    records = [{**one, "name": "post.example.org"} for one in CF_MX[:2]]
    made = zone("example.org", [*records, record("TXT", "post.example.org", "v=spf1 nonsense:1 -all")])
    made["routing"]["enabled"] = True
    stage.env = {"OWNPOST_DOMAINS": "post.example.org"}
    stage.cloudflare.set(cloudflare_state(made, verified=("me@gmail.com",), rules_need_routing=True))
    final = stage.apply()
    assert "Email Routing post.example.org" in {step.what for step in final.blocked}
    names = {rule["name"] for rule in stage.cloudflare.state["zones"][0]["rules"]}
    assert names == {"Ownpost: hello@post.example.org", "Ownpost: postmaster@post.example.org"}


def test_rules_are_made_before_mx_records_lead_to_email_routing_that_is_on(stage: Stage) -> None:
    """Email Routing is on, mail goes elsewhere: a rule that is refused leaves mail where it goes."""
    made = zone("example.org", [record("MX", "example.org", "mx.example.net", priority=1)])
    made["routing"]["enabled"] = True
    stage.env = {"OWNPOST_PROVIDERS": "capture"}
    stage.cloudflare.set(cloudflare_state(made, verified=("me@gmail.com",)))
    stage.apply()
    writes = [one.rpartition("zone-example.org")[2] for one in stage.cloudflare.writes]
    assert writes.index("/email/routing/rules") < writes.index("/dns_records/batch")
    at = next(n for n, one in enumerate(stage.cloudflare.journal, 1) if one["path"].endswith("/rules") and one["body"])
    stage.cloudflare.set(cloudflare_state(made, verified=("me@gmail.com",)))
    refusal = {"success": False, "errors": [{"code": 1, "message": "Too many rules"}]}
    stage.cloudflare.spoil({at: {"status": 400, "body": refusal}})
    final = stage.apply()
    assert stage.texts("example.org", "MX") == ["mx.example.net"]
    assert any("Too many rules" in step.reason for step in final.blocked)
    assert stage.texts("_dmarc.example.org") != [], "the rest is done"


@pytest.mark.parametrize("still", [[], CF_MX])
def test_mx_records_stay_while_spf_cannot_be_merged_though_email_routing_is_on(
    stage: Stage, still: list[dict[str, object]]
) -> None:
    """SPF allows the old servers as ``mx``: once these records are gone nothing could name them there."""
    includes = " ".join(f"include:i{number}.example" for number in range(9))
    stage.dns = {**stage.dns, **{(f"i{number}.example", "TXT"): ("v=spf1 -all",) for number in range(9)}}
    full = record("TXT", "example.org", f"v=spf1 mx {includes} -all")
    made = zone("example.org", [full, record("MX", "example.org", "mx.example.net", priority=1), *still])
    made["routing"]["enabled"] = True
    before = sorted(one["content"] for one in made["records"] if one["type"] == "MX")
    stage.cloudflare.set(cloudflare_state(made, verified=("me@gmail.com",)))
    final = stage.apply()
    assert sorted(stage.texts("example.org", "MX")) == before
    assert {step.what for step in final.blocked} == {"TXT example.org", "Email Routing example.org"}
    assert spf_records(stage) == [full["content"]]
    assert stage.texts("_dmarc.example.org") != [], "the rest is done"
    state = stage.cloudflare.state
    mended = next(one for one in state["zones"][0]["records"] if one["content"] == full["content"])
    mended["content"] = '"v=spf1 mx -all"'
    stage.cloudflare.set(state)
    assert not stage.apply().different
    assert sorted(stage.texts("example.org", "MX")) == [f"route{n}.mx.cloudflare.net" for n in (1, 2, 3)]
    assert spf_records(stage) == ['"v=spf1 mx a:mx.example.net include:_spf.mx.cloudflare.net -all"']


def test_a_provider_that_wants_the_mail_hosts_name_does_not_get_it(stage: Stage) -> None:
    stage.cloudflare.set(cloudflare_state(zone("example.org", [record("A", "mail.example.org", "192.0.2.25")])))
    stage.providers = '[x.dns]\nrecords = ["mail CNAME u1.wl.example.net"]'
    stage.env = {"OWNPOST_PROVIDERS": "x"}
    final = stage.apply()
    assert stage.texts("mail.example.org", "A") == ["192.0.2.25"]
    assert [step.what for step in final.blocked] == ["CNAME mail.example.org"]


def test_a_provider_that_names_a_dmarc_alias_does_not_push_the_owners_policy_out(stage: Stage) -> None:
    strict = record("TXT", "_dmarc.example.org", "v=DMARC1; p=reject")
    stage.cloudflare.set(cloudflare_state(zone("example.org", [strict])))
    stage.providers = '[x.dns]\nrecords = ["_dmarc CNAME x.vendor.example"]'
    stage.env = {"OWNPOST_PROVIDERS": "x"}
    stage.apply()
    assert strict in stage.records()


def test_a_policy_that_its_owner_raised_outlives_the_domains_place_in_the_settings(stage: Stage) -> None:
    raised = record("TXT", "_dmarc.example.org", "v=DMARC1; p=reject", comment=OURS)
    stage.cloudflare.set(cloudflare_state(zone("example.org", [raised]), zone("example.net")))
    stage.env = {"OWNPOST_DOMAINS": "example.net", "OWNPOST_HOSTNAME": "mail.example.org"}
    stage.apply()
    assert raised in stage.records()


def test_a_policy_that_is_misspelt_gets_no_second_record_beside_it(stage: Stage) -> None:
    wrong = record("TXT", "_dmarc.example.org", "v=DMARC1 p=reject")
    stage.cloudflare.set(cloudflare_state(zone("example.org", [wrong])))
    final = stage.apply()
    assert stage.texts("_dmarc.example.org") == [wrong["content"]]
    assert [step.what for step in final.blocked] == ["TXT _dmarc.example.org"]


def test_email_routing_that_is_left_alone_keeps_its_mx_records(stage: Stage) -> None:
    """Also those that we had put back once."""
    mx = [{**one, "comment": OURS} for one in CF_MX]
    made = zone("example.org", mx)
    made["routing"]["enabled"] = True
    stage.cloudflare.set(cloudflare_state(made))
    stage.env = {"DOMAIN_EMAIL_ROUTING": "no"}
    stage.apply()
    assert len(stage.texts("example.org", "MX")) == 3


def test_what_changes_while_the_question_stands_is_not_overwritten(stage: Stage) -> None:
    """The owner adds a service to SPF in the dashboard while apply waits for the answer."""
    old = record("TXT", "example.org", "v=spf1 ip4:192.0.2.1 -all", 7)
    stage.cloudflare.set(cloudflare_state(zone("example.org", [old]), verified=("me@gmail.com",)))
    stage.env = {"OWNPOST_PROVIDERS": "capture"}
    asked = []

    def answer() -> bool:
        asked.append(len(stage.shown))
        if len(asked) == 1:
            state = stage.cloudflare.state
            state["zones"][0]["records"] = [{**old, "content": '"v=spf1 ip4:192.0.2.1 ip4:192.0.2.2 -all"'}]
            stage.cloudflare.set(state)
        return True

    stage.apply(answer=answer)
    assert spf_records(stage) == ['"v=spf1 ip4:192.0.2.1 ip4:192.0.2.2 include:_spf.mx.cloudflare.net -all"']
    assert len(asked) == 2, "what it changes now was not shown before"


def test_an_interrupted_switch_puts_the_mx_records_back(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    mx = record("MX", "example.org", "mx.example.net", priority=1)
    stage.cloudflare.set(cloudflare_state(zone("example.org", [mx]), verified=("me@gmail.com",)))

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("domain.cloudflare.Cloudflare.enable_routing", interrupted)
    with pytest.raises(KeyboardInterrupt):
        stage.apply()
    assert stage.texts("example.org", "MX") == ["mx.example.net"]


def test_a_catch_all_that_a_workers_deployment_made_stays(stage: Stage) -> None:
    made = zone("example.org")
    made["catch_all"] |= {"source": "wrangler", "enabled": True, "actions": [{"type": "worker", "value": ["w"]}]}
    stage.cloudflare.set(cloudflare_state(made, verified=("me@gmail.com",)))
    stage.aliases = '"*" = "me@gmail.com"'
    final = stage.apply()
    assert stage.cloudflare.state["zones"][0]["catch_all"]["actions"] == [{"type": "worker", "value": ["w"]}]
    assert [step.what for step in final.blocked] == ["catch-all"]


def test_consent_to_reports_in_its_owners_words_stays(stage: Stage) -> None:
    name = "example.org._report._dmarc.example.net"
    own = record("TXT", name, "v=DMARC1; rua=mailto:other@example.net")
    stage.cloudflare.set(cloudflare_state(zone("example.org"), zone("example.net", [own]), verified=("me@gmail.com",)))
    stage.env = {"OWNPOST_DOMAINS": "example.org,example.net", "DOMAIN_DMARC_REPORTS": "dmarc@example.net"}
    stage.apply()
    assert own in stage.records("example.net")


def test_of_two_zones_of_one_name_the_active_one_is_meant(stage: Stage) -> None:
    """A zone that was moved away stays listed beside the one that the net sees."""
    stage.cloudflare.set(cloudflare_state(zone("example.org", id="dead", status="moved"), zone("example.org")))
    stage.apply()
    assert not any("/zones/dead/" in one for one in stage.cloudflare.writes)


def test_nothing_is_changed_without_a_backup_that_holds_something(stage: Stage) -> None:
    stage.env = {"OWNPOST_PROVIDERS": "capture"}
    stage.apply()
    at = next(n for n, one in enumerate(stage.cloudflare.journal, 1) if one["path"].endswith("/export"))
    stage.cloudflare.set(cloudflare_state(zone("example.org"), verified=("me@gmail.com",)))
    stage.cloudflare.spoil({at: {"status": 200, "body": {"success": True, "result": None}}})
    with pytest.raises(Unreachable):
        stage.apply()
    assert stage.records() == []


def test_a_closed_stdin_is_a_no(stage: Stage) -> None:
    (stage.folder / "aliases.toml").write_text(stage.aliases)
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" -m domain apply <&-', sys.executable],
        env={
            **stage.environment(),
            "PYTHONPATH": sources("domain"),
            "PATH": os.environ["PATH"],
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert "Nothing was changed." in done.stderr
    assert stage.cloudflare.writes == []


def test_servers_that_spf_named_by_mx_may_go_on_sending_when_the_mx_records_change(stage: Stage) -> None:
    mx = [record("MX", "example.org", "mx.example.net", priority=1), record("MX", "example.org", "b.example.net", 2)]
    mx[1]["priority"] = 5
    own = record("TXT", "example.org", "v=spf1 mx/28 -all")
    stage.dns = {**stage.dns, **{(f"{host}.example.net", "A"): ("192.0.2.1",) for host in ("mx", "b")}}
    for routing_is_on in (False, True):
        made = zone("example.org", [*mx, own])
        made["routing"]["enabled"] = routing_is_on
        stage.cloudflare.set(cloudflare_state(made, verified=("me@gmail.com",)))
        assert not stage.apply().different
        assert spf_records(stage) == [
            '"v=spf1 mx/28 a:mx.example.net/28 a:b.example.net/28 include:_spf.mx.cloudflare.net -all"'
        ]


def test_mx_that_spf_gives_no_pass_stands_for_nobody(stage: Stage) -> None:
    own = record("TXT", "example.org", "v=spf1 ?mx mx:other.example -all")
    made = zone("example.org", [record("MX", "example.org", "mx.example.net", priority=1), own])
    stage.cloudflare.set(cloudflare_state(made, verified=("me@gmail.com",)))
    stage.apply()
    assert spf_records(stage) == ['"v=spf1 ?mx mx:other.example include:_spf.mx.cloudflare.net -all"']


def test_if_the_old_mx_records_cannot_come_back_the_first_reason_is_told(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    mx = record("MX", "example.org", "mx.example.net", priority=1)
    stage.cloudflare.set(cloudflare_state(zone("example.org", [mx]), verified=("me@gmail.com",)))
    stage.env = {"OWNPOST_PROVIDERS": "capture"}

    def refused(*_: object) -> None:
        monkeypatch.setattr("domain.cloudflare.Cloudflare.batch", gone)
        raise ApiError("the switch was refused")

    def gone(*_: object) -> None:
        raise Unreachable("no answer")

    monkeypatch.setattr("domain.cloudflare.Cloudflare.enable_routing", refused)
    final = stage.apply()
    assert any("the switch was refused" in step.reason for step in final.blocked)
    assert any("has no MX records now" in line for line in stage.said)
    monkeypatch.undo()
    assert not stage.apply().different
