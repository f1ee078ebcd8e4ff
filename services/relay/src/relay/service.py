"""The relay's life: its parts at work together, and their end in order.

Promises: when told to stop it lets open messages finish and final replies arrive; a part that dies ends the whole, for
supervisor starts it again and what was accepted is in the spool; a spool that failed underneath ends the process at
once with :data:`EX_TEMPFAIL`, since only a new process may open it again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from relay import limits
from relay.accounts_file import AccountsFile
from relay.control import Control
from relay.delivery.digest import Digests
from relay.delivery.dispatcher import Dispatcher
from relay.delivery.probe import Prober
from relay.holding import Holding
from relay.journal import Journal
from relay.quotas import Quotas
from relay.spool import Spool, SpoolFailed
from relay.submission.auth import Authenticator
from relay.submission.front import Front
from relay.submission.mirror import Mirror

EX_OK, EX_TEMPFAIL = 0, 75
LAST_WORDS = 1.0  # seconds for the 451 of a spool that failed to reach its clients


@dataclass(kw_only=True)
class Relay:
    """Everything that runs, wired."""

    journal: Journal
    accounts: AccountsFile
    holding: Holding
    passwords: Authenticator
    spool: Spool
    front: Front
    mirror: Mirror
    dispatcher: Dispatcher
    digests: Digests
    prober: Prober
    quotas: Quotas
    control: Control

    async def run(self, stop: asyncio.Event, failed: asyncio.Event) -> int:
        """Work until ``stop`` or ``failed`` (the spool) is set; the exit code. Raises what a part died of."""
        ending = asyncio.Event()
        await self.holding.begin()
        parts = [
            asyncio.create_task(work, name=name)
            for name, work in (
                ("accounts", self.accounts.watch(ending)),
                ("holding", self.holding.run(ending)),
                ("submission", self.front.run(ending)),
                ("mirror", self.mirror.run(ending)),
                ("delivery", self.dispatcher.run(ending)),
                ("digests", self.digests.run(ending)),
                ("probe", self.prober.run(ending)),
                ("quotas", self.quotas.run(ending)),
            )
        ]
        calls = [asyncio.create_task(event.wait()) for event in (stop, failed)]
        await asyncio.wait([*parts, *calls], return_when=asyncio.FIRST_COMPLETED)
        self.journal.system("stopping")
        ending.set()
        drained = await asyncio.gather(self._drain(failed), *parts, return_exceptions=True)
        for call in calls:
            call.cancel()
        errors = [result for result in drained if isinstance(result, Exception)]
        disk = failed.is_set() or any(isinstance(error, SpoolFailed) for error in errors)
        await self.close(in_order=disk or not errors)  # a failing disk is no mail's doing
        if disk:
            return EX_TEMPFAIL
        if errors:
            raise errors[0]
        return EX_OK

    async def _drain(self, failed: asyncio.Event) -> None:
        if failed.is_set():
            await self.front.stop(LAST_WORDS)
        else:
            await asyncio.gather(self.front.stop(limits.DRAIN_SUBMISSION), self.dispatcher.drain(limits.DRAIN_DELIVERY))

    async def close(self, *, in_order: bool = True) -> None:
        """Give everything up, the spool's lock last: see :meth:`relay.spool.Spool.close`."""
        await self.control.close()
        self.passwords.close()
        await self.spool.close(in_order=in_order)
        self.journal.system("stopped")
