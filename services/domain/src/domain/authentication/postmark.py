"""Postmark: ``/domains``. A DKIM key it wants to change to is *pending*: that one is published, the old one stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx

from ..api import Api, Unreachable, words
from ..settings import Key
from .model import Authentication, gather, shaped

NEED = "the account token (not a server's)"
COUNT = 500  # domains a page, the most it gives
PAGES = 20


class Postmark:
    """See ``model.Service``."""

    def __init__(self, key: Key, client: httpx.Client, sleep: Callable[[float], None]) -> None:
        self._api = Api("Postmark", key.url, {"X-Postmark-Account-Token": key.secrets[0]}, words, client, sleep)

    def find(self, domain: str) -> Authentication | None:
        found = self._find_id(domain)
        if not found:
            return None
        answer = self._api.get(f"/domains/{found}", need=NEED)
        return shaped("Postmark", lambda: _read(domain, answer))

    def create(self, domain: str) -> None:
        body = {"Name": domain, "ReturnPathDomain": f"pm-bounces.{domain}"}
        self._api.call("POST", "/domains", json=body, need=NEED)

    def validate(self, found: Authentication) -> str:
        for check in ("verifyDkim", "verifyReturnPath"):
            self._api.call("PUT", f"/domains/{found.id}/{check}", need=NEED)
        again = self.find(found.domain)
        return "" if again is not None and again.valid else "it does not see all records yet."

    def _find_id(self, domain: str) -> str:
        for page in range(PAGES):
            answer = self._api.get("/domains", {"count": COUNT, "offset": page * COUNT}, need=NEED)
            items: list[dict[str, Any]] = shaped("Postmark", lambda answer=answer: list(answer["Domains"]))  # type: ignore[misc]
            for item in items:
                if str(item.get("Name", "")).lower() == domain:
                    return quote(str(item["ID"]), safe="")
            if len(items) < COUNT:
                return ""
        raise Unreachable("Postmark lists its domains without end.")


def _read(domain: str, answer: dict[str, Any]) -> Authentication:
    pending = answer.get("DKIMPendingHost")
    host = pending or answer["DKIMHost"]
    key = answer["DKIMPendingTextValue"] if pending else answer["DKIMTextValue"]
    rows: list[tuple[str, str, str, int | None]] = [("TXT", host, key, None)]
    if answer.get("ReturnPathDomain"):
        rows.append(("CNAME", answer["ReturnPathDomain"], answer["ReturnPathDomainCNAMEValue"], None))
    valid = bool(answer.get("DKIMVerified")) and not pending
    valid = valid and (not answer.get("ReturnPathDomain") or bool(answer.get("ReturnPathDomainVerified")))
    return gather(domain, str(answer["ID"]), valid, rows)
