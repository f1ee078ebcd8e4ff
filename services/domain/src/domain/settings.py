"""Every setting of this program, read once from a mapping; all mistakes are reported together.

Keys are for the services' administration only and never leave for anywhere but the service they belong to.
``docs/domain.md`` and ``.env.example`` list the names; ``common.settings`` says what holds for all of them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from common import names
from common.providers import Provider, host_in
from common.settings import Address, Reader, SettingsError

from .backup import INSIDE

__all__ = ["Address", "Key", "Settings", "SettingsError", "read"]

CLOUDFLARE = "https://api.cloudflare.com/client/v4"
RESOLVERS = "1.1.1.1, 8.8.8.8, 9.9.9.9"
TRACES = "https://1.1.1.1/cdn-cgi/trace, https://[2606:4700:4700::1111]/cdn-cgi/trace"
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
EU_URLS: Mapping[str, str] = {  # where NAME_REGION says eu
    "sendgrid": "https://api.eu.sendgrid.com",
    "mailgun": "https://api.eu.mailgun.net",
}
RESEND_REGIONS = ("us-east-1", "eu-west-1", "sa-east-1", "ap-northeast-1")
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
    "DOMAIN_RESEND_REGION",
    "DOMAIN_CONFIG",
    "DOMAIN_BACKUPS",
    "DOMAIN_RUN",
]
_PROVIDER = re.compile(r"[a-z][a-z0-9]{0,30}(-[a-z0-9]{1,30})*")  # as the relay has it
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")


@dataclass(frozen=True, slots=True)
class Key:
    """What a service's API is reached with; ``secrets`` in the order of ``KEYS``.

    ``region`` is where Resend makes a domain, for good; ``missing`` says what must be set before one is made.
    """

    url: str
    secrets: tuple[str, ...] = field(repr=False)
    region: str = ""
    missing: str = ""


class Where(NamedTuple):
    """NAME_HOST, NAME_PORT and NAME_REGION of a provider; "" and 0 where they are not set."""

    host: str
    port: int
    region: str

    def reached(self, known: Provider) -> tuple[str, tuple[int, ...]]:
        """Its host, and its ports in order of trial."""
        return self.host or host_in(self.region, known.host, known.regions), (self.port,) if self.port else known.ports


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings, valid and complete; names in DNS form."""

    domains: tuple[str, ...]
    hostname: str
    providers: tuple[str, ...]
    where: Mapping[str, Where]  # by provider
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
    warnings: tuple[str, ...] = ()  # sentences ``NAME: ...``: legal, but perhaps not meant

    @property
    def mark(self) -> str:
        """The comment by which we know our own records; Cloudflare's free plan takes 100 characters."""
        return f"Ownpost {self.hostname}"[:100]


def read(environ: Mapping[str, str]) -> Settings:
    """The settings in ``environ``. Raises SettingsError with everything that is wrong."""
    reader = Reader(environ)
    domains = reader.domains()
    providers = _providers(reader)
    settings = Settings(
        domains=domains,
        hostname=reader.hostname(domains),
        providers=providers,
        where={name: _where(reader, name.upper().replace("-", "_")) for name in providers},
        cloudflare=_cloudflare(reader),
        keys=_keys(reader),
        addresses=_addresses(reader),
        bind=ipaddress.ip_address(reader.address("OWNPOST_BIND", "127.0.0.1")),
        traces=tuple(_url(reader, "DOMAIN_TRACES", url) for url in reader.words("DOMAIN_TRACES", TRACES)),
        postmaster=_mail_address(reader, "DOMAIN_POSTMASTER"),
        email_routing=reader.yes("DOMAIN_EMAIL_ROUTING", "yes"),
        subaddressing=_yes_or_unset(reader, "DOMAIN_SUBADDRESSING"),
        dmarc_reports=_mail_address(reader, "DOMAIN_DMARC_REPORTS"),
        tls_reports=_mail_address(reader, "DOMAIN_TLS_REPORTS"),
        mta_sts=reader.yes("DOMAIN_MTA_STS", "no"),
        resolvers=_resolvers(reader),
        submission_port=reader.port("OWNPOST_SUBMISSION_PORT", 587),
        submissions_port=reader.port("OWNPOST_SUBMISSIONS_PORT", 465),
        config=reader.path("DOMAIN_CONFIG", Path("/etc/ownpost/config")),
        backups=reader.path("DOMAIN_BACKUPS", INSIDE),
        run=reader.path("DOMAIN_RUN") if reader.given("DOMAIN_RUN") else None,
    )
    ours = [name for name in environ if name.startswith("DOMAIN_")]
    reader.unknown(ours, {*known(), *(f"{name}_FILE" for name in known())})
    return replace(settings, warnings=reader.finish())


