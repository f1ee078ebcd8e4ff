"""``apply`` and ``plan`` against Cloudflare and SendGrid as processes of their own: what is there afterwards."""

from __future__ import annotations

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
        *(record("MX", "example.org", f"route{n}.mx.cloudflare.net", priority=n) for n in (1, 2, 3)),
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


def test_a_proxied_mail_host_is_taken_off_the_proxy(stage: Stage) -> None:
    host = record("A", "mail.example.org", "192.0.2.25", proxied=True, comment="mine")
    stage.cloudflare.set(cloudflare_state(zone("example.org", [host])))
    stage.apply()
    [after] = [one for one in stage.records() if one["name"] == "mail.example.org"]
    assert after == {**host, "proxied": False}


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


def test_dmarc_reports_to_another_zone_of_ours_are_agreed_to_there(stage: Stage) -> None:
    stage.cloudflare.set(cloudflare_state(zone("example.org"), zone("example.net"), verified=("me@gmail.com",)))
    stage.env = {"OWNPOST_DOMAINS": "example.org,example.net", "DOMAIN_DMARC_REPORTS": "dmarc@example.net"}
    stage.apply()
    assert stage.texts("example.org._report._dmarc.example.net", zone="example.net") == ['"v=DMARC1"']


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


def test_what_the_owner_must_decide_does_not_hold_up_the_rest(stage: Stage) -> None:
    """An SPF record that cannot be understood, and a mail domain that is a CNAME, are left as they are."""
    wrong = record("TXT", "example.org", "v=spf1 ipv4:192.0.2.1 -all")
    stage.cloudflare.set(cloudflare_state(zone("example.org", [wrong]), verified=("me@gmail.com",)))
    final = stage.apply()
    assert [step.what for step in final.blocked] == ["TXT example.org", "Email Routing example.org"]
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


def test_a_policy_above_the_zone_is_not_weakened(stage: Stage) -> None:
    """The zone is a part of a larger domain whose DNS is elsewhere."""
    stage.cloudflare.set(cloudflare_state(zone("post.example.org"), verified=("me@gmail.com",)))
    stage.env = {"OWNPOST_DOMAINS": "post.example.org"}
    stage.dns = {**stage.dns, ("_dmarc.example.org", "TXT"): ("v=DMARC1; p=reject",)}
    stage.apply()
    assert stage.texts("_dmarc.post.example.org", zone="post.example.org") == []


def test_a_providers_record_at_the_domain_itself_pushes_nothing_out(stage: Stage) -> None:
    """Whether pasted by mistake or named by an API that went wrong: the website stays."""
    website = record("A", "example.org", "198.51.100.7", proxied=True)
    stage.cloudflare.set(cloudflare_state(zone("example.org", [website]), verified=("me@gmail.com",)))
    stage.providers = (
        '[x.dns]\nrecords = ["@ CNAME evil.example", "@ A 192.0.2.66", "@ MX 1 mx.example", "@ TXT owner=1"]'
    )
    stage.env = {"OWNPOST_PROVIDERS": "x"}
    final = stage.apply()
    assert [step.what for step in final.blocked] == ["CNAME example.org", "A example.org", "MX example.org"]
    assert [one for one in stage.records() if (one["type"], one["name"]) == ("A", "example.org")] == [website]
    assert '"owner=1"' in stage.texts("example.org")


def test_what_another_service_may_use_does_not_make_room_for_a_providers_records(stage: Stage) -> None:
    """Two servers that sign with one selector, mail that is received at the return path's name: the owner must say."""
    own = [
        record("TXT", "mail._domainkey.example.org", "v=DKIM1; k=rsa; p=OWNSERVER"),
        record("CNAME", "s1._domainkey.example.org", "s1.domainkey.elsewhere.example.net"),
        record("TXT", "t1._domainkey.example.org", "v=DKIM1; k=rsa; p=OWNKEY"),
        record("MX", "send.example.org", "mx.example.net", priority=1),
        record("A", "em1.example.org", "198.51.100.7"),
    ]
    stage.cloudflare.set(cloudflare_state(zone("example.org", own), verified=("me@gmail.com",)))
    stage.env = {"OWNPOST_PROVIDERS": "x"}
    stage.providers = """[x.dns]
records = ["mail._domainkey TXT k=rsa; p=PROVIDER", "s1._domainkey CNAME s1.wl.provider.example",
    "t1._domainkey CNAME t1.dkim.provider.example", "send MX 10 feedback.provider.example",
    "em1 CNAME u1.wl.provider.example"]"""
    final = stage.apply()
    assert all(one in stage.records() for one in own)
    assert {step.what.partition(" ")[2] for step in final.blocked} == {one["name"] for one in own}
    assert all("remove it yourself" in step.reason for step in final.blocked)


def test_what_led_to_the_same_provider_is_replaced(stage: Stage) -> None:
    """A domain that was authenticated anew, perhaps in another account, keeps its selectors."""
    old = record("CNAME", "s1._domainkey.example.org", "s1.domainkey.u7.wl.sendgrid.net")
    stage.cloudflare.set(cloudflare_state(zone("example.org", [old]), verified=("me@gmail.com",)))
    assert not stage.apply().different
    assert old["content"] not in stage.texts("s1._domainkey.example.org", "CNAME")
