"""What was sent before a restart still counts after it."""

from __future__ import annotations

from pathlib import Path

from relay.accounts import Account, Accounts
from relay.model import Event, EventKind
from relay.settings import read
from relay.usage import lan_budget, limiter
from support.spooling import NOW, Opened, a_message, opened

ANNA = Account(name="anna", password_hash="", senders=("anna@example.org",), recipients_per_day=6)
SETTINGS = read(
    {
        "OWNPOST_DOMAINS": "example.org",
        "RELAY_LAN_BIND": "192.168.1.2",
        "RELAY_LAN_NETWORKS": "192.168.1.0/24",
        "RELAY_LAN_ACCOUNT": "Anna",
        "RELAY_LAN_RECIPIENTS_PER_DAY": "3",
    }
)


async def accept(one: Opened, listener: str, recipients: int, age: float = 10.0) -> None:
    message = a_message("anna", [f"{number}@x.example" for number in range(recipients)], NOW - age)
    event = Event(kind=EventKind.ACCEPTED, at=NOW - age, message=message.id, detail={"listener": listener})
    await one.spool.upload(message.id).commit(message, b"x", [event])


async def test_a_restart_gives_neither_an_account_nor_the_lan_port_a_second_days_worth(tmp_path: Path) -> None:
    assert SETTINGS.lan is not None
    budget = lan_budget(SETTINGS.lan)
    async with opened(tmp_path / "spool") as one:
        await accept(one, "lan", 2)
        await accept(one, "submission", 3)
        await accept(one, "lan", 3, age=86_401)
        counts = await limiter(SETTINGS, Accounts([ANNA]), one.spool, one.clock, frozenset())
        assert counts.check(ANNA, 1) is None
        assert counts.check(ANNA, 2) is not None
        assert counts.check(budget, 1) is None
        assert counts.check(budget, 2) is not None
