"""What the page says of each state, and what it does not cry wolf about."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import Any

import pytest

from exporter.facts import Certificate, DomainCheck, Finding, Listener, Renewer
from exporter.snapshot import Snapshot
from exporter.verdict import CHECKS, LITTLE_ROOM, OLD, VERY_OLD, Level, judge, unready
from support.shown import DAY, NOW, provider, relay, snapshot


def certificate(left: float, whole: float = 90 * DAY) -> Certificate:
    usual = relay().certificate
    assert usual
    return dataclasses.replace(usual, not_before=NOW + left - whole, not_after=NOW + left)


def of(name: str, given: Snapshot) -> Level:
    (check,) = [one for one in judge(given).checks if one.name == name]
    return check.level


def with_relay(**changes: Any) -> Snapshot:
    return snapshot(relay=relay(**changes))


def deliveries(**states: int) -> dict[str, int]:
    return {**relay().deliveries, **states}


def test_all_is_well() -> None:
    verdict = judge(snapshot())
    assert (verdict.level, verdict.line) == (Level.GOOD, "All is well.")
    assert [one.name for one in verdict.checks] == [name for name, _, _ in CHECKS]
    assert unready(snapshot()) == []


CASES = {
    "silent": ("relay", snapshot(relay=None, relay_error="Gone."), Level.CRITICAL),
    "starting": ("relay", with_relay(state="starting", reasons=("No certificate yet.",)), Level.WARNING),
    "not ready": ("relay", with_relay(state="not ready", reasons=("No room.",)), Level.CRITICAL),
    "port shut": ("ports", with_relay(listeners=(Listener(name="lan", port=2525, open=False),)), Level.CRITICAL),
    "no certificate": ("certificate", with_relay(certificate=None, state="not ready"), Level.CRITICAL),
    "no certificate yet": ("certificate", with_relay(certificate=None, state="starting"), Level.WARNING),
    "no certificate needed": ("certificate", with_relay(certificate=None), Level.UNKNOWN),
    "expired": ("certificate", with_relay(certificate=certificate(-1)), Level.CRITICAL),
    "two days": ("certificate", with_relay(certificate=certificate(2 * DAY)), Level.CRITICAL),
    "fifteen days": ("certificate", with_relay(certificate=certificate(15 * DAY)), Level.WARNING),
    "thirty days": ("certificate", with_relay(certificate=certificate(30 * DAY)), Level.GOOD),
    "three of six days": ("certificate", with_relay(certificate=certificate(3 * DAY, 6 * DAY)), Level.GOOD),
    "one of six days": ("certificate", with_relay(certificate=certificate(1 * DAY, 6 * DAY)), Level.WARNING),
    "ten years": ("certificate", with_relay(certificate=certificate(22 * DAY, 3650 * DAY)), Level.GOOD),
    "not taken up": ("certificate", with_relay(certificate_problem="Wrong name."), Level.WARNING),
    "another one is shown": (
        "certificate",
        with_relay(listeners=(Listener(name="lan", port=2525, open=True, problem="It is the old one."),)),
        Level.WARNING,
    ),
    "an old one is shown": (
        "certificate",
        with_relay(listeners=(Listener(name="lan", port=2525, open=True, shown_until=NOW - 1),)),
        Level.CRITICAL,
    ),
    "renewer silent": ("renewal", snapshot(renewer=None, renewer_error="Gone."), Level.WARNING),
    "renewal failed": (
        "renewal",
        snapshot(renewer=Renewer(mode="acme", last_success=None, next_attempt=None, last_error="No.")),
        Level.WARNING,
    ),
    "disk full": ("disk", with_relay(room=0), Level.CRITICAL),
    "disk low": ("disk", with_relay(room=LITTLE_ROOM - 1), Level.WARNING),
    "disk enough": ("disk", with_relay(room=LITTLE_ROOM), Level.GOOD),
    "late": ("queue", with_relay(oldest=NOW - OLD), Level.WARNING),
    "not late": ("queue", with_relay(oldest=NOW - OLD + 1, messages=100_000), Level.GOOD),
    "stuck": ("queue", with_relay(oldest=NOW - VERY_OLD), Level.CRITICAL),
    "held only": ("queue", with_relay(deliveries=deliveries(held=7), messages=7), Level.GOOD),
    "paused": ("providers", snapshot(providers=(provider(paused=True),)), Level.WARNING),
    "quota high": ("quota", snapshot(providers=(provider(quota_used=80.0, quota_limit=100.0),)), Level.WARNING),
    "quota low": ("quota", snapshot(providers=(provider(quota_used=79.0, quota_limit=100.0),)), Level.GOOD),
    "no quota": ("quota", snapshot(providers=(provider(),)), Level.UNKNOWN),
    "failures": ("failures", with_relay(deliveries=deliveries(unknown=1)), Level.WARNING),
    "accounts": ("accounts", snapshot(accounts_good=False), Level.WARNING),
    "domain wrong": (
        "domain",
        snapshot(
            domain=DomainCheck(
                checked_at=NOW, findings=(Finding(domain="d", check="c", verdict="wrong", finding="f", fix="x"),)
            )
        ),
        Level.WARNING,
    ),
    "domain never": ("domain", snapshot(domain=DomainCheck(checked_at=0.0, findings=())), Level.UNKNOWN),
    "domain long ago": ("domain", snapshot(domain=DomainCheck(checked_at=NOW - 3 * DAY, findings=())), Level.UNKNOWN),
    "domain unreadable": ("domain", snapshot(domain=None, domain_error="No JSON."), Level.UNKNOWN),
}


@pytest.mark.parametrize("name", CASES)
def test_how_bad_it_is(name: str) -> None:
    check, given, level = CASES[name]
    assert of(check, given) is level
    verdict = judge(given)
    assert verdict.level is max(Level.GOOD, level)
    (found,) = [one for one in verdict.checks if one.name == check]
    worst = [one for one in verdict.checks if one.level is verdict.level]
    assert (found.finding in verdict.line) == (level > Level.GOOD and worst[0] is found)


def test_what_the_domain_check_found_is_told_in_sentences() -> None:
    """Its findings have no full stop; somebody else's words among them may have one."""
    wrong = [Finding(domain="d", check=str(n), verdict="wrong", finding=text, fix="") for n, text in enumerate("ab")]
    given = snapshot(domain=DomainCheck(checked_at=NOW, findings=(*wrong,)))
    assert judge(given).line == "Mail is accepted, but look at this: d, 0: a. And 1 more."
    given = snapshot(domain=DomainCheck(checked_at=NOW, findings=(replace(wrong[0], finding="A fault."),)))
    assert judge(given).line == "Mail is accepted, but look at this: d, 0: A fault."


def test_the_worst_is_in_the_line() -> None:
    given = snapshot(relay=relay(room=0), accounts_good=False)
    assert judge(given).line == "Something is wrong. The disk has no room for more mail."


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (snapshot(relay=None, relay_error="Gone."), "Gone."),
        (with_relay(reasons=("No certificate yet.",)), "No certificate yet."),
        (with_relay(certificate=certificate(-1)), "expired"),
        (with_relay(room=0), "no room"),
    ],
)
def test_when_mail_cannot_be_accepted(given: Snapshot, reason: str) -> None:
    assert reason in " ".join(unready(given))


def test_a_providers_outage_is_no_unreadiness() -> None:
    stuck = snapshot(relay=relay(oldest=NOW - VERY_OLD), providers=(provider(paused=True),))
    assert unready(stuck) == []
