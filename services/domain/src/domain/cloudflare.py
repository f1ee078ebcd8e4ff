"""Cloudflare's API, as much of it as a mail domain needs: zones, records, Email Routing, destinations.

The permissions are named as the dashboard names them. Account-owned tokens (``cfat_``) are refused before use: Email
Routing does not take them. Code 10000 is an authentication error in ``errors`` and praise in ``messages``: only
``errors`` are read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

import httpx

from . import records
from .aliases import Act, Target
from .api import Api, ApiError, NotAllowed, Unreachable
from .records import Record
from .settings import Key

T = TypeVar("T")

ZONE_READ = "Zone · Zone · Read"
DNS_EDIT = "Zone · DNS · Edit"
SETTINGS_EDIT = "Zone · Zone Settings · Edit"
RULES_EDIT = "Zone · Email Routing Rules · Edit"
ADDRESSES_EDIT = "Account · Email Routing Addresses · Edit"
PERMISSIONS = (ZONE_READ, DNS_EDIT, SETTINGS_EDIT, RULES_EDIT, ADDRESSES_EDIT)

PAGE = 50  # what every one of these lists allows
PAGES = 400  # a list longer than this is a fault of the service, not a zone
EXISTS = frozenset({81057, 81058})
GONE = frozenset({81044})
MANAGED = frozenset({1046, 890190})  # a record that Email Routing looks after; an MX record where it receives mail
BATCH = 200  # operations a call on the free plan
DENIALS = frozenset({1009, 9109, 10000})


@dataclass(frozen=True, slots=True)
class Zone:
    """``pending``: the name servers that the registrar must still be told of."""

    id: str
    name: str
    account: str
    pending: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """An Email Routing rule for one address, or with ``to == "*"`` the catch-all. ``foreign``: not to be touched."""

    to: str
    target: Target | None  # None: something this program does not know
    enabled: bool
    name: str = ""
    id: str = ""
    priority: int = 0
    foreign: bool = False

    @property
    def new(self) -> bool:
        """Whether it is still to be made; the catch-all always is there."""
        return not self.id and self.to != "*"

    def home(self, zone: str) -> str:
        """The domain whose mail it is for."""
        return zone if self.to == "*" else self.to.rpartition("@")[2]


@dataclass(frozen=True, slots=True)
class Destination:
    """An address that mail may be forwarded to, once its owner has clicked."""

    email: str
    verified: bool


@dataclass(frozen=True, slots=True)
class Routing:
    """Email Routing of a zone. ``needed`` are the records it wants at the zone's own name."""

    enabled: bool
    status: str
    subaddressing: bool
    needed: tuple[Record, ...]
    rules: tuple[Rule, ...]
    catch_all: Rule


