"""All listeners together: which there are, when they open, how they end. What ``service`` builds and runs.

The ports are taken at once, so that an occupied one ends the start; those that need a certificate let clients in as
soon as there is one. Until then the appliance is *starting*, which is no failure: the renewer may be waiting for its
first certificate.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from relay import limits
from relay.accounts import Accounts
from relay.submission.listener import Listener
from relay.submission.tls import Certificates


class Front:
    """The relay's ports. ``certificates`` is ``None`` where no listener speaks TLS."""

    def __init__(self, listeners: Sequence[Listener], certificates: Certificates | None) -> None:
        self.listeners = tuple(listeners)
        self.stopping = False
        self._certificates = certificates

    async def run(self, stop: asyncio.Event) -> None:
        """Open what can be opened, watch the certificate and open the rest; returns soon after ``stop`` is set."""
        self._open_ready()
        if self._certificates is None:
            await stop.wait()
            return
        self._certificates.on_change = self._open_ready
        await self._certificates.watch(stop)

    def _open_ready(self) -> None:
        for listener in self.listeners:
            ready = not listener.needs_certificate or (self._certificates and self._certificates.current)
            if ready and not listener.open and not self.stopping:
                listener.start()

    @property
    def waiting_for(self) -> list[str]:
        """Why clients cannot connect yet, a sentence for each reason; empty when every port is open."""
        if self.stopping:
            return ["It is being stopped."]
        if all(listener.open for listener in self.listeners):
            return []
        problem = self._certificates.problem if self._certificates else ""
        return [f"There is no certificate yet. {problem}".strip()]

    def accounts_changed(self, accounts: Accounts) -> None:
        """Others are in force."""
        for listener in self.listeners:
            listener.accounts_changed(accounts)

    async def stop(self, seconds: float = limits.DRAIN_SUBMISSION) -> None:
        """Let nobody in, send the idle away, let open messages finish for at most ``seconds``."""
        self.stopping = True
        for listener in self.listeners:
            listener.close()
        await asyncio.gather(*(listener.drain(seconds) for listener in self.listeners))
