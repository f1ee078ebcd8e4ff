"""The record of mail events: one function per event writes the log line and moves the metric. Nobody else does either.

Events that belong to a message have a row in the spool, which rides in the commit it tells of and is the truth; the
spool calls :meth:`Journal.committed` after that commit, so a line never tells of what a crash took back. What strangers
can cause (connections, refused commands, failed logins) is a line and a metric and never a row.

No body, no subject, no password ever gets here. Everything is cheap and none of it raises or waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from relay.clock import Clock
from relay.log import Log, Value
from relay.metrics import Metrics
from relay.model import Event, EventKind
from relay.ration import Ration


class Journal:
    """Writes to ``log`` and counts in ``metrics``."""

    def __init__(self, log: Log, metrics: Metrics, clock: Clock) -> None:
        self._log, self._metrics = log, metrics
        self._event = log.event
        self._strangers = Ration(log.event, clock)
        self._count = metrics.events.inc
        self._system: Mapping[str, Callable[[Mapping[str, Value]], None]] = {
            "stopped": lambda _: self._strangers.end(),
            "certificate_served": self._certificate_served,
            "certificate_differs": self._certificate_differs,
            "certificate_refused": lambda _: metrics.certificate_failures.inc(),
            "accounts_reloaded": lambda _: metrics.accounts_good.set(1),
            "accounts_broken": lambda _: metrics.accounts_good.set(0),
            "provider_ready": lambda fields: self._provider_ready(fields, 1),
            "provider_not_ready": lambda fields: self._provider_ready(fields, 0),
        }

    # --- events with a row
    def committed(self, events: Sequence[Event]) -> None:
        """Events whose commit is done, in its order."""
        for event in events:
            kind = event.kind
            self._count(kind)
            if kind is EventKind.DELIVERED:
                self._delivered(event)
            self._event(kind, _fields(event), event.at)

    def _delivered(self, event: Event) -> None:
        provider = event.provider
        if provider in self._metrics.last_success:
            self._metrics.last_success[provider] = event.at
        self._metrics.delay.observe(float(event.detail.get("delay", 0.0)), provider, event.message)

    # --- clients
    def connection(self, listener: str, peer: str) -> None:  # noqa: ARG002 - a line for each would drown the others
        """A connection was accepted: metrics only."""
        self._metrics.connections.inc(listener)
        self._metrics.open[listener].inc()
        self._strangers.tell_rest()

    def connection_ended(self, listener: str, peer: str) -> None:  # noqa: ARG002
        """A connection that was accepted has ended."""
        self._metrics.open[listener].dec()

    def connection_refused(self, listener: str, peer: str, reason: str) -> None:
        """A connection was closed before its first command."""
        self._metrics.connections_refused.inc(listener, reason)
        fields: dict[str, Value] = {"listener": listener, "peer": peer, "reason": str(reason)}
        self._strangers.event("connection_refused", peer, fields)

    def tls_handshake(self, listener: str, peer: str, version: str, ok: bool, reason: str = "") -> None:
        """A handshake ended: ``version`` as ``ssl`` names it, ``reason`` why it failed."""
        self._metrics.tls_handshakes.inc(listener, version, "ok" if ok else "failed")
        if not ok:
            self._strangers.event("tls_failed", peer, {"listener": listener, "peer": peer, "reason": reason})

    def login(
        self, listener: str, peer: str, account: str, mechanism: str, ok: bool, reason: str | None = None
    ) -> None:
        """Somebody logged in, or tried to."""
        self._metrics.logins.inc(listener, mechanism, "ok" if ok else "failed")
        fields: dict[str, Value] = {"listener": listener, "peer": peer, "account": account, "mechanism": mechanism}
        if reason:
            fields["reason"] = str(reason)
        self._event("login" if ok else "login_failed", fields)

    def refused(self, listener: str, peer: str, account: str, reason: str, reply: str) -> None:
        """A command was refused with ``reply``. ``account`` is empty before a login."""
        self._metrics.refused.inc(listener, reason)
        fields = {"listener": listener, "peer": peer, "account": account, "reason": str(reason), "reply": reply}
        self._event("command_refused", {name: value for name, value in fields.items() if value})

    def accepted_timing(self, listener: str, seconds: float, size: int, message: str) -> None:
        """A message of ``size`` bytes was answered by 250, ``seconds`` after its final dot. The line is the event's."""
        self._metrics.accepted.inc(listener)
        self._metrics.accepting.observe(seconds, message=message)
        self._metrics.size.observe(size)

    def repeated(self, listener: str, peer: str, account: str, message: str) -> None:
        """A client sent ``message``, which was here already, once more; it got the 250 again, and nothing was kept."""
        self._metrics.repeated.inc(listener)
        fields: dict[str, Value] = {"message": message, "listener": listener, "peer": peer, "account": account}
        self._event("message_repeated", fields)

    # --- providers
    def attempt(self, provider: str, outcome: str, seconds: float) -> None:
        """One recipient of one transaction with ``provider``, which took ``seconds``. The line is the event's."""
        self._metrics.attempts.inc(provider, outcome)
        self._metrics.attempt_seconds.observe(seconds, provider)

    # --- the relay itself
    def commit_group(self, size: int, seconds: float) -> None:
        """The spool committed ``size`` changes at once."""
        self._metrics.commit_size.observe(size)
        self._metrics.commit_seconds.observe(seconds)

    def system(self, event: str, **fields: Value) -> None:
        """Anything that is not mail: started, stopping, a certificate loaded, accounts reloaded or broken, ..."""
        if event in self._system:
            self._system[event](fields)
        self._event(event, fields)

    def _certificate_served(self, fields: Mapping[str, Value]) -> None:
        listener = str(fields.get("listener", ""))
        if listener in self._metrics.certificate:
            self._metrics.certificate[listener].set(float(fields.get("not_after", 0.0)))

    def _certificate_differs(self, fields: Mapping[str, Value]) -> None:
        self._certificate_served(fields)
        self._metrics.certificate_failures.inc()

    def _provider_ready(self, fields: Mapping[str, Value], value: int) -> None:
        provider = str(fields.get("provider", ""))
        if provider in self._metrics.ready:
            self._metrics.ready[provider].set(value)


def _fields(event: Event) -> dict[str, Value]:
    """What a line says of an event: only what it has, the ids first."""
    fields: dict[str, Value] = {"message": event.message}
    if event.account:
        fields["account"] = event.account
    if event.recipient:
        fields["recipient"] = event.recipient
    if event.provider:
        fields["provider"] = event.provider
    if event.code:
        fields["code"] = event.code
    if event.reply:
        fields["reply"] = event.reply
    fields.update(event.detail)
    return fields
