"""Every setting of the exporter, read once from a mapping; all mistakes are told at once.

``.env.example`` lists the names with their defaults; ``common.settings`` says what holds for all of them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from argon2 import extract_parameters
from argon2.exceptions import InvalidHashError

from common.names import host_name
from common.settings import Reader

LogFormat = Literal["text", "json"]
SOCKET = Path("exporter", "exporter.sock")  # below EXPORTER_RUN
PORT = 9325
SHORTEST_PASSWORD = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings, valid and complete."""

    bind: str  # the address published: decides whether a password is needed
    listen: str  # the address bound by the process
    port: int
    inside_port: int  # /metrics without a password, for a network that nothing is published from; 0: off
    run: Path  # folder of everybody's sockets
    hosts: tuple[str, ...]  # names by which browsers may call us, besides localhost and addresses
    password: str = field(repr=False)  # as typed, or an Argon2 hash of it; empty: none is asked
    notify: tuple[str, ...] = field(repr=False)  # they hold tokens
    show_addresses: bool
    log_format: LogFormat
    submission_port: int  # as published: what people type in
    submissions_port: int
    lan_port: int
    warnings: tuple[str, ...] = ()  # sentences ``NAME: ...`` for the log: legal, but perhaps not meant

    @property
    def socket(self) -> Path:
        return self.run / SOCKET


def read(environ: Mapping[str, str], unknown: Callable[[Sequence[str]], Sequence[int]]) -> Settings:
    """The settings in ``environ``. Raises :class:`SettingsError` with everything that is wrong.

    ``unknown`` says which of some notify URLs (by number) nobody knows how to use.
    """
    reader = Reader(environ)
    settings = read_all(reader, unknown)
    return replace(settings, warnings=reader.finish())


def read_all(reader: Reader, unknown: Callable[[Sequence[str]], Sequence[int]]) -> Settings:
    """As :func:`read`, with the problems left in ``reader``."""
    bind = reader.address("EXPORTER_BIND", "127.0.0.1")
    return Settings(
        bind=bind,
        listen=reader.address("EXPORTER_LISTEN", bind),
        port=reader.port("EXPORTER_PORT", PORT),
        inside_port=reader.port("EXPORTER_INSIDE_PORT", 0, off=True),
        run=reader.run("EXPORTER_RUN", SOCKET),
        hosts=_hosts(reader),
        password=_password(reader, bind),
        notify=_notify(reader, unknown),
        show_addresses=reader.yes("EXPORTER_SHOW_ADDRESSES", "no"),
        log_format=reader.choice("EXPORTER_LOG_FORMAT", get_args(LogFormat), "text"),
        submission_port=reader.port("OWNPOST_SUBMISSION_PORT", 587),
        submissions_port=reader.port("OWNPOST_SUBMISSIONS_PORT", 465),
        lan_port=reader.port("OWNPOST_LAN_PORT", 2525),
    )


def _hosts(reader: Reader) -> tuple[str, ...]:
    """The mail host's own name is always among them; whether it is a good one is for the relay to say: the page is
    there to show what is wrong.
    """
    lenient = Reader(reader.environ)
    own = lenient.hostname(lenient.domains())
    reader.asked |= lenient.asked
    found = [] if lenient.problems else [own]
    for word in reader.words("EXPORTER_HOSTS"):
        found.append(host_name(word))
        if not found[-1]:
            reader.wrong("EXPORTER_HOSTS", word, "a host name", "names such as mail.example.org, separated by spaces")
    return tuple(dict.fromkeys(filter(None, found)))


def _password(reader: Reader, bind: str) -> str:
    before = len(reader.problems)
    password = reader.secret("EXPORTER_PASSWORD")
    if password.startswith("$argon2"):
        try:
            extract_parameters(password)
        except InvalidHashError:
            reader.problem(
                "EXPORTER_PASSWORD",
                "begins like an Argon2 hash and is none; in .env such a hash must stand in single quotes, "
                "or in a file that EXPORTER_PASSWORD_FILE names.",
            )
    elif 0 < len(password) < SHORTEST_PASSWORD:
        reader.problem("EXPORTER_PASSWORD", f"is too short; allowed: at least {SHORTEST_PASSWORD} characters.")
    if not password and len(reader.problems) == before and not ipaddress.ip_address(bind).is_loopback:
        reader.problem(
            "EXPORTER_PASSWORD",
            f"missing; the page is published at {bind} (EXPORTER_BIND) and must not be open to all.",
        )
    return password


def _notify(reader: Reader, unknown: Callable[[Sequence[str]], Sequence[int]]) -> tuple[str, ...]:
    urls = tuple(dict.fromkeys(reader.document("EXPORTER_NOTIFY_URL").split()))
    for number in unknown(urls) if urls else ():
        scheme = ascii(urls[number].partition(":")[0][:20])
        reader.problem(
            "EXPORTER_NOTIFY_URL",
            f"number {number + 1} ({scheme}:...) is not known; allowed: URLs of apprise such as ntfys://ntfy.sh/TOPIC, "
            "or an https:// URL that is pinged, separated by spaces.",
        )
    return urls
