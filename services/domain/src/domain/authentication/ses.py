"""Amazon SES: an email identity of API v2 with Easy DKIM, three CNAMEs, or with a key of the owner's (BYODKIM).

Requests are signed with AWS Signature 4. SES looks at DNS by itself, so ``validate`` only reads. A custom MAIL FROM
domain is not set up: DKIM carries DMARC.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from ..api import Api, ApiError, words
from ..settings import Key
from .model import Authentication, gather, shaped

NEED = "the IAM actions ses:GetEmailIdentity and ses:CreateEmailIdentity"
_JSON = "application/json"


class Ses:
    """See ``model.Service``."""

    def __init__(
        self,
        key: Key,
        client: httpx.Client,
        sleep: Callable[[float], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._key = key
        self._clock = clock
        self._api = Api("Amazon SES", key.url, {}, words, client, sleep)

    def find(self, domain: str) -> Authentication | None:
        try:
            answer = self._call("GET", f"/v2/email/identities/{quote(domain, safe='')}", b"")
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return shaped("Amazon SES", lambda: _read(domain, answer))

    def create(self, domain: str) -> None:
        self._call("POST", "/v2/email/identities", b'{"EmailIdentity": "%s"}' % domain.encode())

    def validate(self, found: Authentication) -> str:
        again = self.find(found.domain)
        return "" if again is not None and again.valid else "it looks by itself; that takes up to 72 hours."

    def _call(self, method: str, path: str, body: bytes) -> Any:
        access, secret, region = self._key.secrets
        host = urlsplit(self._key.url).netloc
        now = time.gmtime(self._clock())
        headers = sign(method, host, path, body, access=access, secret=secret, region=region, now=now)
        return self._api.call(method, path, content=body, headers=headers, need=NEED)


def sign(
    method: str, host: str, path: str, body: bytes, *, access: str, secret: str, region: str, now: time.struct_time
) -> dict[str, str]:
    """The headers of a request by AWS Signature Version 4, for the service ``ses`` and a path without a query."""
    stamp, day = time.strftime("%Y%m%dT%H%M%SZ", now), time.strftime("%Y%m%d", now)
    scope = f"{day}/{region}/ses/aws4_request"
    names = "content-type;host;x-amz-date"
    canonical = "\n".join(
        (
            method,
            path,
            "",
            f"content-type:{_JSON}\nhost:{host}\nx-amz-date:{stamp}\n",
            names,
            hashlib.sha256(body).hexdigest(),
        )
    )
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{secret}".encode()
    for part in (day, region, "ses", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    credential = f"AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={names}, Signature={signature}"
    return {"Host": host, "Content-Type": _JSON, "X-Amz-Date": stamp, "Authorization": credential}


def _read(domain: str, answer: dict[str, Any]) -> Authentication:
    """Tokens are to be published only where SES makes the keys; with one of the owner's they are its selector."""
    dkim = answer["DkimAttributes"]
    tokens = tuple(map(str, dkim.get("Tokens") or ()))
    zone = dkim.get("SigningHostedZone") or "dkim.amazonses.com"
    valid = bool(answer.get("VerifiedForSendingStatus")) and dkim.get("Status") == "SUCCESS"
    if not str(dkim.get("SigningAttributesOrigin")).startswith("AWS_SES"):
        return Authentication(domain, domain, valid, (), selectors=tokens)
    rows = [("CNAME", f"{token}._domainkey.{domain}", f"{token}.{zone}", None) for token in tokens]
    return gather(domain, domain, valid, rows)
