"""Which due deliveries are taken next, and by which provider: oldest first within an account, accounts in turn.

An account with 10,000 waiting messages must not make another's single one wait behind them. So accounts take turns,
beginning after the one that was served last; each gets its share of the claim, and what some do not use goes to the
others.

What nobody takes now must cost nothing. A *flow* is what has the same account, sender domain and past; its waiting
deliveries lie side by side in the index, and whether any of them can be taken is asked of the offer once for all of
them. A message that waits in a flow that is open is put off.

Works inside the transaction of its caller.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import apsw

from relay import limits
from relay.address import fold
from relay.choice import waiting
from relay.choice.allowance import Allowance
from relay.choice.choose import Asked, Nobody, Take, Wait
from relay.choice.desk import Desk
from relay.choice.offer import Offer
from relay.model import Job, Recipient
from relay.spool import flows, rows
from relay.spool.flows import Flow
from relay.spool.rows import TIE, Row
from relay.spool.schema import MASK, SHIFT, numbers

PUT_OFF: Final = 32  # messages of one claim: what a message that nobody takes may cost the others

_WANTED: Final = "d.id, d.recipient, d.attempts, d.doubts, d.held, d.provider, d.tried"
_BODY: Final = f"c.id = m.key << {SHIFT} AND m.chunks = 1 AND m.size <= {limits.INLINE}"
# A message with one recipient, as most have, comes whole; of others there may be more deliveries elsewhere.
_OLDEST: Final = f"""
SELECT {_WANTED}, d.next_attempt, {rows.MESSAGE_OF_M}, c.data
FROM delivery AS d INDEXED BY delivery_due CROSS JOIN message AS m ON m.key = d.id >> {SHIFT}
LEFT JOIN chunk AS c ON {_BODY} AND m.recipients = 1
WHERE d.state = 'due' AND d.account = ?1 AND d.domain = ?2 AND d.tried = ?3 AND d.next_attempt <= ?4
ORDER BY d.next_attempt, d.id LIMIT ?5
"""
_OF_MESSAGES: Final = f"""
SELECT {_WANTED} FROM carray(?1) AS k CROSS JOIN delivery AS d
WHERE d.id BETWEEN k.value << {SHIFT} AND (k.value << {SHIFT} | {MASK})
"""
_DUE: Final = f"{_OF_MESSAGES} AND +d.state = 'due' AND d.next_attempt <= ?2"
_SENDING: Final = f"{_OF_MESSAGES} AND +d.state = 'sending'"
_MESSAGES: Final = f"""
SELECT {rows.MESSAGE_OF_M}, c.data FROM carray(?1) AS k CROSS JOIN message AS m ON m.key = k.value
LEFT JOIN chunk AS c ON {_BODY}
"""
_SEIZE: Final = """
UPDATE delivery SET state = 'claimed', provider = ?2, changed_at = ?3 WHERE id IN carray(?1) AND +state = 'due'
"""
_SEIZE_NOBODYS: Final = """
UPDATE delivery SET state = 'claimed', provider = iif(doubts > 0, provider, ''), changed_at = ?2
WHERE id IN carray(?1) AND +state = 'due'
"""
_PUT_OFF: Final = "UPDATE delivery SET next_attempt = ?2 WHERE id IN carray(?1) AND +state = 'due'"
_OVERDUE: Final = f"""
SELECT {_WANTED}, {rows.MESSAGE_OF_M} FROM message AS m INDEXED BY message_open CROSS JOIN delivery AS d
ON d.id BETWEEN m.key << {SHIFT} AND (m.key << {SHIFT} | {MASK})
WHERE m.ended_at IS NULL AND m.received_at < ?1 AND +d.state = 'due' AND d.next_attempt <= ?2
    AND m.received_at + d.held < ?1 ORDER BY m.received_at, d.id
