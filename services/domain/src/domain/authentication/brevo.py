"""Brevo: ``/v3/senders/domains``. Its DMARC record is only a proposal and is left to our own rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

from ..api import Api, ApiError, NotAllowed, Unreachable, words
from ..settings import Key
from .model import Authentication, gather, shaped

NEED = "an API key (not an SMTP key)"


class Brevo:
    """See ``model.Service``."""

    def __init__(self, key: Key, client: httpx.Client, sleep: Callable[[float], None]) -> None:
        self._api = Api("Brevo", key.url, {"api-key": key.secrets[0]}, words, client, sleep)

    def find(self, domain: str) -> Authentication | None:
        try:
            answer = self._api.get(f"/v3/senders/domains/{domain}", need=NEED)
        except ApiError as error:
            if error.status == 404 or ("not found" in str(error).lower() and error.status == 400):
                return None
            raise
        return shaped("Brevo", lambda: _read(domain, answer))

    def create(self, domain: str) -> None:
        self._api.call("POST", "/v3/senders/domains", json={"name": domain}, need=NEED)

    def validate(self, found: Authentication) -> str:
        try:
            self._api.call("PUT", f"/v3/senders/domains/{found.domain}/authenticate", need=NEED)
        except (NotAllowed, Unreachable):
            raise
        except ApiError as error:  # a 400 is its way to say that it does not see the records
            return str(error)
        return ""


def _read(domain: str, answer: dict[str, Any]) -> Authentication:
    """Its DKIM keys and its code; a branded sub-domain's CNAMEs serve links and pictures, and may want our host's name.

    Names are relative to the registrable domain: https://developers.brevo.com/changelog/2024/4/9.
    """
    entries = [entry for entry in answer["dns_records"].values() if entry and entry.get("value")]
    rows = [
        (str(entry["type"]), str(entry["host_name"]).strip().rstrip(".") or "@", entry["value"], None)
        for entry in entries
    ]
    wanted = [row for row in rows if row[0].upper() == "TXT" or "._domainkey" in row[1]]
    return gather(domain, domain, bool(answer.get("authenticated")), wanted)
