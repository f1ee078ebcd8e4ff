"""``apply`` and ``plan`` against Cloudflare and SendGrid as separate processes: what is there afterwards, and who was asked."""

from __future__ import annotations

import pytest
from domain.api import ApiError, NotAllowed
from domain.apply import Declined
from domain.steps import Kind
from support.domain.fixtures import cloudflare_process, sendgrid_process, stage, web  # noqa: F401 - fixtures
from support.domain.stage import Stage, cloudflare_state, record, zone

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
