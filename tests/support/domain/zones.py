"""Hypothesis strategies for what an owner's zone may look like before the domain tool has ever run."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from support.domain import cloudflare, sendgrid
from support.domain.stage import KEY, cloudflare_state, record, zone

HOME = "example.org"
SPFS = (
    "v=spf1 -all",
    "v=spf1 mx ~all",
    "v=spf1 ip4:198.51.100.0/24 ip4:203.0.113.9 -all",
    "v=spf1 include:sendgrid.net ?all",
    "v=spf1 a mx include:_spf.mx.cloudflare.net include:mailgun.org ~all",
    "V=SPF1 IP4:198.51.100.7 -ALL",
    "v=spf1 redirect=mailgun.org",
    "v=spf1",
    "v=spf1 ip4:198.51.100.1 exp=why.example.org ~all include:never.example",
    "v=spf1 nonsense:1 -all",
    "v=spf1 " + " ".join(f"include:i{number}.example" for number in range(10)) + " -all",
)
DMARCS = (
    "v=DMARC1; p=reject",
    "v=DMARC1; p=quarantine; pct=50; rua=mailto:a@example.net",
    "v=DMARC1;p=none",
    "v=DMARC1; rua=mailto:x@example.net",
)


def _at(domain: str) -> list[tuple[str, st.SearchStrategy[str]]]:
    """Types and contents at names that the tool cares about, below ``domain``."""
    return [
        (domain, st.sampled_from(["TXT", "MX", "A"])),
        (f"mail.{domain}", st.sampled_from(["A", "AAAA", "CNAME", "TXT", "MX"])),
        (f"_dmarc.{domain}", st.sampled_from(["TXT", "CNAME"])),
        (f"s1._domainkey.{domain}", st.sampled_from(["TXT", "CNAME"])),
        (f"em1001.{domain}", st.sampled_from(["A", "CNAME", "TXT"])),
        (f"cf2024-1._domainkey.{domain}", st.just("TXT")),
        (f"www.{domain}", st.sampled_from(["A", "AAAA", "CNAME", "TXT", "SRV"])),
        (f"other.{domain}", st.sampled_from(["A", "CNAME", "TXT", "MX", "NS"])),
    ]


@st.composite
def _record(draw: st.DrawFn, domain: str) -> dict[str, Any]:
    name, kinds = draw(st.sampled_from(_at(domain)))
    kind = draw(kinds)
    number = draw(st.integers(1, 3))
    contents = {
        "A": st.sampled_from(["192.0.2.25", "198.51.100.7"]),
        "AAAA": st.just("2001:db8::7"),
        "CNAME": st.sampled_from([f"elsewhere{number}.example.net", "u1001.wl.sendgrid.net"]),
        "MX": st.sampled_from(["aspmx.l.google.com", "route1.mx.cloudflare.net", "MX.Example.NET."]),
        "SRV": st.just("0 5 5060 sip.example.net"),
        "NS": st.just(f"ns{number}.example.net"),
        "TXT": _text(name),
    }
    more: dict[str, Any] = {"priority": draw(st.integers(1, 50))} if kind == "MX" else {}
    if kind in ("A", "AAAA", "CNAME"):
        more["proxied"] = draw(st.booleans())
    comment = draw(st.sampled_from([None, "the owner's", "Ownpost mail.example.org"]))
    return record(kind, name, draw(contents[kind]), comment=comment, ttl=draw(st.sampled_from([1, 300])), **more)


def _text(name: str) -> st.SearchStrategy[str]:
    if name.startswith("_dmarc"):
        return st.sampled_from([*DMARCS, "unrelated"])
    if "_domainkey" in name:
        return st.sampled_from(["v=DKIM1; k=rsa; p=OLD", cloudflare.DKIM, '"v=DKIM1; k=rsa;" " p=OLD2"'])
    if name.count(".") == 1 or name.startswith("sub."):
        return st.sampled_from([*SPFS, *SPFS, "google-site-verification=1", '"v=spf1 ip4:198.51." "100.99 -all"'])
    return st.sampled_from(["hello", "v=spf1 -all", 'quoted \\"words\\"'])


def _fit(records: list[dict[str, Any]], home: str) -> list[dict[str, Any]]:
    """Those that can stand together: Cloudflare would not hold others."""
    kept: list[dict[str, Any]] = []
    for one in records:
        beside = [other for other in kept if other["name"] == one["name"]]
        clash = beside and one["name"] != home and "CNAME" in (one["type"], *(other["type"] for other in beside))
        again = any((other["type"], other["content"]) == (one["type"], one["content"]) for other in beside)
        two = one["type"] == "CNAME" and any(other["type"] == "CNAME" for other in beside)
        delegated = beside and "NS" in (one["type"], *(other["type"] for other in beside))
        if not (clash or again or two or delegated):
            kept.append({**one, "id": f"own{len(kept)}"})
    return kept


@st.composite
def cloudflares(draw: st.DrawFn, home: str = HOME, domains: tuple[str, ...] = (HOME,)) -> dict[str, Any]:
    """A state of the fake Cloudflare with one zone, as an owner may have left it."""
    found = [record for domain in domains for record in draw(st.lists(_record(domain), max_size=9))]
    rules = draw(st.lists(_rule(), max_size=3))
    made = zone(home, _fit(found, home), rules=[{**one, "id": f"old{number}"} for number, one in enumerate(rules)])
    made["catch_all"].update(
        draw(st.sampled_from([{}, {"name": "Ownpost: *", "enabled": True}, {"name": "by hand", "enabled": True}]))
    )
    if draw(st.booleans()):
        made["routing"]["enabled"] = True
        made["locked"] = draw(st.booleans())
    verified = draw(st.sampled_from([(), ("me@gmail.com",)]))
    more = {
        "replaces_spf": draw(st.booleans()),
        "unknown_routing": draw(st.booleans()),
        "refuses": draw(st.sampled_from([[], [], [home], [f"em1001.{home}"], [f"_dmarc.{home}", f"mail.{home}"]])),
        "no_workers": draw(st.sampled_from([[], ["w"]])),
        "clashes": draw(st.sampled_from([[], [], [f"hello@{home}"]])),
        "rules_need_routing": draw(st.booleans()),
        "page": draw(st.sampled_from([2, 50])),
    }
    return cloudflare_state(made, verified=verified, **more)


def _rule() -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(
        lambda to, name, action, enabled, more: {
            "name": name,
            "enabled": enabled,
            "priority": 0,
            "matchers": [{"type": "literal", "field": "to", "value": to}],
            "actions": [action],
            **more,
        },
        st.sampled_from(
            ["hello@example.org", "Hello@example.org", "postmaster@example.org", "gone@example.org", "x@example.org"]
        ),
        st.sampled_from(["Ownpost: gone@example.org", "by hand"]),
        st.sampled_from(
            [{"type": "drop"}, {"type": "forward", "value": ["me@gmail.com"]}, {"type": "worker", "value": ["w"]}]
        ),
        st.booleans(),
        st.sampled_from([{}, {}, {}, {"source": "wrangler"}]),
    )


def sendgrids() -> st.SearchStrategy[dict[str, Any]]:
    """SendGrid knows nothing, the domain, or it twice; it validates at once or not yet."""
    return st.builds(
        lambda known, published: {
            "key": KEY,
            "domains": [sendgrid.entry(number, HOME) for number in known],
            "published": published,
        },
        st.sampled_from([[], [1001], [1002, 1001]]),
        st.sampled_from([None, []]),
    )
