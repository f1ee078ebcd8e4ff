"""A service account of Google's: its key file, and the signed assertion that is exchanged for an access token.

The assertion is a JSON Web Token (RFC 7519) signed with RS256 (RFC 7515, RFC 7518 3.3), used as an authorization grant
(RFC 7523). ``sub`` names the mailbox that the account acts for; a Workspace administrator allows that once
("domain-wide delegation").
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

ASSERTION_LIFE = 3600  # seconds; the most that Google takes
CLOCK_SLACK = 30  # seconds that our clock may be fast: an assertion from the future is refused
_SMALLEST_KEY = 2048  # bits (RFC 7518, section 3.3)


class NotAKey(Exception):
    """The text is not a service account's key; str() says what is wrong, without quoting it."""


@dataclass(frozen=True, slots=True)
class ServiceAccountKey:
    """What counts in the file that Google's console makes ("Add key", JSON)."""

    email: str
    client_id: str  # what an administrator enters for domain-wide delegation; may be empty
    token_url: str  # the audience of assertions, and where they are exchanged
    private_key: rsa.RSAPrivateKey = field(repr=False)


def parse(text: str) -> ServiceAccountKey:
    """The key in ``text``. Raises :class:`NotAKey`."""
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise NotAKey("is not JSON") from None
    if not isinstance(value, dict) or value.get("type") != "service_account":
        raise NotAKey('is JSON, but not of the type "service_account"')
    fields = {name: value.get(name, "") for name in ("client_email", "client_id", "token_uri", "private_key")}
    if not all(isinstance(one, str) for one in fields.values()) or not fields["client_email"]:
        raise NotAKey("lacks client_email or private_key")
    return ServiceAccountKey(
        email=fields["client_email"],
        client_id=fields["client_id"],
        token_url=fields["token_uri"],
        private_key=_rsa(fields["private_key"]),
    )


def _rsa(pem: str) -> rsa.RSAPrivateKey:
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # TypeError: it is encrypted
        raise NotAKey("holds no private key that can be read") from None
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < _SMALLEST_KEY:
        raise NotAKey(f"holds no RSA key of {_SMALLEST_KEY} bits or more")
    return key


def assertion(key: ServiceAccountKey, *, audience: str, scope: str, mailbox: str, now: float) -> str:
    """A signed assertion asking for ``scope`` on behalf of ``mailbox``; good for an hour from ``now`` (wall time)."""
    issued = int(now) - CLOCK_SLACK
    claims = {
        "iss": key.email,
        "sub": mailbox,
        "scope": scope,
        "aud": audience,
        "iat": issued,
        "exp": issued + ASSERTION_LIFE,
    }
    signed = f"{_part({'alg': 'RS256', 'typ': 'JWT'})}.{_part(claims)}"
    signature = key.private_key.sign(signed.encode("ascii"), padding.PKCS1v15(), hashes.SHA256())
    return f"{signed}.{_base64url(signature)}"


def _part(value: dict[str, Any]) -> str:
    return _base64url(json.dumps(value, separators=(",", ":")).encode())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
