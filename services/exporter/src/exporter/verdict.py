"""Judges a snapshot: a checklist, and the one line above it. Pure.

One provider's outage is a warning while mail goes elsewhere or waits safely; it is grave when no provider is left, and
when mail has waited for hours. What cannot be known is said to be unknown and raises no alarm by itself, but for the
relay, whose silence is the worst news there is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from .facts import Relay
from .providers import Quota, why_paused
from .snapshot import Snapshot
from .words import duration, plural, size, span, stamp

OLD, VERY_OLD = 1_800.0, 14_400.0  # seconds that the oldest message has waited
LITTLE_ROOM = 256 * 1024 * 1024  # bytes
SOON, VERY_SOON = (
    (21 * 86_400.0, 0.22),
    (3 * 86_400.0, 0.05),
)  # before a certificate's end: the least of (seconds, part)
QUOTA_HIGH = 0.8
CHECK_AGE = 2 * 86_400.0  # seconds for which the daily domain check is believed


class Level(IntEnum):
    """How bad something is. The numbers are in the metrics."""

    UNKNOWN = -1
    GOOD = 0
    WARNING = 1
    CRITICAL = 2


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the checklist: what was looked at, what was found, what to do about it."""

    name: str
    title: str
    level: Level
    finding: str
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The one line, and the checklist that it sums up."""

    level: Level
    line: str
    checks: tuple[Check, ...]


Found = tuple[Level, str, str] | tuple[Level, str]


def judge(snapshot: Snapshot) -> Verdict:
    """What is to be said of it all."""
    checks = tuple(_check(name, title, *look(snapshot)) for name, title, look in CHECKS)
    worst = max((check.level for check in checks), default=Level.GOOD)
    bad = [check for check in checks if check.level is worst]
    if worst is Level.CRITICAL:
        line = f"Something is wrong. {bad[0].finding}"
    elif worst is Level.WARNING:
        more = f" And {plural(len(bad) - 1, 'more thing')} to look at below." if len(bad) > 1 else ""
        line = f"Mail is accepted, but look at this: {bad[0].finding}{more}"
    else:
        trial = snapshot.relay is not None and snapshot.relay.trial
        worst, line = Level.GOOD, "All is well." + " This is the trial: nothing is sent." * trial
    return Verdict(worst, line, checks)


def _check(name: str, title: str, level: Level, finding: str, advice: str = "") -> Check:
    """What others said may be empty: then there is no space at the end."""
    return Check(name, title, level, finding.strip(), advice)


def unready(snapshot: Snapshot) -> list[str]:
    """Why mail cannot be accepted now; empty when it can. A provider's outage is no reason."""
    relay = snapshot.relay
    if relay is None:
        return [f"The relay cannot be asked. {snapshot.relay_error}"]
    reasons = list(relay.reasons)
    if relay.served_until is not None and relay.served_until <= snapshot.now:
        reasons.append(f"The certificate expired on {stamp(relay.served_until)}.")
    if relay.room <= 0 and not reasons:
        reasons.append("The disk has no room for more mail.")
    return reasons


def _relay(snapshot: Snapshot) -> Found:
    relay = snapshot.relay
    if relay is None:
        advice = "make logs shows its last lines, make up starts it again."
        finding = "The relay does not answer, so no mail may be accepted now; what it has accepted is safe on its disk."
        return Level.CRITICAL, f"{finding} {snapshot.relay_error}", advice
    if relay.state == "ready":
        return Level.GOOD, f"It accepts mail, and has run for {duration(snapshot.now - relay.started_at)}."
    reasons = " ".join(relay.reasons)
    if relay.state == "starting":
        return Level.WARNING, f"It is starting. {reasons}", "Give it five minutes."
    return Level.CRITICAL, f"It does not accept mail. {reasons}", "The sentence says what to change."


