"""The settings of the providers: who takes the mail from us, where, how we log in there, and how much they take.

What a provider is by itself comes from its preset and ``config/providers.toml``; what is set here wins over both.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, get_args

from common.names import is_loopback
from common.providers import CAPTURE, GENERIC, REGION, host_in
from common.settings import Reader
from relay.choice.quota import Quota
from relay.choice.routes import Routes
from relay.oauth import settings as oauth_settings
from relay.oauth.settings import OAuthSettings
from relay.providers import file, keys
from relay.providers.preset import Preset
from relay.providers.presets import PRESETS
from relay.providers.provider import Tls
from relay.refusal import shown

SUBMISSIONS = 465  # RFC 8314: TLS from the first byte
SUBMISSION = 587
PERIODS = ("hourly", "daily", "monthly")
MONTH = 30 * 24  # hours of one that rolls
# Names whose settings would be taken for those of a service, or tables for something else.
RESERVED = ("ownpost", "relay", "renewer", "exporter", "domain", "acme", "compose", "docker", file.ROUTE)
_NAME = re.compile(r"[a-z][a-z0-9]{0,30}(-[a-z0-9]{1,30})*")
_REGION = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    """One provider as configured."""

    name: str
    preset: str  # one of PRESETS; "generic" for a name of the operator's own
    facts: Preset = field(repr=False)  # the preset, with the table of config/providers.toml on top
    host: str = ""
    ports: tuple[tuple[int, Tls], ...] = ()  # in order of trial
    username: str = field(default="", repr=False)  # some take the key for it
    password: str = field(default="", repr=False)
    oauth: OAuthSettings | None = None  # we log in with its tokens instead
    ca: str = field(default="", repr=False)  # certificates in PEM to trust instead of the system's; empty: the system's
    quotas: tuple[Quota, ...] = ()
    captured: Path | None = None  # folder of the provider that writes files instead of sending


class Providers(NamedTuple):
    """All providers, and which message may use which."""

    providers: tuple[ProviderSettings, ...]  # in order of preference
    routes: Routes


def prefix(name: str) -> str:
    """What the names of this provider's settings begin with."""
    return name.upper().replace("-", "_") + "_"


def read_providers(reader: Reader, captured: Path, config: Path) -> Providers:
    """The configured providers in their order, with what ``config/providers.toml`` says of them."""
    names = tuple(dict.fromkeys(word.lower() for word in reader.words("OWNPOST_PROVIDERS", CAPTURE)))
    table = file.load(config / file.NAME)
    good = tuple(name for name in names if _is_name(reader, name))
    routes, wrong = table.routes(good)
    for problem in (*table.problems, *wrong):
        reader.problem(f"config/{file.NAME}", problem)
    if CAPTURE in names and len(names) > 1:
        only = (
            "writes mail to files, so what it took would never be sent; allowed: capture alone, or providers that send."
        )
        reader.problem("OWNPOST_PROVIDERS", f"{CAPTURE} {only}")
    providers = tuple(_provider(reader, name, table.of(name), captured) for name in good)
    for name in table.entries:
        if name not in names and table.entries[name].own:
            reader.warn(f"config/{file.NAME}", f"[{shown(name)}] has no effect: OWNPOST_PROVIDERS does not name it.")
    for preset in PRESETS:
        if preset not in names and reader.given(f"{prefix(preset)}PASSWORD"):
            reader.warn(f"{prefix(preset)}PASSWORD", f"has no effect: OWNPOST_PROVIDERS does not name {preset}.")
    return Providers(providers, routes)


def _is_name(reader: Reader, name: str) -> bool:
    if _NAME.fullmatch(name) and name not in RESERVED:
        return True
    reader.wrong(
        "OWNPOST_PROVIDERS",
        name,
        "a provider's name",
        f"{', '.join(PRESETS)}, or a name of your own of letters, digits and hyphens that no service has",
    )
    return False


def _provider(reader: Reader, name: str, entry: file.Entry, captured: Path) -> ProviderSettings:
    facts, start = entry.facts, prefix(name)
    if name == CAPTURE:
        return ProviderSettings(name=name, preset=name, facts=facts, captured=captured)
    password = reader.secret(f"{start}PASSWORD")
    oauth = oauth_settings.read(reader, start, facts.oauth) if facts.oauth or entry.preset == GENERIC else None
    provider = ProviderSettings(
        name=name,
        preset=entry.preset,
        facts=facts,
        host=_host(reader, name, facts),
        ports=_ports(reader, start, facts),
        username=reader.text(f"{start}USERNAME", facts.username.replace("{password}", password)),
        password="" if oauth else password,
        oauth=oauth,
        ca=oauth_settings.read_ca(reader, f"{start}CA"),
        quotas=_quotas(reader, start, entry),
    )
    _check_login(reader, provider, start)
    _check_tls(reader, provider, start)
    return provider


