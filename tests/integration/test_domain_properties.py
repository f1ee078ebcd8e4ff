"""What holds for every zone an owner may start from, with the services as separate processes.

``apply`` leaves nothing to do; a second one writes nothing; what is not ours and not in the way is the same, byte for
byte; and a failure at any request, carried out or not, leaves a zone from which the next ``apply`` arrives at the
same end.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain import dmarc, spf
from domain.api import ApiError
from domain.records import unquote
from domain.steps import Kind, Plan
from support.domain.fake import Fake
from support.domain.stage import FLAT, Stage
from support.domain.zones import HOME, cloudflares, sendgrids

pytest_plugins = ["support.domain.fixtures"]

DNS = FLAT | {(f"i{number}.example", "TXT"): ("v=spf1 -all",) for number in range(10)}
ALIASES = st.sampled_from(
    ["", 'hello = "me@gmail.com"', 'hello = "me@gmail.com"\nshop = "drop"\n"*" = { worker = "w" }']
)
ENV = st.sampled_from(
    [
        {},
        {"DOMAIN_POSTMASTER": "me@gmail.com", "DOMAIN_SUBADDRESSING": "yes"},
        {"OWNPOST_PROVIDERS": "sendgrid,mailgun", "DOMAIN_MTA_STS": "yes", "DOMAIN_TLS_REPORTS": "tls@example.net"},
        {"DOMAIN_EMAIL_ROUTING": "no", "DOMAIN_ADDRESSES": "192.0.2.25,2001:db8::25"},
    ]
)
FAULTS = st.sampled_from(
    [
        {"status": 500},
        {"status": 429, "headers": {"Retry-After": "1"}},
        {"status": 429, "headers": {"Retry-After": "3600"}},
        {"status": 403, "body": {"success": False, "errors": [{"code": 10000, "message": "Authentication error"}]}},
        {"hang_up": "before"},
        {"hang_up": "after"},
        {"status": 200, "body": "<html>"},
        {"status": 200, "body": {"success": True}},
    ]
)
TOUCHED = re.compile(r"(mail|_dmarc|em\d+|s[12]\._domainkey|cf2024-1\._domainkey|_mta-sts|_smtp\._tls)\.example\.org")
QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
FEW = max(25, settings.default.max_examples // 4)  # each one is some eighty requests to two processes
# Making a counterexample smaller takes minutes; the usual limit would end the run before it is shown.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def made(cloudflare_process: Fake, sendgrid_process: Fake, web: httpx.Client, tmp_path: Path) -> Stage:
    return Stage(cloudflare_process, sendgrid_process, web, tmp_path, dns=DNS)


def start(
    stage: Stage, cloudflare: dict[str, Any], sendgrid: dict[str, Any], aliases: str, env: dict[str, str]
) -> None:
    stage.cloudflare.set(cloudflare)
    stage.sendgrid.set(sendgrid)
    stage.aliases, stage.env = aliases, env
    stage.said, stage.shown, stage.slept = [], [], []
    for backup in stage.folder.glob("zones/*.zone"):
        backup.unlink()


def foreign(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records that nothing of ours could ever want the place of, told by name and type alone."""
    return [one for one in records if not TOUCHED.fullmatch(one["name"]) and not _apex_mail(one) and not _marked(one)]


def _apex_mail(one: dict[str, Any]) -> bool:
    return one["name"] == HOME and (
        one["type"] == "MX" or (one["type"] == "TXT" and spf.is_spf(unquote(one["content"])))
    )


def _marked(one: dict[str, Any]) -> bool:
    return one["comment"] == "Ownpost mail.example.org"


@given(cloudflare=cloudflares(), sendgrid=sendgrids(), aliases=ALIASES, env=ENV)
@settings(max_examples=FEW, suppress_health_check=QUIET)
def test_apply_then_plan_is_empty(
    made: Stage, cloudflare: dict[str, Any], sendgrid: dict[str, Any], aliases: str, env: dict[str, str]
) -> None:
    start(made, cloudflare, sendgrid, aliases, env)
    before, mx = foreign(made.records()), _elsewhere(made)
    final = made.apply()
    assert not final.work
    if any(step.what == f"TXT {HOME}" for step in final.blocked):
        assert _elsewhere(made) == mx, "mail goes on to where it went while SPF cannot be merged"
    assert foreign(made.records()) == before
    assert not made.cloudflare.wrong + made.sendgrid.wrong
    made.cloudflare.spoil({})
    made.sendgrid.spoil({})
    assert made.apply().steps == final.steps
    refused = any(step.kind in (Kind.WAIT, Kind.BLOCKED) and "refuse" in step.reason for step in final.steps)
    if not refused:
        assert made.cloudflare.writes == []
        assert [one for one in made.sendgrid.writes if "validate" not in one] == []
    _sane(made, final)


def _elsewhere(stage: Stage) -> list[str]:
    """The MX records that lead to others than Email Routing."""
    return [one for one in stage.texts(HOME, "MX") if not one.lower().endswith(".mx.cloudflare.net")]


def _sane(stage: Stage, final: Plan) -> None:
    """What no owner wants to find: two SPF or DMARC records where one could be, a proxied mail host."""
    texts = [unquote(one) for one in stage.texts(HOME)]
    readable = [one for one in texts if spf.is_spf(one)]
    if len(readable) > 1:
        assert any(step.what == f"TXT {HOME}" for step in final.blocked)
    policies = [one for one in map(unquote, stage.texts(f"_dmarc.{HOME}")) if dmarc.is_dmarc(one)]
    assert len(policies) <= 1 or any(step.what == f"TXT _dmarc.{HOME}" for step in final.blocked)
    hosts = [one for one in stage.records() if one["name"] == f"mail.{HOME}" and one["type"] in ("A", "AAAA")]
    assert not any(one["proxied"] for one in hosts) or any(f"mail.{HOME}" in step.what for step in final.blocked)


@given(
    cloudflare=cloudflares(),
    sendgrid=sendgrids(),
    aliases=ALIASES,
    env=ENV,
    at=st.integers(1, 60),
    fault=FAULTS,
    which=st.sampled_from(["cloudflare", "cloudflare", "sendgrid"]),
)
@settings(max_examples=FEW, suppress_health_check=QUIET)
def test_a_failure_at_any_request_leaves_a_zone_that_converges(
    made: Stage,
    cloudflare: dict[str, Any],
    sendgrid: dict[str, Any],
    aliases: str,
    env: dict[str, str],
    at: int,
    fault: dict[str, Any],
    which: str,
) -> None:
    start(made, cloudflare, sendgrid, aliases, env)
    goal = _end(made)
    start(made, cloudflare, sendgrid, aliases, env)
    getattr(made, which).spoil({at: fault})
    try:
        made.apply()
    except ApiError:
        pass  # told in a sentence; anything else would be a fault of ours
    made.cloudflare.spoil({})
    made.sendgrid.spoil({})
    assert _end(made) == goal


def _end(stage: Stage) -> Any:
    """Applies, and tells where that led, without what differs from run to run: identities."""
    stage.apply()
    state = stage.cloudflare.state["zones"][0]
    records = sorted((one["type"], one["name"], one["content"], one["proxied"]) for one in state["records"])
    plain = [re.sub(r"em\d+\.|u\d+\.", "N.", str(one)) for one in records]
    rules = sorted(str({**one, "id": ""}) for one in state["rules"])
    return plain, rules, state["catch_all"], state["routing"], stage.cloudflare.state["addresses"]["account"][:1] == []