def _ports(snapshot: Snapshot) -> Found:
    if snapshot.relay is None:
        return Level.UNKNOWN, "Not known."
    shut = [f"{one.name} ({one.port})" for one in snapshot.relay.listeners if not one.open]
    if shut and snapshot.relay.state != "starting":
        return Level.CRITICAL, f"Closed: {', '.join(shut)}.", "Usually the certificate is missing: see below."
    if shut:
        return Level.WARNING, f"Not open yet: {', '.join(shut)}."
    return Level.GOOD, f"Open: {', '.join(one.name for one in snapshot.relay.listeners) or 'none is wanted'}."


def _certificate(snapshot: Snapshot) -> Found:
    relay = snapshot.relay
    if relay is None:
        return Level.UNKNOWN, "Not known."
    advice = "See what the renewer says below, and docs/operations.md#certificate."
    if relay.certificate is None and relay.state == "ready":
        return Level.UNKNOWN, "None is needed: no port wants TLS."
    if relay.certificate is None:
        level = Level.WARNING if relay.state == "starting" else Level.CRITICAL
        return level, f"There is none. {relay.certificate_problem}", advice
    end = relay.served_until or 0.0
    left, whole = end - snapshot.now, end - relay.certificate.not_before
    if left <= 0:
        return Level.CRITICAL, f"The certificate expired on {stamp(end)}: clients refuse to log in.", advice
    if left < min(VERY_SOON[0], VERY_SOON[1] * whole):
        return Level.CRITICAL, f"The certificate ends in {duration(left)}, on {stamp(end)}.", advice
    if left < min(SOON[0], SOON[1] * whole):
        return Level.WARNING, f"The certificate ends in {duration(left)}, on {stamp(end)}, and should be new.", advice
    if distrusted := _distrusted(snapshot, relay):
        return Level.WARNING, *distrusted
    wrong = [f"{one.name}: {one.problem}" for one in relay.listeners if one.problem]
    if wrong:
        return Level.WARNING, f"A port shows clients something else. {' '.join(wrong)}", advice
    if relay.certificate_problem:
        return Level.WARNING, f"The newest certificate was not taken up. {relay.certificate_problem}", advice
    return Level.GOOD, f"For {', '.join(relay.certificate.names)}, until {stamp(end)} ({duration(left)})."


def _distrusted(snapshot: Snapshot, relay: Relay) -> tuple[str, str] | None:
    """What is wrong with a certificate that clients elsewhere do not trust, and what to do."""
    if not relay.published or relay.certificate is None:
        return None
    if "(STAGING)" in relay.certificate.issuer:
        advice = "Take ACME_SERVER=letsencrypt-staging out of .env, then make up."
        return "The certificate is a test one of Let's Encrypt's staging server, which no client trusts.", advice
    if snapshot.renewer is not None and snapshot.renewer.mode == "self-signed":
        advice = "OWNPOST_TLS=acme gets one that all clients trust: docs/certificates.md."
        return (
            "The certificate is self-signed: Gmail refuses it, and others must be told to trust certs/ca.pem.",
            advice,
        )
    return None


def _renewal(snapshot: Snapshot) -> Found:
    renewer = snapshot.renewer
    advice = "Look at its lines: docker compose logs renewer."
    if renewer is None:
        return Level.WARNING, f"The renewer cannot be asked. {snapshot.renewer_error}", advice
    if renewer.last_error:
        return Level.WARNING, f"The last attempt to get a certificate failed. {renewer.last_error}", advice
    if renewer.last_success is None:
        return Level.UNKNOWN, "The first attempt is on its way."
    return Level.GOOD, f"Last looked after {duration(snapshot.now - renewer.last_success)} ago ({renewer.mode})."


def _disk(snapshot: Snapshot) -> Found:
    if snapshot.relay is None:
        return Level.UNKNOWN, "Not known."
    room = snapshot.relay.room
    if room <= 0:
        advice = "Make room; mail is then accepted again by itself."
        return Level.CRITICAL, "The disk has no room for more mail.", advice
    if room < LITTLE_ROOM:
        return Level.WARNING, f"Room for {size(room)} of mail only.", "Make room before it is used up."
    return Level.GOOD, f"Room for {size(room)} of mail."


