"""Looks at everything a plan needs, and writes nothing. What a token may not do is gathered and told all at once."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx

from common import names

from .api import NotAllowed
from .authentication import Authentication, Service
from .cloudflare import Cloudflare, Destination, Zone
from .plan import Files, Seen, SeenZone
from .records import Record
from .settings import Address, Settings

T = TypeVar("T")

FAR = {4: ("192.0.2.1", 9), 6: ("2001:db8::1", 9)}  # never sent to; the kernel only chooses the way out


@dataclass(slots=True)
class Reach:
    """The services this run may talk to."""

    cloudflare: Cloudflare
    services: Mapping[str, Service]
    client: httpx.Client


@dataclass(frozen=True, slots=True)
class Sight:
    """What was seen, and the zones' identities for writing."""

    seen: Seen
    zones: Mapping[str, Zone]


def observe(settings: Settings, files: Files, reach: Reach, addresses: tuple[Address, ...] | None) -> Sight:
    """Raises NotAllowed with every missing permission, ApiError or Unreachable."""
    zones = _zones(settings, reach.cloudflare)
    lacks: list[str] = []
    accounts: dict[str, tuple[Destination, ...]] = {}
    seen = [_zone(settings, reach.cloudflare, zone, accounts, lacks) for zone in zones.values()]
    found = authentications(settings, files, reach.services, lacks)
    if lacks:
        raise NotAllowed("\n".join(dict.fromkeys(lacks)))
    return Sight(Seen(zones=tuple(seen), authentications=found, addresses=addresses), zones)


def _zones(settings: Settings, cloudflare: Cloudflare) -> dict[str, Zone]:
    """The zones that the domains and the mail host lie in, each name's closest one."""
    cloudflare.verify()
    found: dict[str, Zone] = {}
    asked: dict[str, Zone | None] = {}
    for name in (*settings.domains, settings.hostname):
        for parent in names.parents(name):
            if parent not in asked:
                asked[parent] = cloudflare.zone(parent)
            if (zone := asked[parent]) is not None:
                found[parent] = zone
                break
    if not found:
        raise NotAllowed(
            f"Cloudflare shows the token no zone for {', '.join(settings.domains)}. The permission needed is:"
            " Zone · Zone · Read, with the zone among the token's resources. For a domain whose DNS is elsewhere:"
            " make plan ARGS=--text."
        )
    return found


def _zone(
    settings: Settings,
    cloudflare: Cloudflare,
    zone: Zone,
    accounts: dict[str, tuple[Destination, ...]],
    lacks: list[str],
) -> SeenZone:
    nothing: tuple[Record, ...] = ()
    records = _try(lambda: cloudflare.records(zone), nothing, zone.name, lacks)
    mail = any(names.within(domain, zone.name) for domain in settings.domains)
    if not (settings.email_routing and mail):
        return SeenZone(name=zone.name, records=records, pending=zone.pending)
    routing = _try(lambda: cloudflare.routing(zone), None, zone.name, lacks)
    if zone.account not in accounts:
        accounts[zone.account] = _try(lambda: cloudflare.destinations(zone.account), (), zone.name, lacks)
    return SeenZone(
        name=zone.name,
        records=records,
        routing=routing,
        destinations=accounts[zone.account],
        pending=zone.pending,
    )


def authentications(
    settings: Settings, files: Files, services: Mapping[str, Service], lacks: list[str]
) -> dict[tuple[str, str], Authentication | None]:
    """What each provider with a key knows of each domain; lacking rights go into ``lacks``."""
    found: dict[tuple[str, str], Authentication | None] = {}
    for known in map(files.providers.of, settings.providers):
        preset = known.preset
        if known.no_dns or preset not in services:
            continue
        for domain in settings.domains:
            find = services[preset].find
            where = f"{known.title} for {domain}"
            found[preset, domain] = _try(lambda find=find, domain=domain: find(domain), None, where, lacks)  # type: ignore[misc]
    return found


def _try(look: Callable[[], T], instead: T, where: str, lacks: list[str]) -> T:
    try:
        return look()
    except NotAllowed as error:
        lacks.append(f"{where}: {error}")
        return instead


def addresses(settings: Settings, client: httpx.Client) -> tuple[Address, ...] | None:
    """This server's addresses: as set or bound, else the machine's own, else what the outside sees. None: not known.

    IPv6 only where the ports are published for it: a name with an address that answers nobody makes clients wait.
    """
    if settings.addresses is not None:
        return settings.addresses
    if settings.bind.is_global:
        return (settings.bind,)
    wanted = (4, 6) if settings.bind.version == 6 else (4,)
    own = {version: address for version in wanted if (address := _own(version)) is not None}
    if 4 not in own:
        traced = [_traced(url, client) for url in settings.traces]
        own = {one.version: one for one in traced if one is not None and one.version in wanted} | own
    return tuple(own[version] for version in wanted if version in own) or None


def _own(version: int) -> Address | None:
    """The address from which packets would leave, if the whole net can reach it and it is not one of a few hours."""
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(FAR[version])
            found = _public(probe.getsockname()[0])
    except OSError:
        return None
    return None if found is not None and _temporary(found) else found


def _temporary(address: Address, table: Path = Path("/proc/net/if_inet6")) -> bool:
    """Whether the kernel made the address up for privacy and will soon give it up (RFC 8981): IFA_F_TEMPORARY."""
    try:
        rows = [line.split() for line in table.read_text().splitlines()]
    except OSError:
        return False
    return any(int(row[4], 16) & 1 and ipaddress.ip_address(bytes.fromhex(row[0])) == address for row in rows)


def _traced(url: str, client: httpx.Client) -> Address | None:
    """The address that Cloudflare sees, for a machine behind Docker's or a router's translation."""
    try:
        text = client.get(url, timeout=5.0).text
    except httpx.HTTPError:
        return None
    lines = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return _public(lines.get("ip", ""))


def _public(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return address if address.is_global else None
