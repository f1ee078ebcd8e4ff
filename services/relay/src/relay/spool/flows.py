"""Flows: waiting deliveries with the same account, sender domain and past, side by side in the index of what is due.

Works inside the transaction of its caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from relay import limits
from relay.choice import waiting
from relay.choice.choose import Asked
from relay.choice.rounds import for_good
from relay.spool import rows

Run = Callable[..., Any]
FAR: Final = 3 * limits.HOUR  # later than any attempt of the schedule, so that this looks at nothing in ordinary times
AT_ONCE: Final = 500  # deliveries that begin a new round, or are put off, in one commit; the others follow

# A loose index scan: three seeks for each flow, to the first delivery of the next one, however many wait behind it.
# (One comparison of rows, "(account, domain, tried) > (...)", would use the index for its first column only.)
_FIRST: Final = "SELECT d.id FROM delivery AS d INDEXED BY delivery_due WHERE d.state = 'due'"
_FLOWS: Final = f"""
WITH RECURSIVE flow(id) AS (
    SELECT ({_FIRST} ORDER BY d.account, d.domain, d.tried, d.next_attempt LIMIT 1)
    UNION ALL
    SELECT coalesce(
        ({_FIRST} AND d.account = c.account AND d.domain = c.domain AND d.tried > c.tried
            ORDER BY d.tried, d.next_attempt LIMIT 1),
        ({_FIRST} AND d.account = c.account AND d.domain > c.domain ORDER BY d.domain, d.tried, d.next_attempt LIMIT 1),
        ({_FIRST} AND d.account > c.account ORDER BY d.account, d.domain, d.tried, d.next_attempt LIMIT 1)
    )
    FROM flow CROSS JOIN delivery AS c ON c.id = flow.id
)
SELECT d.account, d.domain, d.tried, d.next_attempt FROM flow CROSS JOIN delivery AS d ON d.id = flow.id
"""
_OF_FLOW: Final = "state = 'due' AND account = ?1 AND domain = ?2 AND tried = ?3"
# What was written by a clock that ran ahead waits as long as was meant, counted from now.
_BRING_BACK: Final = f"""
UPDATE delivery SET next_attempt = ?4 + max(0, next_attempt - changed_at), changed_at = ?4
WHERE {_OF_FLOW} AND next_attempt > ?5 AND changed_at > ?4 + 60 RETURNING id
"""
_ANEW: Final = f"""
UPDATE delivery SET tried = ?6, next_attempt = ?5 WHERE id IN (
    SELECT id FROM delivery WHERE {_OF_FLOW} AND next_attempt <= ?4 ORDER BY next_attempt LIMIT {AT_ONCE}
)
"""


class Flow(NamedTuple):
    """One flow with something that waits."""

    account: str
    domain: str
    tried: str
    at: float  # the earliest next attempt in it
    asked: Asked  # what is asked for all of it at once

    @property
    def suspect(self) -> bool:
        """Whether the relay died twice with what is in it, which is therefore tried alone."""
        return rows.is_suspect(self.tried)


def _flow(account: str, domain: str, tried: str, at: float) -> Flow:
    return Flow(account, domain, tried, at, Asked(account, "", domain, 0, 1, rows.tried_of(tried), rows.tie_of(tried)))


def all_due(run: Run) -> Iterator[Flow]:
    """Every flow, by account."""
    return (_flow(*row) for row in run(_FLOWS).fetchall())


def bring_back(run: Run, now: float) -> int:
    """Make deliveries wait from ``now`` that were put off when the clock was far ahead: they would wait for years.

    Returns how many.
    """
    return sum(
        len(run(_BRING_BACK, (flow.account, flow.domain, flow.tried, now, now + FAR)).fetchall())
        for flow in all_due(run)
    )


def begin_anew(run: Run, flow: Flow, now: float) -> bool:
    """Let what is due in the flow begin a new round after a while: the providers it was offered to may take it then.

    False if none of them ever will: nothing was changed.
    """
    kept = for_good(flow.asked.tried)
    if kept == flow.asked.tried:
        return False
    tried = rows.ends_of(flow.tried) + rows.tried_text(kept)
    run(_ANEW, (flow.account, flow.domain, flow.tried, now, now + waiting.ROUND, tried))
    return True
