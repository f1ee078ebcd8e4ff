"""``config/providers.toml``, as far as it is the relay's: tables that change presets or describe providers of one's
own, and routes. The tables ``[NAME.dns]`` are the domain tool's.

    [brevo]                    # changes the preset brevo
    daily_quota = 5000

    [brevo-two]                # a second account: OWNPOST_PROVIDERS=brevo,brevo-two, BREVO_TWO_USERNAME, …
    preset = "brevo"

    [[route]]                  # the first that fits counts; without account and domain it fits every message
    account = "newsletter"
    providers = { ses = 3, brevo = 1 }

A missing file is an empty one. Every mistake is a sentence; what is wrong is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from common import toml
from common.providers import CAPTURE, GENERIC
from relay import address, limits
from relay.choice.routes import Route, Routes
from relay.providers import keys
from relay.providers.preset import Preset
from relay.providers.presets import PRESETS
from relay.refusal import shown

NAME = "providers.toml"
FILE_SIZE = 1 * limits.MIB
ROUTE = "route"
MOST_WEIGHT = 1000
_ROUTE_KEYS = ("account", "domain", "providers")


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one provider."""

    preset: str  # the preset's name
    facts: Preset
    own: frozenset[str] = frozenset()  # keys that the operator gave


@dataclass(frozen=True, slots=True)
class ProvidersFile:
    """The file, read. ``routes`` are still unchecked tables."""

    entries: Mapping[str, Entry] = field(default_factory=dict)
    tables: Sequence[Any] = ()
    problems: tuple[str, ...] = ()

    def of(self, name: str) -> Entry:
        """What is known of the provider ``name``: its table, else its preset, else nothing."""
        if name in self.entries:
            return self.entries[name]
        return Entry(name, PRESETS[name]) if name in PRESETS else Entry(GENERIC, replace(PRESETS[GENERIC], title=name))

    def routes(self, names: tuple[str, ...]) -> tuple[Routes, list[str]]:
        """The routes between the configured providers ``names``, and a sentence for each mistake."""
        problems: list[str] = []
        tables = self.tables if isinstance(self.tables, (list, tuple)) else [self.tables]
        routes = [_route(table, f"[[{ROUTE}]] {number}", names, problems) for number, table in enumerate(tables, 1)]
        return Routes(names, tuple(route for route in routes if route is not None)), problems


def load(path: Path) -> ProvidersFile:
    """Reads the file; never raises."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_SIZE + 1)
    except FileNotFoundError:
        return ProvidersFile()
    except OSError as error:
        return ProvidersFile(problems=(f"cannot be read: {error.strerror}.",))
    if len(data) > FILE_SIZE:
        return ProvidersFile(problems=(f"is larger than {FILE_SIZE} bytes.",))
    return parse(data)


def parse(data: bytes) -> ProvidersFile:
    """``data``, the file's content."""
    try:
        document = toml.loads(data.decode("utf-8"))
    except ValueError as error:
        return ProvidersFile(problems=(f"is not TOML: {error}.",))
    tables = document.pop(ROUTE, [])
    problems: list[str] = []
    entries = {}
    for name, table in document.items():
        if isinstance(table, dict):
            if name.lower() in entries:
                problems.append(f"[{shown(name)}] is there twice: names are the same in capitals.")
            entries[name.lower()] = _entry(name, table, problems)
        else:
            problems.append(f"{shown(name)} is unknown here; allowed: tables [NAME] and [[{ROUTE}]].")
    return ProvidersFile(entries, tables, tuple(problems))


def _entry(name: str, table: Mapping[str, Any], problems: list[str]) -> Entry:
    preset = table.get("preset", name.lower() if name.lower() in PRESETS else GENERIC)
    if not isinstance(preset, str) or preset.lower() not in PRESETS or preset.lower() == CAPTURE != name.lower():
        known = ", ".join(one for one in PRESETS if one != CAPTURE)
        problems.append(f"[{shown(name)}] preset = {keys.quoted(preset)} is not known; allowed: {known}.")
        preset = GENERIC
    own = {key: value for key, value in table.items() if key not in ("preset", "dns")}
    base = PRESETS[preset.lower()]
    facts, wrong = keys.read(own, base if name.lower() in PRESETS else replace(base, title=name))
    problems += [f"[{shown(name)}] {sentence}" for sentence in wrong]
    return Entry(preset.lower(), facts, frozenset(own))


def _route(table: Any, where: str, names: tuple[str, ...], problems: list[str]) -> Route | None:
    if not isinstance(table, dict):
        problems.append(f"{where}: write [[{ROUTE}]], then its keys: {', '.join(_ROUTE_KEYS)}.")
        return None
    wrong = [f"{shown(key)} is unknown; allowed: {', '.join(_ROUTE_KEYS)}." for key in table if key not in _ROUTE_KEYS]
    account, domain = table.get("account", ""), table.get("domain", "")
    if not isinstance(account, str):
        wrong.append(f"account = {keys.quoted(account)} is not allowed; allowed: a name in accounts.toml.")
    whole = address.parse_entry(f"*@{domain}") if isinstance(domain, str) and domain else ""
    if not isinstance(domain, str) or isinstance(whole, address.Bad):
        whole = ""
        wrong.append(f"domain = {keys.quoted(domain)} is not allowed; allowed: a sender domain such as example.org.")
    shares = _shares(table.get("providers"), names, wrong)
    problems += [f"{where} {sentence}" for sentence in wrong]
    if wrong:
        return None
    weights = tuple(shares.values()) if isinstance(table["providers"], dict) else ()
    return Route(tuple(shares), weights, address.login_name(account), address.fold(whole[2:]))


def _shares(value: Any, names: tuple[str, ...], wrong: list[str]) -> dict[str, int]:
    """Provider by weight; 1 for each where none are given."""
    shares = dict.fromkeys(value, 1) if isinstance(value, list) and all(isinstance(v, str) for v in value) else value
    good = isinstance(shares, dict) and shares and all(_is_weight(weight) for weight in shares.values())
    if not good:
        wrong.append('providers: allowed: a list such as ["ses", "brevo"], or shares such as { ses = 3, brevo = 1 }.')
        return {}
    wrong += [
        f"providers: {shown(name)} is not among OWNPOST_PROVIDERS ({', '.join(names)}); name it there too."
        for name in shares
        if name.lower() not in names
    ]
    return {name.lower(): weight for name, weight in shares.items()}


def _is_weight(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_WEIGHT
