"""The settings of OWNPOST_TLS=acme."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from common.settings import Reader

Challenge = Literal["dns-cloudflare", "http-01"]
KeyType = Literal["ecdsa", "rsa"]
Profile = Literal["", "classic", "tlsserver", "shortlived"]

SERVERS = {
    "letsencrypt": "https://acme-v02.api.letsencrypt.org/directory",
    "letsencrypt-staging": "https://acme-staging-v02.api.letsencrypt.org/directory",
}
PROPAGATION_SECONDS, PROPAGATION_LIMIT = 20, 600  # Cloudflare's name servers have a record within seconds
_TOKEN = re.compile(r"[A-Za-z0-9_.-]+")
_EMAIL = re.compile(r"[^@\s,]+@[^@\s,]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class AcmeSettings:
    """How the certificate is obtained. Choosing this mode is agreeing to the authority's terms."""

    folder: Path  # where certbot's folders are made
    server: str  # URL of the ACME directory
    email: str
    challenge: Challenge
    token: str = field(repr=False)
    propagation_seconds: int
    http_port: int  # http-01 is answered here; port 80 of the host leads to it
    key_type: KeyType
    profile: Profile  # "": the authority's default

    @property
    def authenticator(self) -> str:
        """certbot's name for the challenge."""
        return "standalone" if self.challenge == "http-01" else "dns-cloudflare"


def read(reader: Reader) -> AcmeSettings:
    """The settings; what is wrong with them is in ``reader.problems``."""
    challenge: Challenge = reader.choice("ACME_CHALLENGE", get_args(Challenge), "dns-cloudflare")
    return AcmeSettings(
        folder=folder(reader, "RENEWER_ACME", Path("/acme")),
        server=_server(reader),
        email=_email(reader),
        challenge=challenge,
        token=_token(reader) if challenge == "dns-cloudflare" else "",
        propagation_seconds=reader.number("ACME_DNS_PROPAGATION_SECONDS", PROPAGATION_SECONDS, 0, PROPAGATION_LIMIT),
        http_port=reader.port("RENEWER_HTTP_PORT", 8080),
        key_type=reader.choice("ACME_KEY_TYPE", get_args(KeyType), "ecdsa"),
        profile=reader.choice("ACME_PROFILE", get_args(Profile), ""),
    )


def _server(reader: Reader) -> str:
    value = reader.text("ACME_SERVER", "letsencrypt")
    if value in SERVERS:
        return SERVERS[value]
    if not re.fullmatch(r"https://[^\s/]+/\S*", value):
        reader.wrong("ACME_SERVER", value, "known", f"{', '.join(SERVERS)}, or an https:// URL")
    return value


def _token(reader: Reader) -> str:
    name = "CLOUDFLARE_API_TOKEN"
    token = reader.token(name)
    if not reader.given(name):
        reader.problem(
            name, "missing; make one that may read the zone and edit its DNS, or set ACME_CHALLENGE=http-01."
        )
    elif token and not _TOKEN.fullmatch(token):
        reader.problem(name, "holds characters that no token has; copy it again.")
    return token


def _email(reader: Reader) -> str:
    value = reader.text("ACME_EMAIL")
    if value and not _EMAIL.fullmatch(value):
        reader.wrong("ACME_EMAIL", value, "a mail address", "one address such as me@example.org")
    return value


def folder(reader: Reader, name: str, default: Path) -> Path:
    """A path whose folder must be there."""
    path = reader.path(name, default)
    if not path.is_dir():
        reader.wrong(name, str(path), "a folder", "a folder that exists")
    return path
