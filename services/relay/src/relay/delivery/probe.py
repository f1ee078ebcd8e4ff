"""The readiness probe: would each provider take mail now? Every port is reached, secured and greeted, we log in, and
nothing is sent.

Promises:

- what was found are values (:class:`Readiness`); no provider, however broken, makes a look raise or last longer than
  :data:`LONGEST` seconds; all providers and all their ports are asked at once;
- logins to one provider go one after the other, and one refusal ends them: a wrong password that is offered at four
  ports every hour is what providers lock accounts for;
- whoever asks while a provider is being looked at gets that look's result;
- what was found is told to delivery: it ends the pause of a key that was taken for dead, and it stands for the message
  that would end another pause where none comes; such a provider is looked at soon.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import aiosmtplib

from relay import limits
from relay.clock import Clock
from relay.delivery.connection import Opener, Times
from relay.delivery.login import log_in
from relay.delivery.outcome import Finding, judge
from relay.oauth.tokens import Tokens
from relay.providers.provider import Provider, Tls
from relay.providers.rules import Stage, Standing

EVERY = 1 * limits.HOUR
SOON = 1 * limits.MINUTE  # for a provider whose pause is over and that no message probes
REACH_TIME = 10.0  # seconds for connection, TLS and greeting of one port
LOGIN_TIME = 10.0  # seconds for one login
LOGINS_TIME = 25.0  # seconds since the look began after which no further login is begun
LEAVE_TIME = 1.0  # QUIT is courtesy
LONGEST = LOGINS_TIME + LOGIN_TIME + LEAVE_TIME
_TIMES = Times(connect=REACH_TIME, reply=LOGIN_TIME)
NOT_TRIED = "The login was not tried again here."

Login = Callable[[Opener, Provider], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PortLook:
    """One port. ``sentence`` is what stands in the way, the provider's words or ours; empty when nothing does."""

    port: int
    tls: Tls
    open: bool  # it could be reached, secured and greeted
    login: bool | None  # None: not tried, or there is none
    sentence: str = ""
    standing: Standing = Standing.FINE
    smtputf8: bool | None = None  # whether its EHLO offered that; None: there was none

    @property
    def ok(self) -> bool:
        """Whether mail could be brought there."""
        return self.open and not self.sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """One provider, as it was at ``at`` (Unix seconds)."""

    provider: str
    at: float
    ports: tuple[PortLook, ...] = ()  # none: it writes files

    @property
    def ready(self) -> bool:
        """Whether one port at least takes us."""
        return not self.ports or any(one.ok for one in self.ports)

    @property
    def key(self) -> bool | None:
        """Whether our login is taken; None where that could not be learned, or there is none."""
        if any(one.login for one in self.ports):
            return True
        return False if any(one.standing is Standing.KEY_DEAD for one in self.ports) else None

    @property
    def smtputf8(self) -> bool | None:
        """Whether it offers SMTPUTF8 at every port that was greeted; None where that could not be learned."""
        offered = [one.smtputf8 for one in self.ports if one.smtputf8 is not None]
        return all(offered) if offered else None

    @property
    def sentence(self) -> str:
        """Why it is not ready: the port that came farthest says so. Empty when it is."""
        return "" if self.ready else self._farthest.sentence

    @property
    def standing(self) -> Standing:
        """What that port's answer says of the provider as a whole: busy, if nothing else is known to be wrong."""
        if self.ready:
            return Standing.FINE
        said = self._farthest.standing
        return said if said in (Standing.KEY_DEAD, Standing.USED_UP) else Standing.BUSY

    @property
    def _farthest(self) -> PortLook:
        told = [one for one in self.ports if one.sentence != NOT_TRIED]
        return max(told, key=lambda one: (one.login is False, one.open))


class Journal(Protocol):
    """Where changes are told."""

    def system(self, event: str, **fields: Any) -> None: ...


def login_of(tokens: Mapping[str, Tokens]) -> Login:
    """How to log in: by the tokens of a provider that has some (by name), else by name and password."""

    async def login(opener: Opener, provider: Provider) -> None:
        await log_in(opener, provider, tokens.get(provider.name))

    return login


