"""The presets that are shipped, read once from ``common/providers.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from types import MappingProxyType

from common.providers import GENERIC, OF_DNS, SHIPPED
from relay.providers import keys
from relay.providers.preset import Preset


def _shipped() -> Mapping[str, Preset]:
    """Every preset has the rules of the generic one after its own. Raises ValueError if our own file is wrong."""
    with SHIPPED.open("rb") as file:
        tables = tomllib.load(file)
    base, problems = keys.read({"rules": tables[GENERIC]["rules"]}, Preset())
    presets = {}
    for name, table in tables.items():
        kept = OF_DNS | {"rules"} if name == GENERIC else OF_DNS
        own = {key: value for key, value in table.items() if key not in kept}
        presets[name], wrong = keys.read(own, base)
        problems += [f"[{name}] {sentence}" for sentence in wrong]
    if problems:
        raise ValueError(f"{SHIPPED}: {'; '.join(problems)}")
    return MappingProxyType(presets)


PRESETS = _shipped()
