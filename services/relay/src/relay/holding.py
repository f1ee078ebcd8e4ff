"""What `hold_queue` in ``accounts.toml`` does: an account's waiting mail is held when it is set, and let go when it is
cleared.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Protocol

from relay.accounts import Accounts


class HoldingSpool(Protocol):
    """What is needed of the spool."""

    async def hold(self, message_id: str = "", account: str = "") -> int: ...
    async def unhold(self, message_id: str = "", account: str = "") -> int: ...


class Holding:
    """Hears of changed accounts and changes the spool accordingly."""

    def __init__(self, spool: HoldingSpool) -> None:
        self._spool = spool
        self._tasks: set[asyncio.Task[int]] = set()

    def accounts_changed(self, old: Accounts, new: Accounts) -> None:
        """To be called in the event loop after ``new`` has come into force."""
        before, after = held(old), held(new)
        for name in sorted(after - before):
            self._start(self._spool.hold(account=name))
        for name in sorted(before - after):
            self._start(self._spool.unhold(account=name))

    def _start(self, work: Coroutine[None, None, int]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def held(accounts: Accounts) -> frozenset[str]:
    """Names of the accounts whose mail is to be held."""
    return frozenset(account.name for account in accounts if account.hold_queue)
