"""What we know of a provider: where it is, how to log in, what it takes, what its replies mean.

A preset is a row of values, never code, each with its source. What is not known is left out, not guessed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relay import limits
from relay.delivery.content import field_pattern
from relay.providers.provider import Provider, Tls, client_context
from relay.providers.rules import Meaning, Rule, Stage

if TYPE_CHECKING:
    from relay.settings import ProviderSettings


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


def _rule(meaning: Meaning, pattern: str, *stages: Stage, codes: tuple[int, ...] = ()) -> Rule:
    return Rule(frozenset(stages), frozenset(codes), re.compile(pattern, re.IGNORECASE), meaning)


# "relay access denied" is what Postfix, Exim and SMTP2GO answer at RCPT to a client they do not take for logged in.
# It names no mailbox.
_RELAYING = _rule(Meaning.KEY_DEAD, r"\brelay(?:ing)? (?:access )?(?:denied|not permitted|not allowed)", Stage.RCPT)

PRESETS: dict[str, Preset] = {
    # smtp.sendgrid.net: EHLO seen with SIZE 31457280; 5,000 messages a connection; replies from sendgrid/docs and
    # users' reports (2026-10)
    "sendgrid": Preset(
        host="smtp.sendgrid.net",
        username="apikey",
        size_limit=30 * limits.MIB,
        strip=("X-SMTPAPI",),
        rules=(
            _rule(Meaning.USED_UP, r"maximum credits exceeded", Stage.LOGIN, Stage.MAIL, Stage.FINAL),
            _rule(Meaning.KEY_DEAD, r"authorization grant is invalid|bad username / password", Stage.LOGIN, Stage.MAIL),
            _rule(
                Meaning.NOT_SET_UP, r"does not match a verified sender identity", Stage.MAIL, Stage.DATA, Stage.FINAL
            ),
            _RELAYING,
        ),
    ),
    "generic": Preset(rules=(_RELAYING,)),
    "capture": Preset(tls="none", connections=2, captures=True),
}


def build(settings: ProviderSettings) -> Provider:
    """The provider that ``settings`` describe, on top of its preset. Raises ssl.SSLError when its CA is not a
    certificate in PEM.
    """
    preset = PRESETS[settings.preset]
    tls: Tls = "none" if preset.captures else settings.tls
    return Provider(
        name=settings.name,
        title=settings.name,
        host=settings.host or preset.host,
        ports=((settings.port or preset.port, tls),),
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