def _check_login(reader: Reader, provider: ProviderSettings, start: str) -> None:
    """Whether what a login takes is there."""
    facts, given = provider.facts, {name: reader.given(f"{start}{name}") for name in ("USERNAME", "PASSWORD")}
    if provider.oauth is not None:
        return  # its own settings have been looked at
    if facts.login_optional:
        if len(set(given.values())) > 1:
            (absent,) = (name for name, there in given.items() if not there)
            both = f"both {start}USERNAME and {start}PASSWORD, or neither"
            reader.problem(f"{start}{absent}", f"missing; allowed: {both}.")
        return
    if not given["USERNAME"] and not facts.username:
        reader.problem(f"{start}USERNAME", f"missing; allowed: {facts.login or 'the login'}.")
    if not given["PASSWORD"]:
        reader.problem(f"{start}PASSWORD", f"missing; allowed: {facts.key or 'the password'}.")


def _check_tls(reader: Reader, provider: ProviderSettings, start: str) -> None:
    if all(tls != "none" for _, tls in provider.ports):
        return
    if provider.username or provider.password or provider.oauth:
        reader.wrong(f"{start}TLS", "none", "safe with a login", "starttls, tls")
    elif provider.host and not is_loopback(provider.host):
        reader.wrong(f"{start}TLS", "none", "safe beyond this machine", "starttls, tls; none with a loopback host")


# --- where
def _host(reader: Reader, name: str, facts: Preset) -> str:
    """The host; of one that differs by region, that of the region."""
    start = prefix(name)
    region = _region(reader, f"{start}REGION", facts)
    host = reader.server(f"{start}HOST")
    if host or reader.given(f"{start}HOST"):
        return host
    if not facts.host:
        near = difflib.get_close_matches(name, PRESETS, n=1, cutoff=0.75) if name not in PRESETS else []
        hint = f" Did you mean {near[0]}?" if near else ""
        reader.problem(f"{start}HOST", f"missing; allowed: the host that takes mail for '{name}'.{hint}")
    elif REGION in facts.host and not region:
        if not reader.given(f"{start}REGION"):
            reader.problem(f"{start}REGION", f"missing; allowed: a region such as eu-central-1, or {start}HOST.")
        return ""
    return host_in(region, facts.host, facts.regions)


def _region(reader: Reader, name: str, facts: Preset) -> str:
    if not facts.regions and REGION not in facts.host:
        return ""
    value = reader.text(name).lower()
    if value and facts.regions and value not in facts.regions:
        reader.wrong(name, value, "a region of this provider", ", ".join(facts.regions))
        return ""
    if value and not _REGION.fullmatch(value):
        reader.wrong(name, value, "a region", "a region such as eu-central-1")
        return ""
    return value


def _ports(reader: Reader, start: str, facts: Preset) -> tuple[tuple[int, Tls], ...]:
    """The preset's ports; or the one that PORT and TLS say, either of which may be left out."""
    known = facts.ports or ((SUBMISSION, "starttls"),)
    modes: dict[str, Tls] = {str(SUBMISSIONS): "tls", **{str(number): mode for number, mode in known}}
    default = modes.get(reader.text(f"{start}PORT"), "starttls")
    tls: Tls = reader.choice(f"{start}TLS", get_args(Tls), default)
    usual = next((number for number, mode in known if mode == tls), SUBMISSIONS if tls == "tls" else SUBMISSION)
    number = reader.port(f"{start}PORT", usual)
    return ((number, tls),) if reader.given(f"{start}PORT") or reader.given(f"{start}TLS") else known


# --- how much
def _quotas(reader: Reader, start: str, entry: file.Entry) -> tuple[Quota, ...]:
    """The quotas: of the settings, else of the file, else of the preset; the last with a warning, for a plan that is
    paid for has others.
    """
    facts = entry.facts
    limits = {period: _quota(reader, f"{start}{period.upper()}_QUOTA", period, entry) for period in PERIODS}
    rolling = facts.clock == keys.ROLLING
    zone = "UTC" if rolling else facts.clock
    quotas = []
    if limits["hourly"]:
        quotas.append(Quota(limit=limits["hourly"], period="rolling", hours=1))
    if limits["daily"]:
        quotas.append(Quota(limit=limits["daily"], period="rolling" if rolling else "day", zone=zone))
    if limits["monthly"]:
        month = Quota(limit=limits["monthly"], period="month", zone=zone)
        quotas.append(replace(month, period="rolling", hours=MONTH) if rolling else month)
    return tuple(quotas)


def _quota(reader: Reader, name: str, period: str, entry: file.Entry) -> int:
    preset: int = getattr(entry.facts, f"{period}_quota")
    value = reader.text(name)
    if value.lower() == "none":
        return 0
    if value:
        if value.isascii() and value.isdecimal() and len(value) < 11 and 1 <= int(value) <= keys.MOST:
            return int(value)
        reader.wrong(name, value, "such a number", f"recipients, 1 to {keys.MOST}, or none")
    elif preset and f"{period}_quota" not in entry.own:
        usual = f"the {preset} recipients of its free or usual plan are counted"
        reader.notes.append(f"{name}: not set, so {usual}; set what your plan allows, or none.")
    return preset
