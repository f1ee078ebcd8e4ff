"""A refusal is a value: the whole reply that the client gets, and a bounded word for logs and metrics.

Everything that judges what a client says returns one of these instead of raising. The reply is a single line of ASCII,
``CODE X.Y.Z Sentence``, without CRLF; the sentence names what the person has to change.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

REPLY_LENGTH = 510  # RFC 5321, 4.5.3.1.5: 512 bytes with CRLF
SHOWN_LENGTH = 80  # of something the client sent, quoted back to it


class Reason(StrEnum):
    """Why a command or a message was refused: the label of a metric, so the list is closed."""

    SYNTAX = "syntax"
    SEQUENCE = "sequence"
    UNKNOWN_COMMAND = "unknown_command"
    PARAMETER = "parameter"
    ADDRESS = "address"
    TLS_REQUIRED = "tls_required"
    AUTH_REQUIRED = "auth_required"
    AUTH_MALFORMED = "auth_malformed"
    AUTH_CANCELLED = "auth_cancelled"
    AUTH_FAILED = "auth_failed"
    ACCOUNT_CHANGED = "account_changed"
    SENDER = "sender"
    NOT_SERVED = "not_served"
    FROM_MISSING = "from_missing"
    FROM_SEVERAL = "from_several"
    FROM = "from"
    RECIPIENT = "recipient"
    RECIPIENTS = "recipients"
    NO_RECIPIENTS = "no_recipients"
    LIMIT_HOUR = "limit_hour"
    LIMIT_DAY = "limit_day"
    PAUSED = "paused"
    HEADER = "header"
    HEADER_SIZE = "header_size"
    LOOP = "loop"
    SIZE = "size"
    LINE = "line"
    NEWLINE = "newline"
    NUL = "nul"
    PIPELINING = "pipelining"
    CONNECTIONS = "connections"
    CONNECTIONS_OF_ADDRESS = "connections_of_address"
    CONNECTIONS_OF_ACCOUNT = "connections_of_account"
    NETWORK = "network"
    TOO_SLOW = "too_slow"
    SPOOL_FULL = "spool_full"
    SPOOL_FAILED = "spool_failed"


@dataclass(frozen=True, slots=True)
class Refusal:
    """``reply`` is what the client gets, without CRLF; ``reason`` is what metrics and log call it."""

    reply: str
    reason: Reason


def refuse(reason: Reason, reply: str) -> Refusal:
    """A refusal whose reply is made safe to send: printable ASCII, one line, short enough."""
    return Refusal(shown(reply, REPLY_LENGTH), reason)


def shown(text: str, length: int = SHOWN_LENGTH) -> str:
    """``text`` as it may be quoted in a reply or a log line: printable ASCII, at most ``length`` characters."""
    if len(text) > length:
        text = text[: length - 3] + "..."
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if " " <= char <= "~" else "?" for char in text)
