"""A domain whose DNS is not at Cloudflare, as far as public resolvers show it: enough for ``plan --text``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from common import names

from .authentication import Authentication
from .plan import Files, SeenZone
from .records import Record
from .settings import Settings
from .spf import Fetch

TYPES = ("CNAME", "A", "AAAA", "MX", "TXT")


class Unknown(Exception):
    """The resolvers could not say; the text is a sentence."""


class IsAlias(Exception):
    """A mail domain is a CNAME, beside which nothing else can stand; the text is a sentence."""


def zones(
    settings: Settings, files: Files, found: Mapping[tuple[str, str], Authentication | None], fetch: Fetch
) -> tuple[SeenZone, ...]:
    """Each domain, and the mail host where it lies in none of them. Raises Unknown, IsAlias."""
    seen = [_zone(domain, [*_concerned(domain, settings, files, found)], fetch) for domain in settings.domains]
    if not any(names.within(settings.hostname, domain) for domain in settings.domains):
        seen.append(SeenZone(name=names.parents(settings.hostname)[-1], records=tuple(_at(settings.hostname, fetch))))
    return tuple(seen)


def _concerned(
    domain: str, settings: Settings, files: Files, found: Mapping[tuple[str, str], Authentication | None]
) -> Iterator[str]:
    """The names at or below a domain, and those of policies above it, that a plan looks at."""
    yield from (f"{prefix}.{domain}" for prefix in ("_dmarc", "_smtp._tls", "_mta-sts"))
    yield from (f"_dmarc.{parent}" for parent in names.parents(domain)[1:])
    if names.within(settings.hostname, domain):
        yield settings.hostname
    for (_, owner), one in found.items():
        if owner == domain and one is not None:
            yield from (record.name for record in one.records)
    for (_, owner), pasted in files.providers.pasted.items():
        if owner == domain:
            yield from (record.name for record in pasted.records)


def _zone(domain: str, others: Iterable[str], fetch: Fetch) -> SeenZone:
    """What is published. Raises Unknown: merging into a record that was not seen would lose it; IsAlias."""
    if fetch(domain, "CNAME"):
        raise IsAlias(
            f"{domain} is a CNAME, beside which nothing else can stand; replace it by A and AAAA records first."
        )
    records = [record for name in dict.fromkeys((domain, *others)) for record in _at(name, fetch)]
    return SeenZone(name=domain, records=tuple(records))


def _at(name: str, fetch: Fetch) -> list[Record]:
    found: list[Record] = []
    for kind in TYPES:
        answers = fetch(name, kind)
        if answers is None:
            raise Unknown(f"No resolver could say what {name} has of type {kind}; see DOMAIN_RESOLVERS, or try again.")
        found += [_record(name, kind, answer) for answer in answers]
        if kind == "CNAME" and answers:
            break  # what stands behind it belongs to another name
    return found


def _record(name: str, kind: str, answer: str) -> Record:
    priority, content = None, answer
    if kind == "MX":
        number, _, content = answer.partition(" ")
        priority = int(number)
    return Record(type=kind, name=name, content=content, priority=priority, id=f"{kind} {name} {answer}")
