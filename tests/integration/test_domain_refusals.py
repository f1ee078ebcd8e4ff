"""What ``apply`` and ``plan`` do when a service refuses, is slow, or says less than hoped; and when the person does."""

from __future__ import annotations

import email.utils
import time

import pytest

from domain.api import ApiError, NotAllowed
from domain.apply import Declined, Unsettled
from domain.steps import Kind
from support.domain import sendgrid
from support.domain.stage import Stage, cloudflare_state, record, zone

pytest_plugins = ["support.domain.fixtures"]

DMARC = '"v=DMARC1; p=none; rua=mailto:postmaster@example.org"'
CF_SPF = "v=spf1 include:_spf.mx.cloudflare.net ~all"


def test_the_person_may_say_no(stage: Stage) -> None:
    with pytest.raises(Declined):
        stage.apply(agree=False)
    assert stage.cloudflare.writes + stage.sendgrid.writes == []


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


def test_a_zone_that_nobody_sees_yet_is_told(stage: Stage) -> None:
    stage.cloudflare.set(
        cloudflare_state(zone("example.org", status="pending", name_servers=["a.ns.example", "b.ns.example"]))
    )
    assert any("a.ns.example and b.ns.example" in step.reason for step in stage.plan().steps if step.kind is Kind.WAIT)


def test_a_provider_that_does_not_list_what_it_created_is_not_asked_again(stage: Stage) -> None:
    stage.sendgrid.set({"key": "SG.test", "domains": [], "forgets": True})
    with pytest.raises(ApiError, match="is not listed yet"):
        stage.apply()
    assert stage.sendgrid.writes == ["POST /v3/whitelabel/domains"]


def refusal(code: int, status: int = 400) -> dict[str, object]:
    """Cloudflare's answer to a change that somebody else has made already."""
    return {"status": status, "body": {"success": False, "errors": [{"code": code, "message": "already"}]}}


@pytest.mark.parametrize("path", ["/dns_records/batch", "/routing/rules", "/routing/addresses"])
def test_somebody_who_was_faster_is_no_failure(stage: Stage, path: str) -> None:
    """The batch, rule or destination is refused because it is there by now; the same run looks again and finishes."""
    empty = cloudflare_state(zone("example.org"))
    stage.cloudflare.set(empty)
    stage.apply()
    posts = [
        n for n, one in enumerate(stage.cloudflare.journal, 1) if one["method"] == "POST" and one["path"].endswith(path)
    ]
    stage.cloudflare.set(empty)
    stage.sendgrid.set({"key": "SG.test", "domains": []})
    stage.cloudflare.spoil({posts[0]: refusal(81058, 400 if path.endswith("batch") else 409)})
    assert not stage.apply().different
    assert len(stage.texts("example.org", "MX")) == 3


def test_a_wait_given_as_a_date(stage: Stage) -> None:
    later = email.utils.formatdate(time.time() + 30, usegmt=True)
    stage.cloudflare.spoil({2: {"status": 429, "headers": {"Retry-After": later}}})
    stage.plan()
    assert 25 < stage.slept[0] <= 30


def test_something_that_keeps_changing_things_ends_the_run(stage: Stage) -> None:
    """SendGrid names other records at each look."""
    stage.sendgrid.set({"key": "SG.test", "domains": [sendgrid.entry(1, "example.org")], "fickle": True})
    with pytest.raises(Unsettled):
        stage.apply()
