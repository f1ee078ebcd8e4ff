"""What the DNS of a domain should hold: host, SPF, DMARC, TLS reporting, each provider's records. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from common import names

from . import dmarc, spf
from .diff import Claim, Want
from .records import Record
from .settings import Address
from .steps import Kind, Step

MTA_STS = "_mta-sts.mx.cloudflare.net"


@dataclass(slots=True)
class Wishes:
    """Gathered for one zone. ``certain`` turns False when something is not known yet: then none of ours is given up.

    ``providers`` yield to ``wants`` where both cannot be.
    """

    wants: list[Want] = field(default_factory=list)
    providers: list[Want] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    spf: dict[str, list[tuple[str, str]]] = field(default_factory=dict)  # by name: (mechanism, why)
    moving: set[str] = field(default_factory=set)  # domains whose mail goes elsewhere, though Email Routing is on
    certain: bool = True

    def need(self, name: str, mechanism: str, why: str) -> None:
        """SPF at ``name`` must hold ``mechanism``."""
        self.spf.setdefault(name, []).append((mechanism, why))

    def say(self, kind: Kind, zone: str, what: str, reason: str) -> None:
        self.steps.append(Step(kind=kind, zone=zone, what=what, reason=reason))


def host(
    wishes: Wishes, zone: str, existing: Sequence[Record], hostname: str, addresses: Sequence[Address] | None
) -> None:
    """A and AAAA of the mail host, not proxied. Of a family without a known address, what is there stays."""
    if addresses == ():
        return
    known = {("AAAA" if one.version == 6 else "A"): str(one) for one in addresses or ()}
    there = [one for one in existing if one.name == hostname and one.type in ("A", "AAAA")]
    if not known and not there:
        wishes.say(Kind.BLOCKED, zone, f"A {hostname}", "this server's address is not known; set DOMAIN_ADDRESSES")
    for one in addresses or ():
        kind = "AAAA" if one.version == 6 else "A"
        record = Record(type=kind, name=hostname, content=str(one))
        wishes.wants.append(Want(record, "where clients find this server", Claim.TYPE))
    for record in there:
        if record.type not in known:
            plain = Record(type=record.type, name=hostname, content=record.content)
            wishes.wants.append(Want(plain, "where clients find this server, as published"))


def provider_records(wishes: Wishes, zone: str, records: Iterable[Record], title: str, domain: str) -> None:
    """What a provider named, each record with the claim that its purpose calls for.

    At the domain itself only texts are taken: anything else would push out its website or where its mail goes.
    """
    for record in records:
        if record.name == domain and record.type != "TXT":
            reason = f"{title}'s, at the domain itself, where it would push out its website or its mail; add it by hand"
            wishes.say(Kind.BLOCKED, zone, f"{record.type} {domain}", f"{record.content}: {reason}")
            continue
        if record.type == "TXT" and spf.is_spf(record.content):
            for mechanism in spf.parse(record.content).mechanisms:
                wishes.need(record.name, mechanism, f"{title}'s return path")
            continue
        reason, claim = _purpose(record, title, domain)
        wishes.providers.append(Want(record, reason, claim, yields=True))


def _purpose(record: Record, title: str, domain: str) -> tuple[str, Claim]:
    if record.type == "TXT" and "._domainkey." in record.name:
        return f"{title}'s DKIM key, by which its mail counts as {domain}'s", Claim.DKIM
    if "._domainkey." in record.name:
        return f"leads to {title}'s DKIM key, by which its mail counts as {domain}'s", Claim.TYPE
    if record.type == "TXT":
        return f"shows {title} that the domain is yours", Claim.NOTHING
    return f"{title}'s return path, to which undeliverable mail goes", Claim.TYPE


def merged_spf(wishes: Wishes, zone: str, existing: Sequence[Record], fetch: spf.Fetch) -> set[str]:
    """One SPF record for each name that needs one or has several. Returns the names where the owner must decide."""
    undecided = set()
    for name, needs in wishes.spf.items():
        texts = [
            one.content for one in existing if one.type == "TXT" and one.name == name and spf.is_meant(one.content)
        ]
        if not texts and not needs:
            continue
        what = f"TXT {name}"
        try:
            merged = spf.merge(texts, [mechanism for mechanism, _ in needs])
        except spf.Unreadable as error:
            wishes.say(Kind.BLOCKED, zone, what, f"the SPF record cannot be merged: {error} Mend it by hand")
            undecided.add(name)
            continue
        if problem := _over_limit(merged.text, name, fetch, wishes, zone):
            wishes.say(Kind.BLOCKED, zone, what, problem)
            undecided.add(name)
            continue
        for note in merged.notes:
            wishes.say(Kind.WAIT, zone, what, f"about the SPF record: {note}")
        record = Record(type="TXT", name=name, content=merged.text)
        wishes.wants.append(Want(record, _spf_reason(texts, needs), Claim.SPF))
    wishes.certain = wishes.certain and not undecided
    return undecided


def senders(wishes: Wishes, domain: str, texts: Iterable[str], old: Iterable[Record]) -> None:
    """Servers that SPF allowed as ``mx`` may still send when the ``old`` MX records are gone."""
    hosts = [one.value for one in old if one.value]  # a null MX (RFC 7505) names none
    for text in texts:
        try:
            mechanisms = spf.hosts_by_mx(text, domain, hosts)
        except spf.Unreadable:
            continue  # told where the record is merged
        for mechanism in mechanisms:
            wishes.need(domain, mechanism, "servers that mx stood for until now")


def _spf_reason(texts: Sequence[str], needs: Sequence[tuple[str, str]]) -> str:
    whom = ", ".join(dict.fromkeys(why for _, why in needs))
    reason = f"who may send in this name: {whom}" if whom else "who may send in this name"
    return f"{reason}; {len(texts)} SPF records count as an error, so they become one" if len(texts) > 1 else reason


def _over_limit(text: str, name: str, fetch: spf.Fetch, wishes: Wishes, zone: str) -> str:
    """A sentence if receivers would give up on the record (RFC 7208, section 4.6.4)."""
    cost = spf.cost(text, name, fetch)
    if cost.lookups > spf.LOOKUPS:
        return (
            f"the SPF record takes {cost.lookups} DNS look-ups with all that is needed, and receivers stop at"
            f" {spf.LOOKUPS}: take an include out that nothing needs any more ({text})"
        )
    if cost.voids > spf.VOIDS:
        return f"{cost.voids} names in SPF do not exist, and receivers stop at {spf.VOIDS}: take them out ({text})"
    notes = [f"{problem}, which makes it an error to receivers: take that term out" for problem in cost.broken]
    if cost.lookups >= spf.MANY:
        notes.append(f"it takes {cost.lookups} of {spf.LOOKUPS} DNS look-ups")
    if cost.unknown:
        notes.append(f"{', '.join(cost.unknown)} could not be looked up just now")
    for note in notes:
        wishes.say(Kind.WAIT, zone, f"TXT {name}", f"about the SPF record: {note}")
    return ""


def dmarc_record(
    wishes: Wishes, zone: str, existing: Sequence[Record], domain: str, reports: str, fetch: spf.Fetch
) -> bool:
    """The strictest record that is there, else one that asks for reports, unless a name above already has one.

    True if the record in force will be the one that is made here.
    """
    name = f"_dmarc.{domain}"
    there = [
        one for one in existing if one.name == name and (one.type in ("CNAME", "NS") or dmarc.is_dmarc(one.content))
    ]
    if any(one.type in ("CNAME", "NS") for one in there):
        wishes.say(Kind.KEEP, zone, f"{there[0].type} {name}", "DMARC is looked after elsewhere")
        return False
    misspelt = [one for one in existing if one.name == name and not there and dmarc.is_meant(one.content)]
    if misspelt:
        reason = f"it is not a DMARC record that receivers understand, and a second one would not help: {misspelt[0]}"
        wishes.say(Kind.BLOCKED, zone, f"TXT {name}", reason)
        return False
    if there:
        text = dmarc.strictest([one.content for one in there])
        reason = "what receivers do with forged mail"
        if len(there) > 1:
            reason += f"; {len(there)} DMARC records count as none, so the strictest stays"
        wishes.wants.append(Want(Record(type="TXT", name=name, content=text), reason, Claim.DMARC))
        return text == dmarc.first(reports)
    above = _covering(existing, zone, domain, fetch)
    if above is None:
        reason = "no resolver could say whether a policy above covers the domain, so none is made that might weaken it"
        wishes.say(Kind.WAIT, zone, f"TXT {name}", reason)
        return False
    if above:
        wishes.say(Kind.KEEP, zone, f"TXT {above}", f"its DMARC policy covers {domain} too")
        return False
    record = Record(type="TXT", name=name, content=dmarc.first(reports))
    reason = "without a DMARC record large mailboxes refuse or hide mail; p=none only watches"
    wishes.wants.append(Want(record, reason, Claim.DMARC))
    return True


def _covering(existing: Sequence[Record], zone: str, domain: str, fetch: spf.Fetch) -> str | None:
    """The name above ``domain`` whose DMARC record is in force (the tree walk of RFC 9989); None: nobody knows."""
    holders = {
        one.name for one in existing if one.type == "CNAME" or (one.type == "TXT" and dmarc.is_dmarc(one.content))
    }
    for parent in names.parents(domain)[1:]:
        name = f"_dmarc.{parent}"
        answers = () if names.within(parent, zone) else fetch(name, "TXT")
        if answers is None:
            return None
        if name in holders or any(map(dmarc.is_dmarc, answers)):
            return name
    return ""


def consent(zones: Mapping[str, Wishes], zone: str, existing: Iterable[Record], domain: str, reports: str) -> None:
    """Where DMARC reports go to another domain, that one must agree to it (RFC 9990), in whatever words."""
    wanted = dmarc.report_consent(domain, reports)
    if wanted is None:
        return
    name, text = wanted
    target = reports.rpartition("@")[2]
    home = next((one for one in zones if names.within(target, one)), None)
    if home is None:
        reason = f'{target} must publish "{text}" there, or it gets no DMARC reports of {domain}'
        zones[zone].say(Kind.WAIT, zone, f"TXT {name}", reason)
    else:
        reason = f"{target} agrees to get {domain}'s DMARC reports"
        text = next((one.content for one in existing if one.name == name and dmarc.is_dmarc(one.content)), text)
        zones[home].wants.append(Want(Record(type="TXT", name=name, content=text), reason, Claim.DMARC))


def inbound(wishes: Wishes, domain: str, *, mta_sts: bool, tls_reports: str) -> None:
    """MTA-STS and TLS reporting for the mail that comes in, where they are asked for."""
    if mta_sts:
        record = Record(type="CNAME", name=f"_mta-sts.{domain}", content=MTA_STS)
        wishes.wants.append(Want(record, "tells senders to insist on TLS (MTA-STS)", Claim.TYPE))
    if tls_reports:
        record = Record(type="TXT", name=f"_smtp._tls.{domain}", content=f"v=TLSRPTv1; rua=mailto:{tls_reports}")
        wishes.wants.append(Want(record, "asks senders to report failures of TLS", Claim.TYPE))
