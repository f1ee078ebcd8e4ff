"""All checks of one run, at once, each fenced: one that breaks costs only its own line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx

from common.providers import CAPTURE

from ..authentication.model import Authentication
from ..dns import Dns
from ..pasted import Pasted
from ..plan import Files, needs_spf
from ..settings import CLOUDFLARE, Address, Settings
from . import records, servers
from .model import Finding, Verdict

AT_ONCE = 8

Check = Callable[[], "Finding | Iterable[Finding]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What the checks stand on. ``authentications``: what providers' APIs told, where a key for them was given."""

    settings: Settings
    files: Files
    dns: Dns
    client: httpx.Client
    addresses: tuple[Address, ...] | None
    authentications: Mapping[tuple[str, str], Authentication | None]
    now: Callable[[], float]


def run(ground: Ground) -> list[Finding]:
    """All findings, domain by domain."""
    checks = [check for domain in ground.settings.domains for check in _domain(ground, domain)]
    checks += [*_host(ground), *_providers(ground)]
    url = ground.settings.cloudflare.url if ground.settings.cloudflare else CLOUDFLARE
    checks.append(("this server", lambda: servers.clock(url, ground.client, ground.now)))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = pool.map(lambda one: _fenced(*one), checks)
        return [finding for findings in found for finding in findings]


def _fenced(subject: str, check: Check) -> list[Finding]:
    try:
        found = check()
        return [found] if isinstance(found, Finding) else list(found)
    except Exception as error:  # whatever a library does not foresee: the other lines still count
        return [Finding(subject, "check", Verdict.UNKNOWN, f"a check failed: {type(error).__name__}: {error}")]


def _domain(ground: Ground, domain: str) -> Iterator[tuple[str, Check]]:
    settings, dns = ground.settings, ground.dns
    signers = [signer for name in settings.providers if (signer := _signer(ground, name, domain)) is not None]
    needs = [term for signer in signers for term in signer.spf]
    if settings.email_routing and not _received_elsewhere(ground, domain):
        needs.append(records.CLOUDFLARE_SPF)
    routed = settings.email_routing and bool(ground.files.aliases.get(domain))
    if settings.email_routing:
        yield domain, lambda: records.mx(domain, dns, routed=routed)
    yield domain, lambda: records.spf_record(domain, dns, list(dict.fromkeys(needs)))
    for signer in signers:
        yield domain, lambda signer=signer: records.dkim(domain, dns, signer)  # type: ignore[misc]
    yield domain, lambda: records.dmarc_record(domain, dns)
    if settings.mta_sts:
        yield domain, lambda: records.mta_sts(domain, dns)
    if settings.tls_reports:
        yield domain, lambda: records.tls_reports(domain, dns)


def _received_elsewhere(ground: Ground, domain: str) -> bool:
    """Whether the domain's mail goes past Email Routing because its owner wants it so."""
    if ground.files.aliases.get(domain):
        return False
    hosts = [answer.partition(" ")[2] for answer in ground.dns(domain, "MX") or ()]
    return any(not host.endswith(records.CLOUDFLARE_MX) for host in hosts)


def _signer(ground: Ground, name: str, domain: str) -> records.Signer | None:
    known = ground.files.providers.of(name)
    if known.no_dns:
        return None
    preset = known.preset
    pasted = ground.files.providers.pasted.get((name, domain), Pasted())
    found = ground.authentications.get((preset, domain))
    named = (*pasted.records, *(found.records if found else ()))
    authenticated = bool(named) or records.by_hand(domain, ground.dns, known.selectors)
    needed = needs_spf(known, domain, found, authenticated=authenticated)
    spf = (*pasted.spf, *(found.spf if found else ()), *([known.spf] if needed else []))
    stranger = found is None and (preset, domain) in ground.authentications and not pasted.records
    own = tuple((selector,) for selector in found.selectors) if found else ()
    return records.Signer(known.title, named, own or known.selectors, spf, stranger)


def _host(ground: Ground) -> Iterator[tuple[str, Check]]:
    settings = ground.settings
    addresses = servers.published(settings.hostname, ground.dns)
    yield settings.hostname, lambda: servers.host(settings.hostname, addresses, ground.addresses)
    ports = (servers.Port(settings.submission_port, False), servers.Port(settings.submissions_port, True))
    context = servers.trust()
    for address in addresses or ():
        for port in ports:
            yield (
                settings.hostname,
                lambda address=address, port=port: servers.listener(  # type: ignore[misc]
                    settings.hostname, address, port, settings.domains[0], context
                ),
            )
        yield settings.hostname, lambda address=address: servers.reverse(settings.hostname, address, ground.dns)  # type: ignore[misc]


def _providers(ground: Ground) -> Iterator[tuple[str, Check]]:
    for name in ground.settings.providers:
        if name == CAPTURE:
            continue
        known = ground.files.providers.of(name)
        host, ports = ground.settings.where[name].reached(known)
        yield (
            name,
            lambda title=known.title, host=host, ports=ports: servers.provider(title, host, ports),  # type: ignore[misc]
        )