"""
_USED: Final = "SELECT bucket, used FROM quota WHERE provider = ?1 AND bucket >= ?2"
IN_HAND: Final = """
SELECT provider, count(*) FROM delivery
WHERE state IN ('claimed', 'sending', 'held') AND state IN ('claimed', 'sending') GROUP BY provider
"""
_WANTED_COLUMNS: Final = 7


@dataclass(slots=True)
class Catch:
    """What one claim has taken so far."""

    jobs: list[Job] = field(default_factory=list)
    seized: dict[str, list[int]] = field(default_factory=dict)  # provider: deliveries
    put_off: dict[float, list[int]] = field(default_factory=dict)  # next attempt: deliveries
    patience: int = PUT_OFF
    seen: set[int] = field(default_factory=set)  # message keys


class Claims:
    """Takes due deliveries; remembers whose turn it is, and who waits for what."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._run: Callable[..., Any] = connection.execute
        self._served = ""
        self.waits = False  # whether something is due that nobody takes: a better offer may
        self.crowded: set[str] = set()  # providers whose room something waits for: new mail must not overtake it
        self.reserved = False  # whether something waits for quota that what is in hand may give back

    def desk(self, offer: Offer, now: float) -> Desk:
        """Where providers are chosen for one claim."""
        return Desk(offer, Allowance(offer.terms, now, self._used, self._in_hand))

    def take(self, offer: Offer, now: float) -> tuple[list[Job], float]:
        """Claim what is due at ``now`` as far as the offer goes; and when to try again, unless there is a better one.

        Recipients of a message that go different ways make one job for each.
        """
        desk = self.desk(offer, now)
        ready, again = self._look(offer, desk, now)
        if not ready:
            return [], again
        jobs = self._serve(ready, desk, now)
        return jobs, self._look(offer, desk, now)[1]

    def stuck(self, keys: list[int]) -> list[Job]:
        """Jobs for those deliveries of these messages that are still ``sending``: recovery leaves them to be ended."""
        jobs: list[Job] = []
        messages = self._messages(keys)
        for key, some in _by_message(self._run(_SENDING, (numbers(keys),))).items():
            names = sorted({row[5] for row in some})
            jobs += [_job(messages[key], [row for row in some if row[5] == name], name, name) for name in names]
        return jobs

    def overdue(self, offer: Offer, before: float, limit: int, now: float) -> list[Job]:
        """Claim, for delivery to end them, deliveries of messages accepted before then (held time does not count) that
        nobody can take now.
        """
        desk = self.desk(offer, now)
        found: dict[int, list[Row]] = {}
        messages = {}
        for row in self._run(_OVERDUE, (before, now + waiting.AGAIN)):
            key = row[0] >> SHIFT
            found.setdefault(key, []).append(row)
            messages[key] = row[_WANTED_COLUMNS:]
        catch = Catch()
        for key, some in found.items():
            for asked, alike in _alike(messages[key], some):
                choice = desk.look(asked._replace(recipients=len(alike)))
                if isinstance(choice, Take) or (isinstance(choice, Wait) and choice.for_room):
                    continue
                if len(catch.jobs) == limit:
                    break
                catch.jobs.append(_job((*messages[key], None), alike, "", asked.tied_to))
                catch.seized.setdefault("", []).extend(row[0] for row in alike)
        if catch.jobs:
            self._run(_SEIZE_NOBODYS, (numbers(catch.seized[""]), now))
        return catch.jobs

    # --- flows
    def _look(self, offer: Offer, desk: Desk, now: float) -> tuple[dict[str, list[Flow]], float]:
        """The flows of each account of which something may be taken now, and when to look again."""
        ready: dict[str, list[Flow]] = {}
        again = math.inf
        self.waits, self.reserved = False, False
        self.crowded.clear()
        for flow in flows.all_due(self._run):
            if flow.at > now:
                again = min(again, flow.at)
                continue
            wait = desk.blocked(flow.asked)
            if wait is None:
                ready.setdefault(flow.account, []).append(flow)
                again = min(again, flow.at)
            else:
                again = min(again, self._wait(flow, wait, offer, now))
        self.reserved = desk.reserved
        return ready, again

    def _wait(self, flow: Flow, wait: Wait, offer: Offer, now: float) -> float:
        """When to look again at a flow of which nothing can be taken."""
        self.waits = True
        if wait.for_room:
            self.crowded.update(offer.routes.of(flow.account, flow.domain).providers)
        if flow.asked.tried and waiting.round_over(wait, now):
            flows.begin_anew(self._run, flow, now)
            return now + waiting.ROUND
        return waiting.flow_again(wait, now)

    # --- accounts
    def _serve(self, ready: dict[str, list[Flow]], desk: Desk, now: float) -> list[Job]:
        accounts = sorted(ready)
        turn = next((n for n, account in enumerate(accounts) if account > self._served), 0)
        accounts = accounts[turn:] + accounts[:turn]
        catch = Catch()
        share = max(1, desk.room // len(accounts))
        hungry = []
        for account in accounts:
            if desk.room <= 0 and catch.jobs:
                break
            self._served = account
            if self._feed(ready[account], desk, share, catch, now):
                hungry.append(account)
        self._write(catch, now)
        for account in hungry:
            if desk.room <= 0 or catch.patience <= 0:
                break
            self._feed(ready[account], desk, desk.room, catch, now)
        self._write(catch, now)
        return catch.jobs

    def _feed(self, some: list[Flow], desk: Desk, share: int, catch: Catch, now: float) -> bool:
        """Take up to ``share`` jobs of one account; True if it probably has more."""
        candidates, more = self._candidates(some, share, now)
        siblings, bodies = self._siblings(candidates, now)
        closed: set[Flow] = set()
        jobs = len(catch.jobs)
        for flow, row in candidates:
            if len(catch.jobs) - jobs >= share or catch.patience <= 0:
                return True
            key = row[0] >> SHIFT
            if key in catch.seen or flow in closed:
                continue
            catch.seen.add(key)
            message = row[_WANTED_COLUMNS + 1 :]
            if key in siblings:
                message, deliveries = (*message[:-1], bodies[key]), siblings[key]
            else:
                deliveries = [row]
            if not self._take(flow, message, deliveries, desk, catch, now):
                closed.add(flow)
        return more

    def _candidates(self, some: list[Flow], share: int, now: float) -> tuple[list[tuple[Flow, Row]], bool]:
        """The oldest of an account's open flows, in order; and whether there are probably more."""
        found: list[tuple[Flow, Row]] = []
        more = False
        for flow in some:
            got = self._run(_OLDEST, (flow.account, flow.domain, flow.tried, now, share)).fetchall()
            more = more or len(got) == share
            found += [(flow, row) for row in got]
        if len(some) > 1:
            found.sort(key=lambda one: (one[1][_WANTED_COLUMNS], one[1][0]))
        return found, more

    def _siblings(
        self, candidates: list[tuple[Flow, Row]], now: float
    ) -> tuple[dict[int, list[Row]], dict[int, bytes | None]]:
        """For messages with several recipients: all deliveries that are due, and the body."""
        keys = list(dict.fromkeys(row[0] >> SHIFT for _, row in candidates if row[_WANTED_COLUMNS + 12] > 1))
        if not keys:
            return {}, {}
        due = _by_message(self._run(_DUE, (numbers(keys), now)))
        return due, {key: row[-1] for key, row in self._messages(keys).items()}

    def _take(self, flow: Flow, message: Row, deliveries: list[Row], desk: Desk, catch: Catch, now: float) -> bool:
        """Give one message to whom it goes; False if nothing more of its flow can be taken."""
        parts, left = desk.share(_alike(message, deliveries))
        for part in parts:
            catch.jobs.append(_job(message, part.recipients, part.provider, part.tied_to))
            catch.seized.setdefault(part.provider, []).extend(row[0] for row in part.recipients)
        if not left:
            return True
        if desk.blocked(flow.asked) is not None:
            return False
        for choice, some in left:
            if some[0][6] == flow.tried and isinstance(choice, Wait | Nobody):
                at = waiting.message_again(choice, now)
                catch.put_off.setdefault(at, []).extend(row[0] for row in some)
                catch.patience -= 1
        return True

    def _write(self, catch: Catch, now: float) -> None:
        for provider, ids in catch.seized.items():
            self._run(_SEIZE, (numbers(ids), provider, now))
        for at, ids in catch.put_off.items():
            self._run(_PUT_OFF, (numbers(ids), at))
        catch.seized, catch.put_off = {}, {}

    # --- rows
    def _messages(self, keys: list[int]) -> dict[int, Row]:
        return {row[0]: row for row in self._run(_MESSAGES, (numbers(keys),))}

    def _used(self, provider: str, since: float) -> list[tuple[float, int]]:
        found: list[tuple[float, int]] = self._run(_USED, (provider, since)).fetchall()
        return found

    def _in_hand(self) -> dict[str, int]:
        return dict(self._run(IN_HAND))


def _by_message(found: Iterator[Row]) -> dict[int, list[Row]]:
    """Deliveries by the key of their message, in order."""
    deliveries: dict[int, list[Row]] = {}
    for row in sorted(found):
        deliveries.setdefault(row[0] >> SHIFT, []).append(row)
    return deliveries


def _alike(message: Row, deliveries: list[Row]) -> list[tuple[Asked, list[Row]]]:
    """What is asked for one message: once for all of its deliveries with the same past."""
    groups: dict[str, list[Row]] = {}
    for row in deliveries:
        groups.setdefault(row[6], []).append(row)
    sender = fold(message[3])
    domain = sender.rpartition("@")[2]
    return [(_asked(message, sender, domain, len(alike), tried), alike) for tried, alike in sorted(groups.items())]


def _asked(message: Row, sender: str, domain: str, recipients: int, tried: str) -> Asked:
    tie = tried[1:] if tried.startswith(TIE) else ""
    return Asked(message[2], sender, domain, message[4], recipients, rows.tried_of(tried), tie, message[1])


def _job(message: Row, deliveries: list[Row], provider: str, tied_to: str) -> Job:
    """``message`` has the body after its columns."""
    return Job(
        message=rows.message_of(message),
        recipients=tuple(
            Recipient(
                delivery=row[0],
                address=row[1],
                attempts=row[2],
                doubts=row[3],
                held=row[4],
                tried=rows.tried_of(row[6]),
            )
            for row in deliveries
        ),
        body=b"" if message[12] == 0 else message[13],
        chunks=message[12],
        tied_to=tied_to,
        provider=provider,
    )
