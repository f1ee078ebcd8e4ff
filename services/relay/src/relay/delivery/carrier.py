"""Keeps one connection to the provider and carries jobs over it, one after the other.

A connection is reused while it works and has carried fewer messages than the provider allows. One that was found dead
before MAIL was answered is replaced at once: providers close idle connections without a word, and that says nothing
about the message.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from relay.delivery.connection import Offer, Opener, Times
from relay.delivery.failures import Cut
from relay.delivery.outcome import Finding
from relay.delivery.replies import Link
from relay.delivery.transaction import Source, Stale, Transaction
from relay.model import Job
from relay.providers.provider import Provider
from relay.providers.rules import Stage
from relay.spool import SpoolFailed


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


class SmtpCarrier:
    """A carrier over SMTP."""

    def __init__(self, provider: Provider, source: Source, hostname: str, times: Times) -> None:
        self._provider = provider
        self._messages = provider.messages_per_connection
        self._source = source
        self._hostname = hostname
        self._times = times
        self._link: Link | None = None
        self._offer: Offer | None = None
        self._opening: asyncio.Future[tuple[Link, Offer]] | None = None
        self._cut = False

    async def carry(self, job: Job) -> list[Finding]:
        """See :class:`Carrier`."""
        while True:
            link, offer = self._link, self._offer
            if link is None or offer is None or not link.usable or link.messages >= self._messages:
                failed = await self._open()
                if failed is not None:
                    return [failed] * len(job.recipients)
                continue
            transaction = Transaction(link, offer, self._provider, self._source, self._times, job)
            try:
                return await transaction.run()
            except Stale:
                continue
            except SpoolFailed:
                raise
            except Exception as error:  # a body that cannot be read, or our bug: it must not take the others with it
                link.fail(error)
                return [Finding(Stage.FINAL if transaction.dotted else Stage.BODY, error)] * len(job.recipients)
            finally:
                link.messages += 1

    async def _open(self) -> Finding | None:
        """A fresh connection in place of the old; a finding if there is none to be had."""
        await self.close()
        if self._was_cut():
            return Finding(Stage.CONNECT, Cut())
        opener = Opener(self._provider, self._hostname, self._times)
        self._opening = asyncio.ensure_future(opener.open(self._times))
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
