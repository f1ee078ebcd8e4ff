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
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import apsw

from relay import limits
from relay.address import fold
from relay.choice import waiting
from relay.choice.allowance import Allowance
from relay.choice.choose import Choice, Nobody, Take, Wait
from relay.choice.desk import Desk
from relay.choice.offer import Offer
from relay.model import Job
from relay.spool import due, flows, overdue, rows
from relay.spool.alone import Alone
from relay.spool.flows import Flow
from relay.spool.rows import Row
from relay.spool.schema import numbers

PUT_OFF: Final = 32  # messages of one claim: what a message that nobody takes may cost the others

_SEIZE: Final = """
UPDATE delivery SET state = 'claimed', provider = ?2, changed_at = ?3 WHERE id IN carray(?1) AND +state = 'due'
"""
_PUT_OFF: Final = "UPDATE delivery SET next_attempt = ?2 WHERE id IN carray(?1) AND +state = 'due'"
_USED: Final = "SELECT bucket, used FROM quota WHERE provider = ?1 AND bucket >= ?2"
IN_HAND: Final = """
SELECT provider, count(*) FROM delivery
WHERE state IN ('claimed', 'sending', 'held') AND state IN ('claimed', 'sending') GROUP BY provider
"""


_DELIVERY: Final = due.BODY + 1  # where a candidate's delivery begins, after the message's columns
Left = list[tuple[Choice, list[Row]]]


@dataclass(slots=True)
class Catch:
    """What one claim has taken so far."""

    jobs: list[Job] = field(default_factory=list)
    seized: dict[str, list[int]] = field(default_factory=dict)  # provider: deliveries
    put_off: dict[float, list[int]] = field(default_factory=dict)  # next attempt: deliveries
    patience: int = PUT_OFF
    seen: set[int] = field(default_factory=set)  # message keys
    senders: dict[Flow, dict[str, list[int]]] = field(default_factory=dict)  # of flows with one who is shut: deliveries
    shut: set[tuple[Flow, str]] = field(default_factory=set)  # senders of which nobody takes anything


