"""Cloudflare's API v4 as documented, as far as a mail domain needs it: zones, dns_records with batch, Email Routing.

The state: ``token``, ``lacks`` (permissions the token has not), ``zones`` (each with ``id name account records
routing rules catch_all locked routed``), ``addresses`` by account, ``page`` (items a page at most),
``rules_need_routing`` (none before it is on: nowhere said), ``replaces_spf`` (switching routing on replaces the SPF
record that is there, as terraform-provider-cloudflare issue 6444 tells; others see it left alone, which is the
default), ``unknown_routing`` (a zone that never had it is not found), ``refuses`` (names at which records are refused),
``no_workers`` (names of Workers that do not exist), ``clashes`` (addresses whose rules are refused as invalid).

``routed`` are the domains below a zone for which Email Routing was switched on; the zone's own is looked after as soon
as it is on for any. Codes are those that the schema, the documentation or users' reports name, and ``UNTOLD`` where
none does.
"""

from __future__ import annotations

import ipaddress
import re
from itertools import count
from typing import Any

from support.domain.fake import Answer, Request, Wrong, serve

State = dict[str, Any]
ids = count(1)
MX = (("route1.mx.cloudflare.net", 83), ("route2.mx.cloudflare.net", 4), ("route3.mx.cloudflare.net", 31))
SPF = "v=spf1 include:_spf.mx.cloudflare.net ~all"
DKIM = "v=DKIM1; h=sha256; k=rsa; p=MIIBCgKCAQEAiweykoi"
UNTOLD = 1
LAST = 2147483647  # the catch-all's priority
TYPES = {"A", "AAAA", "CNAME", "MX", "TXT", "NS", "SRV", "CAA"}
FIELDS = {"type", "name", "content", "ttl", "proxied", "priority", "comment", "tags", "settings", "data"}


