"""Mailgun: ``/v4/domains``. Only its records for sending are used: its MX and tracking CNAME are for other things.

A domain below ours, such as the ``mg.`` that Mailgun proposes, signs for ours too (relaxed alignment, RFC 9989), and a
free plan has room for one: it is used where there is one.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import httpx

from common import names

from ..api import Api, ApiError, words
from ..settings import Key
from .model import Authentication, gather, number, shaped

NEED = "a private API key of the account, role Admin or Developer"
LISTED = 100  # domains that one search gives


class Mailgun:
    """See ``model.Service``."""

    def __init__(self, key: Key, client: httpx.Client, sleep: Callable[[float], None]) -> None:
        basic = b64encode(f"api:{key.secrets[0]}".encode()).decode()
        self._api = Api("Mailgun", key.url, {"Authorization": f"Basic {basic}"}, words, client, sleep)

    def find(self, domain: str) -> Authentication | None:
        answer = self._domain(domain)
        if answer is None:
            below = self._below(domain)
            answer = self._domain(below) if below else None
        return None if answer is None else shaped("Mailgun", lambda: _read(domain, answer))

    def create(self, domain: str) -> None:
        """With two keys of 2048 bits that Mailgun changes by itself; without that it makes one of 1024 for good."""
        form = f"name={domain}&use_automatic_sender_security=true&dkim_key_size=2048".encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        self._api.call("POST", "/v4/domains", content=form, headers=headers, need=NEED)

    def validate(self, found: Authentication) -> str:
        answer = self._api.call("PUT", f"/v4/domains/{found.domain}/verify", need=NEED)
        active = shaped("Mailgun", lambda: answer["domain"]["state"] == "active")
        return "" if active else "it does not see all records yet."

    def _domain(self, name: str) -> dict[str, Any] | None:
        try:
            answer: dict[str, Any] = self._api.get(f"/v4/domains/{quote(name, safe='')}", need=NEED)
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return answer

    def _below(self, domain: str) -> str:
        """The account's domain below ``domain``, or nothing; one that is active first, then the shortest."""
        answer = self._api.get("/v4/domains", {"search": domain, "limit": LISTED}, need=NEED)
        found = shaped(
            "Mailgun", lambda: [(one["state"] != "active", str(one["name"]).lower()) for one in answer["items"]]
        )
        below = [one for one in found if names.within(one[1], domain)]
        return min(below, key=lambda one: (one[0], len(one[1]), one[1]))[1] if below else ""


def _read(domain: str, answer: dict[str, Any]) -> Authentication:
    rows = [
        (entry["record_type"], entry["name"], entry["value"], number(entry.get("priority")))
        for entry in answer["sending_dns_records"]
        if entry["record_type"] == "TXT" or "._domainkey." in entry["name"]
    ]
    own = str(answer["domain"]["name"]).lower()
    found = gather(domain, own, answer["domain"]["state"] == "active", rows)
    return replace(found, domain=own)