def _queue(snapshot: Snapshot) -> Found:
    relay = snapshot.relay
    if relay is None:
        return Level.UNKNOWN, "Not known."
    held = relay.deliveries.get("held", 0) - relay.held_by_mode - relay.put_aside
    also = f" {plural(held, 'delivery', 'deliveries')} held by you." if held > 0 else ""
    if relay.put_aside:
        also += f" {plural(relay.put_aside, 'delivery', 'deliveries')} put aside by the relay until you decide."
    age = 0.0 if relay.oldest is None else snapshot.now - relay.oldest
    advice = "The provider's own sentence stands in the queue below; make queue shows all of it."
    waits = f"{plural(relay.messages, 'message waits', 'messages wait')}, the oldest for {duration(age)}."
    if age >= VERY_OLD:
        return Level.CRITICAL, f"Mail is stuck: {waits}{also}", advice
    if age >= OLD:
        return Level.WARNING, f"Mail is late: {waits}{also}", advice
    if relay.held_by_mode:
        return _held_by_mode(relay.held_by_mode, relay.trial, also)
    if relay.put_aside:
        return Level.WARNING, also, "Nothing is lost. Each says why, and what to do, in the queue below."
    return Level.GOOD, (waits if relay.oldest is not None else "Nothing waits to be sent.") + also


def _held_by_mode(number: int, trial: bool, also: str) -> Found:
    some, now = f"{plural(number, 'delivery', 'deliveries')} held: accepted", "OWNPOST_PROVIDERS"
    if trial:
        advice = "Nothing of it is lost: put the providers back in .env, make up, and it goes out."
        return Level.WARNING, f"{some} to be sent, but {now} is capture, which only writes files.{also}", advice
    advice = "It is not sent: make queue shows it, and drops it."
    return Level.WARNING, f"{some} in the trial, but {now} would really send it.{also}", advice


def _providers(snapshot: Snapshot) -> Found:
    """What happened, whether mail is safe, what to do. The providers' own words stand once, in their own section."""
    told = snapshot.providers
    if not told:
        return Level.UNKNOWN, "Not known."
    paused = [one for one in told if one.paused]
    if paused:
        what, advice = why_paused(paused)
        if len(paused) == len(told):
            return Level.CRITICAL, f"No provider takes mail now: {what}. {_safe(snapshot)}", advice
        return Level.WARNING, f"Paused: {what}. Nothing is lost: mail takes another provider, or waits.", advice
    unready = [one.name for one in told if one.ready is False]
    if unready:
        advice = "Mail has not met this yet. make providers says what to do."
        return Level.WARNING, f"Not ready: {', '.join(unready)}.", advice
    strange = [f"{one.name} for {pause.domain}" for one in told for pause in one.domains if pause.running(snapshot.now)]
    if strange:
        advice = "make plan shows the records of a domain. Its mail takes another provider meanwhile, or waits."
        return Level.WARNING, f"The sender is not set up there: {', '.join(strange)}.", advice
    if snapshot.relay is not None and snapshot.relay.trial:
        return Level.GOOD, "This is the trial: mail is written to var/captured, and nothing is sent."
    return Level.GOOD, f"In use: {', '.join(one.name for one in told)}."


def _safe(snapshot: Snapshot) -> str:
    waiting = snapshot.relay.messages if snapshot.relay else 0
    if not waiting:
        return "New mail is accepted, and waits safely."
    return f"{plural(waiting, 'message waits and is safe', 'messages wait and are safe')}."


def _quota(snapshot: Snapshot) -> Found:
    known = [(one.name, quota) for one in snapshot.providers for quota in one.quotas]
    if not known:
        return Level.UNKNOWN, "No quota is known."
    high = [one for one in known if one[1].share >= QUOTA_HIGH]
    if high:
        advice = "Mail takes another provider when all of it is used, or waits for the next period."
        word = "Used up" if all(quota.share >= 1 for _, quota in high) else "Nearly used up"
        return Level.WARNING, f"{word}: {', '.join(_used(*one) for one in high)}.", advice
    return Level.GOOD, f"Used: {', '.join(_used(*one) for one in known)}."