class Refused(Exception):
    """An error of Cloudflare's: HTTP status, code, message."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.answer: Answer = (
            status,
            {"success": False, "errors": [{"code": code, "message": message}], "messages": [], "result": None},
        )


def good(result: Any, **info: Any) -> Answer:
    """An answer in the envelope. A good one may carry code 10000 among its messages, which is no error."""
    return 200, {
        "success": True,
        "errors": [],
        "messages": [{"code": 10000, "message": "fine"}],
        "result": result,
        **info,
    }


def answer(state: State, request: Request) -> Answer:
    """One request."""
    try:
        return _route(state, request)
    except Refused as error:
        return error.answer


def _route(state: State, request: Request) -> Answer:
    if request.headers.get("authorization") != f"Bearer {state['token']}":
        raise Refused(401, 10000, "Authentication error")
    path = request.path.removeprefix("/client/v4")
    if path == "/user/tokens/verify":
        return good({"id": "t", "status": state.get("status", "active")})
    if path == "/zones":
        _allow(state, "Zone")
        return good([_zone(zone) for zone in state["zones"] if zone["name"] == request.query["name"]])
    if match := re.fullmatch(r"/accounts/([^/]+)/email/routing/addresses", path):
        _allow(state, "Addresses")
        return _addresses(state, match[1], request)
    match = re.fullmatch(r"/zones/([^/]+)(/.+)", path)
    zone = next((one for one in state["zones"] if match and one["id"] == match[1]), None)
    if match is None or zone is None:
        raise Refused(404, 7003, "Could not route to the path")
    return _in_zone(state, zone, match[2], request)


def _in_zone(state: State, zone: dict[str, Any], path: str, request: Request) -> Answer:
    if path.startswith("/dns_records"):
        _allow(state, "DNS")
        return _dns(state, zone, path.removeprefix("/dns_records"), request)
    if path.startswith("/email/routing/rules"):
        _allow(state, "Rules")
        return _rules(state, zone, path.removeprefix("/email/routing/rules"), request)
    _allow(state, "Settings")
    if (
        state.get("unknown_routing")
        and not zone["routing"]["enabled"]
        and not zone["rules"]
        and request.method == "GET"
    ):
        raise Refused(404, UNTOLD, "not found")
    if path == "/email/routing":
        if request.method == "PATCH":
            _only(request.body, {"support_subaddress", "skip_wizard"})
            zone["routing"].update(request.body)
        return good(_settings(zone))
    if path == "/email/routing/dns":
        return _routing_dns(state, zone, request)
    raise Refused(404, 7003, "Could not route to the path")


def _allow(state: State, permission: str) -> None:
    if permission in state.get("lacks", []):
        raise Refused(403, 10000, "Authentication error")


def _zone(zone: dict[str, Any]) -> dict[str, Any]:
    account = {"id": zone["account"], "name": "me"}
    more = {"status": zone.get("status", "active"), "name_servers": zone.get("name_servers", [])}
    return {"id": zone["id"], "name": zone["name"], "account": account, **more}


def _settings(zone: dict[str, Any]) -> dict[str, Any]:
    routing = zone["routing"]
    there = {(one["type"], one["name"], one["content"].strip('"').rstrip(".")) for one in zone["records"]}
    wanted = [(one["type"], one["name"], one["content"].strip('"').rstrip(".")) for one in needed(zone["name"])]
    spf = [one[2] for one in there if one[:2] == ("TXT", zone["name"]) and "_spf.mx.cloudflare.net" in one[2]]
    well = all(one in there or ("v=spf1" in one[2] and spf) for one in wanted)
    on = "ready" if well and zone["locked"] else "unlocked" if well else "misconfigured"
    status = "unconfigured" if not routing["enabled"] else f"{on}/locked" if not well and zone["locked"] else on
    return {"id": "r", "name": zone["name"], "status": status, "synced": routing["enabled"], **routing}


def _only(body: Any, allowed: set[str], needed: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    if not isinstance(body, dict) or not needed <= set(body) <= allowed:
        raise Wrong(f"expected {sorted(allowed)} with {sorted(needed)}, got {body!r}")


def _paged(state: State, items: list[Any], request: Request) -> Answer:
    page = int(request.query.get("page", 1))
    size = min(int(request.query.get("per_page", 20)), state.get("page", 50))
    shown = items[(page - 1) * size : page * size]
    total = -(-len(items) // size)
    info = {"page": page, "per_page": size, "count": len(shown), "total_count": len(items), "total_pages": total}
    return good(shown, result_info=info)


# --- DNS


def _dns(state: State, zone: dict[str, Any], path: str, request: Request) -> Answer:
    records = zone["records"]
    if request.method == "GET" and path == "/export":
        lines = [f"{one['name']}.\t{one.get('ttl', 1)}\tIN\t{one['type']}\t{one['content']}" for one in records]
        return 200, "\n".join((f";; Domain: {zone['name']}.", *lines)) + "\n"
    if request.method == "GET" and path == "":
        return _paged(state, [_shown(zone, one) for one in records], request)
    if request.method == "POST" and path == "/batch":
        return _batch(state, zone, request)
    raise Refused(405, 7000, "No route for that URI")


def _shown(zone: dict[str, Any], record: dict[str, Any]) -> dict[str, Any]:
    managed = _locked(zone) and _managed(zone, record)
    return {**record, "meta": {"email_routing": True, "read_only": True} if managed else {}}


def _managed(zone: dict[str, Any], record: dict[str, Any]) -> bool:
    """Whether the record is one that Email Routing made and looks after; of an SPF record only the zone's own is."""
    own = record["name"] == zone["name"]
    mx = record["name"] in _routed(zone) and record["type"] == "MX" and "mx.cloudflare.net" in record["content"]
    spf = own and record["type"] == "TXT" and "_spf.mx.cloudflare.net" in record["content"]
    return mx or spf or record["name"] == f"cf2024-1._domainkey.{zone['name']}"


def _routed(zone: dict[str, Any]) -> list[str]:
    return [zone["name"], *zone.get("routed", [])]


def _locked(zone: dict[str, Any]) -> bool:
    return bool(zone["locked"] and zone["routing"]["enabled"])


