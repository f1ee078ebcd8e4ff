"""`hold_queue`: mail of the account is held while it is set, whatever comes back meanwhile, and let go when cleared."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from relay.accounts import Account, Accounts
from relay.holding import Holding
from relay.spool import SpoolFull


class Spool:
    """Remembers what it was asked, and lets a test wait for that."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    async def hold(self, message_id: str = "", account: str = "") -> int:
        self.asked.put_nowait(("hold", account))
        return 1

    async def unhold(self, message_id: str = "", account: str = "") -> int:
        self.asked.put_nowait(("unhold", account))
        return 1

    async def next(self) -> tuple[str, str]:
        return await asyncio.wait_for(self.asked.get(), 5)


def accounts(**hold: bool) -> Accounts:
    return Accounts(
        [Account(name=name, password_hash="", senders=("a@example.org",), hold_queue=on) for name, on in hold.items()]
    )


async def test_the_queue_is_held_let_go_and_held_again_when_mail_comes_back() -> None:
    spool, stop = Spool(), asyncio.Event()
    before = accounts(anna=False, bob=True)
    holding = Holding(spool, before)
    task = asyncio.create_task(holding.run(stop, interval=0.01))
    assert await spool.next() == ("hold", "bob")  # at the start
    assert await spool.next() == ("hold", "bob")  # what was deferred meanwhile
    after = accounts(anna=True, bob=False)
    holding.accounts_changed(before, after)
    seen = [await spool.next()]
    while seen[-1] != ("hold", "anna"):
        seen.append(await spool.next())
    assert ("unhold", "bob") in seen
    assert await spool.next() == ("hold", "anna")
    stop.set()
    await asyncio.wait_for(task, 5)


async def test_a_change_is_not_kept_waiting() -> None:
    spool, stop = Spool(), asyncio.Event()
    before, after = accounts(anna=False), accounts(anna=True)
    holding = Holding(spool, before)
    task = asyncio.create_task(holding.run(stop, interval=3600))
    await asyncio.sleep(0)
    holding.accounts_changed(before, after)
    assert await spool.next() == ("hold", "anna")
    stop.set()
    await asyncio.wait_for(task, 5)


async def test_an_account_that_is_set_again_before_it_was_let_go_stays_held() -> None:
    spool = Spool()
    on, off = accounts(anna=True), accounts(anna=False)
    holding = Holding(spool, on)
    holding.accounts_changed(on, off)
    holding.accounts_changed(off, on)
    stop = asyncio.Event()
    task = asyncio.create_task(holding.run(stop, interval=3600))
    assert await spool.next() == ("hold", "anna")
    stop.set()
    await asyncio.wait_for(task, 5)
    assert spool.asked.empty()


async def test_mail_of_an_account_that_is_removed_while_it_is_held_stays_held() -> None:
    spool = Spool()
    before, after = accounts(anna=True, bob=True), accounts(bob=False)
    holding = Holding(spool, before)
    holding.accounts_changed(before, after)
    stop = asyncio.Event()
    task = asyncio.create_task(holding.run(stop, interval=3600))
    assert await spool.next() == ("unhold", "bob")
    stop.set()
    await asyncio.wait_for(task, 5)
    assert spool.asked.empty()


async def test_a_full_disk_only_delays_it() -> None:
    class Full(Spool):
        full = 3

        async def hold(self, message_id: str = "", account: str = "") -> int:
            return await self._try(super().hold(account=account))

        async def unhold(self, message_id: str = "", account: str = "") -> int:
            return await self._try(super().unhold(account=account))

        async def _try(self, asked: Coroutine[Any, Any, int]) -> int:
            if self.full:
                asked.close()
                self.full -= 1
                raise SpoolFull
            return await asked

    spool, stop = Full(), asyncio.Event()
    before, after = accounts(anna=True, bob=False), accounts(anna=False, bob=True)
    holding = Holding(spool, before)
    holding.accounts_changed(before, after)
    task = asyncio.create_task(holding.run(stop, interval=0.01))
    assert await spool.next() == ("unhold", "anna")
    assert await spool.next() == ("hold", "bob")
    stop.set()
    await asyncio.wait_for(task, 5)