def _used(name: str, quota: Quota) -> str:
    return f"{name} {quota.taken:,} of {quota.limit:,} {span(quota.period, quota.hours)}"


def _notices(snapshot: Snapshot) -> Found:
    if snapshot.relay is None:
        return Level.UNKNOWN, "Not known."
    number = snapshot.relay.failed_notices
    if number:
        advice = "Tell the sender: the notice stands below, and make trace ID=… says which message it told of."
        return (
            Level.WARNING,
            f"{plural(number, 'notice')} failed: a sender may not know that mail of theirs did.",
            advice,
        )
    return Level.GOOD, "None failed."


def _failures(snapshot: Snapshot) -> Found:
    if snapshot.relay is None:
        return Level.UNKNOWN, "Not known."
    if snapshot.relay.failed:
        number = plural(snapshot.relay.failed, "delivery", "deliveries")
        advice = 'Read them below; make queue ARGS="acknowledge ID" takes one off this page.'
        return Level.WARNING, f"{number} failed, and nobody has acknowledged that.", advice
    return Level.GOOD, "None that you have not seen."


def _accounts(snapshot: Snapshot) -> Found:
    if snapshot.relay is None:
        return Level.UNKNOWN, "Not known."
    if not snapshot.accounts_good or snapshot.relay.accounts_problem:
        advice = "The relay goes on with the accounts it had, and takes the file up once it is mended."
        finding = f"config/accounts.toml has a mistake and was not taken up. {snapshot.relay.accounts_problem}"
        return Level.WARNING, finding, advice
    return Level.GOOD, "config/accounts.toml is in force."


def _settings(snapshot: Snapshot) -> Found:
    if snapshot.relay is None:
        return Level.UNKNOWN, "Not known."
    warnings = snapshot.relay.warnings
    if warnings:
        return Level.WARNING, " ".join(f"{one.rstrip('.')}." for one in warnings), "After a change: make up."
    return Level.GOOD, "Nothing in them looks like a mistake."


def _domain(snapshot: Snapshot) -> Found:
    report = snapshot.domain
    if report is None:
        return Level.UNKNOWN, f"The last report cannot be read. {snapshot.domain_error}"
    if not report.checked_at:
        return Level.UNKNOWN, "Not checked yet: make domain-check does it."
    age = snapshot.now - report.checked_at
    if age > CHECK_AGE:
        return Level.UNKNOWN, f"Last checked {duration(age)} ago: make domain-check does it again."
    wrong = [one for one in report.findings if one.verdict == "wrong"]
    if wrong:
        first = wrong[0]
        more = f" And {len(wrong) - 1} more." if len(wrong) > 1 else ""
        return Level.WARNING, f"{first.domain}, {first.check}: {first.finding.rstrip('.')}.{more}", first.fix
    unseen = report.count("unknown")
    if 2 * unseen > len(report.findings):
        first = next(one for one in report.findings if one.verdict == "unknown")
        finding = f"{unseen} of {len(report.findings)} could not be looked at: {first.finding.rstrip('.')}."
        return Level.UNKNOWN, finding, first.fix
    also = f"; {unseen} of {len(report.findings)} could not be looked at" if unseen else ""
    return Level.GOOD, f"Checked {duration(age)} ago, nothing wrong{also}."


CHECKS: Sequence[tuple[str, str, Callable[[Snapshot], Found]]] = (
    ("relay", "Relay", _relay),
    ("ports", "Ports", _ports),
    ("certificate", "Certificate", _certificate),
    ("renewal", "Renewal", _renewal),
    ("disk", "Disk", _disk),
    ("queue", "Queue", _queue),
    ("providers", "Providers", _providers),
    ("quota", "Quotas", _quota),
    ("notices", "Notices", _notices),
    ("failures", "Failures", _failures),
    ("accounts", "Accounts", _accounts),
    ("settings", "Settings", _settings),
    ("domain", "Domain", _domain),
)
