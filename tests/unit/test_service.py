"""How the relay ends, and what its next start is told: only what may be a mail's doing is an unclean end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from relay.accounts import Account, Accounts
from relay.holding import Holding
from relay.service import EX_OK, EX_TEMPFAIL, Relay
from relay.spool import SpoolFailed


class Part:
    """Any part of the relay: works until it is told to end, or dies."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.in_order: bool | None = None

    async def run(self, ending: asyncio.Event) -> None:
        if self.error is not None:
            raise self.error
        await ending.wait()

    watch = run

    async def begin(self) -> None: ...

    async def drain(self, _seconds: float) -> None: ...

    async def stop(self, _seconds: float) -> None: ...

    async def close(self, *, in_order: bool = True) -> None:
        self.in_order = in_order

    def system(self, *_: object, **__: object) -> None: ...


class Passwords:
    def close(self) -> None: ...


def relay(spool: Part, error: Exception | None = None, **others: object) -> Relay:
    names = ("journal", "accounts", "holding", "front", "mirror", "digests", "prober", "quotas", "control")
    parts: dict[str, Any] = {name: Part() for name in names}
    parts |= {"passwords": Passwords(), "spool": spool, "dispatcher": Part(error)} | others
    return Relay(**parts)


async def end(error: Exception | None = None, *, stop: bool = False, failed: bool = False) -> tuple[int, bool | None]:
    spool, stopping, failing = Part(), asyncio.Event(), asyncio.Event()
    if stop:
        stopping.set()
    if failed:
        failing.set()
    try:
        return await relay(spool, error).run(stopping, failing), spool.in_order
    except ValueError:
        return 1, spool.in_order


@pytest.mark.parametrize(
    ("error", "how", "ended"),
    [
        (None, {"stop": True}, (EX_OK, True)),
        (ValueError("a mistake of ours"), {}, (1, False)),
        (SpoolFailed("the disk"), {}, (EX_TEMPFAIL, True)),
        (None, {"failed": True}, (EX_TEMPFAIL, True)),
    ],
)
async def test_an_end_is_in_order_unless_something_died_that_is_not_the_disk(
    error: Exception | None, how: dict[str, bool], ended: tuple[int, bool]
) -> None:
    assert await end(error, **how) == ended


async def test_what_accounts_hold_is_held_before_anything_is_claimed() -> None:
    """Passwords were stolen, and the file was edited while nothing ran: of no account a mail goes out first."""
    told: list[str] = []

    class Held(Part):
        async def hold(self, message_id: str = "", account: str = "") -> int:
            await asyncio.sleep(0)
            told.append(account)
            return 1

        unhold = hold

    class Dispatcher(Part):
        async def run(self, ending: asyncio.Event) -> None:
            told.append("claimed")

    accounts = [Account(name=name, password_hash="", senders=(), hold_queue=True) for name in ("anna", "bert")]
    holding, stop = Holding(Held(), Accounts(accounts)), asyncio.Event()
    await relay(Part(), holding=holding, dispatcher=Dispatcher()).run(stop, asyncio.Event())
    assert told[:3] == ["anna", "bert", "claimed"]
