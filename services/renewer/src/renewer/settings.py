"""Every setting of the renewer, read once from a mapping; all mistakes are told at once.

``.env.example`` lists the names; ``reader.py`` says how a value is found.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from common.names import host_name

from . import settings_acme
from .reader import Reader
from .settings_acme import AcmeSettings

Mode = Literal["self-signed", "files", "acme"]
LogFormat = Literal["text", "json"]

SOCKET = Path("renewer", "renewer.sock")  # below RENEWER_RUN
SOCKET_PATH_BYTES = 107  # sun_path of unix(7), less its NUL


class SettingsError(Exception):
    """Some settings are wrong; ``problems`` holds one sentence for each."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings, valid and complete."""

    mode: Mode
    names: tuple[
        str, ...
    ]  # what the certificate must cover, the mail host first; host names, with self-signed addresses too
    certs: Path
    run: Path
    log_format: LogFormat
    files_cert: Path
    files_key: Path
    acme: AcmeSettings | None  # with OWNPOST_TLS=acme only
    warnings: tuple[str, ...] = ()  # sentences ``NAME: ...`` for the log: legal, but perhaps not meant

    @property
    def socket(self) -> Path:
        return self.run / SOCKET


def read(environ: Mapping[str, str]) -> Settings:
    """The settings in ``environ``. Raises SettingsError with everything that is wrong."""
    reader = Reader(environ)
    mode: Mode = reader.choice("OWNPOST_TLS", get_args(Mode), "self-signed")
    settings = Settings(
        mode=mode,
        names=_names(reader, addresses=mode == "self-signed"),
        certs=reader.folder("RENEWER_CERTS", "/certs"),
        run=reader.path("RENEWER_RUN", "/run/ownpost"),
        log_format=reader.choice("RENEWER_LOG_FORMAT", get_args(LogFormat), "text"),
        files_cert=reader.path("RENEWER_FILES_CERT", needed=mode == "files"),
        files_key=reader.path("RENEWER_FILES_KEY", needed=mode == "files"),
        acme=settings_acme.read(reader) if mode == "acme" else None,
    )
    if len(bytes(settings.socket)) > SOCKET_PATH_BYTES:
        reader.problem(
            "RENEWER_RUN", f"{settings.socket} is too long for a socket; allowed are {SOCKET_PATH_BYTES} bytes."
        )
    if reader.problems:
        raise SettingsError(tuple(reader.problems))
    return replace(settings, warnings=tuple(reader.warnings))


def _names(reader: Reader, *, addresses: bool) -> tuple[str, ...]:
    domains = reader.text("OWNPOST_DOMAINS").replace(",", " ").split()
    hostname = reader.text("OWNPOST_HOSTNAME", f"mail.{domains[0]}" if domains else "")
    if not hostname:
        reader.problem("OWNPOST_DOMAINS", "missing; name the domain that mail is sent from, such as example.org.")
    hosts = [_name(reader, "OWNPOST_HOSTNAME", hostname, addresses=addresses)] if hostname else []
    extra = reader.text("RENEWER_EXTRA_NAMES").replace(",", " ").split()
    hosts += [_name(reader, "RENEWER_EXTRA_NAMES", name, addresses=addresses) for name in extra]
    return tuple(dict.fromkeys(hosts))


def _name(reader: Reader, setting: str, name: str, *, addresses: bool) -> str:
    """``name`` as certificates hold it: lower case, punycode, or an address in its canonical form."""
    try:
        address = str(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        pass
    else:
        if not addresses:
            reader.problem(setting, f"{name} is an address; certificates of this mode are for host names.")
        return address
    found = host_name(name)
    if "." not in found:
        reader.problem(setting, f"{name!r} is not a full host name such as mail.example.org.")
    return found
