"""How many connections to a provider are in use at a time."""

from __future__ import annotations

import asyncio

from relay import limits
from relay.delivery.lane import Lane
from relay.delivery.outcome import Finding, Reply
from relay.model import Job, Message, Recipient
from relay.providers.provider import Provider
from relay.providers.rules import Stage
from support.reception import until


class Held:
    """Carriers that have a job in hand until it is let go."""

    def __init__(self) -> None:
        self.under_way: list[asyncio.Event] = []
        self.closed = 0

    async def carry(self, job: Job) -> list[Finding]:
        event = asyncio.Event()
        self.under_way.append(event)
        await event.wait()
        self.under_way.remove(event)
        return [Finding(Stage.FINAL, Reply(250, "ok"))]

    def cut(self) -> None:
        for event in self.under_way:
            event.set()

    async def close(self) -> None:
        self.closed += 1


def job(number: int) -> Job:
    message = Message(f"{number}", "anna", "anna@example.org", (), size=1, received_at=0.0, message_id="")
    return Job(message=message, recipients=(Recipient(number, "bob@example.net", 0, 0),), body=b"", chunks=1)


async def test_a_provider_that_calls_our_connections_too_many_gets_fewer_and_later_more() -> None:
    held, now, done = Held(), [0.0], list[int]()

    async def settle(one: Job, findings: list[Finding], seconds: float) -> None:
        done.append(one.recipients[0].delivery)

    def failed(error: BaseException) -> None:
        raise error

    provider = Provider(name="p", host="h", ports=(), connections=3)
    lane = Lane(provider, carrier=lambda: held, settle=settle, now=lambda: now[0], failed=failed, stirred=lambda: None)
    lane.put([job(number) for number in range(9)])
    await until(lambda: len(held.under_way) == 3, "three at work")
    lane.fewer()
    held.under_way[0].set()
    await until(lambda: held.closed == 1, "one to go")
    assert len(held.under_way) == 2, "and no third takes the place of that which went"
    for _ in range(5):
        lane.fewer()
    assert lane.connections == 1
    held.cut()
    await until(lambda: len(done) == 3 and len(held.under_way) == 1, "one to be left")
    for most in (2, 3, 3):
        now[0] += limits.CONNECTION_BACK
        assert lane.connections == most
    lane.put([job(number) for number in range(10, 14)])
    await until(lambda: len(held.under_way) == 3, "three again")
    await lane.close(0.0)


async def test_a_connection_that_is_idle_is_given_up_first() -> None:
    held = Held()

    async def settle(one: Job, findings: list[Finding], seconds: float) -> None: ...

    lane = Lane(
        Provider(name="p", host="h", ports=(), connections=2),
        carrier=lambda: held,
        settle=settle,
        now=lambda: 0.0,
        failed=lambda error: None,
        stirred=lambda: None,
    )
    lane.put([job(1), job(2)])
    await until(lambda: len(held.under_way) == 2, "two at work")
    held.under_way[0].set()
    await until(lambda: lane.in_hand == 1, "one to be idle")
    lane.fewer()
    await until(lambda: held.closed == 1, "the idle one to go")
    assert len(held.under_way) == 1
    await lane.close(0.0)
