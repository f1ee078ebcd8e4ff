"""Every metric of the relay, and the only place where they are named.

Prometheus' rules: base units, counters end in ``_total``, every label has a closed set of values (what does not belong
to it is counted as ``other``), no address, id or reply is ever a label, and every combination is there from the start
at 0, or ``rate()`` would miss the first event.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, exposition, openmetrics

from relay.counting import OTHER, Count, Spread
from relay.model import EventKind, State
from relay.refusal import Reason

LISTENERS = ("submission", "submissions", "lan")
MECHANISMS = ("PLAIN", "LOGIN")
TLS_VERSIONS = ("TLSv1.2", "TLSv1.3")
OUTCOMES = ("delivered", "deferred", "refused", "doubtful")
STATES = tuple(state for state in State if state not in (State.DELIVERED, State.DROPPED))
# Why a provider is paused: the words of relay.providers.rules.Standing.
PAUSES = ("used_up", "key_dead", "busy", OTHER)
OPENMETRICS = "application/openmetrics-text"

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)  # seconds: a commit, a 250
_SLOW = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0)  # seconds: a provider's answer
_DELAY = (0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 14400.0, 86400.0, 432000.0)  # seconds: 250 to 250
_SIZE = tuple(float(1024 * 4**n) for n in range(9))  # bytes: 1 KiB to 64 MiB
_GROUP = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The relay's metrics in ``registry``, which is this process's only one."""

    def __init__(self, registry: CollectorRegistry, providers: Iterable[str], version: str) -> None:
        self._registry = registry
        self._providers = tuple(providers)
        ProcessCollector(namespace="ownpost_relay", registry=registry)
        self._gauge("build_info", "The version that runs, as a label.", "version").labels(version).set(1)
        self._intake()
        self._delivery()
        self._spool()
        self._files()

    def _intake(self) -> None:
        self.connections = self._counts("connections", "Connections accepted.", listener=LISTENERS)
        open_ = self._gauge("connections_open", "Connections open now.", "listener")
        self.open = {listener: open_.labels(listener) for listener in LISTENERS}
        self.connections_refused = self._counts(
            "connections_refused", "Connections refused.", listener=LISTENERS, reason=(*Reason, OTHER)
        )
        self.tls_handshakes = self._counts(
            "tls_handshakes",
            "TLS handshakes of clients.",
            listener=LISTENERS,
            version=(*TLS_VERSIONS, OTHER),
            result=("ok", "failed"),
        )
        self.logins = self._counts(
            "logins", "Logins tried.", listener=LISTENERS, mechanism=(*MECHANISMS, OTHER), result=("ok", "failed")
        )
        self.accepted = self._counts("messages_accepted", "Messages answered by 250.", listener=LISTENERS)
        self.repeated = self._counts(
            "messages_repeated",
            "Messages sent again that were here already: answered by 250, not kept.",
            listener=LISTENERS,
        )
        self.refused = self._counts("refused", "Commands refused.", listener=LISTENERS, reason=(*Reason, OTHER))
        self.size = self._spread("message_size_bytes", "Size of accepted messages.", _SIZE)
        self.accepting = self._spread("accept_duration_seconds", "From the final dot to our 250.", _FAST)

    def _delivery(self) -> None:
        names = self._providers
        self.events = self._counts("mail_events", "Mail events, as the journal names them.", event=tuple(EventKind))
        self.attempts = self._counts(
            "delivery_attempts",
            "Recipients offered to a provider.",
            provider=(*names, OTHER),
            outcome=(*OUTCOMES, OTHER),
        )
        self.attempt_seconds = self._spread("delivery_duration_seconds", "One transaction.", _SLOW, "provider", names)
        self.delay = self._spread(
            "delivery_delay_seconds", "From our 250 to the provider's.", _DELAY, "provider", names
        )
        success = self._gauge(
            "provider_last_success_timestamp_seconds", "When the provider last accepted anything; 0: never.", "provider"
        )
        ready = self._gauge(
            "provider_ready", "1 if we could log in there when we last looked; 0: not, or not looked yet.", "provider"
        )
        paused = self._gauge("provider_paused", "1 while a provider is left alone for a while.", "provider")
        reason = self._gauge("provider_pause_reason", "1 for the reason of a pause that holds.", "provider", "reason")
        domains = self._gauge(
            "provider_paused_domains", "Sender domains, and addresses, that it is left alone for.", "provider"
        )
        self.last_success = dict.fromkeys(names, 0.0)
        for name in names:
            success.labels(name).set_function(partial(self.last_success.__getitem__, name))
        self.ready = {name: ready.labels(name) for name in names}
        self.paused = {name: paused.labels(name) for name in names}
        self.pause_reason = {(name, why): reason.labels(name, why) for name in names for why in PAUSES}
        self.paused_domains = {name: domains.labels(name) for name in names}
        used = self._gauge(
            "provider_quota_used_recipients", "Recipients of the period, of the quota nearest to its limit.", "provider"
        )
        limit = self._gauge("provider_quota_limit_recipients", "What that period allows; 0: no quota.", "provider")
        self.quota_used = {name: used.labels(name) for name in names}
        self.quota_limit = {name: limit.labels(name) for name in names}

    def _spool(self) -> None:
        queued = self._gauge("queue_deliveries", "Deliveries by state; failed ones until acknowledged.", "state")
        self.queue = {state: queued.labels(state.value) for state in STATES}
        self.failed_notices = self._gauge("queue_failed_notices", "Notices that failed, until acknowledged.")
        self.held_by_mode = self._gauge(
            "queue_held_by_mode_deliveries", "Deliveries held: accepted in the trial, or to be sent, unlike mail now."
        )
        self.queue_messages = self._gauge("queue_messages", "Messages with an open delivery.")
        self.queue_bytes = self._gauge("queue_bytes", "Size of messages with an open delivery.")
        self.put_aside = self._gauge(
            "queue_put_aside_deliveries", "Deliveries held by the relay until somebody decides."
        )
        self.oldest = self._gauge("queue_oldest_message_age_seconds", "Age of the oldest message that is not held.")
        self.room = self._gauge("spool_room_bytes", "What may still be accepted before the disk counts as full.")
        self.writable = self._gauge("spool_writable", "1 while the spool has room for mail; without it, mail gets 452.")
        self.wal = self._gauge("spool_wal_bytes", "Size of the spool's write-ahead log.")
        self.commit_seconds = self._spread("spool_commit_duration_seconds", "One commit of the spool.", _FAST)
        self.commit_size = self._spread("spool_commit_changes", "Changes in one commit.", _GROUP)

    def _files(self) -> None:
        served = self._gauge(
            "tls_certificate_not_after_timestamp_seconds",
            "When the certificate that clients are shown on a port expires, seen from outside; 0: none was seen.",
            "listener",
        )
        self.certificate = {listener: served.labels(listener) for listener in LISTENERS}
        self.certificate_failures = self._counts("tls_reload_failures", "Published certificates not taken up.")
        self.accounts_good = self._gauge("accounts_last_reload_successful", "0 while accounts.toml is broken.")
        self.accounts_good.set(1)

    def update_queue(
        self,
        deliveries: Mapping[State, int],
        messages: int,
        size: int,
        oldest_age: float,
        failed_notices: int,
        held_by_mode: int,
        put_aside: int,
    ) -> None:
        """What waits, and what failed, counted when somebody asks."""
        self.failed_notices.set(failed_notices)
        self.held_by_mode.set(held_by_mode)
        for state, gauge in self.queue.items():
            gauge.set(deliveries.get(state, 0))
        self.queue_messages.set(messages)
        self.queue_bytes.set(size)
        self.oldest.set(oldest_age)
        self.put_aside.set(put_aside)

    def update_spool(self, room: int, wal_bytes: int) -> None:
        """The state of the disk, as :meth:`update_queue`."""
        self.room.set(room)
        self.writable.set(room > 0)
        self.wal.set(wal_bytes)

    def update_pause(self, provider: str, paused: bool, standing: str, domains: int) -> None:
        """Whether a provider is left alone, why, and for how many sender domains only, as :meth:`update_queue`."""
        why = standing.replace(" ", "_") if standing.replace(" ", "_") in PAUSES else OTHER
        self.paused[provider].set(paused)
        self.paused_domains[provider].set(domains)
        for one in PAUSES:
            self.pause_reason[provider, one].set(paused and one == why)

    def update_quota(self, provider: str, used: int, limit: int) -> None:
        """The quota of a provider that is nearest to its limit, in recipients."""
        self.quota_used[provider].set(used)
        self.quota_limit[provider].set(limit)

    def page(self, accept: str) -> tuple[str, bytes]:
        """Media type and text for a scrape: OpenMetrics if ``accept`` names it, else Prometheus' own."""
        if OPENMETRICS in accept:
            text: bytes = openmetrics.exposition.generate_latest(self._registry)  # type: ignore[no-untyped-call]
            return openmetrics.exposition.CONTENT_TYPE_LATEST, text
        return exposition.CONTENT_TYPE_LATEST, exposition.generate_latest(self._registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"ownpost_{name}", text, labels, registry=self._registry)

    def _counts(self, name: str, text: str, **labels: Sequence[str]) -> Count:
        return Count(self._registry, f"ownpost_{name}", text, labels)

    def _spread(
        self, name: str, text: str, bounds: Sequence[float], label: str = "", values: Sequence[str] = ("",)
    ) -> Spread:
        return Spread(self._registry, f"ownpost_{name}", text, bounds, label, values)
