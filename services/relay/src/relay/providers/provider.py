"""One configured provider: the preset, the operator's table and the settings put together, ready for delivery."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from relay import limits
from relay.choice.offer import Terms
from relay.choice.quota import Quota
from relay.oauth.settings import OAuthSettings
from relay.providers.rules import Rule

Tls = Literal["starttls", "tls", "none"]
Auth = Literal["password", "xoauth2"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One configured provider. Sizes are bytes, times are seconds."""

    name: str
    host: str
    ports: tuple[tuple[int, Tls], ...]  # in the order in which they are tried
    title: str = ""  # as people call it: "Brevo"
    username: str = field(default="", repr=False)  # some take the key for it
    password: str = field(default="", repr=False)
    auth: Auth = "password"
    oauth: OAuthSettings | None = None  # how its tokens are come by, for "xoauth2"
    tls_context: ssl.SSLContext | None = field(default=None, repr=False)  # None only where no port has TLS
    size_limit: int = 0  # 0: not known
    recipients: int = 0  # of one message; 0: any number
    quotas: tuple[Quota, ...] = ()  # recipients; every one must have room
    reserve: float = 0.1  # share of each quota that is kept for accounts of high priority
    senders: tuple[str, ...] = ()  # addresses or ``*@domain`` that it takes mail from, folded; empty: any
    strip: re.Pattern[bytes] | None = None  # header fields that steer the provider, or that it does not take
    field_size: int = 0  # bytes that it takes of a field's value; 0: any number
    headers: tuple[tuple[str, str], ...] = ()  # fields that we add; ``{id}`` in a value is the message's id
    replaces_message_id: bool = False
    accepted: re.Pattern[str] | None = None  # found in its 250 to the content; without it, it sent nothing
    rules: tuple[Rule, ...] = ()
    connections: int = limits.CONNECTIONS_TO_PROVIDER
    messages_per_connection: int = limits.MESSAGES_PER_CONNECTION
    seconds_per_connection: float = limits.SECONDS_PER_CONNECTION
    bytes_in_flight: int = limits.BYTES_IN_FLIGHT
    idle: float = limits.IDLE_CONNECTION
    captured: Path | None = None  # the folder, for a provider that writes files instead of sending

    @property
    def terms(self) -> Terms:
        """What it takes, as the choice of a provider asks it."""
        return Terms(
            name=self.name,
            title=self.title,
            senders=self.senders,
            size_limit=self.size_limit,
            recipients=self.recipients,
            quotas=self.quotas,
            reserve=self.reserve,
        )


def client_context(ca: str = "") -> ssl.SSLContext:
    """TLS 1.2 or later, the name and the chain verified: against ``ca`` (PEM) if there is one, else the system's
    authorities.
    """
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cadata=ca or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
