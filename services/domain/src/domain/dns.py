"""Questions to DNS resolvers, with answers as texts: empty where there is nothing, None where nobody could say."""

from __future__ import annotations

from collections.abc import Sequence

import dns.exception
import dns.nameserver
import dns.rdatatype
import dns.resolver

LIFETIME = 6.0  # seconds for one question, over all resolvers


def resolver(servers: Sequence[tuple[str, int]]) -> dns.resolver.Resolver:
    """A resolver that asks these servers and nobody else, without the machine's own configuration or a cache."""
    made = dns.resolver.Resolver(configure=False)
    made.nameservers = [dns.nameserver.Do53Nameserver(address, port) for address, port in servers]
    made.lifetime, made.timeout = LIFETIME, LIFETIME / 3
    made.cache = None
    return made


class Dns:
    """Remembers its answers: one run asks each question once."""

    def __init__(self, resolver: dns.resolver.Resolver) -> None:
        self.resolver = resolver
        self._known: dict[tuple[str, str], tuple[str, ...] | None] = {}

    def __call__(self, name: str, kind: str) -> tuple[str, ...] | None:
        """The answers for ``name``; a CNAME is followed, except when asked for itself. Host names have no final dot."""
        if (name, kind) not in self._known:
            self._known[name, kind] = self._ask(name, kind)
        return self._known[name, kind]

    def _ask(self, name: str, kind: str) -> tuple[str, ...] | None:
        try:
            answer = self.resolver.resolve(name, kind, raise_on_no_answer=False)
        except dns.resolver.NXDOMAIN:
            return ()
        except (dns.exception.DNSException, ValueError):
            return None
        if answer.rrset is None:
            return ()
        return tuple(sorted(_text(one, kind) for one in answer.rrset))


def _text(data: object, kind: str) -> str:
    if kind == "TXT":
        strings: tuple[bytes, ...] = data.strings  # type: ignore[attr-defined]
        return b"".join(strings).decode(errors="replace")
    text = str(data)
    return text.rstrip(".").lower() if kind in ("CNAME", "MX", "NS", "PTR") else text
