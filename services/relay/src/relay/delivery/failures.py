"""What goes wrong on the way to a provider, and a sentence for a person about each.

Pure. Which of it is whose fault is :mod:`~relay.delivery.outcome`'s to say.
"""

from __future__ import annotations

import socket
import ssl

import aiosmtplib

from common.connect import NoConnection
from relay.oauth.errors import GrantDead, TokenUnavailable
from relay.spool import SpoolFull


class OwnRefusal(Exception):
    """This message cannot be sent through this provider at all: the text says why and what would help."""


class NotOffered(OwnRefusal):
    """As that, but it may pass: the provider's EHLO does not offer now what it did when the message was accepted."""


class Cut(ConnectionError):
    """We ended the conversation ourselves, because the process is to end."""


class Garbage(Exception):
    """The provider sent something that is not an SMTP reply."""


def explain(error: BaseException) -> str:
    """A sentence for a person about what went wrong on the way to a provider."""
    cause = error.__cause__ if isinstance(error, aiosmtplib.SMTPConnectError) else None
    if isinstance(cause, OSError) and not isinstance(cause, aiosmtplib.SMTPException):
        return explain(cause)
    for kind, sentence in _SENTENCES:
        if isinstance(error, kind):
            return sentence.format(error=error, why=_why(error))
    return f"internal error: {type(error).__name__}"


def _why(error: BaseException) -> str:
    """The one piece of an exception that tells a person more than its class."""
    for name in ("verify_message", "reason", "strerror", "message"):
        if value := getattr(error, name, None):
            return str(value)
    return str(error)


# The first class that fits: special ones first.
_SENTENCES: tuple[tuple[type[BaseException], str], ...] = (
    (SpoolFull, "the relay's disk is full"),
    (GrantDead, "{error}"),
    (TokenUnavailable, "{error}"),
    (Cut, "the relay was stopped"),
    (Garbage, "the provider's answer is not SMTP: {error}"),
    (aiosmtplib.SMTPResponseException, "the provider's answer is not SMTP: {why}"),
    (ssl.SSLCertVerificationError, "the provider's certificate is not valid: {why}"),
    (ssl.SSLError, "TLS with the provider failed: {why}"),
    (TimeoutError, "the provider did not answer in time"),
    (socket.gaierror, "the provider's host name could not be resolved: {why}"),
    (NoConnection, "no connection to the provider: {error}"),
    (ConnectionError, "the provider closed the connection"),
    (aiosmtplib.SMTPException, "the provider cannot be used: {why}"),
    (OSError, "the provider cannot be reached: {why}"),
)
