"""SendGrid: ``/v3/whitelabel/domains``, with automatic security (three CNAMEs, keys that SendGrid rotates).

Of several entries for one domain the one to use is, in this order: valid, default, with automatic security, the oldest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from ..api import Api, words
from ..settings import Key
from .model import Authentication, gather, shaped

NEED = "Domain Authentication, Full Access (whitelabel.create, whitelabel.read, whitelabel.update)"


class SendGrid:
    """See ``model.Service``."""

    def __init__(self, key: Key, client: httpx.Client, sleep: Callable[[float], None]) -> None:
        self._eu = ".eu." in (urlsplit(key.url).hostname or "")
        self._api = Api("SendGrid", key.url, {"Authorization": f"Bearer {key.secrets[0]}"}, words, client, sleep)

    def find(self, domain: str) -> Authentication | None:
        answer = self._api.get("/v3/whitelabel/domains", {"domain": domain, "limit": 50}, need=NEED)
        same = shaped("SendGrid", lambda: [item for item in answer if item["domain"].lower() == domain])
        if not same:
            return None
        return shaped("SendGrid", lambda: _read(domain, min(same, key=_preference)))

    def create(self, domain: str) -> None:
        """In the region of the API that is spoken to: a domain of one region signs nothing in the other."""
        body = {"domain": domain, "automatic_security": True} | ({"region": "eu"} if self._eu else {})
        self._api.call("POST", "/v3/whitelabel/domains", json=body, need=NEED)

    def validate(self, found: Authentication) -> str:
        path = f"/v3/whitelabel/domains/{quote(found.id, safe='')}/validate"
        answer = self._api.call("POST", path, need=NEED)
        return "" if shaped("SendGrid", lambda: bool(answer["valid"])) else shaped("SendGrid", lambda: _reason(answer))


def _preference(item: dict[str, Any]) -> tuple[bool, bool, bool, int]:
    return not item.get("valid"), not item.get("default"), not item.get("automatic_security"), int(item["id"])


def _read(domain: str, item: dict[str, Any]) -> Authentication:
    rows = [(entry["type"], entry["host"], entry["data"], _priority(entry)) for entry in item["dns"].values()]
    return gather(domain, str(item["id"]), bool(item.get("valid")), rows)


def _priority(entry: dict[str, Any]) -> int | None:
    """Without automatic security one record is an MX, whose priority the API leaves out; the dashboard shows 10."""
    return 10 if entry["type"].lower() == "mx" else None


def _reason(answer: dict[str, Any]) -> str:
    results = answer.get("validation_results") or {}
    reasons = [str(one.get("reason") or "") for one in results.values() if not one.get("valid")]
    return next(filter(None, reasons), "it does not see all records yet.")
