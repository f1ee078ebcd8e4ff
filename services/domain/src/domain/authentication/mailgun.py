"""Mailgun: ``/v4/domains``. Only its records for sending are used: its MX and tracking CNAME are for other things."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Any

import httpx

from ..api import Api, ApiError, words
from ..settings import Key
from .model import Authentication, gather, number, shaped

NEED = "a private API key of the account, role Admin or Developer"


class Mailgun:
    """See ``model.Service``."""

    def __init__(self, key: Key, client: httpx.Client, sleep: Callable[[float], None]) -> None:
        basic = b64encode(f"api:{key.secrets[0]}".encode()).decode()
        self._api = Api("Mailgun", key.url, {"Authorization": f"Basic {basic}"}, words, client, sleep)

    def find(self, domain: str) -> Authentication | None:
        try:
            answer = self._api.get(f"/v4/domains/{domain}", need=NEED)
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return shaped("Mailgun", lambda: _read(domain, answer))

    def create(self, domain: str) -> None:
        form = f"name={domain}".encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        self._api.call("POST", "/v4/domains", content=form, headers=headers, need=NEED)

    def validate(self, found: Authentication) -> str:
        answer = self._api.call("PUT", f"/v4/domains/{found.domain}/verify", need=NEED)
        active = shaped("Mailgun", lambda: answer["domain"]["state"] == "active")
        return "" if active else "it does not see all records yet."


def _read(domain: str, answer: dict[str, Any]) -> Authentication:
    rows = [
        (entry["record_type"], entry["name"], entry["value"], number(entry.get("priority")))
        for entry in answer["sending_dns_records"]
        if entry["record_type"] == "TXT" or "._domainkey." in entry["name"]
    ]
    return gather(domain, domain, answer["domain"]["state"] == "active", rows)
