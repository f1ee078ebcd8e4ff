"""DNS of a mail domain as receivers see it: MX, SPF, DKIM, DMARC, MTA-STS, TLS reporting."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import checkdmarc.dmarc  # type: ignore[import-untyped]
import checkdmarc.mta_sts  # type: ignore[import-untyped]

from .. import dmarc, spf
from ..dns import Dns
from ..records import Record
from .model import Finding, Verdict

CLOUDFLARE_MX = ".mx.cloudflare.net"
CLOUDFLARE_SPF = "include:_spf.mx.cloudflare.net"
APPLY = "Run `make apply`"
TIMEOUT = 3.0  # seconds a question to one resolver


@dataclass(frozen=True, slots=True)
class Signer:
    """A provider, as far as DNS shows it. ``records`` are those known; else one of each of ``selectors`` must exist.

    ``stranger``: the provider itself says that it does not know the domain.
    """

    title: str
    records: tuple[Record, ...]
    selectors: tuple[tuple[str, ...], ...]
    spf: tuple[str, ...]
    stranger: bool = False


def mx(domain: str, dns: Dns, *, routed: bool) -> Finding:
    """Whether mail to the domain goes to Email Routing."""
    answers = dns(domain, "MX")
    if answers is None:
        return _silent(domain, "MX")
    hosts = [answer.partition(" ")[2] for answer in answers]
    if not hosts:
        return Finding(
            domain,
            "MX",
            Verdict.WRONG,
            "there is no MX record, so nobody can answer your mail",
            f"{APPLY}; it switches Email Routing on.",
        )
    foreign = [host for host in hosts if not host.endswith(CLOUDFLARE_MX)]
    if not foreign:
        return Finding(domain, "MX", Verdict.GOOD, f"Cloudflare Email Routing ({len(hosts)} hosts)")
    verdict = Verdict.WRONG if routed else Verdict.ADVICE
    finding = f"{', '.join(foreign)} is not Cloudflare's"
    fix = (
        f"{APPLY}, or take the domain's aliases out of config/aliases.toml if its mail is meant to be received there."
        if routed
        else f"See that somebody reads postmaster@{domain} there: notices come back to it."
    )
    return Finding(domain, "MX", verdict, finding, fix)


def spf_record(domain: str, dns: Dns, needs: Sequence[str]) -> Iterable[Finding]:
    """One record, well formed, within the limits, with all that is needed: read as the plan reads it."""
    answers = dns(domain, "TXT")
    if answers is None:
        yield _silent(domain, "SPF")
        return
    texts = [text for text in answers if spf.is_meant(text)]
    if not texts:
        yield Finding(
            domain,
            "SPF",
            Verdict.WRONG if needs else Verdict.ADVICE,
            "there is no SPF record",
            f"{APPLY}; it publishes one.",
        )
        return
    if len(texts) > 1:
        finding = f"there are {len(texts)} SPF records, which receivers take for an error"
        yield Finding(domain, "SPF", Verdict.WRONG, finding, f"{APPLY}; it merges them into one.")
        return
    try:
        record = spf.parse(texts[0])
    except spf.Unreadable as error:
        finding = f"receivers take all of it for an error: {str(error).removesuffix('.')}"
        yield Finding(domain, "SPF", Verdict.WRONG, finding, f"Mend the record by hand: {texts[0]}")
        return
    yield _spf_limits(domain, texts[0], spf.cost(texts[0], domain, dns))
    for need in needs:
        if not spf.has(record, need):
            yield Finding(domain, "SPF", Verdict.WRONG, f"{need} is missing", f"{APPLY}; it adds it.")


def _spf_limits(domain: str, text: str, cost: spf.Cost) -> Finding:
    if cost.lookups > spf.LOOKUPS:
        finding = f"it takes {cost.lookups} DNS look-ups; receivers stop at {spf.LOOKUPS} and take it for an error"
        return Finding(domain, "SPF", Verdict.WRONG, finding, "Take includes out that nothing needs any more.")
    if cost.voids > spf.VOIDS:
        finding = f"{cost.voids} of its names do not exist; receivers stop at {spf.VOIDS} and take it for an error"
        return Finding(domain, "SPF", Verdict.WRONG, finding, "Take out the terms whose names do not exist.")
    if cost.broken:
        finding = f"{'; '.join(cost.broken)}; receivers then take the whole record for an error"
        return Finding(domain, "SPF", Verdict.WRONG, finding, "Take out the terms that lead there.")
    if cost.unknown:
        finding = f"{', '.join(cost.unknown)} could not be looked up"
        return Finding(domain, "SPF", Verdict.UNKNOWN, finding, "Try again; DOMAIN_RESOLVERS names other resolvers.")
    return Finding(domain, "SPF", Verdict.GOOD, f"{text} ({cost.lookups} of {spf.LOOKUPS} look-ups)")


def dkim(domain: str, dns: Dns, signer: Signer) -> Finding:
    """Whether the provider's keys are published, at names that count as the domain's (alignment, RFC 9989)."""
    check = f"DKIM of {signer.title}"
    if signer.stranger:
        finding = f"{signer.title} does not know {domain}, so it signs in a name of its own, which does not count as it"
        return Finding(domain, check, Verdict.WRONG, finding, f"{APPLY}; it tells {signer.title} of the domain.")
    keys = [record for record in signer.records if "._domainkey." in record.name]
    others = [record.name.partition("._domainkey.")[2] for record in keys]
    others = [name for name in others if name != domain]
    if others and _strict(domain, dns):
        finding = f"it signs as {others[0]}, which does not count as {domain} while its DMARC record has adkim=s"
        fix = f"Authenticate {domain} itself with {signer.title}, or take adkim=s out of _dmarc.{domain}."
        return Finding(domain, check, Verdict.WRONG, finding, fix)
    wanted: list[tuple[str, ...]] = [(record.name,) for record in keys] or [
        tuple(f"{one}._domainkey.{domain}" for one in group) for group in signer.selectors
    ]
    if not wanted:
        finding = f"the names of {signer.title}'s keys are not known here"
        return Finding(
            domain, check, Verdict.UNKNOWN, finding, f"Paste {signer.title}'s DNS records into config/providers.toml."
        )
    missing = []
    for group in wanted:
        states = [_key(dns(name, "TXT")) for name in group]
        if None in states and True not in states:
            return _silent(domain, check)
        if True not in states:
            missing.append(group[0])
    if missing:
        finding = f"there is no key at {', '.join(missing)}"
        return Finding(
            domain, check, Verdict.WRONG, finding, f"{APPLY}, or publish what {signer.title} shows for the domain."
        )
    return Finding(domain, check, Verdict.GOOD, f"{len(wanted)} published, aligned with {domain}")


def by_hand(domain: str, dns: Dns, selectors: tuple[tuple[str, ...], ...]) -> bool:
    """Whether all keys with fixed names are published, so that the owner must have authenticated the domain."""
    names = [[f"{selector}._domainkey.{domain}" for selector in group] for group in selectors]
    return bool(names) and all(any(_key(dns(name, "TXT")) for name in group) for group in names)


def _strict(domain: str, dns: Dns) -> bool:
    """Whether only the very name of the domain counts; otherwise names below it do too."""
    texts = filter(dmarc.is_dmarc, dns(f"_dmarc.{domain}", "TXT") or ())
    return any(dmarc.tags(text).get("adkim", "").lower() == "s" for text in texts)


def _key(answers: tuple[str, ...] | None) -> bool | None:
    """Whether one of the answers holds a key; an empty ``p`` is a revoked one (RFC 6376, section 3.6.1)."""
    return None if answers is None else any(dmarc.tags(text).get("p") for text in answers)


def dmarc_record(domain: str, dns: Dns) -> Iterable[Finding]:
    """By RFC 9989: found by the tree walk, one only, well formed."""
    answers = dns(f"_dmarc.{domain}", "TXT")
    if answers is None:
        yield _silent(domain, "DMARC")
        return
    texts = [text for text in answers if dmarc.is_dmarc(text)]
    if len(texts) > 1:
        finding = f"there are {len(texts)} DMARC records, which count as none"
        yield Finding(domain, "DMARC", Verdict.WRONG, finding, f"{APPLY}; it keeps the strictest.")
        return
    result: Any = checkdmarc.dmarc.check_dmarc(domain, resolver=dns.resolver, timeout=TIMEOUT, retries=1)
    if not result["valid"]:
        missing = not texts and not result.get("record")
        finding = "there is no DMARC record" if missing else f"{result['error']}"
        fix = (
            f"{APPLY}; it publishes one."
            if missing
            else f"Mend _dmarc.{domain} by hand: {result.get('record') or ', '.join(texts)}"
        )
        yield Finding(domain, "DMARC", Verdict.WRONG, finding, fix)
        return
    record = str(result["record"])
    outdated = sorted({"pct", "rf", "ri"} & set(dmarc.tags(record)))
    if outdated:
        finding = f"{record}: {', '.join(outdated)} no longer exists (RFC 9989)"
        yield Finding(domain, "DMARC", Verdict.ADVICE, finding, f"Take {', '.join(outdated)} out of the record.")
    else:
        yield Finding(domain, "DMARC", Verdict.GOOD, record)
    if "rua" not in dmarc.tags(record):
        yield Finding(
            domain, "DMARC", Verdict.ADVICE, "nobody gets its reports", "Add rua=mailto: and an address to the record."
        )


def mta_sts(domain: str, dns: Dns) -> Finding:
    """The record and the policy behind it."""
    result: Any = checkdmarc.mta_sts.check_mta_sts(domain, resolver=dns.resolver, timeout=TIMEOUT, retries=1)
    if result["valid"]:
        return Finding(domain, "MTA-STS", Verdict.GOOD, "record and policy are there")
    fix = f"Publish the policy at https://mta-sts.{domain}/.well-known/mta-sts.txt; docs/domain.md says how."
    return Finding(domain, "MTA-STS", Verdict.WRONG, f"{result['error']}", fix)


def tls_reports(domain: str, dns: Dns) -> Finding:
    answers = dns(f"_smtp._tls.{domain}", "TXT")
    if answers is None:
        return _silent(domain, "TLS reports")
    texts = [text for text in answers if text.startswith("v=TLSRPTv1")]
    if len(texts) == 1 and "rua=" in texts[0]:
        return Finding(domain, "TLS reports", Verdict.GOOD, texts[0])
    finding = "there is no record" if not texts else f"{len(texts)} records, or one without rua="
    return Finding(domain, "TLS reports", Verdict.WRONG, finding, f"{APPLY}; it publishes one.")


def _silent(domain: str, check: str) -> Finding:
    return Finding(
        domain, check, Verdict.UNKNOWN, "no resolver answered", "Try again; DOMAIN_RESOLVERS names other resolvers."
    )
