"""What the page says of each state, and what it does not cry wolf about."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import Any

import pytest

from exporter.facts import Certificate, DomainCheck, Finding, Listener, Renewer
from exporter.providers import Pause
from exporter.snapshot import Snapshot
from exporter.verdict import CHECKS, LITTLE_ROOM, OLD, VERY_OLD, Level, judge, unready
from support.shown import DAY, NOW, paused, provider, quota, relay, snapshot


def certificate(left: float, whole: float = 90 * DAY) -> Certificate:
    usual = relay().certificate
    assert usual
    return dataclasses.replace(usual, not_before=NOW + left - whole, not_after=NOW + left)


def of(name: str, given: Snapshot) -> Level:
    (check,) = [one for one in judge(given).checks if one.name == name]
    return check.level


def with_relay(**changes: Any) -> Snapshot:
    return snapshot(relay=relay(**changes))


def self_signed(given: Snapshot) -> Snapshot:
    assert given.renewer
    return replace(given, renewer=replace(given.renewer, mode="self-signed"))


def deliveries(**states: int) -> dict[str, int]:
    return {**relay().deliveries, **states}


def test_all_is_well() -> None:
    verdict = judge(snapshot())
    assert (verdict.level, verdict.line) == (Level.GOOD, "All is well.")
    assert [one.name for one in verdict.checks] == [name for name, _, _ in CHECKS]
    assert unready(snapshot()) == []


STRANGE = Pause(domain="shop.example.net", reason="550 Not verified", until=NOW + 60)
TRIED = {**paused("busy", "421 Later"), "state": "probing"}
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
    "mail of the other mode": ("queue", with_relay(held_by_mode=2), Level.WARNING),
    "disk full": ("disk", with_relay(room=0), Level.CRITICAL),
    "disk low": ("disk", with_relay(room=LITTLE_ROOM - 1), Level.WARNING),
    "disk enough": ("disk", with_relay(room=LITTLE_ROOM), Level.GOOD),
    "late": ("queue", with_relay(oldest=NOW - OLD), Level.WARNING),
    "not late": ("queue", with_relay(oldest=NOW - OLD + 1, messages=100_000), Level.GOOD),
    "stuck": ("queue", with_relay(oldest=NOW - VERY_OLD), Level.CRITICAL),
    "put aside": ("queue", with_relay(deliveries=deliveries(held=7), put_aside=1, messages=7), Level.WARNING),
    "held only": ("queue", with_relay(deliveries=deliveries(held=7), messages=7), Level.GOOD),
    "paused": ("providers", snapshot(providers=(provider(**paused()), provider("ses"))), Level.WARNING),
    "all paused": ("providers", snapshot(providers=(provider(**paused()), provider("ses", **TRIED))), Level.CRITICAL),
    "no login": ("providers", snapshot(providers=(provider(ready=False, problem="535 No."),)), Level.WARNING),
    "not looked": ("providers", snapshot(providers=(provider(ready=None),)), Level.GOOD),
    "domain not set up": ("providers", snapshot(providers=(provider(domains=(STRANGE,)),)), Level.WARNING),
    "quota high": ("quota", snapshot(providers=(provider(quotas=(quota(79, 100, in_hand=1),)),)), Level.WARNING),
    "second quota high": ("quota", snapshot(providers=(provider(quotas=(quota(1, 9), quota(8, 9))),)), Level.WARNING),
    "quota low": ("quota", snapshot(providers=(provider(quotas=(quota(79, 100),)),)), Level.GOOD),
    "no quota": ("quota", snapshot(providers=(provider(),)), Level.UNKNOWN),
    "a notice failed": ("notices", with_relay(deliveries=deliveries(expired=1), failed_notices=1), Level.WARNING),
    "failures": ("failures", with_relay(deliveries=deliveries(unknown=1)), Level.WARNING),
    "accounts": ("accounts", snapshot(accounts_good=False), Level.WARNING),
    "settings": ("settings", with_relay(warnings=("OWNPOST_DOMAINS: example.org is reserved.",)), Level.WARNING),
    "self-signed": ("certificate", self_signed(snapshot()), Level.WARNING),
    "self-signed on this machine": (
        "certificate",
        self_signed(with_relay(bind="127.0.0.1")),
        Level.GOOD,
    ),
    "staging": (
        "certificate",
        with_relay(certificate=replace(certificate(DAY * 60), issuer="CN=(STAGING) Riddling Rhubarb R12")),
        Level.WARNING,
    ),
    "domain wrong": (
        "domain",
        snapshot(
            domain=DomainCheck(
                checked_at=NOW, findings=(Finding(domain="d", check="c", verdict="wrong", finding="f", fix="x"),)
            )
        ),
        Level.WARNING,
    ),
    "domain not seen": (
        "domain",
        snapshot(
            domain=DomainCheck(
                checked_at=NOW,
                findings=(Finding(domain="d", check="c", verdict="unknown", finding="no resolver answered", fix=""),),
            )
        ),
        Level.UNKNOWN,
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
    stuck = snapshot(relay=relay(oldest=NOW - VERY_OLD), providers=(provider(**paused()),))
    assert unready(stuck) == []


def finding(name: str, given: Snapshot) -> str:
    (check,) = [one for one in judge(given).checks if one.name == name]
    return check.finding


def test_a_pause_says_what_happened_that_mail_is_safe_and_what_to_do() -> None:
    """The providers' own words are no part of it: they stand once, in their section."""
    dead = paused("key dead", "535 5.7.8 Revoked.")
    given = snapshot(
        relay=relay(messages=3), providers=(provider(**dead), provider("sendgrid", **dead), provider("ses", **TRIED))
    )
    assert finding("providers", given) == (
        "No provider takes mail now: brevo and sendgrid refuse our login; ses fails. 3 messages wait and are safe."
    )
    (check,) = [one for one in judge(given).checks if one.name == "providers"]
    assert check.advice.startswith("Make a new key there, put it into .env, then make up.")
    given = snapshot(providers=(provider(**paused("used up", "300 of 300 a day")), provider("ses")))
    assert finding("providers", given) == (
        "Paused: brevo (until 2026-09-21 15:13 UTC) has used up its quota. "
        "Nothing is lost: mail takes another provider, or waits."
    )


