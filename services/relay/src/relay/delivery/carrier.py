"""Keeps one connection to the provider and carries jobs over it, one after the other.

A connection is reused while it works, is not too old and has carried fewer messages than the provider allows. One that
is found dead, or spent by a limit of the provider's that we do not know, is replaced at once, and the message goes over
the fresh one: providers close idle connections without a word, and that says nothing about the message. Where a port
cannot be connected to, or not securely, the provider's next one is tried at once: many networks block some of them
outward.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import aiosmtplib

from relay import limits
from relay.delivery.connection import Offer, Opener, Times
from relay.delivery.failures import Cut
from relay.delivery.login import NoLogin
from relay.delivery.outcome import Finding
from relay.delivery.replies import Link
from relay.delivery.transaction import Source, Stale, Transaction
from relay.model import Job
from relay.providers.provider import Provider, Tls
from relay.providers.rules import Stage
from relay.spool import SpoolFailed

if TYPE_CHECKING:
    from relay.oauth.tokens import Tokens


class Carrier(Protocol):
    """What a lane asks of one of its hands."""

    async def carry(self, job: Job) -> list[Finding]:
        """Tries the job once. One finding per recipient; exceptions are only the spool's."""
        ...

    def cut(self) -> None:
        """Ends what is going on at once: shutdown has waited long enough."""
        ...

    async def close(self) -> None:
        """Takes leave of the provider."""
        ...


class Greeted(Protocol):
    """Who wants to know what a provider's EHLO said."""

    def __call__(self, provider: str, *, smtputf8: bool) -> None: ...


class Ports:
    """The ports of one provider, that which worked last first. Its carriers share it."""

    def __init__(self, ports: Sequence[tuple[int, Tls]]) -> None:
        self._ports = list(ports)

    @property
    def first(self) -> int:
        """The port that is in use, or tried first; 0 if there is none."""
        return self._ports[0][0] if self._ports else 0

    def order(self) -> list[tuple[int, Tls]]:
        """As they are to be tried."""
        return list(self._ports)

    def worked(self, port: tuple[int, Tls]) -> None:
        """``port`` led to a connection."""
        if self._ports[0] != port:
            self._ports.remove(port)
            self._ports.insert(0, port)


class SmtpCarrier:
    """A carrier over SMTP."""

    def __init__(
        self,
        provider: Provider,
        source: Source,
        hostname: str,
        times: Times,
        *,
        ports: Ports | None = None,
        tokens: Tokens | None = None,
        greeted: Greeted,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._provider = provider
        self._messages = provider.messages_per_connection
        self._source = source
        self._hostname = hostname
        self._times = times
        self._ports = ports or Ports(provider.ports)
        self._tokens, self._greeted = tokens, greeted
        self._now = now
        self._ends = 0.0  # of the connection, by ``now``
        self._link: Link | None = None
        self._offer: Offer | None = None
        self._opening: asyncio.Future[tuple[Link, Offer]] | None = None
        self._cut = False

    async def carry(self, job: Job) -> list[Finding]:
        """See :class:`Carrier`."""
        while True:
            link, offer = self._link, self._offer
            if link is None or offer is None or not self._fit(link):
                failed = await self._open()
                if failed is not None:
                    return [failed] * len(job.recipients)
                continue
            transaction = Transaction(link, offer, self._provider, self._source, self._times, job)
            try:
                return await transaction.run()
            except Stale:  # at most once: a fresh connection never is
                await self.close()
            except SpoolFailed:
                raise
            except Exception as error:  # a body that cannot be read, or our bug: it must not take the others with it
                link.fail(error)
                return [Finding(Stage.FINAL if transaction.dotted else Stage.BODY, error)] * len(job.recipients)
            finally:
                link.messages += 1

    def _fit(self, link: Link) -> bool:
        return link.usable and link.messages < self._messages and self._now() < self._ends

    async def _open(self) -> Finding | None:
        """A fresh connection in place of the old; a finding if there is none to be had through any port."""
        await self.close()
        ports, found = self._ports.order(), list[Finding]()
        for port in ports:
            last = port is ports[-1]
            seconds = self._times.connect if last else min(self._times.connect, limits.PORT_TIME)
            finding = await self._open_at(port, seconds)
            if finding is None:
                self._ports.worked(port)
                return None
            found.append(finding)
            if not _of_the_port(finding):
                break
        # what came furthest tells most: a port that is shut says nothing about one whose certificate is wrong
        return max(found, key=lambda one: _FAR.index(one.stage))

    async def _open_at(self, port: tuple[int, Tls], seconds: float) -> Finding | None:
        if self._was_cut():
            return Finding(Stage.CONNECT, Cut())
        opener = Opener(self._provider, self._hostname, self._times, to=port, tokens=self._tokens)
        self._opening = asyncio.ensure_future(opener.open(seconds))
        try:
            self._link, self._offer = await self._opening
        except asyncio.CancelledError:
            if not self._was_cut():
                raise
            return Finding(opener.stage, Cut())
        except Exception as error:  # every class of it is judged: outcome.judge
            return Finding(opener.stage, error)
        finally:
            self._opening = None
        self._greeted(self._provider.name, smtputf8=self._offer.smtputf8)
        self._ends = self._now() + self._provider.seconds_per_connection
        return None

    def _was_cut(self) -> bool:
        return self._cut

    def cut(self) -> None:
        """See :class:`Carrier`. What had its final dot written ends in doubt, anything else as if not begun."""
        self._cut = True
        if self._opening is not None:
            self._opening.cancel()
        if self._link is not None:
            self._link.fail(Cut())

    async def close(self) -> None:
        """See :class:`Carrier`."""
        link, self._link = self._link, None
        if link is not None:
            await link.quit(self._times.quit)


_FAR = (Stage.CONNECT, Stage.TLS, Stage.LOGIN)


def _of_the_port(finding: Finding) -> bool:
    """Whether another port may do better: not if the provider itself has answered, or was told the password."""
    if isinstance(finding.answer, Cut) or finding.stage is Stage.LOGIN:
        return isinstance(finding.answer, NoLogin)
    spoke = isinstance(finding.answer, aiosmtplib.SMTPResponseException) and finding.answer.code > 0
    return finding.stage is Stage.TLS or not spoke
