"""The settings of the LAN listener, for printers and containers that cannot log in.

Whoever reaches it from a listed network sends as one account without a password. So the networks must be named, be
private, and be small enough to have been meant: a /16 of IPv4 or a /48 of IPv6 at most.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from common.settings import Reader
from relay.address import Bad, parse_recipient

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PORT = 2525
RECIPIENTS_PER_DAY = 100  # a printer's day; also what a compromised one can do harm with
WIDEST = {4: 16, 6: 48}  # shortest prefix by IP version
MOST_RECIPIENTS = 1_000_000
# RFC 1918, RFC 6598 (Tailscale and other carriers), RFC 3927, RFC 4193, RFC 4291
PRIVATE = tuple(
    ipaddress.ip_network(text)
    for text in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "169.254.0.0/16",
        "127.0.0.0/8",
        "fc00::/7",
        "fe80::/10",
        "::1/128",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LanSettings:
    """The LAN listener, when it is on."""

    bind: str  # the address it is published on
    listen: str  # the address bound by the process
    port: int
    networks: tuple[Network, ...]
    account: str
    recipients: tuple[str, ...]  # ``*``, ``*@domain`` or an address, domains in lower case
    recipients_per_day: int | None  # None: unlimited


def read_lan(reader: Reader, domains: tuple[str, ...], listen: str) -> LanSettings | None:
    """The listener's settings, or None while RELAY_LAN_BIND is not set; wrong values are problems in either case."""
    bind = reader.address("RELAY_LAN_BIND", "")
    lan = LanSettings(
        bind=bind,
        listen=listen or bind,
        port=reader.port("RELAY_LAN_PORT", PORT),
        networks=tuple(network for word in reader.words("RELAY_LAN_NETWORKS") if (network := _network(reader, word))),
        account=reader.text("RELAY_LAN_ACCOUNT"),
        recipients=_recipients(reader, domains),
        recipients_per_day=_per_day(reader),
    )
    if not reader.given("RELAY_LAN_BIND"):
        return None
    if not reader.given("RELAY_LAN_NETWORKS"):
        reader.problem("RELAY_LAN_NETWORKS", "missing; allowed: private networks such as 192.168.1.0/24 fd00:1::/64.")
    if not lan.account:
        reader.problem("RELAY_LAN_ACCOUNT", "missing; allowed: the account in accounts.toml that LAN clients act as.")
    return lan


def _network(reader: Reader, word: str) -> Network | None:
    name = "RELAY_LAN_NETWORKS"
    try:
        network = ipaddress.ip_network(word)
    except ValueError:
        reader.wrong(name, word, "a network", _nearest(word))
        return None
    if not any(network.version == one.version and network.subnet_of(one) for one in PRIVATE):  # type: ignore[arg-type]
        reader.wrong(name, word, "private", "networks within 10/8, 172.16/12, 192.168/16, 100.64/10, 127/8, fc00::/7")
        return None
    if network.prefixlen < WIDEST[network.version]:
        widest = f"networks no wider than /{WIDEST[4]} (IPv4) or /{WIDEST[6]} (IPv6)"
        reader.wrong(name, word, "narrow enough to be trusted", widest)
        return None
    return network


def _nearest(word: str) -> str:
    """What was probably meant by something that is no network."""
    try:
        return str(ipaddress.ip_network(word, strict=False))
    except ValueError:
        return "networks such as 192.168.1.0/24 or fd00:1::/64"


def _recipients(reader: Reader, domains: tuple[str, ...]) -> tuple[str, ...]:
    patterns = reader.words("RELAY_LAN_RECIPIENTS", " ".join(f"*@{domain}" for domain in domains))
    return tuple(_pattern(reader, pattern) for pattern in patterns)


def _pattern(reader: Reader, pattern: str) -> str:
    parsed = parse_recipient(pattern.encode("utf-8", "replace"), utf8=True)
    local, _, domain = ("" if isinstance(parsed, Bad) else parsed).rpartition("@")
    if pattern != "*" and (not local or ("*" in local and local != "*")):
        reader.wrong("RELAY_LAN_RECIPIENTS", pattern, "an address", "* (anyone), *@example.org or scan@example.org")
    return f"{local}@{domain.lower()}" if local else pattern


def _per_day(reader: Reader) -> int | None:
    if reader.text("RELAY_LAN_RECIPIENTS_PER_DAY").lower() == "unlimited":
        return None
    return reader.number("RELAY_LAN_RECIPIENTS_PER_DAY", RECIPIENTS_PER_DAY, 1, MOST_RECIPIENTS)
