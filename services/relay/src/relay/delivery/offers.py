"""Keeps the :class:`~relay.choice.offer.Offer` that the spool's claim chooses by: who has room, who is paused, for how
long.

The offer is an immutable value, replaced whenever something changes; the spool reads :attr:`Offers.current` in its own
thread. Promises: a pause is in the offer before the outcome that began it is recorded; what opens (room after there
was little, the end of a pause) is told to the spool once; of a provider that is being probed, or of a sender
that is, one message at a time is in hand.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from relay.choice.offer import Closed, Offer, Terms
from relay.choice.routes import Routes
from relay.clock import Clock
from relay.delivery.breaker import Breaker, reset_in
from relay.delivery.judging import Said
from relay.delivery.lane import Lane
from relay.delivery.onward import asked, senders
from relay.delivery.pause import ALL, Pause, Sign
from relay.delivery.probe import Readiness
from relay.model import Job, Message
from relay.providers.provider import Provider
from relay.providers.rules import Standing

Pair = tuple[str, str]  # provider, sender address or domain
LOOK_AGAIN = 60.0  # longest sleep before a look at the pauses: the machine may have been suspended meanwhile
PROBING = "is being tried again with one message"


class Journal(Protocol):
    """What is needed of the journal."""

    def system(self, event: str, **fields: str | int | float) -> None: ...


class Offers:
    """One breaker a provider, and the offer that follows from them and from the lanes."""

    def __init__(
        self,
        providers: Sequence[Provider],
        *,
        routes: Routes,
        high: Callable[[], frozenset[str]],
        clock: Clock,
        journal: Journal,
        jitter: Callable[[], float],
        poke: Callable[[], None],
        breaker: Callable[[], Breaker] = Breaker,
    ) -> None:
        self.providers: Mapping[str, Provider] = {one.name: one for one in providers}
        self.breakers: Mapping[str, Breaker] = {name: breaker() for name in self.providers}
        self._terms: Mapping[str, Terms] = {one.name: one.terms for one in providers}
        self._routes, self._high = routes, high
        self._clock, self._journal, self._jitter, self._poke = clock, journal, jitter, poke
        self._lanes: Mapping[str, Lane] = {}
        self._smtputf8 = {one.name: one.captured is not None for one in providers}
        self._probes: dict[int, list[Pair]] = {}  # first delivery of a probing job -> what it asks about
        self._room: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.current = Offer(self._terms, routes, {}, high=high())

    def open(self, lanes: Mapping[str, Lane]) -> None:
        """Begin to offer what ``lanes`` have room for."""
        self._lanes = lanes
        self.look()

    def close(self) -> None:
        """Look at nothing any more."""
        self._lanes = {}
        if self._timer is not None:
            self._timer.cancel()

    # --- the offer
    def look(self) -> None:
        """Bring the offer up to date; tell the spool, and who waits for room, when something opened."""
        now = self._clock.monotonic()
        for name, breaker in self.breakers.items():
            if not breaker.quiet:
                self._tell_ends(name, breaker.lapse(now))
        before, self.current = self.current, self._offer()
        if _opened(before, self.current):
            self._poke()
        if self._room is not None and not self._room.done() and any(self.current.rooms.values()):
            self._room.set_result(None)

    async def room(self) -> None:
        """Wait until there is room for a claim, and make the offer that it chooses by."""
        self.look()
        while not any(self.current.rooms.values()):
            self._room = asyncio.get_running_loop().create_future()
            try:
                await self._room
            finally:
                self._room = None

    def _offer(self) -> Offer:
        now, asking = self._clock.monotonic(), self._asking()
        rooms: dict[str, int] = {}
        closed: dict[str, Closed] = {}
        closed_for: dict[Pair, Closed] = {}
        rooms_for: dict[Pair, int] = {}
        patient: list[str] = []
        for name, lane in self._lanes.items():
            room = lane.room
            for pause in self._running(name):
                title, left, pair = self.title(name), pause.left(now), (name, pause.sender)
                if pause.sender == ALL:
                    probing = lane.in_hand > 0
                    room = 0 if left or probing else min(room, 1)
                else:
                    probing = pair in asking
                if left or probing:
                    until = self._clock.time() + left if left else math.inf
                    shut = Closed(until, _reason(title, pause, left), probed=not left and pause.sender != ALL)
                    closed.update({name: shut} if pause.sender == ALL else {})
                    closed_for.update({} if pause.sender == ALL else {pair: shut})
                elif pause.sender != ALL:
                    rooms_for[pair] = 1
            if self.breakers[name].pause() is None:
                patient.append(name)
            rooms[name] = room
            lane.alert = not room or bool(rooms_for) or bool(self._probes)
        self._arrange(now)
        return Offer(self._terms, self._routes, rooms, closed, closed_for, rooms_for, self._high(), frozenset(patient))

    def _running(self, name: str) -> Iterator[Pause] | tuple[()]:
        breaker = self.breakers[name]
        return () if breaker.quiet else iter(breaker)

    def _arrange(self, now: float) -> None:
        """See to it that the end of the next pause is noticed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        pauses = [pause for name in self._lanes for pause in self._running(name)]
        waits = [pause.left(now) or LOOK_AGAIN for pause in pauses if pause.left(now) or pause.sender != ALL]
        if waits:
            self._timer = asyncio.get_running_loop().call_later(min(*waits, LOOK_AGAIN), self.look)

    # --- what lanes took and did
    def taken(self, job: Job) -> bool:
        """Whether ``job``, just claimed, may go to its lane: its provider may have been paused in the meantime."""
        name, breaker = job.provider, self.breakers[job.provider]
        if breaker.quiet:
            return True
        now, whole, asking = self._clock.monotonic(), breaker.pause(), self._asking()
        if whole is not None and (whole.left(now) or self._lanes[name].in_hand):
            return False
        parts = [pause for who in senders(job.message) if (pause := breaker.pause(who)) is not None]
        if any(pause.left(now) or (name, pause.sender) in asking for pause in parts):
            return False
        if parts:
            self._probes[job.recipients[0].delivery] = [(name, pause.sender) for pause in parts]
        return True

    def _asking(self) -> set[Pair]:
        """Senders that are being probed, each at its provider."""
        return {pair for pairs in self._probes.values() for pair in pairs}

    def probed(self, provider: str) -> bool:
        """Whether a pause for everyone is over there, and what is under way finds out if it goes on."""
        pause = self.breakers[provider].pause()
        return pause is not None and not pause.left(self._clock.monotonic())

    def done(self, job: Job) -> None:
        """``job`` is recorded or was given back."""
        if self._probes and self._probes.pop(job.recipients[0].delivery, None) is not None:
            self.look()

    def said(self, provider: str, message: Message, what: Said) -> list[Pause]:
        """Take into account what an attempt said of ``provider``. The pauses that begin by it."""
        breaker = self.breakers[provider]
        if what.crowded and provider in self._lanes:
            self._lanes[provider].fewer()
        if what.sign is not None:
            return self._failed(provider, what.sign)
        if not breaker.quiet and what.reached:
            sender = asked(message).sender
            self._ended(provider, breaker.reached(self._clock.monotonic(), took=what.took, sender=sender))
        return []

    def _failed(self, provider: str, sign: Sign) -> list[Pause]:
        reset = reset_in(self.providers[provider].quotas, self._clock.time())
        begun = self.breakers[provider].failed(sign, self._clock.monotonic(), self._jitter(), reset)
        if begun is None:
            return []
        self._tell("provider_paused", provider, begun)
        self.look()
        return [begun]

    # --- what providers say of themselves
    def greeted(self, provider: str, *, smtputf8: bool) -> None:
        """What a provider's last EHLO said; until the first, which the probe hears at the start, it offers nothing."""
        self._smtputf8[provider] = smtputf8

    def smtputf8(self) -> bool:
        """Whether all of them take addresses and headers beyond ASCII (RFC 6531)."""
        return all(self._smtputf8.values())

    # --- what looks without a message found
    def retried(self, message: Message) -> None:
        """Somebody had ``message`` tried again: what providers said of its sender is asked anew by the next message
        from there. Whoever has just set it up need not wait for the pause to end.
        """
        sender, now = asked(message).sender, self._clock.monotonic()
        ended = [name for name, breaker in self.breakers.items() if breaker.senders.try_now(sender, now)]
        if ended:
            self.look()

    def unprobed(self) -> list[str]:
        """Providers whose pause is over and that no message probes. One with a dead key is none of them, unless there
        is no login: a wrong password that is offered again and again gets an account locked.
        """
        return [
            name
            for name, one in self.providers.items()
            if self._unprobed(name, Standing.KEY_DEAD if one.username else None)
        ]

    def looked(self, found: Readiness) -> None:
        """Take into account what was found. A login that works ends the pause of a dead key; and while no message
        probes a provider whose pause is over, the look does, with the same ends.
        """
        name, breaker = found.provider, self.breakers[found.provider]
        if (smtputf8 := found.smtputf8) is not None:
            self.greeted(name, smtputf8=smtputf8)
        pause, unprobed = breaker.pause(), self._unprobed(found.provider)
        mended = found.key and pause is not None and pause.standing is Standing.KEY_DEAD
        if mended or (unprobed and found.ready):
            key = bool(found.key) if self.providers[name].username else None
            self._ended(name, breaker.found_ready(self._clock.monotonic(), key=key))
        elif unprobed:
            self._failed(name, Sign(standing=found.standing, reason=found.sentence))

    def _unprobed(self, name: str, but: Standing | None = None) -> bool:
        pause, lane = self.breakers[name].pause(), self._lanes.get(name)
        if pause is None or pause.left(self._clock.monotonic()) or pause.standing is but:
            return False
        return lane is None or lane.in_hand == 0

    def _ended(self, provider: str, pauses: Sequence[Pause]) -> None:
        self._tell_ends(provider, pauses)
        if pauses:
            self.look()

    def _tell_ends(self, provider: str, pauses: Sequence[Pause]) -> None:
        for pause in pauses:
            self._tell("provider_resumed", provider, pause)

    def _tell(self, event: str, provider: str, pause: Pause) -> None:
        until = self._clock.time() + pause.left(self._clock.monotonic())
        self._journal.system(
            event,
            provider=provider,
            sender=pause.sender,
            standing=str(pause.standing),
            reason=pause.reason,
            until=round(until, 3),
        )

    def title(self, name: str) -> str:
        """The provider as people call it; its name where it is not configured any more."""
        provider = self.providers.get(name)
        return provider.title or name if provider is not None else name


def _opened(before: Offer, now: Offer) -> bool:
    """Whether something may be claimed now that could not be before."""
    if any(room and not before.rooms.get(name) for name, room in now.rooms.items()):
        return True
    if before.high != now.high:  # who may use the reserve
        return True
    return any(pair not in now.closed_for for pair in before.closed_for)


def _reason(title: str, pause: Pause, left: float) -> str:
    """Why a provider takes nothing, as a part of a sentence."""
    if not left:
        return f"{title} {PROBING}"
    match pause.standing:
        case Standing.USED_UP:
            return f"{title}'s quota is used up"
        case Standing.KEY_DEAD:
            return f"{title} refused the login: {pause.reason}"
        case Standing.NOT_SET_UP:
            return f"{pause.sender} is not set up at {title}: {pause.reason}"
        case _:
            return f"{title} is in trouble: {pause.reason}"
