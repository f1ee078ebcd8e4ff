"""Resend: ``/domains``. Its names are relative to the registrable domain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx

from ..api import Api, Unreachable, words
from ..settings import Key
from .model import Authentication, gather, number, shaped

NEED = "Full access (a sending-only key cannot see domains)"
PAGES = 50


class Resend:
    """See ``model.Service``."""

    def __init__(self, key: Key, client: httpx.Client, sleep: Callable[[float], None]) -> None:
        self._region = key.region
        self._api = Api("Resend", key.url, {"Authorization": f"Bearer {key.secrets[0]}"}, words, client, sleep)

    def find(self, domain: str) -> Authentication | None:
        found = self._find_id(domain)
        if not found:
            return None
        answer = self._api.get(f"/domains/{quote(found, safe='')}", need=NEED)
        return shaped("Resend", lambda: _read(domain, answer))

    def create(self, domain: str) -> None:
        body = {"name": domain} | ({"region": self._region} if self._region else {})
        self._api.call("POST", "/domains", json=body, need=NEED)

    def validate(self, found: Authentication) -> str:
        self._api.call("POST", f"/domains/{quote(found.id, safe='')}/verify", need=NEED)
        again = self.find(found.domain)
        return "" if again is not None and again.valid else "it is looking at the records; that takes some minutes."

    def _find_id(self, domain: str) -> str:
        params: dict[str, Any] = {"limit": 100}
        for _ in range(PAGES):
            answer = self._api.get("/domains", params, need=NEED)
            items: list[dict[str, Any]] = shaped("Resend", lambda answer=answer: list(answer["data"]))  # type: ignore[misc]
            for item in items:
                if str(item.get("name", "")).lower() == domain:
                    return str(item["id"])
            if not items or not answer.get("has_more"):
                return ""
            params = {"limit": 100, "after": items[-1]["id"]}
        raise Unreachable("Resend lists its domains without end.")


def _read(domain: str, answer: dict[str, Any]) -> Authentication:
    """Each record has a status; the domain's own also waits for receiving and tracking, which nobody asked for."""
    wanted = [entry for entry in answer["records"] if entry.get("record") in ("SPF", "DKIM")]
    rows = [(entry["type"], str(entry["name"]), entry["value"], number(entry.get("priority"))) for entry in wanted]
    states = [entry.get("status") for entry in wanted] or [answer.get("status")]
    return gather(domain, str(answer["id"]), all(state == "verified" for state in states), rows)
