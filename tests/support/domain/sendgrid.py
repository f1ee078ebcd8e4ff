"""SendGrid's API v3, domain authentication, as its published specification has it. The state: ``key``, ``domains``.

``/validate`` succeeds when ``published`` (record keys "CNAME name content" that DNS has, None for all) holds all
three. ``forgets``: creates without listing; ``fickle``: names other records each time.
"""

from __future__ import annotations

import re
from itertools import count
from typing import Any

from support.domain.fake import Answer, Request, Wrong, serve

ids = count(1001)
FIELDS = {
    "domain",
    "subdomain",
    "automatic_security",
    "custom_spf",
    "custom_dkim_selector",
    "default",
    "ips",
    "username",
    "region",
}


def entry(number: int, domain: str) -> dict[str, Any]:
    """A domain as SendGrid lists it."""
    base = f"u{number}.wl.sendgrid.net"
    rows = {
        "mail_cname": (f"em{number}.{domain}", base),
        "dkim1": (f"s1._domainkey.{domain}", f"s1.domainkey.{base}"),
        "dkim2": (f"s2._domainkey.{domain}", f"s2.domainkey.{base}"),
    }
    dns = {name: {"valid": False, "type": "cname", "host": host, "data": data} for name, (host, data) in rows.items()}
    return {
        "id": number,
        "user_id": 7,
        "subdomain": f"em{number}",
        "domain": domain,
        "valid": False,
        "automatic_security": True,
        "default": False,
        "legacy": False,
        "dns": dns,
    }


def answer(state: dict[str, Any], request: Request) -> Answer:
    """One request."""
    if request.headers.get("authorization") != f"Bearer {state['key']}":
        return 401, {"errors": [{"field": None, "message": "authorization required"}]}
    if state.get("forbidden"):
        return 403, {"errors": [{"field": None, "message": "access forbidden"}]}
    domains = state["domains"]
    if state.get("fickle"):
        domains[:] = [entry(next(ids), one["domain"]) for one in domains]
    if request.path == "/v3/whitelabel/domains" and request.method == "GET":
        return 200, [one for one in domains if one["domain"] == request.query.get("domain", one["domain"])]
    if request.path == "/v3/whitelabel/domains" and request.method == "POST":
        if not isinstance(request.body, dict) or "domain" not in request.body or not set(request.body) <= FIELDS:
            raise Wrong(f"body: {request.body!r}")
        if request.body.get("region", "global") not in ("global", "eu"):
            raise Wrong(f"region: {request.body!r}")
        made = entry(next(ids), request.body["domain"])
        domains += [] if state.get("forgets") else [made]
        return 201, made
    match = re.fullmatch(r"/v3/whitelabel/domains/(\d+)/validate", request.path)
    found = next((one for one in domains if match and one["id"] == int(match[1])), None)
    if request.method != "POST" or found is None:
        return 404, {"errors": [{"field": None, "message": "not found"}]}
    return 200, _validate(state, found)


def _validate(state: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    published = state.get("published")
    results = {}
    for name, row in found["dns"].items():
        row["valid"] = published is None or f"CNAME {row['host']} {row['data']}" in published
        results[name] = {"valid": row["valid"], "reason": None if row["valid"] else f"Expected CNAME for {row['host']}"}
    found["valid"] = all(row["valid"] for row in found["dns"].values())
    return {"id": found["id"], "valid": found["valid"], "validation_results": results}


if __name__ == "__main__":
    serve(answer)