class Cloudflare:
    """The calls. Each raises ApiError, NotAllowed with the permission's name, or Unreachable."""

    def __init__(self, key: Key, client: httpx.Client, sleep: Callable[[float], None]) -> None:
        self._token = key.secrets[0]
        headers = {"Authorization": f"Bearer {self._token}"}
        self._api = Api("Cloudflare", key.url, headers, _explain, client, sleep, denials=DENIALS)

    def verify(self) -> None:
        """Whether the token works at all. Raises NotAllowed with a sentence that says what to make instead."""
        if self._token.startswith("cfat_"):
            raise NotAllowed(
                "DOMAIN_CLOUDFLARE_API_TOKEN is an account-owned token; Email Routing does not take those. Make a user"
                f" token (My Profile, API Tokens) with: {'; '.join(PERMISSIONS)}."
            )
        try:
            status = self._get("/user/tokens/verify")["status"]
        except Unreachable:
            raise
        except ApiError as error:
            raise NotAllowed(
                "DOMAIN_CLOUDFLARE_API_TOKEN is not accepted. Make a user token with:"
                f" {'; '.join(PERMISSIONS)}. ({error})"
            ) from None
        if status != "active":
            raise NotAllowed(f"DOMAIN_CLOUDFLARE_API_TOKEN is {status}; make a new token.")

    def zone(self, name: str) -> Zone | None:
        """The zone of exactly this name, None if the token sees none; of several, as after a move, the active one."""
        found = self._get("/zones", {"name": name}, need=ZONE_READ)
        return _shaped(lambda: _chosen([item for item in found if records.ascii_form(item["name"]) == name]))

    def records(self, zone: Zone) -> tuple[Record, ...]:
        items = self._list(f"/zones/{zone.id}/dns_records", need=DNS_EDIT)
        return _shaped(lambda: tuple(map(records.read, items)))

    def export(self, zone: Zone) -> str:
        """The zone as BIND text. Raises Unreachable for anything else: a backup must hold something."""
        text = self._api.get(f"/zones/{zone.id}/dns_records/export", need=DNS_EDIT)
        if not isinstance(text, str) or not text.strip():
            raise Unreachable(f"Cloudflare did not export {zone.name} as text, so there would be no backup.")
        return text

    def batch(
        self,
        zone: Zone,
        deletes: Sequence[str],
        patches: Sequence[dict[str, Any]],
        posts: Sequence[dict[str, Any]],
    ) -> None:
        """All or nothing, in this order."""
        body = {"deletes": [{"id": one} for one in deletes], "patches": list(patches), "posts": list(posts)}
        body = {name: part for name, part in body.items() if part}
        self._write("POST", f"/zones/{zone.id}/dns_records/batch", body, DNS_EDIT)

    def routing(self, zone: Zone) -> Routing:
        """What there is of it. A zone that has never had it may be unknown there, which is the same as off."""
        base = f"/zones/{zone.id}/email/routing"
        try:
            settings = self._get(base, need=SETTINGS_EDIT)
        except ApiError as error:
            if error.status != 404:
                raise
            return Routing(
                enabled=False, status="", subaddressing=False, needed=(), rules=(), catch_all=Rule("*", None, False)
            )
        needed = self._get(f"{base}/dns", need=SETTINGS_EDIT)
        rules = self._list(f"{base}/rules", need=RULES_EDIT)
        catch_all = self._get(f"{base}/rules/catch_all", need=RULES_EDIT)
        return _shaped(lambda: _routing(settings, needed, rules, catch_all))

    def destinations(self, account: str) -> tuple[Destination, ...]:
        items = self._list(f"/accounts/{account}/email/routing/addresses", need=ADDRESSES_EDIT)
        return _shaped(lambda: tuple(Destination(str(item["email"]), bool(item.get("verified"))) for item in items))

    def add_destination(self, account: str, email: str) -> None:
        """Cloudflare sends its owner a mail with a link to click."""
        self._write("POST", f"/accounts/{account}/email/routing/addresses", {"email": email}, ADDRESSES_EDIT)

    def enable_routing(self, zone: Zone, domain: str) -> None:
        """Adds and locks what is missing of the records."""
        self._write("POST", f"/zones/{zone.id}/email/routing/dns", {"name": domain}, SETTINGS_EDIT)

    def unlock_routing(self, zone: Zone, domain: str) -> None:
        """Lets the records that Email Routing manages be edited; it goes on working."""
        self._write("PATCH", f"/zones/{zone.id}/email/routing/dns", {"name": domain}, SETTINGS_EDIT)

    def set_subaddressing(self, zone: Zone, wanted: bool) -> None:
        self._write("PATCH", f"/zones/{zone.id}/email/routing", {"support_subaddress": wanted}, SETTINGS_EDIT)

    def put_rule(self, zone: Zone, rule: Rule) -> None:
        """Creates a rule, or overwrites the one with its id; ``to == "*"`` is the catch-all."""
        base = f"/zones/{zone.id}/email/routing/rules"
        body: dict[str, Any] = {"name": rule.name, "enabled": rule.enabled, "actions": _actions(rule)}
        if rule.to == "*":
            self._write("PUT", f"{base}/catch_all", {**body, "matchers": [{"type": "all"}]}, RULES_EDIT)
            return
        body["matchers"] = [{"type": "literal", "field": "to", "value": rule.to}]
        body["priority"] = rule.priority
        method, path = ("PUT", f"{base}/{rule.id}") if rule.id else ("POST", base)
        self._write(method, path, body, RULES_EDIT)

    def delete_rule(self, zone: Zone, rule: Rule) -> None:
        self._write("DELETE", f"/zones/{zone.id}/email/routing/rules/{rule.id}", None, RULES_EDIT)

    def _get(self, path: str, params: dict[str, Any] | None = None, *, need: str = "") -> Any:
        return _shaped(lambda: self._api.get(path, params, need=need)["result"])

    def _write(self, method: str, path: str, body: Any, need: str) -> None:
        self._api.call(method, path, json=body, need=need)

    def _list(self, path: str, *, need: str) -> list[Any]:
        """All items of a list, over its pages: until the last that is announced, an empty one, or one with room."""
        found: list[Any] = []
        for page in range(1, PAGES + 1):
            answer = self._api.get(path, {"page": page, "per_page": PAGE}, need=need)
            items, total = _shaped(lambda answer=answer: _page(answer))  # type: ignore[misc]
            found += items
            if not items or (page >= total if total else len(items) < PAGE):
                return found
        raise Unreachable(f"Cloudflare lists without end at {path}.")


