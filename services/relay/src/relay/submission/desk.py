"""What all sessions of one listener share, and what one of them needs of the rest of the relay.

The protocols here say what a session calls and nothing more, so that it can be tried against stand-ins; the real ones
are ``relay.spool``, ``relay.journal``, ``relay.accounts`` and ``relay.submission.auth`` and ``limiter``.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol

from aiosmtpd.smtp import Envelope

from relay.accounts import Account, Accounts
from relay.clock import Clock
from relay.model import Event, Message
from relay.providers.reach import Reach
from relay.refusal import Reason
from relay.submission.limiter import Limiter
from relay.submission.repeats import Repeats


class Reservation(Protocol):
    """Room for an upload, set aside at MAIL."""

    def release(self) -> None: ...


class Upload(Protocol):
    """One message on its way into the spool; see ``relay.spool``."""

    async def write(self, data: bytes) -> None: ...
    async def commit(self, message: Message, last: bytes, events: Sequence[Event]) -> None: ...
    def abort(self) -> None: ...


class Spool(Protocol):
    """Where accepted messages go."""

    def reserve(self, size: int) -> Reservation: ...
    def upload(self, message_id: str) -> Upload: ...


class Journal(Protocol):
    """Where a session tells what happened that leaves no row in the spool."""

    def connection(self, listener: str, peer: str) -> None: ...
    def connection_ended(self, listener: str, peer: str) -> None: ...
    def connection_refused(self, listener: str, peer: str, reason: Reason) -> None: ...
    def tls_handshake(self, listener: str, peer: str, version: str, ok: bool, reason: str = "") -> None: ...
    def login(
        self, listener: str, peer: str, account: str, mechanism: str, ok: bool, reason: Reason | None = None
    ) -> None: ...
    def refused(self, listener: str, peer: str, account: str, reason: Reason, reply: str) -> None: ...
    def repeated(self, listener: str, peer: str, account: str, message: str) -> None: ...
    def accepted_timing(self, listener: str, seconds: float, size: int, message: str) -> None: ...
    def system(self, event: str, **fields: str | int | float | bool) -> None: ...


class AccountsNow(Protocol):
    """The accounts in force."""

    @property
    def current(self) -> Accounts: ...


class Passwords(Protocol):
    """Who may log in."""

    async def check(self, login: bytes, password: bytes, peer: str, judging: Callable[[], None]) -> Account | None: ...


class Certificate(Protocol):
    """What the next TLS handshake is made with; ``None`` while there is no certificate."""

    @property
    def context(self) -> ssl.SSLContext | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Lan:
    """What makes a listener the LAN's: no login, one account for all, and narrower rights."""

    account: str
    recipients: tuple[str, ...]  # who may be written to: addresses, ``*@domain``, or ``*``
    budget: Account  # counted besides the account itself: the listener's own daily cap


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What all sessions of one listener share. Nothing here has a default: what nobody sets would never be missed."""

    listener: str  # "submission", "submissions" or "lan", as the journal calls it
    hostname: str
    domain: str  # the first of OWNPOST_DOMAINS: where Message-IDs that we add come from
    accounts: AccountsNow
    passwords: Passwords
    limiter: Limiter
    spool: Spool
    journal: Journal
    clock: Clock
    certificate: Certificate | None  # None: no TLS on this listener
    implicit_tls: bool
    lan: Lan | None
    size_limit: int
    recipients_limit: int
    reach: Reach  # what the providers can carry, and for whom
    smtputf8: Callable[[], bool]  # whether every provider can carry it, as far as they have been heard
    client_address_in_received: bool
    repeats: Repeats | None  # None: whatever comes is kept


class Transaction(Envelope):
    """One message between MAIL and its reply. ``mail_from`` is ``None`` before MAIL and empty for the null sender."""

    def __init__(self) -> None:
        self.mail_from: str | None = None
        self.rcpt_tos: list[str] = []
        self.smtp_utf8 = False
        self.account: Account | None = None
        self.size_limit = 0  # bytes that this message may have; known from MAIL on
        self.reservation: Reservation | None = None
        self.data_by = inf  # by the loop's clock; whatever the client says meanwhile
