"""Which connections count as one client's: for limits, for delays, for lines of the log."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address


def address_key(peer: str) -> str:
    """What counts as one client's address: an IPv4 address, an IPv6 /64 (a household has one); else the text itself."""
    if ":" not in peer:
        return peer
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    assert isinstance(address, IPv6Address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(IPv6Address(int(address) >> 64 << 64)) + "/64"
