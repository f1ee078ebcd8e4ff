"""How much: recipients of an account in sliding windows, and open connections. Pure; the clock is given.

A sliding window has no hour or midnight at which twice the limit fits through. Each window keeps what it counted as
(time, recipients) in a bounded deque. Windows of an account begin anew with the process:
``Limiter.add`` fills them from the spool's rows.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from math import ceil, inf
from typing import Literal, NamedTuple

from relay import limits
from relay.accounts import Account
from relay.clients import address_key
from relay.clock import Clock
from relay.refusal import Reason, Refusal, refuse
from relay.submission.volume import Volume

WindowName = Literal["hour", "day", "pause"]


class Exceeded(NamedTuple):
    """Which limit is reached, or that the account is paused.

    ``until``: Unix time from which the recipients fit; infinite if they never do.
    """

    window: WindowName
    limit: int
    used: int
    until: float


class Window:
    """What happened in the last ``span`` seconds; ``total`` is the sum of it.

    What falls into the same 3,600th of the span is one entry and leaves together with its last: the deque is bounded
    whatever the limit, and nothing leaves too early.
    """

    __slots__ = ("_entries", "_grain", "_span", "total")

    def __init__(self, span: float) -> None:
        self._span, self._grain = span, span / 3600
        self._entries: deque[tuple[float, float, int]] = deque()  # first and last time, sum
        self.total = 0

    def add(self, at: float, count: int) -> None:
        """Count ``count`` (negative: take back) at the Unix time ``at``."""
        self.total += count
        if self._entries and 0 <= at - self._entries[-1][0] < self._grain:
            first, _, before = self._entries.pop()
            self._entries.append((first, at, before + count))
        else:
            self._entries.append((at, at, count))

    def forget(self, now: float) -> None:
        """Drop what is older than the window."""
        while self._entries and self._entries[0][1] <= now - self._span:
            self.total -= self._entries.popleft()[2]

    def free_at(self, count: int, limit: int) -> float:
        """From when on ``count`` more stay within ``limit``; infinite if they never do."""
        over = self.total + count - limit
        until = inf
        for _, last, counted in self._entries if count <= limit else ():
            if over > 0:
                until = last + self._span
            over -= counted
        return until


class Usage:
    """The two windows of one account."""

    __slots__ = ("day", "hour")

    def __init__(self) -> None:
        self.hour, self.day = Window(limits.HOUR), Window(limits.DAY)


class Strangers:
    """Connections of clients that have not logged in: the first to go when there is no room for another one.

    Who fills all connections without a login keeps nobody out that way: for each newcomer the oldest stranger leaves
    that shares its address with most others, unless the newcomer's own address has as many. ``shared``: addresses
    behind which all clients may hide, so that there nobody can be told from a crowd, and newcomers are preferred.
    """

    def __init__(self, shared: frozenset[str] = frozenset()) -> None:
        self._shared = shared
        self._leave: dict[str, dict[object, Callable[[], None]]] = {}  # by address; the oldest first

    def add(self, key: str, who: object, leave: Callable[[], None]) -> None:
        """``who`` has connected; ``leave()`` ends that at once."""
        self._leave.setdefault(key, {})[who] = leave

    def remove(self, key: str, who: object) -> Callable[[], None] | None:
        """``who`` has logged in or gone; returns its ``leave``, or ``None`` if it is no stranger."""
        those = self._leave.get(key, {})
        leave = those.pop(who, None)
        if leave and not those:
            del self._leave[key]
        return leave

    def make_room(self, key: str) -> bool:
        """Send one away for a newcomer from ``key``, or say that none is to go."""
        crowded = max(self._leave, key=lambda address: len(self._leave[address]), default="")
        crowd = self._leave.get(crowded, {})
        own = 0 if key in self._shared else len(self._leave.get(key, ()))
        if len(crowd) <= own:
            return False
        who, leave = next(iter(crowd.items()))
        self.remove(crowded, who)
        leave()
        return True


class Gathering:
    """Messages of which more than ``limits.PART`` lies in memory until more of them comes, or never.

    Of a body what is there can go to the spool instead. A header is judged as a whole: for a newcomer the oldest leaves
    of the account that has most of them.
    """

    def __init__(self) -> None:
        self._bodies: set[object] = set()
        self._headers = Strangers()
        self._accounts: dict[object, str] = {}  # of those in _headers

    def body(self, who: object) -> bool:
        """Whether ``who`` may gather a whole chunk; then it counts until it leaves."""
        if who not in self._bodies and len(self._bodies) >= limits.BODIES_IN_PARTS:
            return False
        self._bodies.add(who)
        return True

    def header(self, who: object, account: str, leave: Callable[[], None]) -> None:
        """``who`` gathers a large header for ``account``; ``leave()`` ends that at once, and has it leave here."""
        if len(self._accounts) >= limits.HEADERS_IN_PARTS:
            self._headers.make_room("")
        self._accounts[who] = account
        self._headers.add(account, who, leave)

    def leave(self, who: object) -> None:
        """``who`` gathers nothing any more; unknown ones are ignored."""
        self._bodies.discard(who)
        account = self._accounts.pop(who, None)
        if account is not None:
            self._headers.remove(account, who)


class Limiter:
    """Counts for all sessions of the relay. ``gateways``: addresses behind which all clients may hide."""

    def __init__(
        self,
        *,
        clock: Clock,
        connections: int = limits.CONNECTIONS,
        connections_per_address: int = limits.CONNECTIONS_PER_ADDRESS,
        gateways: frozenset[str] = frozenset(),
    ) -> None:
        self._clock = clock
        self._most, self._most_of_one = connections, connections_per_address
        self._exempt = frozenset(address_key(gateway) for gateway in gateways)
        self._open: Counter[str] = Counter()
        self._strangers = Strangers(self._exempt)
        self._most_of_account = ceil(connections * limits.ACCOUNT_SHARE_OF_CONNECTIONS)
        # the account of each connection, and how that is ended once it is a stranger again
        self._logged_in: dict[object, tuple[str, Callable[[], None] | None]] = {}
        self._of_account: Counter[str] = Counter()
        self.volume, self.gathering = Volume(), Gathering()
        self.connections = 0
        self._usage: dict[str, Usage] = {}

    # --- connections --------------------------------------------------------------------------------------------------

    def connect(self, peer: str) -> Refusal | None:
        """Count a connection, or say why it is one too many. What was counted is given back by ``disconnect``."""
        key = address_key(peer)
        if self._open[key] >= self._most_of_one and key not in self._exempt:
            return refuse(
                Reason.CONNECTIONS_OF_ADDRESS,
                f"421 4.7.0 Your address has {self._most_of_one} connections open already; close some "
                "(the operator's setting is RELAY_CONNECTIONS_PER_ADDRESS).",
            )
        if self.connections >= self._most and not self._strangers.make_room(key):
            return refuse(
                Reason.CONNECTIONS,
                f"421 4.3.2 All {self._most} connections are in use; try again in a minute "
                "(the operator's setting is RELAY_CONNECTIONS).",
            )
        self.connections += 1
        self._open[key] += 1
        return None

    def disconnect(self, peer: str) -> None:
        """A counted connection has ended."""
        key = address_key(peer)
        self.connections -= 1
        self._open[key] -= 1
        if not self._open[key]:
            del self._open[key]

    def stranger(self, peer: str, who: object, leave: Callable[[], None]) -> None:
        """``who``, counted already, has not logged in; ``leave()`` ends its connection when another one needs room."""
        self._strangers.add(address_key(peer), who, leave)

    def log_in(self, peer: str, who: object, account: str) -> Refusal | None:
        """``who`` acts for ``account``: a stranger no more, or one connection of that account too many."""
        if self._of_account[account] >= self._most_of_account:
            return refuse(
                Reason.CONNECTIONS_OF_ACCOUNT,
                f"421 4.7.0 Account {account} has {self._most_of_account} connections open already; close some "
                "(an account may have half of RELAY_CONNECTIONS, which the operator can raise).",
            )
        self._of_account[account] += 1
        self._logged_in[who] = account, self._strangers.remove(address_key(peer), who)
        return None

    def log_out(self, peer: str, who: object) -> None:
        """``who`` acts for nobody now, and is a stranger again; ignored if it was not logged in."""
        leave = self._leave_account(who)
        if leave:
            self._strangers.add(address_key(peer), who, leave)

    def gone(self, peer: str, who: object) -> None:
        """``who`` has ended, logged in or not."""
        self._strangers.remove(address_key(peer), who)
        self._leave_account(who)

    def _leave_account(self, who: object) -> Callable[[], None] | None:
        account, leave = self._logged_in.pop(who, ("", None))
        if account:
            self._of_account[account] -= 1
            if not self._of_account[account]:
                del self._of_account[account]
        return leave

    # --- recipients ---------------------------------------------------------------------------------------------------

    def check(self, account: Account, count: int) -> Exceeded | None:
        """Whether ``count`` recipients more are within the account's limits now."""
        now = self._clock.time()
        if until := self.volume.paused_until(account.name, now):
            return Exceeded("pause", 0, 0, until)
        per_hour, per_day = account.recipients_per_hour, account.recipients_per_day
        if per_hour is None and per_day is None:
            return None
        usage = self._usage_of(account.name)
        usage.hour.forget(now)
        usage.day.forget(now)
        # The day first: who has used it up need not hear of the hour.
        if per_day is not None and usage.day.total + count > per_day:
            return Exceeded("day", per_day, usage.day.total, usage.day.free_at(count, per_day))
        if per_hour is not None and usage.hour.total + count > per_hour:
            return Exceeded("hour", per_hour, usage.hour.total, usage.hour.free_at(count, per_hour))
        return None

    def take(self, account: Account, count: int) -> Exceeded | None:
        """Check and count in one step, so that sessions side by side cannot pass the same gap."""
        exceeded = self.check(account, count)
        if exceeded is None and (account.recipients_per_hour is not None or account.recipients_per_day is not None):
            self.add(account.name, count, self._clock.time())
        return exceeded

    def give_back(self, name: str, count: int) -> None:
        """What ``take`` counted was not accepted after all."""
        if name in self._usage:
            self.add(name, -count, self._clock.time())

    def add(self, name: str, count: int, at: float) -> None:
        """Count recipients accepted at the Unix time ``at``; at the start, oldest first, from the spool's rows."""
        usage = self._usage_of(name)
        usage.hour.add(at, count)
        usage.day.add(at, count)

    def _usage_of(self, name: str) -> Usage:
        usage = self._usage.get(name)
        if usage is None:
            usage = self._usage[name] = Usage()
        return usage
