"""The settings of the providers: who takes the mail from us, where, and how we log in there."""

from __future__ import annotations

import ipaddress
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from relay.settings_reader import Reader, host_name, is_loopback

Tls = Literal["starttls", "tls", "none"]

PRESETS = ("sendgrid", "generic", "capture")
SUBMISSIONS = 465  # RFC 8314: TLS from the first byte
SUBMISSION = 587
# Names whose settings would be taken for those of a service.
RESERVED = ("ownpost", "relay", "renewer", "exporter", "domain", "acme", "cloudflare", "compose", "docker")
_NAME = re.compile(r"[a-z][a-z0-9]{0,30}(-[a-z0-9]{1,30})*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSettings:
    """One provider as configured. ``host`` and ``username`` are empty where the preset's hold."""

    name: str
    preset: str  # one of PRESETS; "generic" for a name of the operator's own
    host: str = ""
    port: int = SUBMISSION
    tls: Tls = "starttls"
    username: str = ""
    password: str = field(default="", repr=False)
    ca: str = field(default="", repr=False)  # certificates in PEM to trust instead of the system's; empty: the system's
    captured: Path | None = None  # folder of the provider that writes files instead of sending


def prefix(name: str) -> str:
    """What the names of this provider's settings begin with."""
    return name.upper().replace("-", "_") + "_"


def read_providers(reader: Reader, captured: Path) -> tuple[ProviderSettings, ...]:
    """The configured providers, in their order."""
    names = tuple(dict.fromkeys(word.lower() for word in reader.words("OWNPOST_PROVIDERS", "capture")))
    if len(names) > 1:
        reader.problem(
            "OWNPOST_PROVIDERS",
            f"'{' '.join(names)}' is not one provider; allowed: exactly one (several come with a later version).",
        )
    providers = [_provider(reader, name, captured) for name in names if _is_name(reader, name)]
    for preset in ("sendgrid", "generic"):
        if preset not in names and reader.given(f"{prefix(preset)}PASSWORD"):
            reader.warn(f"{prefix(preset)}PASSWORD", f"has no effect: OWNPOST_PROVIDERS does not name {preset}.")
    return tuple(providers)


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


def _provider(reader: Reader, name: str, captured: Path) -> ProviderSettings:
    if name == "capture":
        return ProviderSettings(name=name, preset=name, tls="none", captured=captured)
    start, preset = prefix(name), name if name in PRESETS else "generic"
    default: Tls = "tls" if reader.text(f"{start}PORT") == str(SUBMISSIONS) else "starttls"
    tls: Tls = reader.choice(f"{start}TLS", get_args(Tls), default)
    provider = ProviderSettings(
        name=name,
        preset=preset,
        host=_host(reader, f"{start}HOST"),
        port=reader.port(f"{start}PORT", SUBMISSIONS if tls == "tls" else SUBMISSION),
        tls=tls,
        username=reader.text(f"{start}USERNAME"),
        password=reader.secret(f"{start}PASSWORD"),
        ca=_ca(reader, f"{start}CA"),
    )
    _check(reader, provider, start)
    return provider


def _check(reader: Reader, provider: ProviderSettings, start: str) -> None:
    """What must hold between the settings of one provider."""
    if provider.preset == "sendgrid":
        if not reader.given(f"{start}PASSWORD"):
            reader.problem(f"{start}PASSWORD", "missing; allowed: an API key of SendGrid's with the right 'Mail Send'.")
    elif not reader.given(f"{start}HOST"):
        reader.problem(f"{start}HOST", f"missing; allowed: the host that takes mail for '{provider.name}'.")
    elif reader.given(f"{start}USERNAME") != reader.given(f"{start}PASSWORD"):
        absent = "USERNAME" if reader.given(f"{start}PASSWORD") else "PASSWORD"
        reader.problem(f"{start}{absent}", f"missing; allowed: both {start}USERNAME and {start}PASSWORD, or neither.")
    if provider.tls != "none":
        return
    if provider.username or provider.password:
        reader.wrong(f"{start}TLS", "none", "safe with a login", "starttls, tls")
    elif provider.host and not is_loopback(provider.host):
        reader.wrong(f"{start}TLS", "none", "safe beyond this machine", "starttls, tls; none with a loopback host")


def _host(reader: Reader, name: str) -> str:
    value = reader.text(name)
    try:
        return str(ipaddress.ip_address(value.removeprefix("[").removesuffix("]")))
    except ValueError:
        pass
    found = host_name(value) if value else ""
    if value and not found:
        reader.wrong(name, value, "a host", "a host name or an IP address")
    return found


def _ca(reader: Reader, name: str) -> str:
    value = reader.text(name)
    if value:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=value)
        except (ssl.SSLError, ValueError):  # ValueError: it is not ASCII
            reader.problem(name, "holds no certificate that can be read; allowed: one or more certificates in PEM.")
    return value
