"""The spool's face for operators: what they may do to mail that waits or has failed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from relay.clock import Clock
from relay.model import Event, EventKind, Message
from relay.spool.changes import Change, Numbers
from relay.spool.verbs import Retried, delay_noticed, retry, verb

Notice = tuple[Message, bytes, Sequence[Event]]


class Steering:
    """Verbs of operators. A base of :class:`relay.spool.Spool`."""

    _numbers: Numbers
    _clock: Clock

    def _submit(self, change: Change) -> asyncio.Future[Any]:
        raise NotImplementedError

    async def delay_noticed(
        self, deliveries: Sequence[int], notice: Notice | None = None, events: Sequence[Event] = ()
    ) -> None:
        """Note that somebody is told of these deliveries' delay, by ``notice``, which rides in the same commit."""
        await self._submit(delay_noticed(self._numbers, deliveries, notice, events, self._clock.time()))

    async def retry(self, message_id: str, *, anyway: bool = False) -> Retried:
        """Make due what waits, is held, or failed of a message, through any provider. What failed has five days from
        now. What may have arrived already is tried ``anyway`` only.
        """
        retried: Retried = await self._submit(retry(self._numbers, message_id, self._clock.time(), anyway=anyway))
        return retried

    async def hold(self, message_id: str = "", account: str = "") -> int:
        """Keep a message's, or an account's, waiting deliveries back until :meth:`unhold`; what is in hand goes on.

        Returns, as the others below, how many were changed.
        """
        return await self._verb(EventKind.HELD, message_id=message_id, account=account)

    async def unhold(self, message_id: str = "", account: str = "") -> int:
        """Let held deliveries go, due now; the time they were held does not count as age."""
        return await self._verb(EventKind.RELEASED, message_id=message_id, account=account)

    async def drop(self, message_id: str) -> int:
        """Take a message's waiting or held deliveries out, for good."""
        return await self._verb(EventKind.DROPPED, message_id=message_id)

    async def acknowledge(self, message_id: str) -> int:
        """Note that somebody has seen that these deliveries failed: they leave the queue's list, and the body goes."""
        return await self._verb(EventKind.ACKNOWLEDGED, message_id=message_id)

    async def _verb(self, kind: EventKind, *, message_id: str = "", account: str = "") -> int:
        change = verb(kind, self._numbers, self._clock.time(), message_id=message_id, account=account)
        changed: int = await self._submit(change)
        return changed
