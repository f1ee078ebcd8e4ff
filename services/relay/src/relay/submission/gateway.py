"""The default gateways, from the kernel's routing tables. Pure but for the one function that reads them.

Docker's userland proxy and IPv6 NAT show every client with the gateway's address: limits for each address would then
hit all clients at once, and an allow-list for the LAN would mean nobody or everybody.
"""

from __future__ import annotations

import ipaddress
import sys
from pathlib import Path

_GATEWAY_FLAG = 0x2  # RTF_GATEWAY


def default_gateways() -> frozenset[str]:
    """The addresses of this network namespace's default gateways; empty where the kernel does not tell."""
    found: set[str] = set()
    for path, parse in ((Path("/proc/net/route"), parse_ipv4), (Path("/proc/net/ipv6_route"), parse_ipv6)):
        try:
            found |= parse(path.read_text("ascii"))
        except OSError:
            continue  # no such protocol here
    return frozenset(found)


def parse_ipv4(table: str, byteorder: str = sys.byteorder) -> set[str]:
    """Default gateways in the form of ``/proc/net/route``, whose addresses are in the machine's byte order."""
    found = set()
    for line in table.splitlines()[1:]:
        columns = line.split()
        if len(columns) < 8 or int(columns[1], 16) or int(columns[7], 16) or not int(columns[3], 16) & _GATEWAY_FLAG:
            continue
        raw = bytes.fromhex(columns[2])
        found.add(str(ipaddress.IPv4Address(raw[::-1] if byteorder == "little" else raw)))
    return found


def parse_ipv6(table: str) -> set[str]:
    """Default gateways in the form of ``/proc/net/ipv6_route``, whose addresses are in network byte order."""
    found = set()
    for line in table.splitlines():
        columns = line.split()
        if len(columns) < 9 or int(columns[1], 16) or not int(columns[8], 16) & _GATEWAY_FLAG:
            continue
        found.add(str(ipaddress.IPv6Address(bytes.fromhex(columns[4]))))
    return found
