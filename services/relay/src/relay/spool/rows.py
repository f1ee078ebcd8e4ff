"""Values to rows and rows to values; pure.

Text that came over the wire may hold surrogates (bytes that were not UTF-8), which SQLite cannot store. In a reply or a
detail they are shown escaped; in an address they are the caller's mistake and raise ``ValueError`` before anything
reaches the writer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from math import isfinite
from typing import Any, Final

from relay import limits
from relay.address import fold
from relay.choice.choose import Asked
from relay.model import Event, EventKind, Job, Kind, Message, Recipient, Result
from relay.spool.schema import SHIFT

Row = tuple[Any, ...]

MESSAGE_COLUMNS: Final = (
    "key, id, account, sender, size, received_at, message_id, kind, null_sender, smtputf8, notify, recipients, chunks"
)
ACCEPTED_COLUMNS: Final = f"{MESSAGE_COLUMNS}, fingerprint"  # what is written; the last one is read at the start only
MESSAGE_OF_M: Final = ", ".join(f"m.{name}" for name in MESSAGE_COLUMNS.split(", "))
DELIVERY_COLUMNS: Final = "id, account, domain, recipient, next_attempt, changed_at"
CLAIMED_COLUMNS: Final = f"{DELIVERY_COLUMNS}, provider"
NOTICE_COLUMNS: Final = f"{DELIVERY_COLUMNS}, tried"
_QUOTE: Final = json.encoder.encode_basestring_ascii
_KINDS: Final = {kind.value: kind for kind in Kind}
TIE: Final = "="  # begins ``delivery.tried`` of one that is tied to the provider whose name follows
# Before all else there: one for each unclean end of the relay at which it was in hand, since its last completed attempt
# (which writes it anew); no provider's name begins so. From two on it is a suspect, see ``alone.py``.
END: Final = "^"
SUSPECT: Final = 2 * END
EVENT_COLUMNS: Final = "message, seq, kind, at, account, recipient, provider, code, reply, detail"


def shown(text: str) -> str:
    """``text`` for people: never more than what is kept of a reply, always storable."""
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text[: limits.REPLY_KEPT]


def exact(text: str) -> str:
    """``text`` as it is; raises ``ValueError`` if it cannot be stored so."""
    if not text.isascii():
        text.encode("utf-8")  # UnicodeEncodeError is a ValueError
    return text


def detail_text(detail: Mapping[str, str | int | float | bool]) -> str:
    """``detail`` as JSON. By hand, since json's own encoder makes a dozen objects for each of these few values."""
    pairs = [f'"{name}":{_QUOTE(value) if type(value) is str else _scalar(value)}' for name, value in detail.items()]
    return "{" + ",".join(pairs) + "}"


def _scalar(value: str | float | bool) -> str:
    if type(value) is int or (type(value) is float and isfinite(value)):
        return repr(value)
    return json.dumps(value)


def message_row(key: int, message: Message, size: int, chunks: int) -> Row:
    """The row of an accepted message, as ACCEPTED_COLUMNS has it; ``size`` is what was really kept."""
    return (
        key,
        message.id,
        exact(message.account),
        exact(message.sender),
        size,
        message.received_at,
        exact(message.message_id),
        str(message.kind),
        int(message.null_sender),
        int(message.smtputf8),
        exact(message.notify),
        len(message.recipients),
        chunks,
        message.fingerprint or None,
    )


def delivery_rows(key: int, message: Message, domain: str) -> list[Row]:
    """One row per recipient, due at once; ``domain`` is the sender's, folded."""
    base, at, account = key << SHIFT, message.received_at, message.account
    return [(base + n, account, domain, exact(address), at, at) for n, address in enumerate(message.recipients)]


def event_row(message: int, seq: int, event: Event) -> Row:
    """The row of ``event``, which belongs to the message with that key (0: to none)."""
    detail = detail_text(event.detail) if event.detail else ""
    return (
        message,
        seq,
        str(event.kind),
        event.at,
        shown(event.account),
        shown(event.recipient),
        event.provider,
        event.code,
        shown(event.reply),
        detail,
    )


def result_row(result: Result, at: float) -> Row:
    """What ``Store`` binds to record one outcome; the delivery's id comes first."""
    return (
        result.delivery,
        str(result.state),
        result.provider,
        shown(result.reply),
        result.code,
        result.next_attempt,
        result.attempts,
        result.doubts,
        TIE + result.provider if result.doubts else result.tried,
        at,
    )


def message_of(row: Sequence[Any], recipients: tuple[str, ...] = ()) -> Message:
    """The message of a row with MESSAGE_COLUMNS in their order."""
    return Message(
        id=row[1],
        account=row[2],
        sender=row[3],
        recipients=recipients,
        size=row[4],
        received_at=row[5],
        message_id=row[6],
        kind=_KINDS[row[7]],
        null_sender=bool(row[8]),
        smtputf8=bool(row[9]),
        notify=row[10],
    )


def event_of(row: Sequence[Any], message_id: str) -> Event:
    """The event of a row with EVENT_COLUMNS in their order."""
    return Event(
        kind=EventKind(row[2]),
        at=row[3],
        message=message_id,
        account=row[4],
        recipient=row[5],
        provider=row[6],
        code=row[7],
        reply=row[8],
        detail=json.loads(row[9]) if row[9] else {},
    )


def asked_of(message: Message, size: int) -> Asked:
    """What is asked for a message that nobody has been offered yet."""
    sender = fold(message.sender)
    domain = sender.rpartition("@")[2]
    return Asked(message.account, sender, domain, size, len(message.recipients), frozenset(), "", message.id)


def new_job(key: int, asked: Asked, message: Message, chunks: int, body: bytes | None, provider: str) -> Job:
    """The job of a message that ``provider`` takes in the very commit that accepted it."""
    base = key << SHIFT
    return Job(
        message=Message(
            id=message.id,
            account=message.account,
            sender=message.sender,
            recipients=(),
            size=asked.size,
            received_at=message.received_at,
            message_id=message.message_id,
            kind=message.kind,
            null_sender=message.null_sender,
            smtputf8=message.smtputf8,
            notify=message.notify,
        ),
        recipients=tuple(
            [
                Recipient(delivery=base + n, address=address, attempts=0, doubts=0)
                for n, address in enumerate(message.recipients)
            ]
        ),
        body=body,
        chunks=chunks,
        provider=provider,
    )


def tried_text(tried: AbstractSet[str]) -> str:
    """``tried`` as ``delivery.tried`` keeps it."""
    return " ".join(sorted(tried))


def tie_of(text: str) -> str:
    """The provider that ``delivery.tried`` ties it to; empty: none."""
    text = text.lstrip(END)
    return text[1:] if text.startswith(TIE) else ""


def tried_of(text: str) -> frozenset[str]:
    """The providers that ``delivery.tried`` says this round has been offered to."""
    text = text.lstrip(END)
    return frozenset() if not text or text.startswith(TIE) else frozenset(text.split())


def is_suspect(text: str) -> bool:
    """Whether ``delivery.tried`` says so."""
    return text.startswith(SUSPECT)


def ends_of(text: str) -> str:
    """The marks of unclean ends that ``delivery.tried`` begins with."""
    return text[: len(text) - len(text.lstrip(END))]
