"""What is true of a provider for everyone, from ``providers.toml`` beside this module: what a domain publishes for it,
its hosts and its ports.

The rest of that file is the relay's (``relay.providers``). A table of ``config/providers.toml`` changes here what it
changes there; what it has wrong is for the relay to tell, and counts here as not given.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache
from pathlib import Path

from common.names import server

SHIPPED = Path(__file__).with_name("providers.toml")
GENERIC = "generic"  # of whom nothing is known
CAPTURE = "capture"  # writes files: nobody outside ever sees it
REGION = "{region}"  # in a host: what NAME_REGION says stands there
OF_DNS = frozenset({"spf", "needs", "selectors", "no_dns"})  # the keys of that file that are not the relay's


class Needs(StrEnum):
    """When a provider needs its SPF mechanism at the sender's own name."""

    NEVER = "never"  # the envelope sender lives at a name of the provider's, or DKIM alone carries DMARC
    ALWAYS = "always"
    UNAUTHENTICATED = "unauthenticated"  # only without domain authentication


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """``ports`` in order of trial; of each group of ``selectors`` one must be there, where records are not known."""

    preset: str  # whose facts these are
    title: str
    host: str = ""
    regions: Mapping[str, str] = field(default_factory=dict)  # what NAME_REGION makes of the host
    ports: tuple[int, ...] = (587,)
    spf: str = ""
    needs: Needs = Needs.NEVER
    selectors: tuple[tuple[str, ...], ...] = ()
    no_dns: bool = False  # no domain publishes anything for it


def host_in(region: str, host: str, regions: Mapping[str, str]) -> str:
    """Where a provider is that has these ``host`` and ``regions``; "" where that takes a region and none is given."""
    everywhere = host.replace(REGION, region) if region or REGION not in host else ""
    return server(regions.get(region, everywhere))


@cache
def presets() -> Mapping[str, Provider]:
    """What is known of each preset."""
    with SHIPPED.open("rb") as file:
        tables = tomllib.load(file)
    return {
        name: Provider(
            preset=name,
            title=table["title"],
            host=table.get("host", ""),
            regions=table.get("regions", {}),
            ports=_ports(table.get("ports")) or (587,),
            spf=table.get("spf", ""),
            needs=Needs(table.get("needs", "never")),
            selectors=tuple(map(tuple, table.get("selectors", []))),
            no_dns=table.get("no_dns", False),
        )
        for name, table in tables.items()
    }


def described(name: str, table: Mapping[str, object]) -> Provider:
    """What is known of the provider ``name``, in lower case, whose own table in the operator's file is ``table``."""
    known = presets()
    preset = str(table.get("preset", name)).lower()
    base = known.get(preset, known[GENERIC])
    title, host, regions = table.get("title"), table.get("host"), table.get("regions")
    return replace(
        base,
        title=title if isinstance(title, str) else base.title if name in known else name,
        host=host if isinstance(host, str) else base.host,
        regions={one: str(at) for one, at in regions.items()} if isinstance(regions, dict) else base.regions,
        ports=_ports(table.get("ports")) or base.ports,
    )


def _ports(value: object) -> tuple[int, ...]:
    """The numbers in ``["587 starttls", …]``."""
    words = [str(one).partition(" ")[0] for one in value] if isinstance(value, list) else []
    return tuple(int(word) for word in words if word.isascii() and word.isdigit() and len(word) < 6)
