"""What `hold_queue` in ``accounts.toml`` does: an account's waiting mail is held while it is set, and let go when it is
cleared.

What a provider has in hand at that moment cannot be held; when it is deferred it waits again, so the accounts' mail is
held anew every half minute, and once before the first is handed out, for a file that was edited while nothing ran.

Mail of an account that is taken out of the file while it is held stays held: what a stolen password left in the queue
must not go out because the account was removed. The operator releases or drops it.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol

from relay.accounts import Accounts
from relay.spool import SpoolError, SpoolFull

INTERVAL = 30.0  # seconds


class HoldingSpool(Protocol):
    """What is needed of the spool."""

    async def hold(self, message_id: str = "", account: str = "") -> int: ...
    async def unhold(self, message_id: str = "", account: str = "") -> int: ...


class Holding:
    """Keeps the spool true to the accounts in force."""

    def __init__(self, spool: HoldingSpool, accounts: Accounts) -> None:
        self._spool = spool
        self._wanted = held(accounts)
        self._released: set[str] = set()
        self._changed = asyncio.Event()

    def accounts_changed(self, _: Accounts, new: Accounts) -> None:
        """To be called in the event loop after ``new`` has come into force."""
        wanted = held(new)
        names = frozenset(account.name for account in new)
        self._released = (self._released | (self._wanted - wanted)) & names - wanted
        self._wanted = wanted
        self._changed.set()

    async def begin(self) -> None:
        """To be awaited before anything is claimed. What the spool cannot do now is left to :meth:`run`."""
        with contextlib.suppress(SpoolError):
            await self._apply()

    async def run(self, stop: asyncio.Event, interval: float = INTERVAL) -> None:
        """Works until ``stop`` is set. The spool's failures leave as exceptions; a full disk is none."""
        while not stop.is_set():
            self._changed.clear()
            with contextlib.suppress(SpoolFull):  # what is left to do is tried again at the next look
                await self._apply()
            waits = [asyncio.ensure_future(event.wait()) for event in (stop, self._changed)]
            await asyncio.wait(waits, timeout=interval, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()

    async def _apply(self) -> None:
        for name in sorted(self._released):
            await self._spool.unhold(account=name)
            self._released.discard(name)
        for name in sorted(self._wanted):
            await self._spool.hold(account=name)


def held(accounts: Accounts) -> frozenset[str]:
    """Names of the accounts whose mail is to be held."""
    return frozenset(account.name for account in accounts if account.hold_queue)
