"""The plan: what was seen, against what should be, as steps. Pure but for the look-ups that SPF's limits take.

The order of the steps is the order of carrying out: providers name their records first, locks open, DNS changes in one
batch, then Email Routing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from common import names
from common.providers import Needs, Provider

from . import holding, routing, wants
from .aliases import Aliases
from .authentication.model import Authentication
from .cloudflare import Destination, Routing
from .diff import Scene, compare
from .pasted import Pasted, ProvidersFile
from .records import Record
from .settings import KEYS, Address, Settings
from .spf import Fetch
from .steps import Create, Delete, Kind, Patch, Plan, Post, Step, Unlock, Validate
from .wants import Wishes

OPEN = frozenset({"unlocked", "misconfigured"})  # where Email Routing keeps its records from nobody
DASHBOARD = "in its dashboard, where it authenticates a sender domain"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenZone:
    """A zone as it is. ``routing``: None where nobody looks after it; ``pending``: as in ``cloudflare.Zone``."""

    name: str
    records: tuple[Record, ...]
    routing: Routing | None = None
    destinations: tuple[Destination, ...] = ()
    pending: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """All that was seen. ``authentications``: by (preset, domain), None where the provider does not know the domain."""

    zones: tuple[SeenZone, ...]
    authentications: Mapping[tuple[str, str], Authentication | None]
    addresses: tuple[Address, ...] | None

    def zone_of(self, name: str) -> SeenZone | None:
        """The zone that ``name`` lies in: the closest one."""
        around = [zone for zone in self.zones if names.within(name, zone.name)]
        return max(around, key=lambda zone: len(zone.name), default=None)


@dataclass(frozen=True, slots=True)
class Files:
    """The operator's files in ``config/``."""

    aliases: Aliases
    providers: ProvidersFile


def make(settings: Settings, files: Files, seen: Seen, fetch: Fetch) -> Plan:
    """All steps. ``fetch`` answers DNS questions; it may say that it does not know."""
    zones = {zone.name: Wishes() for zone in seen.zones}
    steps: list[Step] = []
    for name in dict.fromkeys((*settings.domains, settings.hostname)):
        if (zone := seen.zone_of(name)) is None:
            steps.append(_elsewhere(name))
        else:
            _wish_for(name, settings, files, seen, zone, zones, fetch)
    for zone in seen.zones:
        steps += _zone_steps(settings, zone, zones[zone.name], fetch)
    return Plan(tuple(_once(steps)))


def _elsewhere(name: str) -> Step:
    reason = (
        "the token sees no zone for it: add the zone to the token's resources, or, if its DNS is not at Cloudflare,"
        " paste what `make plan ARGS=--text` prints"
    )
    return Step(kind=Kind.BLOCKED, zone=name, what=f"zone {name}", reason=reason)


def _wish_for(
    name: str,
    settings: Settings,
    files: Files,
    seen: Seen,
    zone: SeenZone,
    zones: Mapping[str, Wishes],
    fetch: Fetch,
) -> None:
    """Gathers what a domain, or the mail host, should have."""
    wishes = zones[zone.name]
    if name == settings.hostname:
        wants.host(wishes, zone.name, zone.records, name, seen.addresses)
    if name not in settings.domains:
        return
    wishes.spf.setdefault(name, [])
    for provider in settings.providers:
        if not files.providers.of(provider).no_dns:
            _wish_for_provider(wishes, zone, name, provider, files.providers, seen, settings)
    if zone.routing is not None:
        scene = routing.Scene(zone.name, name, zone.routing, zone.destinations, zone.records)
        routing.route(wishes, scene, files.aliases.get(name, {}), settings.postmaster)
    reports = settings.dmarc_reports or f"postmaster@{name}"
    if wants.dmarc_record(wishes, zone.name, zone.records, name, reports, fetch):
        there = [record for one in seen.zones for record in one.records]
        wants.consent(zones, zone.name, there, name, reports)
    wants.inbound(wishes, name, mta_sts=settings.mta_sts, tls_reports=settings.tls_reports)


def _wish_for_provider(
    wishes: Wishes,
    zone: SeenZone,
    domain: str,
    provider: str,
    file: ProvidersFile,
    seen: Seen,
    settings: Settings,
) -> None:
    known, pasted = file.of(provider), file.pasted.get((provider, domain), Pasted())
    preset = known.preset
    authenticated = bool(pasted.records)
    for mechanism in pasted.spf:
        wishes.need(domain, mechanism, known.title)
    wants.provider_records(wishes, zone.name, pasted.records, known.title, domain)
    found = seen.authentications.get((preset, domain))
    if (preset, domain) in seen.authentications:
        authenticated = True
        if found is None:
            _create(wishes, zone, domain, preset, known.title, settings.keys[preset].missing)
        else:
            _authentication(wishes, zone, domain, preset, known.title, found)
    elif not authenticated:
        wishes.certain = False
        authenticated = _by_hand(zone, known, domain)
        wishes.say(Kind.WAIT, zone.name, f"{known.title} for {domain}", _unknown(preset, provider, known.title))
    if needs_spf(known, domain, found, authenticated=authenticated):
        wishes.need(domain, known.spf, known.title)


def needs_spf(known: Provider, domain: str, found: Authentication | None, *, authenticated: bool) -> bool:
    """Whether a provider's SPF mechanism belongs at ``domain``: not where it sends from a name below."""
    if known.needs is Needs.ALWAYS:
        return found is None or found.domain == domain
    return known.needs is Needs.UNAUTHENTICATED and not authenticated


