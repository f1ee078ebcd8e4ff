"""Every setting of the relay, read once from a mapping; all mistakes are told at once.

:func:`read` is the whole interface: it asks nothing but the mapping, the files that ``NAME_FILE`` settings point to,
and ``config/providers.toml``.
``.env.example`` names every setting with its default. ``common.settings`` says what holds for all of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from common.names import is_loopback
from common.settings import Reader, SettingsError
from relay import limits
from relay.choice.routes import Routes
from relay.model import Installation
from relay.settings_lan import LanSettings, read_lan
from relay.settings_names import report_unknown
from relay.settings_provider import ProviderSettings, prefix, read_providers

__all__ = ["LanSettings", "ProviderSettings", "Settings", "SettingsError", "read"]

LogFormat = Literal["text", "json"]
SpoolFilesystem = Literal["refuse", "warn"]

# Where the containers have them; ``make try`` and tests set others.
SPOOL = Path("/var/lib/ownpost/spool/relay")
CERTS = Path("/etc/ownpost/certs")
CONFIG = Path("/etc/ownpost/config")
CAPTURED = Path("/var/lib/ownpost/captured")
SOCKET = Path("relay", "relay.sock")  # below RELAY_RUN

SUBMISSION_PORT, SUBMISSIONS_PORT = 2587, 2465
SMALLEST_MESSAGE_SIZE_LIMIT, LARGEST_MESSAGE_SIZE_LIMIT = 1 * limits.MIB, 1 * limits.GIB
_INSTALLATION = re.compile(r"[0-9a-f]{16}")
MOST_CONNECTIONS = 100_000
MOST_HISTORY_DAYS = 3_650
MOST_REPEAT_MINUTES = 1_440  # a message's states are asked for, and its history may be kept for no more than a day
MOST_DOUBT_MINUTES = 1_440  # the answer that is missing may still have been a yes: a day later nobody expects it twice


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings, valid and complete. Sizes are bytes."""

    domains: tuple[str, ...]  # the first is the main one; lower case, punycode
    hostname: str
    bind: str  # the address published to the world
    listen: str  # the address bound by the process
    submission_port: int  # STARTTLS; 0: off
    submissions_port: int  # TLS from the first byte; 0: off
    lan: LanSettings | None
    providers: tuple[ProviderSettings, ...]  # in order of preference
    routes: Routes  # which message may use which of them
    message_size_limit: int
    recipients_limit: int
    connections: int
    connections_per_address: int
    spool: Path
    installation: Installation | None  # whose the spool must be; None: not told, then it must be nobody's
    run: Path
    certs: Path
    config: Path
    captured: Path
    spool_filesystem: SpoolFilesystem
    log_format: LogFormat
    client_address_in_received: bool
    history_days: int
    repeat_minutes: int  # for which a message that is sent again is kept once; 0: never
    doubt_minutes: int  # before a message is sent again whose final dot got no answer
    warnings: tuple[str, ...] = ()  # sentences ``NAME: ...``: legal, but perhaps not meant
    notes: tuple[str, ...] = ()  # likewise, for the log only: what is assumed where nothing was set

    @property
    def tls(self) -> bool:
        """Whether any listener needs a certificate to be of use."""
        return bool(self.submission_port or self.submissions_port)

    @property
    def trial(self) -> bool:
        """Whether mail is written to files instead of sent."""
        return any(one.captured is not None for one in self.providers)

    @property
    def postmaster(self) -> str:
        """Who notices and test mails come from."""
        return f"postmaster@{self.domains[0]}"

    @property
    def socket(self) -> Path:
        """Where the process answers operators and exporter."""
        return self.run / SOCKET


def read(environ: Mapping[str, str]) -> Settings:
    """The settings in ``environ``. Raises SettingsError with everything that is wrong."""
    return read_all(Reader(environ))