def _shaped(take: Callable[[], T]) -> T:
    try:
        return take()
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        raise Unreachable("Cloudflare sent an answer in a form that is not documented.") from None


def _id(value: Any) -> str:
    """An identifier from an answer, fit for a path."""
    return quote(str(value), safe="")


def _page(answer: dict[str, Any]) -> tuple[list[Any], int]:
    """The items of a page, and how many pages there are."""
    info = answer.get("result_info") or {}
    return list(answer["result"] or []), int(info.get("total_pages") or -(-int(info.get("total_count") or 0) // PAGE))


def _chosen(items: list[dict[str, Any]]) -> Zone | None:
    return _zone(min(items, key=lambda item: item.get("status") != "active")) if items else None


def _zone(item: dict[str, Any]) -> Zone:
    servers = tuple(map(str, item.get("name_servers") or ())) if item.get("status") == "pending" else ()
    return Zone(_id(item["id"]), records.ascii_form(item["name"]), _id(item["account"]["id"]), servers)


def _routing(settings: dict[str, Any], needed: Any, rules: list[Any], catch_all: dict[str, Any]) -> Routing:
    """``needed`` is a list, or for some zones an object that holds it; the rules may end with the catch-all."""
    rows = needed.get("record") if isinstance(needed, dict) else needed
    return Routing(
        enabled=bool(settings.get("enabled")),
        status=str(settings.get("status") or ""),
        subaddressing=bool(settings.get("support_subaddress")),
        needed=tuple(map(records.read, rows or ())),
        rules=tuple(rule for rule in map(_rule, rules) if rule.to != "*"),
        catch_all=_rule(catch_all),
    )


def _rule(item: dict[str, Any]) -> Rule:
    matchers, actions = item.get("matchers") or [], item.get("actions") or []
    to = ""
    if len(matchers) == 1:
        literal = matchers[0].get("type") == "literal" and matchers[0].get("field") == "to"
        to = "*" if matchers[0].get("type") == "all" else str(matchers[0].get("value", "")).lower() if literal else ""
    return Rule(
        to=to,
        target=_target(actions),
        enabled=bool(item.get("enabled")),
        name=str(item.get("name") or ""),
        id=_id(item.get("id") or ""),
        priority=int(item.get("priority") or 0),
        foreign=item.get("source") == "wrangler" or not to,
    )


def _target(actions: list[dict[str, Any]]) -> Target | None:
    if len(actions) != 1 or actions[0].get("type") not in set(Act):
        return None
    value = actions[0].get("value") or [""]
    return Target(Act(actions[0]["type"]), str(value[0])) if len(value) == 1 else None


def _actions(rule: Rule) -> list[dict[str, Any]]:
    assert rule.target is not None
    action: dict[str, Any] = {"type": str(rule.target.act)}
    if rule.target.act is not Act.DROP:
        action["value"] = [rule.target.value]
    return [action]


def _explain(status: int, answer: Any) -> tuple[str, tuple[int, ...]]:
    if not isinstance(answer, dict):
        return ("" if status < 400 else str(answer)), ()
    errors = [error for error in answer.get("errors") or [] if isinstance(error, dict)]
    if not errors and answer.get("success", True) and status < 400:
        return "", ()
    said = "; ".join(f"{error.get('message', '')} ({error.get('code', '?')})" for error in errors)
    codes = tuple(error["code"] for error in errors if isinstance(error.get("code"), int))
    return said or f"HTTP {status} without a reason", codes
