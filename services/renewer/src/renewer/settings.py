"""Every setting of the renewer, read once from a mapping; all mistakes are told at once.

Each name has a ``NAME_FILE`` twin that points to a file with the value. An empty value counts as not given: Compose
passes variables that nobody set as empty ones. ``docs/architecture.md`` and ``.env.example`` list the names.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, get_args

Mode = Literal["self-signed", "files"]
LogFormat = Literal["text", "json"]
T = TypeVar("T", bound=str)

SOCKET = Path("renewer", "renewer.sock")  # below RENEWER_RUN
SOCKET_PATH_BYTES = 107  # sun_path of unix(7), less its NUL
_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_NAME_LENGTH = 253  # RFC 1035, section 2.3.4


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
        certs=reader.path("RENEWER_CERTS", "/certs"),
        run=reader.path("RENEWER_RUN", "/run/ownpost"),
        log_format=reader.choice("RENEWER_LOG_FORMAT", get_args(LogFormat), "text"),
        files_cert=reader.path("RENEWER_FILES_CERT", needed=mode == "files"),
        files_key=reader.path("RENEWER_FILES_KEY", needed=mode == "files"),
    )
    if len(bytes(settings.socket)) > SOCKET_PATH_BYTES:
        reader.problem(
            "RENEWER_RUN", f"{settings.socket} is too long for a socket; allowed are {SOCKET_PATH_BYTES} bytes."
        )
    if not settings.certs.is_dir():
        reader.problem("RENEWER_CERTS", f"{settings.certs} is not a folder; name an existing one.")
    if reader.problems:
        raise SettingsError(tuple(reader.problems))
    return settings


class Reader:
    """Takes values out of a mapping and gathers what is wrong with them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[str] = []

    def problem(self, name: str, sentence: str) -> None:
        self.problems.append(f"{name}: {sentence}")

    def text(self, name: str, default: str = "") -> str:
        """The value of ``name``, or what the file named by ``NAME_FILE`` holds."""
        value, file = self._environ.get(name, "").strip(), self._environ.get(f"{name}_FILE", "").strip()
        if value and file:
            self.problem(name, f"given together with {name}_FILE; keep one of them.")
        elif file:
            value = self._from_file(f"{name}_FILE", Path(file))
        return value or default

    def choice(self, name: str, allowed: tuple[T, ...], default: T) -> T:
        value = self.text(name, default)
        for one in allowed:
            if value.lower() == one:
                return one
        self.problem(name, f"{value!r} is not known; allowed are {', '.join(allowed)}.")
        return default

    def path(self, name: str, default: str = "", *, needed: bool = False) -> Path:
        value = self.text(name, default)
        if needed and not value:
            self.problem(name, "missing; name a file.")
        elif value and not value.startswith("/"):
            self.problem(name, f"{value!r} is not an absolute path.")
        return Path(value)

    def _from_file(self, name: str, path: Path) -> str:
        try:
            value = path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            self.problem(name, f"{path} cannot be read: {getattr(error, 'strerror', 'it is not text')}.")
            return ""
        if not value:
            self.problem(name, f"{path} is empty.")
        return value


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
    try:
        ascii_name = name.lower().rstrip(".").encode("idna").decode("ascii")
    except UnicodeError:
        ascii_name = ""
    labels = ascii_name.split(".")
    if not all(map(_LABEL.fullmatch, labels)) or len(ascii_name) > _NAME_LENGTH or len(labels) < 2:
        reader.problem(setting, f"{name!r} is not a full host name such as mail.example.org.")
    return ascii_name
