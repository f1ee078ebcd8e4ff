"""Every setting of the renewer, read once from a mapping; all mistakes are told at once.

``.env.example`` lists the names; ``common.settings`` says what holds for all of them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from common.settings import Reader

from . import settings_acme
from .settings_acme import AcmeSettings, folder

Mode = Literal["self-signed", "files", "acme"]
LogFormat = Literal["text", "json"]

SOCKET = Path("renewer", "renewer.sock")  # below RENEWER_RUN


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings, valid and complete."""

    mode: Mode
    names: tuple[str, ...]  # what the certificate must cover, the mail host first; with self-signed addresses too
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
        certs=folder(reader, "RENEWER_CERTS", Path("/certs")),
        run=reader.run("RENEWER_RUN", SOCKET),
        log_format=reader.choice("RENEWER_LOG_FORMAT", get_args(LogFormat), "text"),
        files_cert=reader.path("RENEWER_FILES_CERT"),
        files_key=reader.path("RENEWER_FILES_KEY"),
        acme=settings_acme.read(reader) if mode == "acme" else None,
    )
    for name in ("RENEWER_FILES_CERT", "RENEWER_FILES_KEY") if mode == "files" else ():
        if not reader.given(name):
            reader.problem(name, "missing; allowed: the path of a file in PEM.")
    return replace(settings, warnings=reader.finish())


def _names(reader: Reader, *, addresses: bool) -> tuple[str, ...]:
    hostname = reader.hostname(reader.domains())
    extra = (_extra(reader, word, addresses=addresses) for word in reader.words("RENEWER_EXTRA_NAMES"))
    return tuple(dict.fromkeys(filter(None, (hostname, *extra))))


def _extra(reader: Reader, word: str, *, addresses: bool) -> str:
    """``word`` as certificates hold it: a name in DNS form, or an address in its canonical form."""
    try:
        address = str(ipaddress.ip_address(word.removeprefix("[").removesuffix("]")))
    except ValueError:
        return reader.host("RENEWER_EXTRA_NAMES", word)
    if not addresses:
        reader.wrong("RENEWER_EXTRA_NAMES", word, "a host name", "host names; addresses with OWNPOST_TLS=self-signed")
    return address
