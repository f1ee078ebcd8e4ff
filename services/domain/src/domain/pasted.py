"""``config/providers.toml``, as far as DNS goes: records and SPF mechanisms pasted from a provider's dashboard, and
what it changes of what is known of providers (``common.providers``).

    [smtp2go.dns]                              # for the first domain of OWNPOST_DOMAINS
    records = ["em1 CNAME return.smtp2go.net", "s1._domainkey CNAME dkim.smtp2go.net"]
    spf = ["include:spf.smtp2go.com"]

    [smtp2go.dns."example.net"]                # for another one
    records = ["send MX 10 mx.example", "x._domainkey TXT k=rsa; p=MIGf…"]

A record is ``NAME TYPE [PRIORITY] CONTENT``; its name may be relative to the domain or to one above it, as dashboards
show it, whole, or ``@`` for the domain.
Everything else in the file is the relay's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from common import names, toml
from common.providers import Provider, described

from . import spf
from .records import Record, unquote

TYPES = ("A", "AAAA", "CNAME", "MX", "TXT")


@dataclass(frozen=True, slots=True)
class Pasted:
    """What one provider needs for one domain."""

    records: tuple[Record, ...] = ()
    spf: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ProvidersFile:
    """``pasted`` by (provider, domain); ``tables`` by provider, unchecked: the relay tells what is wrong with them."""

    pasted: Mapping[tuple[str, str], Pasted]
    tables: Mapping[str, Mapping[str, object]]

    def of(self, name: str) -> Provider:
        """What is known of the provider ``name``."""
        return described(name, self.tables.get(name, {}))


class PastedError(Exception):
    """The file is wrong; ``problems`` holds one sentence for each mistake."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def parse(text: str, domains: tuple[str, ...]) -> ProvidersFile:
    """Reads the file's text. Raises PastedError."""
    try:
        data = toml.loads(text)
    except ValueError as error:  # also numbers of more digits than Python converts
        raise PastedError([f"it is not TOML: {error}"]) from None
    problems: list[str] = []
    pasted: dict[tuple[str, str], Pasted] = {}
    tables: dict[str, Mapping[str, object]] = {}
    for provider, table in data.items():
        if not isinstance(table, dict):
            continue  # the relay's
        tables[provider.lower()] = table
        for domain, part in _tables(provider, table.get("dns", {}), domains, problems):
            pasted[provider.lower(), domain] = _pasted(f"[{provider}.dns]", domain, part, problems)
    if problems:
        raise PastedError(problems)
    return ProvidersFile(pasted, tables)


def _tables(provider: str, dns: Any, domains: tuple[str, ...], problems: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """The tables below ``[provider.dns]`` by domain."""
    if not isinstance(dns, dict):
        problems.append(f"[{provider}.dns] is not a table.")
        return []
    own = {key: value for key, value in dns.items() if not isinstance(value, dict)}
    found = [(domains[0], own)] if own else []
    for key, value in dns.items():
        if isinstance(value, dict):
            domain = _name(key)
            if domain in domains:
                found.append((domain, value))
            else:
                problems.append(f'[{provider}.dns."{key}"] is not a domain of OWNPOST_DOMAINS ({", ".join(domains)}).')
    return found


def _name(key: str) -> str:
    try:
        return names.domain_name(key)
    except names.BadName:
        return ""


def _pasted(where: str, domain: str, part: dict[str, Any], problems: list[str]) -> Pasted:
    unknown = [key for key in part if key not in ("records", "spf")]
    problems += [f"{where} {key}: there is no such key; records and spf are." for key in unknown]
    records = [
        record
        for line in _strings(where, "records", part, problems)
        if (record := _record(where, domain, line, problems)) is not None
    ]
    terms: list[str] = []
    for term in _strings(where, "spf", part, problems):
        try:
            terms += spf.asked_for(term)
        except spf.Unreadable as error:
            problems.append(f"{where} spf: {error}")
    return Pasted(tuple(records), tuple(terms))


def _strings(where: str, key: str, part: dict[str, Any], problems: list[str]) -> list[str]:
    value = part.get(key, [])
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return value
    problems.append(f'{where} {key}: is not a list of texts such as ["…", "…"].')
    return []


def _record(where: str, domain: str, line: str, problems: list[str]) -> Record | None:
    try:
        return record(line, domain)
    except ValueError as error:
        problems.append(f"{where} {names.printable(line)!r}: {error}")
        return None


def record(line: str, domain: str) -> Record:
    """Reads ``NAME TYPE [PRIORITY] CONTENT``. Raises ValueError with a sentence."""
    parts = line.split(None, 2)
    kind = parts[1].upper() if len(parts) == 3 else ""
    if kind not in TYPES:
        raise ValueError(f"write NAME TYPE [PRIORITY] CONTENT, with TYPE one of {', '.join(TYPES)}.")
    return made(kind, parts[0], parts[2], domain)


def made(kind: str, name: str, content: str, domain: str, priority: int | None = None) -> Record:
    """A record below ``domain`` from what a person or a provider's API wrote. Raises ValueError with a sentence."""
    content = content.strip()
    if kind == "MX" and priority is None:
        number, _, content = content.partition(" ")
        if not number.isdigit() or int(number) > 65535:
            raise ValueError("an MX needs a priority and a host, such as 10 mx.example.org.")
        priority = int(number)
    if kind in ("CNAME", "MX"):
        content = names.ascii_name(content)
    elif kind in ("A", "AAAA"):
        content = str(ipaddress.ip_address(content))
    elif kind == "TXT":
        content = unquote(content)
        if spf.is_spf(content):
            spf.parse(content)
    else:
        raise ValueError(f"records of type {names.printable(kind)} are not for mail.")
    return Record(type=kind, name=full_name(name, domain), content=content, priority=priority if kind == "MX" else None)


def full_name(name: str, domain: str) -> str:
    """``name`` as a whole name at or below ``domain``. Raises BadName for a name elsewhere.

    It may be relative to the domain, or to a name above it: for ``m.example.org`` the dashboards and APIs of Resend and
    Brevo say ``send.m``, and ``m`` for the domain itself. The shortest name that puts it where it can belong counts.
    """
    if name == "@":
        return domain
    form = names.ascii_name(name)
    if names.within(form, domain):
        return form
    if name.endswith("."):
        raise names.BadName(f"{name!r} is not below {domain}.")
    around = reversed(names.parents(domain))
    placed = next(whole for parent in around if names.within(whole := f"{form}.{parent}", domain))
    return names.ascii_name(placed)