class Prober:
    """Looks at the providers every hour, and when somebody asks.

    ``login`` logs in on a connection that was greeted and raises what that raises; ``looked`` hears what was found;
    ``unprobed`` names the providers that only a look can tell of now.
    """

    def __init__(
        self,
        providers: Sequence[Provider],
        *,
        hostname: str,
        clock: Clock,
        journal: Journal,
        looked: Callable[[Readiness], None],
        unprobed: Callable[[], Iterable[str]],
        login: Login,
    ) -> None:
        self._providers = {one.name: one for one in providers}
        self._hostname, self._clock, self._journal = hostname, clock, journal
        self._looked, self._unprobed, self._login = looked, unprobed, login
        self._running: dict[str, asyncio.Task[Readiness]] = {}
        self.last: dict[str, Readiness] = {}

    async def run(self, stop: asyncio.Event, every: float = EVERY, soon: float = SOON) -> None:
        """Looks at once and then every so many seconds, at those that no message probes every ``soon`` seconds, until
        ``stop`` is set.
        """
        working = asyncio.ensure_future(self._work(every, soon))
        stopping = asyncio.ensure_future(stop.wait())
        try:
            await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                await working
        finally:
            ending = [working, stopping, *self._running.values()]
            for task in ending:
                task.cancel()
            await asyncio.wait(ending)

    async def _work(self, every: float, soon: float) -> None:
        now = asyncio.get_running_loop().time
        while True:
            await self.look()
            end = now() + every
            while (left := end - now()) > 0:
                await asyncio.sleep(min(left, soon))
                await asyncio.gather(*(self.look(name) for name in self._unprobed()))

    async def look(self, name: str = "") -> Mapping[str, Readiness]:
        """Looks at the provider ``name``, or at all of them. Raises KeyError for a name that is none."""
        names = [self._providers[name].name] if name else list(self._providers)
        found = await asyncio.gather(*(asyncio.shield(self._task(one)) for one in names))
        return dict(zip(names, found, strict=True))

    def _task(self, name: str) -> asyncio.Task[Readiness]:
        task = self._running.get(name)
        if task is None:
            task = self._running[name] = asyncio.create_task(self._one(self._providers[name]))
            task.add_done_callback(lambda _: self._running.pop(name))
        return task

    async def _one(self, provider: Provider) -> Readiness:
        key = _Key(self._login, provider, asyncio.get_running_loop().time() + LOGINS_TIME)
        ports = () if provider.captured is not None else provider.ports
        looks = await asyncio.gather(*(_look(provider, port, tls, self._hostname, key) for port, tls in ports))
        found = Readiness(provider=provider.name, at=self._clock.time(), ports=tuple(looks))
        before, self.last[provider.name] = self.last.get(provider.name), found
        self._looked(found)
        if before is None or (before.ready, before.sentence) != (found.ready, found.sentence):
            self._tell(found)
        return found

    def _tell(self, found: Readiness) -> None:
        if found.ready:
            self._journal.system("provider_ready", provider=found.provider)
        else:
            self._journal.system("provider_not_ready", provider=found.provider, reason=found.sentence)


class _Key:
    """One provider's login, offered at one port after the other until it is refused."""

    def __init__(self, login: Login, provider: Provider, until: float) -> None:
        self._login, self._provider, self._until = login, provider, until
        self._lock = asyncio.Lock()
        self._over = False

    async def try_on(self, opener: Opener) -> bool | None:
        """True: taken; None: not tried. Raises what the login raises."""
        if not self._provider.username:
            return None
        async with self._lock:
            if self._over or asyncio.get_running_loop().time() > self._until:
                return None
            opener.stage = Stage.LOGIN
            try:
                async with asyncio.timeout(LOGIN_TIME):
                    await self._login(opener, self._provider)
            except aiosmtplib.SMTPNotSupported:  # this port's matter
                raise
            except Exception:
                self._over = True
                raise
            return True


async def _look(provider: Provider, port: int, tls: Tls, hostname: str, key: _Key) -> PortLook:
    """Never raises: what goes wrong is what was found."""
    opener = Opener(provider, hostname, _TIMES, to=(port, tls))
    reached, smtputf8 = False, None
    try:
        await opener.reach(REACH_TIME)
        reached, smtputf8 = True, opener.supports_extension("smtputf8")
        login = await key.try_on(opener)
        with contextlib.suppress(Exception):
            await opener.quit(timeout=LEAVE_TIME)
    except Exception as error:
        verdict = judge(Finding(opener.stage, error), provider.rules)
        said = " ".join(filter(None, (str(verdict.outcome.code or ""), verdict.outcome.text)))
        login = False if reached else None
        standing = verdict.standing
        return PortLook(
            port=port, tls=tls, open=reached, login=login, sentence=said, standing=standing, smtputf8=smtputf8
        )
    finally:
        opener.close()
    missed = NOT_TRIED if login is None and provider.username else ""
    return PortLook(port=port, tls=tls, open=True, login=login, sentence=missed, smtputf8=smtputf8)
