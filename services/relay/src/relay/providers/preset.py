"""What is true of a provider for everyone who uses it: a row of values, never code."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from relay import limits
from relay.providers.provider import Tls
from relay.providers.rules import Rule

RESERVE = 0.1
_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """The facts; ``common/providers.toml`` has the same names. Sizes are bytes, 0 means not known."""

    title: str = ""
    source: str = ""
    checked: datetime.date | None = None
    host: str = ""  # may hold ``{region}``
    regions: Mapping[str, str] = field(default_factory=lambda: _NOTHING)  # what NAME_REGION makes of the host
    ports: tuple[tuple[int, Tls], ...] = ()
    username: str = ""  # the same for everyone; ``{password}``: the password again
    login: str = ""  # what NAME_USERNAME is, in words
    key: str = ""  # what NAME_PASSWORD is, in words
    login_optional: bool = False
    oauth: str = ""  # whose tokens let us in: "google", "microsoft"
    size_limit: int = 0
    recipients: int = 0  # of one message
    connections: int = limits.CONNECTIONS_TO_PROVIDER
    messages_per_connection: int = limits.MESSAGES_PER_CONNECTION
    seconds_per_connection: float = limits.SECONDS_PER_CONNECTION
    hourly_quota: int = 0  # recipients
    daily_quota: int = 0
    monthly_quota: int = 0
    clock: str = "UTC"  # the zone in which its days and months begin, or "rolling": the last 24 hours, 30 days
    reserve: float = RESERVE  # share of each quota that only accounts of high priority may use
    senders: tuple[str, ...] = ()  # whom it serves; ``{username}`` stands for the login; empty: anyone
    strip: tuple[str, ...] = ()  # fields by which a client could steer it; ``*`` at the end: all that begin so
    keep: tuple[str, ...] = ()  # if any: the only fields that it takes, written as in ``strip``
    field_size: int = 0  # bytes that it takes of a field's value; longer X- fields are left out
    headers: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    replaces_message_id: bool = False
    accepted: re.Pattern[str] | None = None  # found in its 250 to the content; else it sent nothing
    rules: tuple[Rule, ...] = ()
    dns: str = ""  # a note for people
