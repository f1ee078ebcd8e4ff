"""The rows of deliveries that are waiting or in hand, with their messages, and the jobs made of them.

A delivery's row has the columns of ``WANTED``; a message's those of ``rows.MESSAGE_COLUMNS`` and its body, if that is
small. Works inside the transaction of its caller.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from relay import limits
from relay.address import fold
from relay.choice.choose import Asked
from relay.model import Job, Recipient
from relay.spool import rows
from relay.spool.flows import AT_ONCE, Flow
from relay.spool.rows import Row
from relay.spool.schema import MASK, SHIFT, numbers

Run = Callable[..., Any]
WANTED: Final = "d.id, d.recipient, d.attempts, d.doubts, d.held, d.provider, d.tried"
TRIED: Final = 6  # the column
COLUMNS: Final = 7
SENDER, RECIPIENTS, CHUNKS, BODY = 3, 11, 12, 13  # columns of a message

_BODY: Final = f"c.id = m.key << {SHIFT} AND m.chunks = 1 AND m.size <= {limits.INLINE}"
# A message with one recipient, as most have, comes whole; of others there may be more deliveries elsewhere.
_OLDEST: Final = f"""
SELECT {rows.MESSAGE_OF_M}, c.data, {WANTED}, d.next_attempt
FROM delivery AS d INDEXED BY delivery_due CROSS JOIN message AS m ON m.key = d.id >> {SHIFT}
LEFT JOIN chunk AS c ON {_BODY} AND m.recipients = 1
WHERE d.state = 'due' AND d.account = ?1 AND d.domain = ?2 AND d.tried = ?3 AND d.next_attempt <= ?4
ORDER BY d.next_attempt, d.id LIMIT ?5
"""
_SENDERS: Final = f"""
SELECT m.sender, d.id FROM delivery AS d INDEXED BY delivery_due CROSS JOIN message AS m ON m.key = d.id >> {SHIFT}
WHERE d.state = 'due' AND d.account = ?1 AND d.domain = ?2 AND d.tried = ?3 AND d.next_attempt <= ?4
ORDER BY d.next_attempt, d.id LIMIT ?5
"""
_OF_MESSAGES: Final = f"""
SELECT {WANTED} FROM carray(?1) AS k CROSS JOIN delivery AS d
WHERE d.id BETWEEN k.value << {SHIFT} AND (k.value << {SHIFT} | {MASK})
"""
_DUE: Final = f"{_OF_MESSAGES} AND +d.state = 'due' AND d.next_attempt <= ?2"
_SENDING: Final = f"{_OF_MESSAGES} AND +d.state = 'sending'"
_MESSAGES: Final = f"""
SELECT {rows.MESSAGE_OF_M}, c.data FROM carray(?1) AS k CROSS JOIN message AS m ON m.key = k.value
LEFT JOIN chunk AS c ON {_BODY}
"""


def oldest(run: Run, flow: Flow, now: float, limit: int) -> list[Row]:
    """The deliveries of a flow that have been due longest: the message's columns, the delivery's, its next attempt."""
    found: list[Row] = run(_OLDEST, (flow.account, flow.domain, flow.tried, now, limit)).fetchall()
    return found


def by_sender(run: Run, flow: Flow, now: float) -> dict[str, list[int]]:
    """The deliveries of a flow that have been due longest, as many as are changed in one commit, by sender."""
    found: dict[str, list[int]] = {}
    for sender, delivery in run(_SENDERS, (flow.account, flow.domain, flow.tried, now, AT_ONCE)):
        found.setdefault(sender, []).append(delivery)
    return found


def due(run: Run, keys: list[int], now: float) -> dict[int, list[Row]]:
    """All deliveries of these messages that are due, by message."""
    return _by_message(run(_DUE, (numbers(keys), now)))


def sending(run: Run, keys: list[int]) -> dict[int, list[Row]]:
    """All deliveries of these messages whose final dot may have been written, by message."""
    return _by_message(run(_SENDING, (numbers(keys),)))


def messages(run: Run, keys: list[int]) -> dict[int, Row]:
    """The messages."""
    return {row[0]: row for row in run(_MESSAGES, (numbers(keys),))}


def _by_message(found: Iterable[Row]) -> dict[int, list[Row]]:
    deliveries: dict[int, list[Row]] = {}
    for row in sorted(found):
        deliveries.setdefault(row[0] >> SHIFT, []).append(row)
    return deliveries


def one_asked(flow: Flow, message: Row) -> Asked:
    """What is asked for a message of the flow that has one recipient."""
    _, _, domain, _, _, tried, tied_to, _ = flow.asked
    return Asked(flow.account, fold(message[SENDER]), domain, message[4], 1, tried, tied_to, message[1])


def alike(message: Row, deliveries: list[Row]) -> list[tuple[Asked, list[Row]]]:
    """What is asked for one message: once for all of its deliveries with the same past."""
    groups: dict[str, list[Row]] = {}
    for row in deliveries:
        groups.setdefault(row[TRIED], []).append(row)
    sender = fold(message[SENDER])
    domain = sender.rpartition("@")[2]
    return [
        (
            Asked(
                account=message[2],
                sender=sender,
                domain=domain,
                size=message[4],
                recipients=len(some),
                tried=rows.tried_of(tried),
                tied_to=rows.tie_of(tried),
                key=message[1],
            ),
            some,
        )
        for tried, some in sorted(groups.items())
    ]


def _recipient(row: Row) -> Recipient:
    return Recipient(
        delivery=row[0],
        address=row[1],
        attempts=row[2],
        doubts=row[3],
        held=row[4],
        tried=rows.tried_of(row[TRIED]),
    )


def job(message: Row, deliveries: Iterable[Row], provider: str, tied_to: str, suspect: bool = False) -> Job:
    """What delivery gets."""
    return Job(
        message=rows.message_of(message),
        recipients=tuple([_recipient(row) for row in deliveries]),
        body=b"" if message[CHUNKS] == 0 else message[BODY],
        chunks=message[CHUNKS],
        tied_to=tied_to,
        provider=provider,
        suspect=suspect,
    )
