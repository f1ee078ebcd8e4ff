"""The words that submission, spool and delivery share: values only, no input or output.

They are named tuples: as immutable as frozen dataclasses, and made in a third of the time, which every message pays
some ten times.

A *message* is immutable once accepted. What becomes of it is kept in one *delivery* per recipient, whose
:class:`State` moves along the table in ``docs/spool.md``. Times are Unix seconds, sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple


class State(StrEnum):
    """Where a delivery stands. ``docs/spool.md`` says what leads from one to the next."""

    DUE = "due"  # waits for its next attempt
    CLAIMED = "claimed"  # a delivery task has it in hand; nothing final was written to a provider
    SENDING = "sending"  # the final dot is about to be, or was, written; committed before the dot
    HELD = "held"  # waits for the operator; does not age
    DELIVERED = "delivered"  # a provider answered 250 (accepted by it: more we cannot know)
    REFUSED = "refused"  # a provider refused this message for good
    EXPIRED = "expired"  # five days of trying
    UNKNOWN = "unknown"  # no answer after the final dot, too often: may have been delivered
    DROPPED = "dropped"  # the operator took it out


OPEN_STATES = frozenset({State.DUE, State.CLAIMED, State.SENDING, State.HELD})
FAILED_STATES = frozenset({State.REFUSED, State.EXPIRED, State.UNKNOWN})


class Kind(StrEnum):
    """What a message is to us."""

    MAIL = "mail"  # a client submitted it
    NOTICE = "notice"  # we report on another message (RFC 3464); never answered by a notice
    TEST = "test"  # `make send-test`


class Installation(NamedTuple):
    """One folder of ours with its settings, to which a spool belongs. Two are the same if their ids are; the rest is
    for people.
    """

    id: str
    hostname: str = ""
    folder: str = ""

    def __str__(self) -> str:
        return ", ".join(filter(None, (self.hostname, self.folder))) or self.id


class Message(NamedTuple):
    """An accepted message, as it travels."""

    id: str
    account: str
    sender: str  # MAIL FROM towards the provider; never empty
    recipients: tuple[str, ...]
    size: int  # bytes kept in the spool, our own fields included
    received_at: float
    message_id: str  # value of the Message-ID field with its brackets
    kind: Kind = Kind.MAIL
    null_sender: bool = False  # the client said MAIL FROM:<>: travels as postmaster, never causes a notice
    smtputf8: bool = False  # needed: it goes only to providers that offer it (RFC 6531)
    notify: str = ""  # who is told when it fails; empty: nobody (then the failure stays in queue and page)
    fingerprint: bytes = b""  # known by it if it is sent again; empty: never. Only written: nobody reads it back so
    spares: str = ""  # of a notice: the provider that failed what it tells of, asked last. Only written, too


class Recipient(NamedTuple):
    """One recipient of a claimed message."""

    delivery: int  # row id of its delivery
    address: str
    attempts: int  # made before this one
    doubts: int  # how often no answer came after the final dot
    held: float = 0.0  # seconds that do not count as its age: in State.HELD, or before failed mail was retried
    tried: frozenset[str] = frozenset()  # providers that this round has been offered to


class Job(NamedTuple):
    """What one claim hands to delivery: a message and those of its recipients that are due together."""

    message: Message  # its ``recipients`` is empty here; see ``recipients`` below
    recipients: tuple[Recipient, ...]
    body: bytes | None  # the whole message if it is one chunk, else None: read it by ``Spool.read``
    chunks: int
    tied_to: str = ""  # provider that a doubtful message stays with
    provider: str = ""  # that was chosen for it; empty: none, it waited too long and is claimed to be ended
    suspect: bool = False  # the relay died twice with it in hand: it is tried alone


class Result(NamedTuple):
    """What one attempt did to one delivery; the spool writes it as it is."""

    delivery: int
    state: State
    provider: str
    reply: str = ""  # the provider's own sentence or ours, capped at limits.REPLY_KEPT
    code: int = 0  # SMTP reply code, 0 if there was none
    next_attempt: float = 0.0  # for State.DUE
    attempts: int = 0  # new value
    doubts: int = 0  # new value
    tried: str = ""  # new value: providers that this round has been offered to, separated by spaces
    consumed: bool = False  # this attempt used one recipient of the provider's quota: delivered, in doubt, unknown


class EventKind(StrEnum):
    """Every mail event there is; journal, log, metrics and page use these words."""

    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    DEFERRED = "deferred"
    REFUSED = "refused"
    DOUBTFUL = "doubtful"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    HELD = "held"
    RELEASED = "released"
    RETRIED = "retried"
    DROPPED = "dropped"
    NOTICE_QUEUED = "notice_queued"
    DELAY_NOTICE_QUEUED = "delay_notice_queued"
    NOTICE_FAILED = "notice_failed"  # of the message that the notice told of
    ACKNOWLEDGED = "acknowledged"
    RECOVERED = "recovered"
    UNUSUAL = "unusual"  # this message makes its account's hour one: relay.submission.volume


_NOTHING: Mapping[str, str | int | float | bool] = MappingProxyType({})


class Event(NamedTuple):
    """One mail event. Its row rides in the commit it tells of; log line and metric follow the commit."""

    kind: EventKind
    at: float
    message: str = ""  # message id
    account: str = ""
    recipient: str = ""
    provider: str = ""
    code: int = 0
    reply: str = ""
    detail: Mapping[str, str | int | float | bool] = _NOTHING
