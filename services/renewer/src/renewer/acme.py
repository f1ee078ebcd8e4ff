"""OWNPOST_TLS=acme: a certificate from Let's Encrypt or another ACME server (RFC 8555), by way of certbot.

What certbot holds and what is published are compared at every attempt, before certbot runs and after it: a crash
between its last write and our publication is made good at the next start, not at the next renewal.
"""

from __future__ import annotations

from collections.abc import Callable

from . import ledger, verify
from .certbot import Certbot, TimedOut
from .outcome import Failed, Kept, Kind, Offered, Outcome
from .pair import Pair, as_pem, chain_of
from .trouble import Trouble, explain

RETRY_DISK = 300.0  # seconds


class Acme:
    """Keeps a certificate for the names that ``certbot`` was made for. ``chance`` gives a number in [0, 1)."""

    def __init__(self, certbot: Certbot, *, now: Callable[[], float], chance: Callable[[], float]) -> None:
        self._certbot, self._now, self._chance = certbot, now, chance
        self._path = certbot.home / "ledger.json"
        order = " ".join([certbot.settings.server, *sorted(certbot.names)])
        self._ledger = ledger.load(self._path).started(order)

    async def attempt(self, current: Pair | None) -> Outcome:
        now = self._now()
        waiting = self._held()
        if waiting is not None and waiting != current and not self._problems(waiting):
            return Offered(waiting, now)  # certbot has its turn directly afterwards
        if self._ledger.earliest(now) > now:
            return Failed(self._ledger.kind, self._ledger.sentence, self._ledger.earliest(now))
        try:
            return self._judge(await self._ask(), current)
        except OSError as error:
            sentence = f"The folder {self._certbot.home} cannot be used: {error.strerror}."
            return Failed(Kind.DISK, sentence, self._now() + RETRY_DISK)

    async def _ask(self) -> Trouble | None:
        try:
            good, output = await self._certbot.run()
        except TimedOut:
            return Trouble(
                Kind.TIMEOUT,
                f"certbot was ended after {self._certbot.timeout:g} seconds: Cloudflare or the ACME server hangs.",
            )
        return None if good else explain(output, names=self._certbot.names, now=self._now())

    def _judge(self, trouble: Trouble | None, current: Pair | None) -> Outcome:
        held = self._held()
        if trouble is None:
            problems = self._problems(held) if held else ["certbot ended well but left no certificate."]
            trouble = (
                Trouble(Kind.PAIR, f"What certbot obtained cannot be used: {' '.join(problems)}") if problems else None
            )
        now = self._now()
        if trouble is None:
            self._ledger = self._ledger.succeeded()
        else:
            self._ledger = self._ledger.failed(trouble.kind, trouble.sentence, now, trouble.retry_at)
        ledger.save(self._ledger, self._path)
        next_attempt = self._ledger.next_attempt(now, self._chance())
        if trouble is not None:
            return Failed(trouble.kind, trouble.sentence, next_attempt)
        return Kept(next_attempt) if held is None or held == current else Offered(held, next_attempt)

    def _held(self) -> Pair | None:
        """certbot's pair in the form that is published."""
        pair = self._certbot.lineage()
        try:
            return Pair(as_pem(chain_of(pair.fullchain)), pair.privkey) if pair else None
        except ValueError:
            return None

    def _problems(self, pair: Pair) -> list[str]:
        return verify.problems(pair, names=self._certbot.names, now=self._now())
