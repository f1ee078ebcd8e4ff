"""Which due deliveries are taken next: oldest first within an account, round robin between accounts.

An account with 10,000 waiting messages must not make another's single one wait behind them. So accounts take turns,
beginning after the one that was served last; each gets its share of the claim, and what some do not use goes to the
others.

Works inside the transaction of its caller.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import apsw

from relay import limits
from relay.model import Job, Recipient
from relay.spool import rows, schema
from relay.spool.schema import MASK, SHIFT

# A loose index scan: one seek per account, however many rows each has.
_ACCOUNTS: Final = """
WITH RECURSIVE one(account) AS (
    SELECT min(account) FROM delivery WHERE state = 'due'
    UNION ALL
    SELECT (SELECT min(d.account) FROM delivery d WHERE d.state = 'due' AND d.account > one.account)
    FROM one WHERE one.account IS NOT NULL
)
SELECT account, (SELECT min(d.next_attempt) FROM delivery d WHERE d.state = 'due' AND d.account = one.account)
FROM one WHERE account IS NOT NULL
"""
_OLDEST: Final = """
SELECT id FROM delivery WHERE state = 'due' AND account = ?1 AND next_attempt <= ?2 ORDER BY next_attempt, id LIMIT ?3
"""
_SEIZE: Final = f"""
UPDATE delivery SET state = 'claimed', changed_at = ?2 WHERE id IN (
    SELECT d.id FROM carray(?1) AS k CROSS JOIN delivery AS d
    WHERE d.id BETWEEN k.value << {SHIFT} AND (k.value << {SHIFT} | {MASK}) AND +d.state = 'due' AND d.next_attempt <=
    ?2
) RETURNING id, recipient, attempts, doubts, held, provider
"""
_RECIPIENTS: Final = f"""
SELECT d.id, d.recipient, d.attempts, d.doubts, d.held, d.provider FROM carray(?1) AS k CROSS JOIN delivery AS d
WHERE d.id BETWEEN k.value << {SHIFT} AND (k.value << {SHIFT} | {MASK}) AND +d.state = 'sending'
"""
_MESSAGES: Final = f"""
SELECT {rows.MESSAGE_OF_M}, c.data FROM carray(?1) AS k CROSS JOIN message AS m ON m.key = k.value
LEFT JOIN chunk AS c ON c.id = m.key << {SHIFT} AND m.chunks = 1 AND m.size <= {limits.INLINE}
"""


class Claims:
    """Takes due deliveries; remembers whose turn it is."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._run: Callable[..., Any] = connection.execute
        self._served = ""

    def next_due(self) -> float:
        """When the next delivery is due; infinity if none waits."""
        return min((at for _, at in self._run(_ACCOUNTS)), default=math.inf)

    def take(self, limit: int, now: float) -> list[Job]:
        """Claim up to ``limit`` messages with all their deliveries due at ``now``.

        A message whose deliveries are tied to different providers makes one job for each.
        """
        ready = sorted(account for account, at in self._run(_ACCOUNTS) if at <= now)
        if not ready:
            return []
        turn = next((n for n, account in enumerate(ready) if account > self._served), 0)
        keys = self._choose(ready[turn:] + ready[:turn], limit, now)
        return self._jobs(keys, self._run(_SEIZE, (schema.numbers(keys), now)).fetchall())

    def stuck(self, keys: list[int]) -> list[Job]:
        """Jobs for those deliveries of these messages that are still ``sending``: recovery leaves them to be ended."""
        return self._jobs(keys, self._run(_RECIPIENTS, (schema.numbers(keys),)).fetchall()) if keys else []

    def _choose(self, accounts: list[str], limit: int, now: float) -> list[int]:
        share = max(1, limit // len(accounts))
        keys: dict[int, None] = {}  # in the order of their turn, each once
        hungry = []
        for account in accounts:
            if len(keys) >= limit:
                break
            got = self._run(_OLDEST, (account, now, share)).fetchall()
            keys.update((row[0] >> SHIFT, None) for row in got)
            self._served = account
            if len(got) == share:
                hungry.append(account)
        for account in hungry:
            if len(keys) >= limit:
                break
            for (delivery,) in self._run(_OLDEST, (account, now, limit)).fetchall():
                if len(keys) >= limit:
                    break
                keys[delivery >> SHIFT] = None
        return list(keys)

    def _jobs(self, keys: list[int], deliveries: list[tuple[int, str, int, int, float, str]]) -> list[Job]:
        recipients: dict[tuple[int, str], list[Recipient]] = {}
        for delivery, address, attempts, doubts, held, provider in sorted(deliveries):
            one = Recipient(delivery=delivery, address=address, attempts=attempts, doubts=doubts, held=held)
            recipients.setdefault((delivery >> SHIFT, provider if doubts else ""), []).append(one)
        found = {row[0]: row for row in self._run(_MESSAGES, (schema.numbers(keys),))}
        order = {key: n for n, key in enumerate(keys)}
        jobs = []
        for (key, tie), to in sorted(recipients.items(), key=lambda item: (order[item[0][0]], item[0][1])):
            row = found[key]
            body = b"" if row[12] == 0 else row[13]
            jobs.append(Job(message=rows.message_of(row), recipients=tuple(to), body=body, chunks=row[12], tied_to=tie))
        return jobs
