"""Every setting of this program, read once from a mapping; all mistakes are reported together.

Each ``NAME`` may be given as ``NAME_FILE``, the path of a file that holds the value. An empty value counts as not set.
Keys are for the services' administration only and never leave for anywhere but the service they belong to.
``docs/domain.md`` and ``.env.example`` list the names.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from . import names
from .backup import INSIDE

T = TypeVar("T")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address

CLOUDFLARE = "https://api.cloudflare.com/client/v4"
RESOLVERS = "1.1.1.1, 8.8.8.8, 9.9.9.9"
TRACES = "https://1.1.1.1/cdn-cgi/trace, https://[2606:4700:4700::1111]/cdn-cgi/trace"
ANYWHERE = ipaddress.ip_address("0.0.0.0")
KEYS: Mapping[str, tuple[str, ...]] = {
    "sendgrid": ("DOMAIN_SENDGRID_API_KEY",),
    "brevo": ("DOMAIN_BREVO_API_KEY",),
    "resend": ("DOMAIN_RESEND_API_KEY",),
    "mailgun": ("DOMAIN_MAILGUN_API_KEY",),
    "postmark": ("DOMAIN_POSTMARK_ACCOUNT_TOKEN",),
    "ses": ("DOMAIN_SES_ACCESS_KEY_ID", "DOMAIN_SES_SECRET_ACCESS_KEY", "DOMAIN_SES_REGION"),
}
URLS: Mapping[str, str] = {
    "sendgrid": "https://api.sendgrid.com",
    "brevo": "https://api.brevo.com",
    "resend": "https://api.resend.com",
    "mailgun": "https://api.mailgun.net",
    "postmark": "https://api.postmarkapp.com",
    "ses": "https://email.{region}.amazonaws.com",
}
OTHERS = [
    "DOMAIN_CLOUDFLARE_API_TOKEN",
    "DOMAIN_CLOUDFLARE_URL",
    "DOMAIN_ADDRESSES",
    "DOMAIN_TRACES",
    "DOMAIN_POSTMASTER",
    "DOMAIN_EMAIL_ROUTING",
    "DOMAIN_SUBADDRESSING",
    "DOMAIN_DMARC_REPORTS",
    "DOMAIN_TLS_REPORTS",
    "DOMAIN_MTA_STS",
    "DOMAIN_RESOLVERS",
    "DOMAIN_CONFIG",
    "DOMAIN_BACKUPS",
    "DOMAIN_RUN",
]
_PROVIDER = re.compile(r"[a-z][a-z0-9_]{0,31}")
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")


class SettingsError(Exception):
    """Some settings are wrong; ``problems`` holds one sentence for each."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Key:
    """What a service's API is reached with; ``secrets`` in the order of ``KEYS``."""

    url: str
    secrets: tuple[str, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings, valid and complete; names in DNS form."""

    domains: tuple[str, ...]
    hostname: str
    providers: tuple[str, ...]
    hosts: Mapping[str, tuple[str, int]]  # NAME_HOST and NAME_PORT where they are set ("" and 0 where not)
    cloudflare: Key | None
    keys: Mapping[str, Key]
    addresses: tuple[Address, ...] | None  # None: ask the machine; (): leave the mail host's records alone
    bind: Address  # where the ports are published: a family that they are not published for needs no record
    traces: tuple[str, ...]
    postmaster: str
    email_routing: bool
    subaddressing: bool | None  # None: leave it as it is
    dmarc_reports: str
    tls_reports: str
    mta_sts: bool
    resolvers: tuple[tuple[str, int], ...]
    submission_port: int
    submissions_port: int
    config: Path
    backups: Path
    run: Path | None

    @property
    def mark(self) -> str:
        """The comment by which we know our own records; Cloudflare's free plan takes 100 characters."""
        return f"Ownpost {self.hostname}"[:100]


def read(environ: Mapping[str, str]) -> Settings:
    """The settings in ``environ``. Raises SettingsError with everything that is wrong."""
    reader = Reader(environ)
    domains = reader.names("OWNPOST_DOMAINS")
    if not domains:
        reader.problem("OWNPOST_DOMAINS", "missing; name the domain that mail is sent from, such as example.org.")
    hostname = reader.names("OWNPOST_HOSTNAME", f"mail.{domains[0]}" if domains else "")
    providers = _providers(reader)
    settings = Settings(
        domains=domains,
        hostname=hostname[0] if hostname else "",
        providers=providers,
        hosts={name: _host(reader, name.upper()) for name in providers},
        cloudflare=_cloudflare(reader),
        keys=_keys(reader),
        addresses=_addresses(reader),
        bind=reader.read(
            "OWNPOST_BIND", reader.text("OWNPOST_BIND", "127.0.0.1").strip("[]"), ipaddress.ip_address, ANYWHERE
        ),
        traces=tuple(reader.url("DOMAIN_TRACES", url) for url in _list(reader.text("DOMAIN_TRACES", TRACES))),
        postmaster=reader.address("DOMAIN_POSTMASTER"),
        email_routing=reader.yes("DOMAIN_EMAIL_ROUTING") is not False,
        subaddressing=reader.yes("DOMAIN_SUBADDRESSING"),
        dmarc_reports=reader.address("DOMAIN_DMARC_REPORTS"),
        tls_reports=reader.address("DOMAIN_TLS_REPORTS"),
        mta_sts=reader.yes("DOMAIN_MTA_STS") is True,
        resolvers=_resolvers(reader),
        submission_port=reader.port("OWNPOST_SUBMISSION_PORT", 587),
        submissions_port=reader.port("OWNPOST_SUBMISSIONS_PORT", 465),
        config=reader.path("DOMAIN_CONFIG", "/etc/ownpost/config"),
        backups=reader.path("DOMAIN_BACKUPS", str(INSIDE)),
        run=reader.path("DOMAIN_RUN", "") if reader.text("DOMAIN_RUN") else None,
    )
    reader.unknown()
    if reader.problems:
        raise SettingsError(tuple(reader.problems))
    return settings


class Reader:
    """Takes values out of a mapping and gathers what is wrong with them."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self.problems: list[str] = []

    def problem(self, name: str, sentence: str) -> None:
        """Notes a problem once."""
        if (line := f"{name}: {sentence}") not in self.problems:
            self.problems.append(line)

    def text(self, name: str, default: str = "") -> str:
        """The value of ``name``, or what the file named by ``NAME_FILE`` holds."""
        value, file = self._environ.get(name, "").strip(), self._environ.get(f"{name}_FILE", "").strip()
        if value and file:
            self.problem(name, f"given together with {name}_FILE; keep one of them.")
        elif file:
            value = self._from_file(f"{name}_FILE", Path(file))
        return value or default

    def secret(self, name: str) -> str:
        """A value that goes into an HTTP header. Never shown, not even when it is wrong."""
        value = self.text(name)
        if value and not (value.isascii() and value.isprintable() and " " not in value):
            self.problem(name, "has characters that no key has; copy it anew, on one line.")
        return value

    def read(self, name: str, value: str, convert: Callable[[str], T], default: T) -> T:
        """``value`` converted, or a problem."""
        try:
            return convert(value)
        except ValueError as error:
            self.problem(name, str(error))
            return default

    def names(self, name: str, default: str = "") -> tuple[str, ...]:
        found = [self.read(name, one, names.domain_name, "") for one in _list(self.text(name, default))]
        return tuple(dict.fromkeys(one for one in found if one))

    def address(self, name: str) -> str:
        value = self.text(name)
        return self.read(name, value, names.address, "") if value else ""

    def yes(self, name: str) -> bool | None:
        """Yes or no, None where it is not set."""
        value = self.text(name).lower()
        if value not in ("", "yes", "no"):
            self.problem(name, f"{value!r} is not known; allowed are yes, no.")
        return {"yes": True, "no": False}.get(value)

    def port(self, name: str, default: int) -> int:
        value = self.text(name)
        if value and not (value.isascii() and value.isdigit() and 0 < int(value) < 65536):
            self.problem(name, f"{value!r} is not a port; allowed are 1 to 65535.")
            return default
        return int(value or default)

    def path(self, name: str, default: str) -> Path:
        value = self.text(name, default)
        if not value.startswith("/"):
            self.problem(name, f"{value!r} is not an absolute path.")
        return Path(value)

    def url(self, name: str, value: str) -> str:
        """A base URL: https, or http on this machine, so that no key ever travels in the clear."""
        parts = urlsplit(value)
        here = parts.hostname in ("127.0.0.1", "::1", "localhost")
        if not parts.hostname or parts.scheme not in (("https", "http") if here else ("https",)) or parts.username:
            self.problem(name, f"{value!r} is not a URL that begins with https://.")
        return value.rstrip("/")

    def unknown(self) -> None:
        """Names that nobody reads are most likely misspelt."""
        known = {*OTHERS, *(name for group in KEYS.values() for name in group)}
        known |= {f"DOMAIN_{name.upper()}_URL" for name in URLS}
        known |= {f"{name}_FILE" for name in known}
        for name in self._environ:
            if name.startswith("DOMAIN_") and name not in known:
                near = difflib.get_close_matches(name, known, 1)
                self.problem(name, f"there is no such setting{f'; did you mean {near[0]}?' if near else '.'}")

    def _from_file(self, name: str, path: Path) -> str:
        try:
            value = path.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            self.problem(name, f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not text'}.")
            return ""
        if not value:
            self.problem(name, f"{path} is empty.")
        return value


def _list(text: str) -> list[str]:
    return text.replace(",", " ").split()


def _providers(reader: Reader) -> tuple[str, ...]:
    found = _list(reader.text("OWNPOST_PROVIDERS", "capture").lower())
    for name in found:
        if not _PROVIDER.fullmatch(name):
            reader.problem("OWNPOST_PROVIDERS", f"{name!r} is not a provider's name such as sendgrid.")
    return tuple(dict.fromkeys(found))


def _host(reader: Reader, name: str) -> tuple[str, int]:
    host = reader.text(f"{name}_HOST").lower().rstrip(".")
    return host, reader.port(f"{name}_PORT", 0)


def _cloudflare(reader: Reader) -> Key | None:
    token = reader.secret("DOMAIN_CLOUDFLARE_API_TOKEN")
    url = reader.url("DOMAIN_CLOUDFLARE_URL", reader.text("DOMAIN_CLOUDFLARE_URL", CLOUDFLARE))
    return Key(url, (token,)) if token else None


def _keys(reader: Reader) -> dict[str, Key]:
    keys: dict[str, Key] = {}
    for provider, wanted in KEYS.items():
        values = tuple(reader.secret(name) for name in wanted)
        given = [name for name, value in zip(wanted, values, strict=True) if value]
        for name in wanted if given else ():
            if name not in given:
                reader.problem(name, f"missing, while {given[0]} is set.")
        if provider == "ses" and values[2] and not _REGION.fullmatch(values[2]):
            reader.problem(wanted[2], f"{values[2]!r} is not a region such as eu-central-1.")
            continue
        default = URLS[provider].format(region=values[-1])
        if given:
            name = f"DOMAIN_{provider.upper()}_URL"
            keys[provider] = Key(reader.url(name, reader.text(name, default)), values)
    return keys


def _addresses(reader: Reader) -> tuple[Address, ...] | None:
    value = reader.text("DOMAIN_ADDRESSES")
    if not value or value.lower() == "none":
        return () if value else None
    found = []
    for one in _list(value):
        try:
            address = ipaddress.ip_address(one.strip("[]"))
        except ValueError:
            reader.problem("DOMAIN_ADDRESSES", f"{one!r} is not an IP address; or say none.")
        else:
            found.append(address)
    return tuple(dict.fromkeys(found))


def _resolvers(reader: Reader) -> tuple[tuple[str, int], ...]:
    """``address``, ``address:port`` or ``[address]:port``, several."""
    found = []
    for one in _list(reader.text("DOMAIN_RESOLVERS", RESOLVERS)):
        host, port = one, "53"
        if one.startswith("[") or one.count(":") == 1:
            host, _, port = one.rpartition(":") if not one.endswith("]") else (one, "", "53")
        try:
            address = str(ipaddress.ip_address(host.strip("[]")))
        except ValueError:
            address = ""
        if not address or not port.isdigit() or not 0 < int(port) < 65536:
            reader.problem("DOMAIN_RESOLVERS", f"{one!r} is not a name server's address such as 1.1.1.1.")
        else:
            found.append((address, int(port)))
    return tuple(found)