class Claims:
    """Takes due deliveries; remembers whose turn it is, and who waits for what."""

    def __init__(self, connection: apsw.Connection, trial: bool) -> None:
        self._run: Callable[..., Any] = connection.execute
        self._served = ""
        self.waits = False  # whether something is due that nobody takes: a better offer may
        self.crowded: set[str] = set()  # providers whose room something waits for: new mail must not overtake it
        self.reserved = False  # whether something waits for quota that what is in hand may give back
        self.alone = Alone(trial)

    def desk(self, offer: Offer, now: float) -> Desk:
        """Where providers are chosen for one claim."""
        return Desk(offer, Allowance(offer.terms, now, self._used, self._in_hand))

    def take(self, offer: Offer, now: float) -> tuple[list[Job], float]:
        """Claim what is due at ``now`` as far as the offer goes; and when to try again, unless there is a better one.

        Recipients of a message that go different ways make one job for each.
        """
        desk, wary = self.desk(offer, now), self.alone.wary
        ready, again = self._look(offer, desk, now)
        if wary or self.alone.wary:
            found = Catch()
            turn = self.alone.turn(self._run, now, lambda: self._find_suspect(self.desk(offer, now), found, now))
            if turn.suspects:
                self._write(found, now)
                return [job._replace(suspect=True) for job in found.jobs], now + limits.ALONE
            if not turn.others:
                return [], turn.until
            if self.alone.ready:
                ready, again = self._look(offer, desk, now)  # some were put off
        jobs: list[Job] = []
        if ready:
            jobs = self._serve(ready, desk, now)
            again = min(again, self._left(ready, offer, desk, now))
        self.reserved = desk.reserved
        return jobs, again

    def _left(self, ready: dict[str, list[Flow]], offer: Offer, desk: Desk, now: float) -> float:
        """When to look again at flows that were served."""
        again = math.inf
        for flow in [flow for some in ready.values() for flow in some]:
            wait = desk.blocked(flow.asked)
            if wait is None:  # all of it may be taken: then see what there is now
                ready, again = self._look(offer, desk, now)
                return min([again, *(flow.at for some in ready.values() for flow in some)])
            again = min(again, self._wait(flow, wait, offer, now))
        return again

    def stuck(self, keys: list[int]) -> list[Job]:
        """Jobs for those deliveries of these messages that are still ``sending``: recovery leaves them to be ended."""
        jobs: list[Job] = []
        messages = due.messages(self._run, keys)
        for key, some in due.sending(self._run, keys).items():
            names = sorted({row[5] for row in some})
            for name in names:
                mine = [row for row in some if row[5] == name]
                suspect = any(rows.is_suspect(row[due.TRIED]) for row in mine)
                jobs.append(due.job(messages[key], mine, name, name, suspect))
        return jobs

    def overdue(self, offer: Offer, before: float, limit: int, now: float) -> list[Job]:
        """See :meth:`relay.spool.Spool.claim_overdue`."""
        return overdue.claim(self._run, self.desk(offer, now), self.alone, before, limit, now)

    # --- flows
    def _look(self, offer: Offer, desk: Desk, now: float) -> tuple[dict[str, list[Flow]], float]:
        """The flows of each account of which something may be taken now, and when to look again at the others."""
        ready: dict[str, list[Flow]] = {}
        again = math.inf
        self.waits = False
        self.crowded.clear()
        self.alone.begin()
        for flow in flows.all_due(self._run):
            self.alone.wary = self.alone.wary or flow.suspect
            if flow.at > now:
                again = min(again, flow.at)
                continue
            wait = desk.blocked(flow.asked)
            if wait is None:
                (self.alone.ready if flow.suspect else ready.setdefault(flow.account, [])).append(flow)
            else:
                again = min(again, self._wait(flow, wait, offer, now))
        return ready, again

    def _wait(self, flow: Flow, wait: Wait, offer: Offer, now: float) -> float:
        """When to look again at a flow of which nothing can be taken."""
        self.waits = True
        if wait.for_room:
            self.crowded.update(offer.routes.of(flow.account, flow.domain).providers)
        if flow.asked.tried and waiting.round_over(wait, now) and flows.begin_anew(self._run, flow, now):
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
            if catch.patience <= 0 or (desk.room <= 0 and catch.jobs):
                break  # the others come first in the next claim
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
        siblings, messages = self._siblings(candidates, now)
        closed: set[Flow] = set()
        most = len(catch.jobs) + share
        for flow, row in candidates:
            if len(catch.jobs) >= most or catch.patience <= 0:
                return True
            key = row[0]
            if key in catch.seen or flow in closed or (flow, row[due.SENDER]) in catch.shut:
                continue
            catch.seen.add(key)
            left = (
                self._take(messages[key], siblings[key], desk, catch)
                if key in siblings
                else self._take_one(flow, row, desk, catch)
            )
            if left and desk.blocked(flow.asked) is not None:
                closed.add(flow)
            elif left:
                self._put_off(flow, left, catch, now)
                self._put_off_sender(flow, row[due.SENDER], desk, catch, now)
        return more

    def _candidates(self, some: list[Flow], share: int, now: float) -> tuple[list[tuple[Flow, Row]], bool]:
        """The oldest of an account's open flows, in order; and whether there are probably more."""
        found: list[tuple[Flow, Row]] = []
        more = False
        for flow in some:
            got = due.oldest(self._run, flow, now, share)
            more = more or len(got) == share
            found += [(flow, row) for row in got]
        if len(some) > 1:
            found.sort(key=lambda one: (one[1][-1], one[1][_DELIVERY]))
        return found, more

    def _siblings(self, candidates: list[tuple[Flow, Row]], now: float) -> tuple[dict[int, list[Row]], dict[int, Row]]:
        """For messages with several recipients: all deliveries that are due, and the messages with their bodies."""
        keys = list(dict.fromkeys(row[0] for _, row in candidates if row[due.RECIPIENTS] > 1))
        if not keys:
            return {}, {}
        found = due.due(self._run, keys, now)
        if self.alone.wary:
            found = {key: [row for row in some if not rows.is_suspect(row[due.TRIED])] for key, some in found.items()}
        return found, due.messages(self._run, keys)

    def _find_suspect(self, desk: Desk, catch: Catch, now: float) -> bool:
        """Whether a provider takes one message that is to be tried alone, which is left in ``catch``. Those before it
        that none takes are put off.
        """
        for key in self.alone.messages(self._run, now):
            deliveries = [row for row in due.due(self._run, [key], now)[key] if rows.is_suspect(row[due.TRIED])]
            for choice, some in self._take(due.messages(self._run, [key])[key], deliveries, desk, catch):
                if isinstance(choice, Wait | Nobody):
                    at = waiting.message_again(choice, now)
                    catch.put_off.setdefault(at, []).extend(row[0] for row in some)
            if catch.jobs:
                break
        self._write(Catch(put_off=catch.put_off), now)
        return bool(catch.jobs)

    def _take_one(self, flow: Flow, row: Row, desk: Desk, catch: Catch) -> Left:
        """Give a message with one recipient to whom it goes; it is returned, with why, if it goes to nobody."""
        asked = due.one_asked(flow, row)
        choice = desk.take(asked)
        delivery = row[_DELIVERY:]
        if not isinstance(choice, Take):
            return [(choice, [delivery])]
        catch.jobs.append(due.job(row, (delivery,), choice.provider, asked.tied_to))
        catch.seized.setdefault(choice.provider, []).append(delivery[0])
        return []

    def _take(self, message: Row, deliveries: list[Row], desk: Desk, catch: Catch) -> Left:
        """Give a message to whom it goes; the deliveries that go to nobody are returned, with why."""
        parts, left = desk.share(due.alike(message, deliveries))
        for part in parts:
            catch.jobs.append(due.job(message, part.recipients, part.provider, part.tied_to))
            catch.seized.setdefault(part.provider, []).extend(row[0] for row in part.recipients)
        return left

    def _put_off(self, flow: Flow, left: Left, catch: Catch, now: float) -> None:
        """Leave alone for a while what nobody takes though others of its flow are taken."""
        for choice, some in left:
            if some[0][due.TRIED] == flow.tried and isinstance(choice, Wait | Nobody):
                at = waiting.message_again(choice, now)
                catch.put_off.setdefault(at, []).extend(row[0] for row in some)
                catch.patience -= 1

    def _put_off_sender(self, flow: Flow, sender: str, desk: Desk, catch: Catch, now: float) -> None:
        """Likewise all of a sender that nobody takes anything from, or each of ten thousand would be looked at."""
        wait = desk.blocked(flow.asked._replace(sender=fold(sender)))
        if wait is None:
            return
        if flow not in catch.senders:
            catch.senders[flow] = due.by_sender(self._run, flow, now)
        catch.shut.add((flow, sender))
        catch.put_off.setdefault(waiting.message_again(wait, now), []).extend(catch.senders[flow].get(sender, ()))

    def _write(self, catch: Catch, now: float) -> None:
        for provider, ids in catch.seized.items():
            self._run(_SEIZE, (numbers(ids), provider, now))
        for at, ids in catch.put_off.items():
            self._run(_PUT_OFF, (numbers(ids), at))
        catch.seized, catch.put_off = {}, {}

    # --- quotas
    def _used(self, provider: str, since: float) -> list[tuple[float, int]]:
        found: list[tuple[float, int]] = self._run(_USED, (provider, since)).fetchall()
        return found

    def _in_hand(self) -> dict[str, int]:
        return dict(self._run(IN_HAND))
