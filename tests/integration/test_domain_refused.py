"""What Cloudflare refuses holds up nothing else, and every ``apply`` ends: with the rest done and a sentence."""

from __future__ import annotations

import pytest

from domain.apply import Unsettled
from domain.steps import Kind
from support.domain.stage import Stage, cloudflare_state, record, zone

pytest_plugins = ["support.domain.fixtures"]

CF_MX = [record("MX", "example.org", f"route{n}.mx.cloudflare.net", priority=n) for n in (1, 2, 3)]
ME = ("me@gmail.com",)


def published(stage: Stage) -> bool:
    """Whether what does not depend on Email Routing is there."""
    return bool(stage.texts("_dmarc.example.org") and stage.texts("mail.example.org", "A"))


@pytest.mark.parametrize("locked", [True, False])
@pytest.mark.parametrize("there", [[], CF_MX[:2], [record("MX", "example.org", "mx.example.net", priority=1)]])
@pytest.mark.parametrize("routed", [[], ["reply.example.org"]])
def test_email_routing_that_is_on_without_the_domains_mx_records_adds_them(
    stage: Stage, locked: bool, there: list[dict[str, object]], routed: list[str]
) -> None:
    """On for a domain below only, or its MX records were deleted by hand: as DNS records Cloudflare refuses them."""
    made = zone("example.org", there, locked=locked, routed=routed)
    made["routing"]["enabled"] = True
    stage.cloudflare.set(cloudflare_state(made, verified=ME))
    assert not stage.apply().different
    assert sorted(stage.texts("example.org", "MX")) == [f"route{n}.mx.cloudflare.net" for n in (1, 2, 3)]
    assert stage.texts("cf2024-1._domainkey.example.org") != []
    assert published(stage)
    assert not stage.cloudflare.wrong


@pytest.mark.parametrize("name", ["em1001.example.org", "example.org", "mail.example.org"])
def test_a_record_that_is_refused_holds_up_no_other(stage: Stage, name: str) -> None:
    """A batch is all or nothing; the refused name is told in Cloudflare's words, and again at the next run."""
    old = record("MX", "example.org", "mx.example.net", priority=1)
    stage.cloudflare.set(cloudflare_state(zone("example.org", [old]), verified=ME, refuses=[name]))
    stage.env = {"OWNPOST_PROVIDERS": "x"}
    stage.providers = (
        '[x.dns]\nrecords = ["em1001 CNAME u1.wl.provider.example", "s1._domainkey CNAME s1.provider.example"]\n'
    )
    stage.providers += 'spf = ["include:_spf.mx.cloudflare.net"]'
    for _ in range(2):
        final = stage.apply()
        assert stage.texts("s1._domainkey.example.org", "CNAME") == ["s1.provider.example"]
        assert any(name in step.what and f"no records at {name}" in step.reason for step in final.blocked)
        assert not final.work
    assert (stage.texts("example.org", "MX") == ["mx.example.net"]) is (name == "example.org"), "SPF and MX go together"


def test_a_rule_that_is_refused_holds_up_no_other_and_no_mail_is_moved_to_it(stage: Stage) -> None:
    mx = record("MX", "example.org", "mx.example.net", priority=1)
    stage.aliases = 'hello = "me@gmail.com"\nbot = { worker = "misspelt" }'
    for records in ([], [mx]):
        stage.cloudflare.set(cloudflare_state(zone("example.org", records), verified=ME, no_workers=["misspelt"]))
        for _ in range(2):
            final = stage.apply()
            assert any(
                step.what == "rule bot@example.org" and "no such Worker" in step.reason for step in final.blocked
            )
            rules = {rule["matchers"][0]["value"] for rule in stage.cloudflare.state["zones"][0]["rules"]}
            assert rules == {"hello@example.org", "postmaster@example.org"}
            assert published(stage)
            assert (stage.texts("example.org", "MX") == ["mx.example.net"]) is bool(records)


def test_a_rule_that_clashes_is_told_and_not_taken_for_somebody_elses_work(stage: Stage) -> None:
    """A 409 may be a race that the next look shows, and it may be meant."""
    made = zone("example.org", CF_MX)
    made["routing"]["enabled"] = True
    stage.cloudflare.set(cloudflare_state(made, verified=ME, clashes=["hello@example.org"]))
    final = stage.apply()
    assert [(step.what, "Invalid rule operation" in step.reason) for step in final.blocked] == [
        ("rule hello@example.org", True)
    ]


def test_a_switch_that_is_refused_leaves_the_mail_where_it_goes(stage: Stage) -> None:
    """And the other zone is looked after all the same."""
    mx = record("MX", "example.org", "mx.example.net", priority=1)
    stage.cloudflare.set(cloudflare_state(zone("example.org", [mx]), zone("example.net"), verified=ME))
    stage.env = {"OWNPOST_DOMAINS": "example.org,example.net", "OWNPOST_PROVIDERS": "capture"}
    stage.apply()
    switches = [n for n, one in enumerate(stage.cloudflare.journal, 1) if one["path"].endswith("org/email/routing/dns")]
    at = next(n for n in switches if stage.cloudflare.journal[n - 1]["method"] == "POST")
    stage.cloudflare.set(cloudflare_state(zone("example.org", [mx]), zone("example.net"), verified=ME))
    refusal = {"success": False, "errors": [{"code": 1, "message": "too many domains"}]}
    stage.cloudflare.spoil({at: {"status": 400, "body": refusal}})
    final = stage.apply()
    assert any(step.what == "Email Routing example.org" and "too many" in step.reason for step in final.blocked)
    assert stage.texts("example.org", "MX") == ["mx.example.net"]
    assert len(stage.texts("example.net", "MX", "example.net")) == 3


def test_a_service_that_confirms_and_does_nothing_ends_the_run(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("domain.cloudflare.Cloudflare.enable_routing", lambda *_: None)
    with pytest.raises(Unsettled, match=r"differs again: Email Routing example\.org\. .*All the rest is done"):
        stage.apply()
    assert published(stage)


def test_a_zone_that_never_had_email_routing_is_one_where_it_is_off(stage: Stage) -> None:
    stage.cloudflare.set(cloudflare_state(zone("example.org"), verified=ME, unknown_routing=True))
    assert not stage.apply().different
    assert len(stage.texts("example.org", "MX")) == 3


def test_a_rule_waits_for_its_destination_as_cloudflare_refuses_it(stage: Stage) -> None:
    """400, code 2054."""
    stage.cloudflare.set(cloudflare_state(zone("example.org")))
    final = stage.apply()
    assert {step.kind for step in final.steps if step.what.startswith("rule ")} == {Kind.WAIT}
    assert not final.blocked


def test_what_changes_with_every_question_is_not_asked_for_without_end(stage: Stage) -> None:
    """Another program rewrites the record as soon as it is looked at."""
    stage.env = {"OWNPOST_PROVIDERS": "capture"}
    asked = []

    def answer() -> bool:
        asked.append(record("TXT", "example.org", f"v=spf1 ip4:192.0.2.{len(asked)} -all", 7))
        state = stage.cloudflare.state
        state["zones"][0]["records"] = asked[-1:]
        stage.cloudflare.set(state)
        return True

    with pytest.raises(Unsettled, match=r"differs again: .*TXT example\.org"):
        stage.apply(answer=answer)
    assert stage.texts("example.org") == [asked[-1]["content"]]
