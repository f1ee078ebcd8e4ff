"""Providers without sockets: what each does with one message after the other is a list, and what really happened is
written down, so that what delivery says can be compared with it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiosmtplib

from relay.delivery.failures import OwnRefusal
from relay.delivery.outcome import Finding, Reply
from relay.delivery.transaction import Source
from relay.model import Job
from relay.providers.provider import Provider
from relay.providers.rules import Stage
from support.memory_spool import FakeClock


@dataclass(frozen=True)
class Deed:
    """What a provider does with one message: where it speaks, what it says (None: the connection breaks), and whether
    it keeps the message all the same.
    """

    stage: Stage
    says: tuple[int, str] | BaseException
    keeps: bool = False
    first_only: bool = False  # to the first recipient; the others it takes

    def __str__(self) -> str:
        return f"{self.stage}:{self.says}:{self.keeps}:{self.first_only}"


TAKES = Deed(Stage.FINAL, (250, "2.0.0 queued"), keeps=True)
NEVER = Deed(Stage.MAIL, OwnRefusal("it does not take such addresses"))  # this message, whatever the provider's state
LOST = ConnectionResetError("the provider closed the connection")


def _login(code: int, text: str) -> Deed:
    return Deed(Stage.LOGIN, aiosmtplib.SMTPAuthenticationError(code, text))


# The provider's own matter, so no message may end by them.
FAULTS: tuple[Deed, ...] = (
    _login(451, "Authentication failed: Maximum credits exceeded"),
    _login(535, "5.7.8 key revoked"),
    _login(454, "4.7.0 later"),
    Deed(Stage.CONNECT, TimeoutError()),
    Deed(Stage.CONNECT, aiosmtplib.SMTPConnectResponseError(421, "4.3.2 not now")),
    Deed(Stage.TLS, LOST),
    Deed(Stage.MAIL, (421, "4.3.2 closing")),
    Deed(Stage.MAIL, (451, "4.3.0 later")),
    Deed(Stage.MAIL, (452, "4.5.3 Daily message limit exceeded")),
    Deed(Stage.MAIL, (550, "5.7.1 Maximum credits exceeded")),
    Deed(Stage.MAIL, (530, "5.7.0 Authentication required")),
    Deed(Stage.MAIL, LOST),
    Deed(Stage.RCPT, (450, "4.2.0 greylisted")),
    Deed(Stage.RCPT, (450, "4.2.0 greylisted"), keeps=True, first_only=True),
    Deed(Stage.RCPT, (452, "4.5.3 too many recipients"), keeps=True, first_only=True),
    Deed(Stage.RCPT, (452, "4.5.3 too many recipients")),
    Deed(Stage.RCPT, LOST),
    Deed(Stage.DATA, (554, "5.5.1 no")),
    Deed(Stage.BODY, LOST),
    Deed(Stage.BODY, TimeoutError()),
    Deed(Stage.FINAL, (451, "4.3.0 later")),
    Deed(Stage.FINAL, (421, "4.3.2 closing")),
    Deed(Stage.FINAL, (550, "5.4.5 Maximum credits exceeded")),
    Deed(Stage.FINAL, (550, "The from address does not match a verified Sender Identity.")),
    Deed(Stage.FINAL, (550, "5.4.5 Daily user sending quota exceeded")),
    # what the rules of the property test's providers do not know
    Deed(Stage.RCPT, (554, "5.7.1 Relay access denied"), keeps=True, first_only=True),
    Deed(Stage.RCPT, (553, "5.7.1 Sender address rejected: not owned by user bob")),
    Deed(Stage.FINAL, (554, "Message rejected: Sending paused for this account.")),
    Deed(Stage.FINAL, (550, "Credits exhausted")),
    Deed(Stage.FINAL, (550, "You have reached your daily email sending limit.")),
    Deed(Stage.FINAL, (550, "The domain is not verified. Please, add and verify your domain")),
    Deed(Stage.FINAL, (551, "5.7.1 Not authorised to send from this header address")),
    NEVER,
)
DOUBTS: tuple[Deed, ...] = (
    Deed(Stage.FINAL, LOST, keeps=True),
    Deed(Stage.FINAL, LOST),
    Deed(Stage.FINAL, TimeoutError(), keeps=True),
    Deed(Stage.FINAL, (354, "what")),
)
REFUSALS: tuple[Deed, ...] = (
    Deed(Stage.FINAL, (550, "5.7.1 spam")),
    Deed(Stage.RCPT, (550, "5.1.1 unknown"), keeps=True, first_only=True),
    Deed(Stage.MAIL, (552, "5.3.4 too big")),
)


@dataclass
class Dot:
    """A message whose final dot a provider got, and that counts in its quota."""

    provider: str
    at: float
    recipients: tuple[int, ...]  # delivery numbers
    kept: bool


@dataclass
class World:
    """``scripts`` holds what each provider does with one message after the other, ``then`` what it does after that."""

    clock: FakeClock
    scripts: dict[str, list[Deed]]
    then: dict[str, Deed] = field(default_factory=dict)
    dots: list[Dot] = field(default_factory=list)
    refused: set[int] = field(default_factory=set)  # deliveries that were refused for their own sake
    never: dict[int, set[str]] = field(default_factory=dict)  # deliveries that these providers cannot carry
    in_hand: Counter[str] = field(default_factory=Counter)
    watch: Callable[[str, Job], None] = lambda _name, _job: None

    def next(self, provider: str) -> Deed:
        script = self.scripts.get(provider)
        return script.pop(0) if script else self.then.get(provider, TAKES)

    def carrier(self, provider: Provider, source: Source, *_: Any, **__: Any) -> WorldCarrier:
        """In the place of SmtpCarrier."""
        return WorldCarrier(self, provider, source)


class WorldCarrier:
    """Carries jobs to a provider of a :class:`World`."""

    def __init__(self, world: World, provider: Provider, source: Source) -> None:
        self._world, self._provider, self._source = world, provider, source

    async def carry(self, job: Job) -> list[Finding]:
        world, name = self._world, self._provider.name
        world.in_hand[name] += 1
        world.watch(name, job)
        deed = world.next(name)
        await asyncio.sleep(0)
        try:
            return await self._do(deed, job)
        finally:
            world.in_hand[name] -= 1

    async def _do(self, deed: Deed, job: Job) -> list[Finding]:
        world, name = self._world, self._provider.name
        numbers = [one.delivery for one in job.recipients]
        said = Finding(deed.stage, Reply(*deed.says) if isinstance(deed.says, tuple) else deed.says)
        hit = numbers[:1] if deed.first_only else numbers
        findings = [said if number in hit else Finding(Stage.FINAL, Reply(250, "ok")) for number in numbers]
        self._note(deed, hit)
        dotted = numbers if deed.stage is Stage.FINAL else [number for number in numbers if number not in hit]
        if dotted:
            await self._source.mark(dotted, name)
            await asyncio.sleep(0)
            consumed = [number for number in dotted if number not in hit or _consumes(deed)]
            if consumed:
                world.dots.append(Dot(name, world.clock.time(), tuple(consumed), deed.keeps))
        return findings

    def _note(self, deed: Deed, hit: Sequence[int]) -> None:
        if deed in REFUSALS:
            self._world.refused.update(hit)
        if isinstance(deed.says, OwnRefusal):
            for number in hit:
                self._world.never.setdefault(number, set()).add(self._provider.name)

    def cut(self) -> None:
        """Nothing hangs here."""

    async def close(self) -> None:
        """Nothing to close."""


def _consumes(deed: Deed) -> bool:
    return deed is TAKES or deed in DOUBTS