def known() -> set[str]:
    """The names of all settings that are this program's own, without their ``_FILE`` twins."""
    keys = {name for group in KEYS.values() for name in group}
    return {*OTHERS, *keys, *(f"DOMAIN_{name.upper()}_URL" for name in URLS)}


def _providers(reader: Reader) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(word.lower() for word in reader.words("OWNPOST_PROVIDERS", "capture")))
    for name in found:
        if not _PROVIDER.fullmatch(name):
            reader.wrong("OWNPOST_PROVIDERS", name, "a provider's name", "names such as sendgrid")
    return found


def _where(reader: Reader, start: str) -> Where:
    port = reader.port(f"{start}_PORT", 0) if reader.given(f"{start}_PORT") else 0
    return Where(reader.server(f"{start}_HOST"), port, reader.text(f"{start}_REGION").lower())


def _cloudflare(reader: Reader) -> Key | None:
    token = reader.token("DOMAIN_CLOUDFLARE_API_TOKEN")
    url = _url(reader, "DOMAIN_CLOUDFLARE_URL", reader.text("DOMAIN_CLOUDFLARE_URL", CLOUDFLARE))
    return Key(url, (token,)) if token else None


def _keys(reader: Reader) -> dict[str, Key]:
    keys: dict[str, Key] = {}
    resend = _resend(reader)
    for provider, wanted in KEYS.items():
        values = tuple(reader.token(name) for name in wanted)
        given = [name for name in wanted if reader.given(name)]
        for name in wanted if given else ():
            if name not in given:
                reader.problem(name, f"missing, while {given[0]} is set.")
        if provider == "ses" and values[2] and not _REGION.fullmatch(values[2]):
            reader.wrong(wanted[2], values[2], "a region", "a region such as eu-central-1")
            continue
        eu = reader.text(f"{provider.upper()}_REGION").lower() == "eu"
        default = EU_URLS.get(provider, "") if eu else ""
        if all(values):
            name = f"DOMAIN_{provider.upper()}_URL"
            url = _url(reader, name, reader.text(name, default or URLS[provider].format(region=values[-1])))
            keys[provider] = Key(url, values, *(resend if provider == "resend" else ()))
    return keys


def _resend(reader: Reader) -> tuple[str, str]:
    """The region in which a domain is made, and what to say where it is not known."""
    region = reader.text("DOMAIN_RESEND_REGION").lower()
    allowed = ", ".join(RESEND_REGIONS)
    if region and region not in RESEND_REGIONS:
        reader.wrong("DOMAIN_RESEND_REGION", region, "a region of Resend's", allowed)
    return (
        region,
        "" if region else f"set DOMAIN_RESEND_REGION first, for a domain keeps its region for good: {allowed}",
    )


def _url(reader: Reader, name: str, value: str) -> str:
    """A base URL: https, or http on this machine, so that no key ever travels in the clear."""
    try:
        parts = urlsplit(value)
        good = parts.scheme == "https" or (parts.scheme == "http" and names.is_loopback(parts.hostname or ""))
        good = good and bool(parts.hostname) and not parts.username
    except ValueError:  # brackets without an address in them
        good = False
    if not good:
        reader.wrong(name, value, "such a URL", "a URL that begins with https://")
    return value.rstrip("/")


def _mail_address(reader: Reader, name: str) -> str:
    value = reader.text(name)
    try:
        return names.address(value) if value else ""
    except names.BadName as error:
        reader.problem(name, str(error))
        return ""


def _yes_or_unset(reader: Reader, name: str) -> bool | None:
    return reader.yes(name, "no") if reader.text(name) else None


def _addresses(reader: Reader) -> tuple[Address, ...] | None:
    value = reader.text("DOMAIN_ADDRESSES")
    if not value or value.lower() == "none":
        return () if value else None
    found = []
    for one in reader.words("DOMAIN_ADDRESSES"):
        try:
            address = ipaddress.ip_address(one.strip("[]"))
        except ValueError:
            reader.wrong("DOMAIN_ADDRESSES", one, "an IP address", "addresses such as 192.0.2.1, or none")
        else:
            found.append(address)
    return tuple(dict.fromkeys(found))


def _resolvers(reader: Reader) -> tuple[tuple[str, int], ...]:
    """``address``, ``address:port`` or ``[address]:port``, several."""
    found = []
    for one in reader.words("DOMAIN_RESOLVERS", RESOLVERS):
        host, port = one, "53"
        if one.startswith("[") or one.count(":") == 1:
            host, _, port = one.rpartition(":") if not one.endswith("]") else (one, "", "53")
        try:
            address = str(ipaddress.ip_address(host.strip("[]")))
        except ValueError:
            address = ""
        if not address or not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65536:
            reader.wrong("DOMAIN_RESOLVERS", one, "a name server's address", "addresses such as 1.1.1.1 or [::1]:53")
        else:
            found.append((address, int(port)))
    return tuple(found)
