"""The exporter's page over made-up facts: snapshots for every state, and a real server that shows one."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from exporter.appliance import Appliance
from exporter.door import Door
from exporter.facts import Certificate, Delivery, DomainCheck, Event, Finding, Listener, Relay, Renewer, Story, Summary
from exporter.guard import Guard, Names
from exporter.history import SLOT, Slot
from exporter.page import Pages
from exporter.providers import Provider, Quota
from exporter.snapshot import Snapshot
from exporter.verdict import Verdict, judge
from exporter.view import View
from exporter.web import Site
from support.ports import free_port

NOW = 1_790_000_000.0
DAY = 86_400.0
ID = "01M5ZV7Q8HF2W9T0ABCDEFGHJK"
PORTS = {"submission": 587, "submissions": 465, "lan": 2525}


def relay(**changes: Any) -> Relay:
    """A relay that is well."""
    usual = Relay(
        version="0.1.0",
        state="ready",
        reasons=(),
        started_at=NOW - 5 * DAY,
        hostname="mail.example.org",
        domains=("example.org",),
        bind="0.0.0.0",
        warnings=(),
        accounts_problem="",
        providers=(Provider(name="brevo"), Provider(name="sendgrid")),
        listeners=(
            Listener(name="submission", port=2587, open=True),
            Listener(name="submissions", port=2465, open=True),
        ),
        certificate=Certificate(
            names=("mail.example.org",),
            issuer="CN=R11,O=Let's Encrypt,C=US",
            not_before=NOW - 20 * DAY,
            not_after=NOW + 70 * DAY,
        ),
        certificate_problem="",
        deliveries={"due": 0, "claimed": 0, "sending": 0, "held": 0, "refused": 0, "expired": 0, "unknown": 0},
        messages=0,
        bytes=0,
        oldest=None,
        failed_notices=0,
        room=40 * 1024**3,
    )
    return dataclasses.replace(usual, **changes)


def delivery(**changes: Any) -> Delivery:
    """One that waits after an attempt."""
    usual = Delivery(
        message=ID,
        recipient="bob@example.net",
        account="thunderbird",
        sender="anna@example.org",
        received_at=NOW - 5_400,
        state="due",
        attempts=3,
        next_attempt=NOW + 900,
        provider="brevo",
        code=451,
        reply="451 4.7.1 Greylisted, please try again later",
    )
    return dataclasses.replace(usual, **changes)


def summary(**changes: Any) -> Summary:
    """A message that went out."""
    usual = Summary(
        message=ID,
        account="thunderbird",
        sender="anna@example.org",
        kind="mail",
        size=4_321,
        received_at=NOW - 240,
        recipients=1,
        first_recipients=("bob@example.net",),
        states={"delivered": 1},
    )
    return dataclasses.replace(usual, **changes)


def quota(used: int, limit: int, **changes: Any) -> Quota:
    """Of a day."""
    usual = Quota(limit=limit, period="day", hours=24, used=used, in_hand=0, resets_at=NOW + 9 * 3_600)
    return dataclasses.replace(usual, **changes)


def provider(name: str = "brevo", **changes: Any) -> Provider:
    """One in use."""
    return dataclasses.replace(Provider(name=name, ready=True, last_success=NOW - 60), **changes)


def paused(standing: str = "busy", reason: str = "421 4.3.2 Come back later") -> dict[str, Any]:
    """Changes for :func:`provider`."""
    return {"state": "paused", "standing": standing, "reason": reason, "until": NOW + 3_600}


def day() -> list[Slot]:
    """A day of mail, more of it at noon."""
    first = NOW - NOW % SLOT - 95 * SLOT
    slots = []
    for number in range(96):
        busy = max(0, 40 - abs(number - 48)) // 3
        counts = {
            "accepted": busy,
            "delivered": max(0, busy - (2 if number % 7 == 0 else 0)),
            "failed": number % 31 == 5,
        }
        slots.append(Slot(first + number * SLOT, {name: int(count) for name, count in counts.items()}))
    return slots


def snapshot(**changes: Any) -> Snapshot:
    """An appliance that is well, and has been busy."""
    usual = Snapshot(
        now=NOW,
        relay=relay(),
        relay_error="",
        renewer=Renewer(mode="acme", last_success=NOW - 7_000, next_attempt=NOW + 30_000, last_error=""),
        renewer_error="",
        providers=(provider("brevo", quotas=(quota(120, 300),)), provider("sendgrid")),
        accounts_good=True,
        queue=(),
        queue_error="",
        failed=(),
        failed_error="",
        latest=(
            summary(),
            summary(recipients=12, first_recipients=("bob@example.net", "eve@example.com", "zoe@example.com")),
            summary(kind="notice", sender="postmaster@example.org", states={"delivered": 1}),
        ),
        latest_error="",
        domain=DomainCheck(
            checked_at=NOW - 9_000,
            findings=(Finding(domain="example.org", check="SPF", verdict="good", finding="One record.", fix=""),),
        ),
        domain_error="",
        slots=day(),
    )
    return dataclasses.replace(usual, **changes)


def story(**changes: Any) -> Story:
    """Of a message that was put off and then taken."""
    usual = Story(
        message=ID,
        message_id="<20260921.1@example.org>",
        account="thunderbird",
        sender="anna@example.org",
        size=4_321,
        received_at=NOW - 240,
        ended_at=NOW - 10,
        deliveries=(delivery(state="delivered", code=250, reply="250 2.0.0 queued as 12"),),
        events=(
            Event(event="accepted", at=NOW - 240, recipient="", provider="", code=0, reply=""),
            Event(
                event="deferred", at=NOW - 239, recipient="bob@example.net", provider="brevo", code=451, reply="Busy"
            ),
            Event(event="delivered", at=NOW - 10, recipient="bob@example.net", provider="brevo", code=250, reply="OK"),
        ),
    )
    return dataclasses.replace(usual, **changes)


class Stage(Appliance):
    """An appliance of which is known what a test says."""

    def __init__(self) -> None:
        self.snapshot, self.told = snapshot(), story()
        self.now = lambda: NOW

    async def look(self) -> tuple[Snapshot, Verdict]:
        return self.snapshot, judge(self.snapshot)

    async def story(self, message: str) -> Story | None:
        return dataclasses.replace(self.told, message=message)


class Shown:
    """A server in a thread that shows :attr:`stage` at :attr:`url`."""

    def __init__(self, *, show_addresses: bool = False, password: str = "", hosts: Sequence[str] = ()) -> None:
        self.stage = Stage()
        self.url = ""
        self._arguments = (show_addresses, password, hosts)
        self._ready, self._stop = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="shown")

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        show_addresses, password, hosts = self._arguments
        site = Site(self.stage, Pages(PORTS), View.of(show_addresses=show_addresses))
        door = Door(site.published(Guard(password, time.monotonic), Names(hosts)))
        port = free_port()
        await door.open("127.0.0.1", port)
        self.url = f"http://127.0.0.1:{port}"
        self._ready.set()
        await self._stop.wait()
        await door.close()

    def __enter__(self) -> Shown:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
