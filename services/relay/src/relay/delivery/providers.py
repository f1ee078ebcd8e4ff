"""What we know of a provider: where it is, how to log in, what it takes, what its replies mean.

A preset is a row of values, never code, each with its source. What is not known is left out, not guessed.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from relay import limits
from relay.delivery.content import field_pattern
from relay.delivery.outcome import Rule, Stage, Standing

if TYPE_CHECKING:
    from relay.settings import ProviderSettings

Tls = Literal["starttls", "tls", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """What is true of a provider for everyone who uses it."""

    host: str = ""
    port: int = 587
    tls: Tls = "starttls"
    username: str = ""
    size_limit: int = 0  # bytes; 0: not known
    strip: tuple[
        str, ...
    ] = ()  # fields by which a client could steer the provider; ``*`` at the end stands for all that begin so
    rules: tuple[Rule, ...] = ()
    connections: int = limits.CONNECTIONS_TO_PROVIDER
    messages_per_connection: int = limits.MESSAGES_PER_CONNECTION
    captures: bool = False


def _rule(standing: Standing, pattern: str, *stages: Stage, codes: tuple[int, ...] = ()) -> Rule:
    return Rule(frozenset(stages), frozenset(codes), re.compile(pattern, re.IGNORECASE), standing)


# "relay access denied" is what Postfix, Exim and SMTP2GO answer at RCPT to a client they do not take for logged in.
# It names no mailbox.
_RELAYING = _rule(Standing.KEY_DEAD, r"\brelay(?:ing)? (?:access )?(?:denied|not permitted|not allowed)", Stage.RCPT)

PRESETS: dict[str, Preset] = {
    # smtp.sendgrid.net: EHLO seen with SIZE 31457280; 5,000 messages a connection; replies from sendgrid/docs and
    # users' reports (2026-10)
    "sendgrid": Preset(
        host="smtp.sendgrid.net",
        username="apikey",
        size_limit=30 * limits.MIB,
        strip=("X-SMTPAPI",),
        rules=(
            _rule(Standing.USED_UP, r"maximum credits exceeded", Stage.LOGIN, Stage.MAIL, Stage.FINAL),
            _rule(
                Standing.KEY_DEAD, r"authorization grant is invalid|bad username / password", Stage.LOGIN, Stage.MAIL
            ),
            _rule(
                Standing.NOT_SET_UP, r"does not match a verified sender identity", Stage.MAIL, Stage.DATA, Stage.FINAL
            ),
            _RELAYING,
        ),
    ),
    "generic": Preset(rules=(_RELAYING,)),
    "capture": Preset(tls="none", connections=2, captures=True),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One configured provider."""

    name: str
    host: str
    port: int
    tls: Tls
    username: str = ""
    password: str = field(default="", repr=False)
    tls_context: ssl.SSLContext | None = field(default=None, repr=False)  # None only where ``tls`` is "none"
    size_limit: int = 0
    strip: re.Pattern[bytes] | None = None
    rules: tuple[Rule, ...] = ()
    connections: int = limits.CONNECTIONS_TO_PROVIDER
    messages_per_connection: int = limits.MESSAGES_PER_CONNECTION
    bytes_in_flight: int = limits.BYTES_IN_FLIGHT
    idle: float = limits.IDLE_CONNECTION
    captured: Path | None = None  # the folder, for a provider that writes files instead of sending


def build(settings: ProviderSettings) -> Provider:
    """The provider that ``settings`` describe, on top of its preset. Raises ssl.SSLError when its CA is not a
    certificate in PEM.
    """
    preset = PRESETS[settings.preset]
    tls: Tls = "none" if preset.captures else settings.tls
    return Provider(
        name=settings.name,
        host=settings.host or preset.host,
        port=settings.port or preset.port,
        tls=tls,
        username=settings.username or preset.username,
        password=settings.password,
        tls_context=None if tls == "none" else client_context(settings.ca),
        size_limit=preset.size_limit,
        strip=field_pattern(preset.strip),
        rules=preset.rules,
        connections=preset.connections,
        messages_per_connection=preset.messages_per_connection,
        captured=settings.captured if preset.captures else None,
    )


def client_context(ca: str = "") -> ssl.SSLContext:
    """TLS 1.2 or later, the name and the chain verified: against ``ca`` (PEM) if there is one, else the system's
    authorities.
    """
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cadata=ca or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
