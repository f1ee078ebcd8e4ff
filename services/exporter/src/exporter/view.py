"""A snapshot and its verdict as plain values: what ``/status.json`` answers and what the page is made of.

``docs/operations.md`` describes the format. Addresses are cut short here, once for both, unless the settings show them:
in their own fields, and wherever else one stands, such as in a provider's sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .facts import Delivery, Event, Story, Summary
from .history import KINDS, SLOT, Slot
from .privacy import as_it_is, shorten, shorten_address
from .providers import Pause, Provider, Quota
from .snapshot import Snapshot
from .verdict import Check, Verdict

FORMAT = 1
FINDINGS = 200  # of the domain check that are shown
REPLY = 500  # characters of a provider's sentence; the relay keeps no more either
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class View:
    """Shows with or without whole addresses. ``address`` is for what is one, ``text`` for what may hold some."""

    address: Callable[[str], str]
    text: Callable[[str], str]

    @classmethod
    def of(cls, *, show_addresses: bool) -> View:
        return cls(as_it_is, as_it_is) if show_addresses else cls(shorten_address, shorten)

    def status(self, snapshot: Snapshot, verdict: Verdict) -> Json:
        """Everything; the value of ``/status.json``."""
        relay, renewer = snapshot.relay, snapshot.renewer
        return {
            "format": FORMAT,
            "at": snapshot.now,
            "verdict": {"level": verdict.level.name.lower(), "line": self.text(verdict.line)},
            "checks": [self._check(one) for one in verdict.checks],
            "relay": relay
            and {
                "version": relay.version,
                "state": relay.state,
                "started_at": relay.started_at,
                "hostname": relay.hostname,
                "domains": list(relay.domains),
                "listeners": [{"name": one.name, "open": one.open} for one in relay.listeners],
            },
            "certificate": relay
            and relay.certificate
            and {
                "names": list(relay.certificate.names),
                "issuer": relay.certificate.issuer,
                "not_before": relay.certificate.not_before,
                "not_after": relay.certificate.not_after,
            },
            "renewer": renewer
            and {
                "mode": renewer.mode,
                "last_success": renewer.last_success,
                "next_attempt": renewer.next_attempt,
                "last_error": self.text(renewer.last_error),
            },
            "queue": self._queue(snapshot),
            "failed": self._rows(snapshot.failed, snapshot.failed_error),
            "latest": {
                "messages": [self._summary(one) for one in snapshot.latest],
                "error": self.text(snapshot.latest_error),
            },
            "providers": [self._provider(one, snapshot.now) for one in snapshot.providers],
            "domain": self._domain(snapshot),
            "history": {"seconds": SLOT, "slots": [_slot(one) for one in snapshot.slots]},
        }

    def story(self, story: Story) -> Json:
        """One message's story, for its page."""
        return {
            "message": story.message,
            "message_id": self.text(story.message_id),
            "account": self.address(story.account),
            "sender": self.address(story.sender),
            "size": story.size,
            "received_at": story.received_at,
            "ended_at": story.ended_at,
            "deliveries": [self._delivery(one) for one in story.deliveries],
            "events": [self._event(one) for one in story.events],
        }

    def _queue(self, snapshot: Snapshot) -> Json:
        relay, waiting = snapshot.relay, [one for one in snapshot.queue if one.state in ("due", "claimed", "sending")]
        held = [one for one in snapshot.queue if one.state == "held"]
        rows = self._rows([*waiting, *held], snapshot.queue_error)
        return rows | {
            "messages": relay and relay.messages,
            "bytes": relay and relay.bytes,
            "oldest": relay and relay.oldest,
            "put_aside": relay and relay.put_aside,
            "states": relay and dict(relay.deliveries),
            "held_by_mode": relay and relay.held_by_mode,
        }

    def _rows(self, rows: Any, error: str) -> Json:
        return {"deliveries": [self._delivery(one) for one in rows], "error": self.text(error)}

    def _domain(self, snapshot: Snapshot) -> Json | None:
        report = snapshot.domain
        if report is None or not report.checked_at:
            return None
        names = ("domain", "check", "verdict", "finding", "fix")
        rows = [{name: self.text(getattr(one, name)) for name in names} for one in report.findings[:FINDINGS]]
        return {"checked_at": report.checked_at, "findings": rows}

    def _check(self, check: Check) -> Json:
        return {
            "name": check.name,
            "title": check.title,
            "level": check.level.name.lower(),
            "finding": self.text(check.finding),
            "advice": self.text(check.advice),
        }

    def _delivery(self, delivery: Delivery) -> Json:
        return {
            "message": delivery.message,
            "recipient": self.address(delivery.recipient),
            "account": self.address(delivery.account),
            "sender": self.address(delivery.sender),
            "received_at": delivery.received_at,
            "state": delivery.state,
            "attempts": delivery.attempts,
            "next_attempt": delivery.next_attempt,
            "provider": delivery.provider,
            "reply": self._reply(delivery.code, delivery.reply),
            "waits": self.text(delivery.waits),
        }

    def _event(self, event: Event) -> Json:
        return {
            "event": event.event,
            "at": event.at,
            "recipient": self.address(event.recipient),
            "provider": event.provider,
            "reply": self._reply(event.code, event.reply),
        }

    def _provider(self, provider: Provider, now: float) -> Json:
        nearest = provider.nearest
        return {
            "name": provider.name,
            "paused": provider.paused,
            "state": provider.state,
            "standing": provider.standing,
            "reason": self.text(provider.reason),
            "until": provider.until,
            "domains": [self._pause(one, now) for one in provider.domains],
            "ready": provider.ready,
            "problem": self.text(provider.problem),
            "last_success": provider.last_success or None,
            "quota_used": nearest and nearest.taken,
            "quota_limit": nearest and nearest.limit,
            "quotas": [_quota(one) for one in provider.quotas],
        }

    def _pause(self, pause: Pause, now: float) -> Json:
        return {
            "domain": self.address(pause.domain),
            "reason": self.text(pause.reason),
            "until": pause.until,
            "running": pause.running(now),
        }

    def _summary(self, summary: Summary) -> Json:
        return {
            "message": summary.message,
            "account": self.address(summary.account),
            "sender": self.address(summary.sender),
            "kind": summary.kind,
            "size": summary.size,
            "received_at": summary.received_at,
            "recipients": summary.recipients,
            "first_recipients": [self.address(one) for one in summary.first_recipients],
            "states": dict(summary.states),
        }

    def _reply(self, code: int, reply: str) -> str:
        """The sentence, its code in front if it does not begin with it."""
        whole = reply if not code or reply.startswith(str(code)) else f"{code} {reply}"
        return self.text(whole[:REPLY]).strip()


def _quota(quota: Quota) -> Json:
    return {
        "period": quota.period,
        "hours": quota.hours,
        "used": quota.taken,
        "limit": quota.limit,
        "resets_at": quota.resets_at,
    }


def _slot(slot: Slot) -> Mapping[str, float]:
    return {"start": slot.start, **{kind: slot.counts[kind] for kind in KINDS}}