def _by_hand(zone: SeenZone, known: Provider, domain: str) -> bool:
    """Whether the owner has published all of a provider's keys that have fixed names."""
    there = {record.name for record in zone.records}
    groups = [{f"{selector}._domainkey.{domain}" for selector in group} for group in known.selectors]
    return bool(groups) and all(group & there for group in groups)


def _unknown(preset: str, provider: str, title: str) -> str:
    key = f"set {' and '.join(KEYS[preset])}, or " if preset in KEYS else ""
    return (
        f"the DNS records it wants are not known: {key}paste the records that {title} shows {DASHBOARD} into"
        f" config/providers.toml, [{provider}.dns]"
    )


def _create(wishes: Wishes, zone: SeenZone, domain: str, provider: str, title: str, missing: str) -> None:
    what = f"{title} for {domain}"
    reason = f"{title} does not know the domain; it then names the records to publish, and they follow at once"
    wishes.certain = False
    if missing:
        wishes.say(Kind.BLOCKED, zone.name, what, missing)
        return
    after, action = "domain authentication", Create(provider, domain)
    step = Step(kind=Kind.ADD, zone=zone.name, what=what, reason=reason, after=after, action=action)
    wishes.steps.append(step)


def _authentication(
    wishes: Wishes, zone: SeenZone, domain: str, provider: str, title: str, found: Authentication
) -> None:
    what = f"{title} for {found.domain}"
    wants.provider_records(wishes, zone.name, found.records, title, domain)
    for mechanism in found.spf:
        wishes.need(domain, mechanism, title)
    there = {one.key for one in zone.records}
    wishes.certain = wishes.certain and bool(found.records or found.selectors)
    if found.valid:
        wishes.say(Kind.KEEP, zone.name, what, f"{title} has validated the domain")
    elif not found.records:
        keys = ", ".join(f"{selector}._domainkey.{domain}" for selector in found.selectors)
        own = (
            f"it looks for the key of your own at {keys}, which is yours to publish" if keys else "it names no records"
        )
        wishes.say(Kind.WAIT, zone.name, what, f"{title} has not validated the domain; {own}")
    elif all(record.key in there for record in found.records):
        reason = f"all records are there; {title} has not validated them yet, and apply asks it to"
        step = Step(kind=Kind.WAIT, zone=zone.name, what=what, reason=reason, action=Validate(provider, domain))
        wishes.steps.append(step)


def _zone_steps(settings: Settings, zone: SeenZone, wishes: Wishes, fetch: Fetch) -> list[Step]:
    """The steps of one zone, in the order of carrying out."""
    if zone.pending:
        reason = f"nobody sees the zone yet: tell the domain's registrar its name servers, {' and '.join(zone.pending)}"
        wishes.say(Kind.WAIT, zone.name, f"zone {zone.name}", reason)
    undecided = wants.merged_spf(wishes, zone.name, zone.records, fetch)
    if zone.routing is not None:
        holding.hold(wishes, zone.name, undecided, on=zone.routing.enabled)
        routing.subaddressing(wishes, zone.name, zone.routing, settings.subaddressing)
    protected = frozenset(name for name in settings.domains if names.within(name, zone.name))
    scene = Scene(zone.name, settings.mark, protected)
    gone = {step.action.record.id for step in wishes.steps if isinstance(step.action, Delete)}
    there = [record for record in zone.records if record.id not in gone]
    dns = compare(scene, there, [*wishes.wants, *wishes.providers], remove_orphans=wishes.certain)
    create = [step for step in wishes.steps if isinstance(step.action, Create)]
    others = [step for step in wishes.steps if not isinstance(step.action, Create)]
    unlock = _unlock(settings, zone, [*dns, *others])
    return [*create, *unlock, *sorted(dns, key=_place), *others]


def _place(step: Step) -> tuple[bool, str]:
    """By name, so that what belongs together stands together; the host's records first."""
    kind, _, name = step.what.partition(" ")
    return kind not in ("A", "AAAA"), name


def _unlock(settings: Settings, zone: SeenZone, steps: list[Step]) -> list[Step]:
    """A step for each domain whose records Email Routing has locked and a change touches."""
    touched = [
        step.action.old if isinstance(step.action, Patch) else step.action.record
        for step in steps
        if isinstance(step.action, (Post, Patch, Delete))
    ]
    routing = zone.routing
    guarded = routing is not None and routing.enabled and routing.status not in OPEN
    managed = {(one.type, one.name) for one in routing.needed} if routing is not None and guarded else set()
    locked = [one for one in touched if one.locked or (one.type, one.name) in managed]
    homes = {_home(one.name, settings.domains, zone.name) for one in locked}
    reason = "Email Routing has locked its records, and one of them must change; it goes on working"
    return [
        Step(
            kind=Kind.CHANGE,
            zone=zone.name,
            what=f"Email Routing {home}",
            reason=reason,
            before="locked",
            after="unlocked",
            action=Unlock(home),
        )
        for home in sorted(homes)
    ]


def _home(name: str, domains: Iterable[str], zone: str) -> str:
    """The mail domain that a record's name belongs to."""
    return max((domain for domain in domains if names.within(name, domain)), key=len, default=zone)


def _once(steps: list[Step]) -> list[Step]:
    """Every step once. Destinations belong to the account: two domains that forward to one address need it once."""
    found: dict[Step, Step] = {}
    for step in steps:
        key = replace(step, zone="") if step.what.startswith("destination ") else step
        found.setdefault(key, step)
    return list(found.values())