def _batch(state: State, zone: dict[str, Any], request: Request) -> Answer:
    """Deletes, patches, posts; the first failure undoes everything."""
    _only(request.body, {"deletes", "patches", "puts", "posts"})
    if sum(map(len, request.body.values())) > 200:
        raise Refused(400, UNTOLD, "too many operations in one batch")
    records = [dict(one) for one in zone["records"]]
    for one in request.body.get("deletes", []):
        _only(one, {"id"}, {"id"})
        records.remove(_found(zone, records, one["id"]))
    for one in request.body.get("patches", []):
        _only(one, {"id", *FIELDS}, {"id", "name", "type", "ttl"})
        record = _found(zone, records, one["id"])
        record.update({name: value for name, value in one.items() if name != "id"})
        _valid(state, zone, records, record)
    for one in request.body.get("posts", []):
        _only(one, FIELDS, {"type", "name", "content"})
        record = {"ttl": 1, "proxied": False, "comment": None, **one, "id": f"rec{next(ids)}"}
        records.append(record)
        _valid(state, zone, records, record)
    zone["records"] = records
    return good({name: [] for name in ("deletes", "patches", "puts", "posts")})


def _found(zone: dict[str, Any], records: list[dict[str, Any]], identity: str) -> dict[str, Any]:
    for record in records:
        if record["id"] == identity:
            if _locked(zone) and _managed(zone, record):
                said = "This record is managed by Email Routing. Disable Email Routing to modify/remove this record."
                raise Refused(400, 1046, said)
            return record
    raise Refused(400, 81044, "Record does not exist.")


def _valid(state: State, zone: dict[str, Any], records: list[dict[str, Any]], record: dict[str, Any]) -> None:
    """Refuses as Cloudflare does: forms, clashes, repetitions, MX records where Email Routing receives mail."""
    kind, name, content = record["type"], record["name"], record["content"]
    if kind == "MX" and _locked(zone) and name in _routed(zone):
        said = "This zone is managed by Email Routing. Disable Email Routing to add/modify MX records."
        raise Refused(400, 890190, said)
    if name in state.get("refuses", []):
        raise Refused(400, UNTOLD, f"no records at {name}")
    if kind not in TYPES or not name.isascii() or name != name.lower() or not (name + ".").endswith(zone["name"] + "."):
        raise Refused(400, 9000, f"DNS name is invalid: {kind} {name}")
    if kind in ("A", "AAAA") and ipaddress.ip_address(content).version != (4 if kind == "A" else 6):
        raise Refused(400, 9005, "Content for the record is invalid.")
    if kind == "TXT" and not re.fullmatch(r'("([^"\\]|\\.){0,255}"\s*)+', content):
        raise Wrong(f"TXT content is not quoted, or a string is too long: {content}")
    if kind == "MX" and not isinstance(record.get("priority"), int):
        raise Refused(400, UNTOLD, "priority is a required field")
    if record.get("proxied") and kind not in ("A", "AAAA", "CNAME"):
        raise Refused(400, 9004, "This record type cannot be proxied.")
    if record.get("comment") and (len(record["comment"]) > 100 or "\n" in record["comment"]):
        raise Refused(400, UNTOLD, "comment is too long")
    for other in (one for one in records if one is not record and one["name"] == name):
        if "CNAME" in (kind, other["type"]) and name != zone["name"]:
            raise Refused(400, 81053, "A CNAME record may not share a name with other records.")
        if (kind, content) == (other["type"], other["content"]):
            raise Refused(400, 81058, "An identical record already exists.")


# --- Email Routing


def needed(domain: str) -> list[dict[str, Any]]:
    """The records that Email Routing wants at a domain, its hosts with their final dots."""
    mx = [{"type": "MX", "name": domain, "content": f"{host}.", "priority": number, "ttl": 1} for host, number in MX]
    return [
        *mx,
        {"type": "TXT", "name": domain, "content": f'"{SPF}"', "ttl": 1},
        {"type": "TXT", "name": f"cf2024-1._domainkey.{domain}", "content": f'"{DKIM}"', "ttl": 1},
    ]


def _routing_dns(state: State, zone: dict[str, Any], request: Request) -> Answer:
    if request.method == "GET":
        return good(needed(zone["name"]))
    _only(request.body, {"name"}, {"name"})
    domain = request.body["name"]
    if request.method == "PATCH":
        zone["locked"] = False
    elif request.method == "POST":
        if any(
            one["type"] == "MX" and one["name"] == domain and "cloudflare" not in one["content"]
            for one in zone["records"]
        ):
            raise Refused(409, UNTOLD, "Existing MX records conflict with Email Routing.")
        _switch_on(state, zone, domain)
    return good(_settings(zone))