def test_a_silent_relay_has_lost_nothing() -> None:
    said = finding("relay", snapshot(relay=None, relay_error="Gone."))
    assert said.endswith("what it has accepted is safe on its disk. Gone.")


def test_a_provider_that_would_take_no_mail_is_told_before_any_met_it() -> None:
    given = snapshot(providers=(provider(), provider("ses", ready=False, problem="535 5.7.8 Revoked")))
    assert finding("providers", given) == "Not ready: ses."
    given = snapshot(providers=(provider(domains=(STRANGE,)),))
    assert "brevo for shop.example.net" in finding("providers", given)


def test_a_sender_that_the_next_mail_asks_about_anew_is_no_warning() -> None:
    over = dataclasses.replace(STRANGE, until=NOW - 60)
    assert finding("providers", snapshot(providers=(provider(domains=(over,)),))) == "In use: brevo."


def test_quotas_are_told_in_numbers() -> None:
    given = snapshot(providers=(provider(quotas=(quota(1_200, 2_000, period="rolling"), quota(9, 100))),))
    assert finding("quota", given) == "Used: brevo 1,200 of 2,000 in 24 hours, brevo 9 of 100 a day."
    given = snapshot(providers=(provider(quotas=(quota(90, 100), quota(9, 9, period="month"))),))
    assert finding("quota", given) == "Nearly used up: brevo 90 of 100 a day, brevo 9 of 9 a month."
    given = snapshot(providers=(provider(quotas=(quota(100, 100),)),))
    assert finding("quota", given) == "Used up: brevo 100 of 100 a day."
