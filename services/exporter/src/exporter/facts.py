"""What the other programs say of themselves, as values. ``docs/architecture.md`` describes their answers.

Each ``from_json`` raises KeyError, TypeError or ValueError when an answer is not what it should be: then the collector
fails that asked for it. Unknown fields are ignored, so that a newer relay can be watched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from common.names import is_loopback

from .providers import Provider

FAILED = ("refused", "expired", "unknown")
TRIAL = "capture"  # the provider that writes mail to files
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """The certificate that the relay serves. Times are Unix seconds."""

    names: tuple[str, ...]
    issuer: str
    not_before: float
    not_after: float

    @classmethod
    def from_json(cls, found: Json) -> Certificate:
        return cls(
            names=tuple(map(str, found["names"])),
            issuer=str(found["issuer"]),
            not_before=float(found["not_before"]),
            not_after=float(found["not_after"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A port that clients reach, and the certificate that they are shown there."""

    name: str
    port: int
    open: bool
    shown_until: float | None = None  # None: not looked at yet
    problem: str = ""  # with what is shown

    @classmethod
    def from_json(cls, found: Json) -> Listener:
        shown = found.get("shown") or {}
        return cls(
            name=str(found["name"]),
            port=int(found["port"]),
            open=bool(found["open"]),
            shown_until=float(shown["not_after"]) if shown.get("not_after") else None,
            problem=str(shown.get("problem") or ""),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay:
    """``/status.json`` of the relay."""

    version: str
    state: str  # ready, starting, not ready
    reasons: tuple[str, ...]
    started_at: float
    hostname: str
    domains: tuple[str, ...]
    bind: str  # the address that the ports are published at; empty where an older relay does not say
    warnings: tuple[str, ...]  # what is legal in the settings, but most likely not meant
    accounts_problem: str  # why config/accounts.toml, as it is now, was not taken up
    providers: tuple[Provider, ...]
    listeners: tuple[Listener, ...]
    certificate: Certificate | None
    certificate_problem: str
    deliveries: Mapping[str, int]  # by state
    messages: int  # open
    bytes: int
    oldest: float | None
    failed_notices: int  # that nobody has acknowledged
    room: int
    held_by_mode: int = 0  # deliveries accepted in the trial while mail is sent now, or the other way round
    put_aside: int = 0  # deliveries that the relay itself holds, until somebody decides

    @classmethod
    def from_json(cls, found: Json) -> Relay:
        queue = found["queue"]
        return cls(
            version=str(found["version"]),
            state=str(found["state"]),
            reasons=tuple(map(str, found["reasons"])),
            started_at=float(found["started_at"]),
            hostname=str(found["hostname"]),
            domains=tuple(map(str, found["domains"])),
            bind=str(found.get("bind", "")),
            warnings=tuple(map(str, found.get("warnings", ()))),
            accounts_problem=str(found.get("accounts_problem", "")),
            providers=tuple(map(Provider.from_json, found["providers"])),
            listeners=tuple(map(Listener.from_json, found["listeners"])),
            certificate=Certificate.from_json(found["certificate"]) if found["certificate"] else None,
            certificate_problem=str(found.get("certificate_problem") or ""),
            deliveries={str(state): int(number) for state, number in queue["deliveries"].items()},
            messages=int(queue["messages"]),
            bytes=int(queue["bytes"]),
            oldest=None if queue["oldest"] is None else float(queue["oldest"]),
            failed_notices=int(queue["failed_notices"]),
            room=int(found["spool"]["room"]),
            held_by_mode=int(queue.get("held_by_mode", 0)),
            put_aside=int(queue.get("put_aside", 0)),
        )

    @property
    def served_until(self) -> float | None:
        """When the first of the certificates ends that clients are shown; None without a certificate."""
        if self.certificate is None:
            return None
        return min([self.certificate.not_after, *(one.shown_until for one in self.listeners if one.shown_until)])

    @property
    def trial(self) -> bool:
        """Whether nothing is sent: the only providers write files."""
        return bool(self.providers) and all(one.name == TRIAL for one in self.providers)

    @property
    def published(self) -> bool:
        """Whether other machines may connect."""
        return bool(self.bind) and not is_loopback(self.bind)

    @property
    def failed(self) -> int:
        """Deliveries that failed and that nobody has acknowledged."""
        return sum(self.deliveries.get(state, 0) for state in FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One row of ``/queue`` or ``/failed``: one recipient of a message."""

    message: str
    recipient: str
    account: str
    sender: str
    received_at: float
    state: str
    attempts: int
    next_attempt: float
    provider: str
    code: int
    reply: str
    waits: str = ""  # what keeps it from being tried, if anything does

    @classmethod
    def from_json(cls, found: Json) -> Delivery:
        return cls(
            message=str(found["message"]),
            recipient=str(found["recipient"]),
            account=str(found["account"]),
            sender=str(found["sender"]),
            received_at=float(found["received_at"]),
            state=str(found["state"]),
            attempts=int(found["attempts"]),
            next_attempt=float(found["next_attempt"]),
            provider=str(found["provider"]),
            code=int(found["code"]),
            reply=str(found["reply"]),
            waits=str(found.get("waits", "")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One row of ``/latest``."""

    message: str
    account: str
    sender: str
    kind: str
    size: int
    received_at: float
    recipients: int
    first_recipients: tuple[str, ...]
    states: Mapping[str, int]

    @classmethod
    def from_json(cls, found: Json) -> Summary:
        return cls(
            message=str(found["message"]),
            account=str(found["account"]),
            sender=str(found["sender"]),
            kind=str(found["kind"]),
            size=int(found["size"]),
            received_at=float(found["received_at"]),
            recipients=int(found["recipients"]),
            first_recipients=tuple(map(str, found["first_recipients"])),
            states={str(state): int(number) for state, number in found["states"].items()},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of a message's story."""

    event: str
    at: float
    recipient: str
    provider: str
    code: int
    reply: str

    @classmethod
    def from_json(cls, found: Json) -> Event:
        return cls(
            event=str(found["event"]),
            at=float(found["at"]),
            recipient=str(found.get("recipient", "")),
            provider=str(found.get("provider", "")),
            code=int(found.get("code", 0)),
            reply=str(found.get("reply", "")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One message of ``/trace``."""

    message: str
    message_id: str
    account: str
    sender: str
    size: int
    received_at: float
    ended_at: float | None
    deliveries: tuple[Delivery, ...]
    events: tuple[Event, ...]

    @classmethod
    def from_json(cls, found: Json) -> Story:
        return cls(
            message=str(found["message"]),
            message_id=str(found["message_id"]),
            account=str(found["account"]),
            sender=str(found["sender"]),
            size=int(found["size"]),
            received_at=float(found["received_at"]),
            ended_at=None if found["ended_at"] is None else float(found["ended_at"]),
            deliveries=tuple(map(Delivery.from_json, found["deliveries"])),
            events=tuple(map(Event.from_json, found["events"])),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewer:
    """``/status.json`` of the renewer."""

    mode: str
    last_success: float | None
    next_attempt: float | None
    last_error: str

    @classmethod
    def from_json(cls, found: Json) -> Renewer:
        return cls(
            mode=str(found["mode"]),
            last_success=None if found["last_success"] is None else float(found["last_success"]),
            next_attempt=None if found["next_attempt"] is None else float(found["next_attempt"]),
            last_error=str(found["last_error"]),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the domain check."""

    domain: str
    check: str
    verdict: str  # good, advice, wrong, unknown
    finding: str
    fix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainCheck:
    """``domain/check.json``, which the domain check leaves in the volume ``run``; absent until it has run."""

    checked_at: float  # 0: it has not run yet
    findings: tuple[Finding, ...]

    @classmethod
    def from_json(cls, found: Json) -> DomainCheck:
        names = ("domain", "check", "verdict", "finding", "fix")
        return cls(
            checked_at=datetime.fromisoformat(str(found["checked_at"])).timestamp(),
            findings=tuple(Finding(**{name: str(one[name]) for name in names}) for one in found["findings"]),
        )

    def count(self, verdict: str) -> int:
        return sum(one.verdict == verdict for one in self.findings)
