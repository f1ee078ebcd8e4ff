"""Deliveries that grew too old while nobody could take them: claimed, so that delivery ends them with a notice.

Works inside the transaction of its caller.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from relay.choice import waiting
from relay.choice.choose import Take, Wait
from relay.choice.desk import Desk
from relay.model import Job
from relay.spool import due, rows
from relay.spool.alone import Alone
from relay.spool.due import Run
from relay.spool.rows import Row
from relay.spool.schema import MASK, SHIFT, numbers

# What was put off because nobody took it is due soon again; what waits for an attempt of the schedule is left to it.
_OVERDUE: Final = f"""
SELECT {rows.MESSAGE_OF_M}, NULL, {due.WANTED} FROM message AS m INDEXED BY message_open CROSS JOIN delivery AS d
ON d.id BETWEEN m.key << {SHIFT} AND (m.key << {SHIFT} | {MASK})
WHERE m.ended_at IS NULL AND m.received_at < ?1 AND +d.state = 'due' AND d.next_attempt <= ?2
    AND m.received_at + d.held < ?1 ORDER BY m.received_at, d.id
"""
# One that is in doubt stays tied to its provider, whatever happens to the one who ends it.
_SEIZE: Final = """
UPDATE delivery SET state = 'claimed', provider = iif(doubts > 0, provider, ''), changed_at = ?2
WHERE id IN carray(?1) AND +state = 'due'
"""


def claim(run: Run, desk: Desk, alone: Alone, before: float, limit: int, now: float) -> list[Job]:
    """Claim up to ``limit`` jobs of messages accepted before then (held time does not count) that nobody takes now;
    a suspect alone, and none while another is in hand.
    """
    jobs: list[Job] = []
    for message, deliveries in _messages(run, before, now):
        for asked, some in due.alike(message, deliveries):
            suspect = rows.is_suspect(some[0][due.TRIED])
            if suspect and (jobs or alone.busy(run)):
                continue
            choice = desk.look(asked)
            if not (isinstance(choice, Take) or (isinstance(choice, Wait) and choice.for_room)):
                jobs.append(due.job(message, some, "", asked.tied_to, suspect))
            if suspect and jobs:
                return _seized(run, jobs, now)
        if len(jobs) >= limit:
            break
    return _seized(run, jobs, now)


def _seized(run: Run, jobs: list[Job], now: float) -> list[Job]:
    if jobs:
        run(_SEIZE, (numbers([one.delivery for job in jobs for one in job.recipients]), now))
    return jobs


def _messages(run: Run, before: float, now: float) -> Iterator[tuple[Row, list[Row]]]:
    found: dict[int, tuple[Row, list[Row]]] = {}
    for row in run(_OVERDUE, (before, now + waiting.AGAIN)):
        message = row[: due.BODY + 1]
        found.setdefault(message[0], (message, []))[1].append(row[due.BODY + 1 :])
    return iter(found.values())