def read_all(reader: Reader) -> Settings:
    """As :func:`read`, with a reader that tells afterwards which names it was asked for."""
    domains = reader.domains()
    bind = reader.address("OWNPOST_BIND", "127.0.0.1")
    captured = reader.path("RELAY_CAPTURED", CAPTURED)
    config = reader.path("RELAY_CONFIG", CONFIG)
    hostname = reader.hostname(domains)
    lan = read_lan(reader, domains, reader.address("RELAY_LISTEN", ""))
    providers, routes = read_providers(reader, captured, config)
    settings = Settings(
        domains=domains,
        hostname=hostname,
        bind=bind,
        listen=reader.address("RELAY_LISTEN", bind),
        submission_port=reader.port("RELAY_SUBMISSION_PORT", SUBMISSION_PORT, off=True),
        submissions_port=reader.port("RELAY_SUBMISSIONS_PORT", SUBMISSIONS_PORT, off=True),
        lan=lan,
        providers=providers,
        routes=routes,
        message_size_limit=reader.size(
            "RELAY_MESSAGE_SIZE_LIMIT", limits.MESSAGE_SIZE, SMALLEST_MESSAGE_SIZE_LIMIT, LARGEST_MESSAGE_SIZE_LIMIT
        ),
        recipients_limit=reader.number("RELAY_RECIPIENTS", limits.RECIPIENTS, 1, limits.RECIPIENTS_MAX),
        connections=reader.number("RELAY_CONNECTIONS", limits.CONNECTIONS, 1, MOST_CONNECTIONS),
        connections_per_address=reader.number(
            "RELAY_CONNECTIONS_PER_ADDRESS", limits.CONNECTIONS_PER_ADDRESS, 1, MOST_CONNECTIONS
        ),
        spool=reader.path("RELAY_SPOOL", SPOOL),
        installation=read_installation(reader, hostname),
        run=reader.run("RELAY_RUN", SOCKET),
        certs=reader.path("RELAY_CERTS", CERTS),
        config=config,
        captured=captured,
        spool_filesystem=reader.choice("RELAY_SPOOL_FILESYSTEM", get_args(SpoolFilesystem), "refuse"),
        log_format=reader.choice("RELAY_LOG_FORMAT", get_args(LogFormat), "text"),
        client_address_in_received=reader.yes("RELAY_CLIENT_ADDRESS", "no"),
        history_days=reader.number("RELAY_HISTORY_DAYS", int(limits.HISTORY / limits.DAY), 1, MOST_HISTORY_DAYS),
        repeat_minutes=reader.number(
            "RELAY_REPEAT_MINUTES", int(limits.REPEAT_WINDOW / limits.MINUTE), 0, MOST_REPEAT_MINUTES
        ),
        doubt_minutes=reader.number(
            "RELAY_DOUBT_MINUTES", int(limits.DOUBT_WAIT / limits.MINUTE), 1, MOST_DOUBT_MINUTES
        ),
    )
    _check(reader, settings)
    report_unknown(reader, [prefix(provider.name) for provider in settings.providers])
    return replace(settings, warnings=reader.finish(), notes=tuple(dict.fromkeys(reader.notes)))


def read_installation(reader: Reader, hostname: str = "") -> Installation | None:
    """The installation that the spool must belong to; None if the relay was not told."""
    name, folder = reader.text("RELAY_INSTALLATION"), reader.text("RELAY_INSTALLATION_FOLDER")
    if name and not _INSTALLATION.fullmatch(name):
        reader.wrong(
            "RELAY_INSTALLATION", name, "an installation's id", "16 hexadecimal digits, as in var/installation"
        )
    return Installation(name, hostname, " ".join(folder.splitlines())) if name else None


def _check(reader: Reader, settings: Settings) -> None:
    """What must hold between several settings."""
    _check_ports(reader, settings)
    real = [one.name for one in settings.providers if not settings.trial and not is_loopback(one.host)]
    if real and is_loopback(settings.bind) and settings.tls and not settings.lan:
        reader.warn(
            "OWNPOST_BIND",
            f"only this machine can reach {settings.bind}, but mail really goes out through {real[0]};"
            " set it to 0.0.0.0 for clients elsewhere.",
        )


def _check_ports(reader: Reader, settings: Settings) -> None:
    ports = {
        "RELAY_SUBMISSION_PORT": settings.submission_port,
        "RELAY_SUBMISSIONS_PORT": settings.submissions_port,
        "RELAY_LAN_PORT": settings.lan.port if settings.lan else 0,
    }
    taken: dict[int, str] = {}
    for name, port in ports.items():
        if port and port in taken:
            reader.wrong(name, str(port), "free", f"a port other than that of {taken[port]}")
        taken.setdefault(port, name)
    if not any(ports.values()):
        reader.problem(
            "RELAY_SUBMISSION_PORT", "0 leaves no listener; allowed: a port here, RELAY_SUBMISSIONS_PORT, or a LAN one."
        )
