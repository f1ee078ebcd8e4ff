"""What the appliance says of itself: whether it can take mail, and the facts behind that. Asked by health checks, the
exporter and people; looks, and changes nothing.
"""

from __future__ import annotations

from relay import __version__
from relay.accounts_file import AccountsFile
from relay.advice import advice
from relay.clock import Clock
from relay.settings import Settings
from relay.spool import Spool
from relay.submission.front import Front
from relay.submission.listener import Listener
from relay.submission.mirror import Mirror
from relay.submission.tls import Certificates

STARTING = 300.0  # seconds for which a missing certificate is no failure: the renewer may be getting its first


class Status:
    """Reads the state of the parts it was given."""

    def __init__(
        self,
        settings: Settings,
        front: Front,
        certificates: Certificates,
        mirror: Mirror,
        accounts: AccountsFile,
        spool: Spool,
        clock: Clock,
    ) -> None:
        self._settings, self._front, self._certificates, self._mirror = settings, front, certificates, mirror
        self._accounts, self._spool, self._clock = accounts, spool, clock
        self._started_at, self._started = clock.time(), clock.monotonic()

    def reasons(self) -> list[str]:
        """Why mail cannot be accepted now, a sentence each; empty when it can. A provider's outage is no reason."""
        reasons = list(self._front.waiting_for)
        if self._spool.room() <= 0:
            reasons.append("The disk has no room for more mail; make some, and mail is accepted again by itself.")
        return reasons

    def facts(self) -> dict[str, object]:
        """For ``/status.json``."""
        settings, served = self._settings, self._certificates.current
        return {
            "version": __version__,
            "state": self._state(),
            "started_at": self._started_at,
            "hostname": settings.hostname,
            "domains": list(settings.domains),
            "bind": settings.bind,
            "warnings": advice(settings, self._accounts.current),
            "accounts": len(self._accounts.current),
            "accounts_problem": self._accounts.problem,
            "listeners": [self._listener(one) for one in self._front.listeners],
            "certificate": served
            and {
                "names": list(served.names),
                "issuer": served.issuer,
                "not_before": served.not_before,
                "not_after": served.not_after,
                "fingerprint": served.fingerprint,
            },
            "certificate_problem": self._certificates.problem,
        }

    def _listener(self, listener: Listener) -> dict[str, object]:
        name = listener.desk.listener
        shown = self._mirror.shown.get(name)
        return {
            "name": name,
            "port": listener.port,
            "open": listener.open,
            "shown": shown
            and {"fingerprint": shown.fingerprint, "not_after": shown.not_after, "problem": shown.problem},
        }

    def _state(self) -> str:
        if not self.reasons():
            return "ready"
        young = self._clock.monotonic() - self._started < STARTING
        return "starting" if young and self._certificates.current is None else "not ready"
