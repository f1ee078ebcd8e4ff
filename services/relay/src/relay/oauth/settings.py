"""The settings of a provider that we log in to with OAuth 2.0: ``NAME_OAUTH`` and its companions.

Whether a grant exists is no matter of settings: a refresh token may come later, from ``make oauth``. What must be there
is what a grant is asked for with. Endpoints are settings, the providers' own by default; only ``https://`` will do.
"""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass, field
from typing import Literal, get_args
from urllib.parse import urlsplit

from common.names import host_name
from common.settings import Reader
from relay.oauth import service_account
from relay.oauth.service_account import ServiceAccountKey

Kind = Literal["google", "microsoft", "service-account"]

# The only scope with which Gmail's SMTP lets a token in: developers.google.com/gmail/imap/xoauth2-protocol
GOOGLE_SCOPE = "https://mail.google.com/"
# learn.microsoft.com: "Authenticate an IMAP, POP or SMTP connection using OAuth"
MICROSOFT_SCOPE = "https://outlook.office365.com/SMTP.Send offline_access"
_TENANT = "organizations"  # any work or school account; an app of one tenant wants that tenant here
_SUGGESTED: dict[str, Kind] = {"google": "google", "microsoft": "microsoft"}
_TENANT_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-")
_MICROSOFT = "https://login.microsoftonline.com/{tenant}/oauth2/v2.0/"
_URLS: dict[Kind, dict[str, str]] = {
    "google": {
        "token": "https://oauth2.googleapis.com/token",
        "device": "",  # Google's device flow does not grant the scope of mail
        "authorize": "https://accounts.google.com/o/oauth2/v2/auth",
    },
    "microsoft": {
        "token": _MICROSOFT + "token",
        "device": _MICROSOFT + "devicecode",
        "authorize": _MICROSOFT + "authorize",
    },
    "service-account": {"token": "https://oauth2.googleapis.com/token", "device": "", "authorize": ""},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthSettings:
    """How one provider's access tokens are come by. Secrets are not shown."""

    kind: Kind
    token_url: str
    device_url: str = ""  # empty: this flow is not to be had
    authorize_url: str = ""
    scope: str
    client_id: str = ""
    client_secret: str = field(default="", repr=False)  # empty: a public client (RFC 6749, section 2.1)
    refresh_token: str = field(default="", repr=False)  # of the settings; ``store`` may know a newer one
    key: ServiceAccountKey | None = field(default=None, repr=False)  # of a service account only
    ca: str = field(default="", repr=False)  # certificates in PEM for the endpoints; empty: the system's


def read(reader: Reader, prefix: str, preset: str) -> OAuthSettings | None:
    """What is configured under ``prefix`` (such as ``GMAIL_``), or None where nothing asks for OAuth.

    ``preset`` is the kind that the provider's preset suggests, or empty. Mistakes are the reader's problems.
    """
    one = _Names(reader, f"{prefix}OAUTH")
    kind = one.kind(preset)
    values = _values(one, kind or "google")  # asked for in any case: the names are known, whether in use or not
    if kind is None:
        return None
    reader.asked |= {f"{prefix}USERNAME", f"{prefix}USERNAME_FILE"}
    if not reader.given(f"{prefix}USERNAME"):
        reader.problem(f"{prefix}USERNAME", "missing; allowed: the address of the mailbox that we log in to.")
    if reader.given(f"{prefix}PASSWORD"):
        reader.warn(f"{prefix}PASSWORD", f"has no effect: {one.start} says that we log in with a token.")
    one.check(kind)
    return values


class _Names:
    """The names that begin with ``start``, and what must hold between them."""

    def __init__(self, reader: Reader, start: str) -> None:
        self.reader, self.start = reader, start

    def name(self, last: str) -> str:
        return f"{self.start}_{last}"

    def kind(self, preset: str) -> Kind | None:
        """What ``NAME_OAUTH`` says; without it what the other names let conclude."""
        given = [last for last in ("CLIENT_ID", "REFRESH_TOKEN", "KEY") if self.reader.given(self.name(last))]
        if self.reader.given(self.start):
            kind: Kind = self.reader.choice(self.start, get_args(Kind), "google")
            return kind
        self.reader.text(self.start)
        if not given:
            return None
        if given == ["KEY"]:
            return "service-account"
        if preset in _SUGGESTED:
            return _SUGGESTED[preset]
        self.reader.problem(self.start, f"missing, though {self.name(given[0])} is set; allowed: {_kinds()}.")
        return None

    def url(self, last: str, default: str) -> str:
        """An address of the provider's. Redirects and clear text would give a secret away, so only https will do."""
        value = self.reader.text(self.name(last), default)
        if value and not _is_address(value):
            self.reader.wrong(self.name(last), value, "such an address", "an address that begins with https://")
        return value

    def tenant(self) -> str:
        value = self.reader.text(self.name("TENANT"), _TENANT)
        if set(value) <= _TENANT_CHARACTERS:
            return value
        self.reader.wrong(self.name("TENANT"), value, "a tenant", "its id or domain, organizations, common")
        return _TENANT

    def key(self) -> ServiceAccountKey | None:
        text = self.reader.document(self.name("KEY"))
        if not text:
            return None
        try:
            return service_account.parse(text)
        except service_account.NotAKey as error:
            self.reader.problem(self.name("KEY"), f"{error}; allowed: the JSON file of a service account's key.")
            return None

    def check(self, kind: Kind) -> None:
        """What a grant of this kind cannot do without."""
        for last in _NEEDED[kind]:
            if not self.reader.given(self.name(last)):
                self.reader.problem(self.name(last), f"missing; allowed: {_WHAT[last]}.")


_NEEDED: dict[Kind, tuple[str, ...]] = {
    "google": ("CLIENT_ID", "CLIENT_SECRET"),
    "microsoft": ("CLIENT_ID",),
    "service-account": ("KEY",),
}
_WHAT = {
    "CLIENT_ID": "the id of the app that you registered (docs/oauth.md)",
    "CLIENT_SECRET": "the secret of the app, which Google wants of desktop apps too",
    "KEY": "the JSON file of a service account's key, as a file: …_KEY_FILE",
}


def _values(one: _Names, kind: Kind) -> OAuthSettings:
    reader, tenant, key = one.reader, one.tenant(), one.key()
    urls = {what: url.format(tenant=tenant) for what, url in _URLS[kind].items()}
    if kind == "service-account" and key is not None and key.token_url:
        urls["token"] = key.token_url
    return OAuthSettings(
        kind=kind,
        token_url=one.url("TOKEN_URL", urls["token"]),
        device_url=one.url("DEVICE_URL", urls["device"]),
        authorize_url=one.url("AUTHORIZE_URL", urls["authorize"]),
        scope=reader.text(one.name("SCOPE"), MICROSOFT_SCOPE if kind == "microsoft" else GOOGLE_SCOPE),
        client_id=reader.text(one.name("CLIENT_ID")),
        client_secret=reader.secret(one.name("CLIENT_SECRET")),
        refresh_token=reader.secret(one.name("REFRESH_TOKEN")),
        key=key,
        ca=read_ca(reader, one.name("CA")),
    )


def read_ca(reader: Reader, name: str) -> str:
    """Certificates in PEM to trust instead of the system's; "" where none are given."""
    value = reader.text(name)
    if value:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=value)
        except (ssl.SSLError, ValueError, TypeError):  # the latter two: it is not ASCII
            reader.problem(name, "holds no certificate that can be read; allowed: one or more certificates in PEM.")
    return value


def _is_address(value: str) -> bool:
    """Whether ``value`` is the address of an endpoint, with nothing in it that is not for the server."""
    if not (value.isascii() and value.isprintable()) or " " in value:
        return False
    try:
        parts = urlsplit(value)
        host, port = parts.hostname or "", parts.port
    except ValueError:  # brackets without an address in them, a port that is none
        return False
    return parts.scheme == "https" and _is_host(host) and port != 0 and not parts.fragment and "@" not in parts.netloc


def _is_host(host: str) -> bool:
    try:
        return bool(ipaddress.ip_address(host))
    except ValueError:
        return bool(host_name(host))


def _kinds() -> str:
    return ", ".join(get_args(Kind))
