"""The presets that are shipped, read once from ``providers.toml`` beside this module."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from relay.providers import keys
from relay.providers.preset import GENERIC, Preset

SHIPPED = Path(__file__).with_name("providers.toml")


def _shipped() -> Mapping[str, Preset]:
    """Every preset has the rules of the generic one after its own. Raises ValueError if our own file is wrong."""
    with SHIPPED.open("rb") as file:
        tables = tomllib.load(file)
    base, problems = keys.read({"rules": tables[GENERIC]["rules"]}, Preset())
    presets = {}
    for name, table in tables.items():
        own = table if name != GENERIC else {key: value for key, value in table.items() if key != "rules"}
        presets[name], wrong = keys.read(own, base)
        problems += [f"[{name}] {sentence}" for sentence in wrong]
    if problems:
        raise ValueError(f"{SHIPPED}: {'; '.join(problems)}")
    return MappingProxyType(presets)


PRESETS = _shipped()