def _switch_on(state: State, zone: dict[str, Any], domain: str) -> None:
    for wanted in needed(domain):
        content = wanted["content"].rstrip(".")
        beside = [one for one in zone["records"] if (one["type"], one["name"]) == (wanted["type"], wanted["name"])]
        spf = [one for one in beside if "v=spf1" in one["content"]] if "v=spf1" in content else []
        if spf and state.get("replaces_spf"):
            zone["records"] = [one for one in zone["records"] if one not in spf]
        elif spf or any(content in one["content"] for one in beside):
            continue
        made = {"proxied": False, "comment": None, **wanted, "content": content}
        zone["records"].append({**made, "id": f"rec{next(ids)}"})
    zone["routing"]["enabled"] = True
    zone["locked"] = True
    if domain != zone["name"] and domain not in zone.setdefault("routed", []):
        zone["routed"].append(domain)


def _addresses(state: State, account: str, request: Request) -> Answer:
    found = state["addresses"].setdefault(account, [])
    if request.method == "GET":
        return _paged(state, found, request)
    _only(request.body, {"email"}, {"email"})
    email = request.body["email"]
    if any(one["email"].lower() == email.lower() for one in found):
        raise Refused(409, UNTOLD, "Destination address already exists.")
    found.append({"id": f"dest{next(ids)}", "email": email, "verified": None, "status": "unverified"})
    return good(found[-1])


def _rules(state: State, zone: dict[str, Any], path: str, request: Request) -> Answer:
    if path == "/catch_all":
        if request.method == "PUT":
            _form(state, zone, request.body, "all")
            zone["catch_all"].update(request.body)
        return good(zone["catch_all"])
    rules = zone["rules"]
    if request.method == "GET" and not path:
        return _paged(state, [*rules, {**zone["catch_all"], "priority": LAST}], request)
    if request.method == "POST" and not path:
        _form(state, zone, request.body, "literal")
        if state.get("rules_need_routing") and not zone["routing"]["enabled"]:
            raise Refused(400, UNTOLD, "Email Routing is not enabled.")
        if len(rules) >= 200:
            raise Refused(400, UNTOLD, "Too many rules")
        rules.append({**request.body, "id": f"rule{next(ids)}", "source": "api"})
        return good(rules[-1])
    rule = next((one for one in rules if f"/{one['id']}" == path), None)
    if rule is None:
        raise Refused(404, UNTOLD, "Rule not found")
    if request.method == "DELETE":
        rules.remove(rule)
    else:
        _form(state, zone, request.body, "literal")
        rule.update(request.body)
    return good(rule)


def _form(state: State, zone: dict[str, Any], body: Any, matcher: str) -> None:
    """One matcher, one action with one value at most; a rule to somebody who has not clicked is refused."""
    _only(body, {"name", "enabled", "priority", "matchers", "actions"}, {"matchers", "actions", "enabled", "name"})
    if len(body["matchers"]) != 1 or body["matchers"][0]["type"] != matcher or len(body["actions"]) != 1:
        raise Wrong(f"matchers and actions: {body!r}")
    if matcher == "literal" and body["matchers"][0].keys() != {"type", "field", "value"}:
        raise Wrong(f"matcher: {body!r}")
    action = body["actions"][0]
    if (action["type"], len(action.get("value", []))) not in (("forward", 1), ("worker", 1), ("drop", 0)):
        raise Refused(422, 2007, "Invalid Input: must be exactly one value")
    values = [*action.get("value", []), *(one["value"] for one in body["matchers"] if "value" in one)]
    if any(value in state.get("clashes", []) for value in values):
        raise Refused(409, 2020, "Invalid rule operation")
    if any(len(value) > 90 for value in values) or len(body["name"]) > 256:
        raise Refused(400, UNTOLD, "too long")
    if action["type"] == "worker" and action["value"][0] in state.get("no_workers", []):
        raise Refused(400, UNTOLD, "no such Worker")
    if action["type"] == "forward" and not _verified(state, zone, action["value"][0]):
        raise Refused(400, 2054, "Destination address is not verified")


def _verified(state: State, zone: dict[str, Any], email: str) -> bool:
    addresses = state["addresses"].get(zone["account"], [])
    return any(one["email"].lower() == email.lower() and one["verified"] for one in addresses)


if __name__ == "__main__":
    serve(answer)
