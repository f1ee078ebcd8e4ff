"""``check`` against a name server and a mail host on loopback: all well, then each fault in turn."""

from __future__ import annotations

import json

import checkdmarc.utils  # type: ignore[import-untyped]
import httpx
import pytest
from rich.console import Console

from domain import settings
from domain.authentication import Authentication
from domain.checks import servers
from domain.checks import show as shown
from domain.checks.model import Finding, Verdict
from domain.commands import Commands, read_files
from domain.records import Record
from support.domain.world import KEY, MAILGUN, WELL, World, bad

pytest_plugins = ["support.domain.fixtures"]


def test_all_is_well(world: World) -> None:
    world.host()
    findings = world.findings(WELL)
    assert bad(findings) == []
    assert {one.check.split()[0] for one in findings} == {
        *("MX", "SPF", "DKIM", "DMARC", "TLS", "address", "port", "reverse", "ports", "clock")
    }


HOPS = [f"include:hop{number}.example" for number in range(11)]
FAULTS = {
    "SPF twice": (
        {"example.org TXT": ['"v=spf1 -all"', '"v=spf1 include:_spf.mx.cloudflare.net ~all"']},
        "SPF",
        "2 SPF records",
        "merges them",
    ),
    "no SPF": ({"example.org TXT": ['"unrelated"']}, "SPF", "no SPF record", "publishes one"),
    "SPF over ten look-ups": (
        {"example.org TXT": [f'"v=spf1 include:mailgun.org include:_spf.mx.cloudflare.net " "{" ".join(HOPS)} -all"']}
        | {f"hop{number}.example TXT": ['"v=spf1 -all"'] for number in range(11)},
        "SPF",
        "13 DNS look-ups",
        "Take includes out",
    ),
    "SPF with names that do not exist": (
        {
            "example.org TXT": [
                '"v=spf1 a:n1.no a:n2.no a:n3.no include:_spf.mx.cloudflare.net include:mailgun.org -all"'
            ]
        },
        "SPF",
        "do not exist",
        "Take out the terms",
    ),
    "SPF that is wrong": (
        {"example.org TXT": ['"v=spf1 ipv4:192.0.2.1 include:_spf.mx.cloudflare.net include:mailgun.org -all"']},
        "SPF",
        "ipv4",
        "by hand",
    ),
    "an include is missing": (
        {"example.org TXT": ['"v=spf1 include:_spf.mx.cloudflare.net ~all"']},
        "SPF",
        "include:mailgun.org is missing",
        "adds it",
    ),
    "DKIM missing": ({"mx._domainkey.example.org TXT": []}, "DKIM of Mailgun", "no key at mx._domainkey", "make apply"),
    "DKIM revoked": (
        {"mx._domainkey.example.org TXT": ['"v=DKIM1; p="']},
        "DKIM of Mailgun",
        "no key at mx._domainkey",
        "make apply",
    ),
    "a DKIM CNAME that leads nowhere": (
        {"s2.domainkey.u1.wl.sendgrid.net TXT": []},
        "DKIM of SendGrid",
        "no key at s2._domainkey",
        "make apply",
    ),
    "MX of somebody else": (
        {"example.org MX": ["1 aspmx.l.google.com."]},
        "MX",
        "aspmx.l.google.com is not",
        "make apply",
    ),
    "no MX": ({"example.org MX": []}, "MX", "no MX record", "make apply"),
    "no DMARC": ({"_dmarc.example.org TXT": []}, "DMARC", "no DMARC record", "publishes one"),
    "DMARC twice": (
        {"_dmarc.example.org TXT": ['"v=DMARC1; p=none"', '"v=DMARC1; p=reject"']},
        "DMARC",
        "2 DMARC records",
        "keeps the strictest",
    ),
    "DMARC that is wrong": (
        {"_dmarc.example.org TXT": ['"v=DMARC1; p=nothing; rua=mailto:postmaster@example.org"']},
        "DMARC",
        "nothing",
        "by hand",
    ),
    "the address of the proxy": (
        {"mail.example.org A": ["104.16.1.1"]},
        "address",
        "104.16.1.1 is Cloudflare's proxy",
        "off the proxy",
    ),
    "the address of another server": (
        {"mail.example.org A": ["127.0.0.9"]},
        "address",
        "127.0.0.9 is not this server",
        "DOMAIN_ADDRESSES",
    ),
    "no address": ({"mail.example.org A": []}, "address", "no A or AAAA", "make apply"),
    "no TLS reports": ({"_smtp._tls.example.org TXT": []}, "TLS reports", "no record", "make apply"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_dns_is_found(world: World, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fault gives its own finding with a fix, and no other line about DNS changes."""
    monkeypatch.setattr(servers, "TIMEOUT", 0.5)
    world.host()
    changes, check, finding, fix = FAULTS[fault]
    findings = world.findings({**WELL, **changes})
    wrong = [one for one in findings if one.verdict is Verdict.WRONG and not one.check.startswith("port ")]
    assert [one.check for one in wrong] == [check] or fault == "no SPF"
    assert finding in wrong[0].finding
    assert fix in wrong[0].fix
    assert wrong[0].fix.count("\n") == 0


ADVICE = {
    "pct is no longer a tag of DMARC": (
        {"_dmarc.example.org TXT": ['"v=DMARC1; p=quarantine; pct=50; rua=mailto:postmaster@example.org"']},
        "DMARC",
        "pct no longer exists",
    ),
    "nobody gets DMARC reports": (
        {"_dmarc.example.org TXT": ['"v=DMARC1; p=reject"']},
        "DMARC",
        "nobody gets its reports",
    ),
    "an address without a name": ({"1.0.0.127.in-addr.arpa PTR": []}, "reverse DNS of 127.0.0.1", "it has no name"),
    "a name that leads elsewhere": (
        {"1.0.0.127.in-addr.arpa PTR": ["host.example."]},
        "reverse DNS of 127.0.0.1",
        "does not lead back",
    ),
}


@pytest.mark.parametrize("fault", ADVICE)
def test_what_could_be_better_is_advice(world: World, fault: str) -> None:
    world.host()
    changes, check, finding = ADVICE[fault]
    [found] = bad(world.findings({**WELL, **changes}))
    assert (found.verdict, found.check) == (Verdict.ADVICE, check)
    assert finding in found.finding


@pytest.mark.parametrize("trouble", ["SERVFAIL", "SILENT"])
def test_a_resolver_in_trouble_is_no_verdict(world: World, trouble: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("domain.dns.LIFETIME", 0.5)
    world.host()
    findings = world.findings({**WELL, "example.org MX": [trouble], "mx._domainkey.example.org TXT": [trouble]})
    assert {(one.check, one.verdict) for one in bad(findings)} == {
        ("MX", Verdict.UNKNOWN),
        ("DKIM of Mailgun", Verdict.UNKNOWN),
    }


def test_a_dmarc_record_above_covers_a_sub_domain(world: World) -> None:
    """The tree walk of RFC 9989."""
    world.host()
    world.env["OWNPOST_DOMAINS"] = "post.example.org"
    (world.folder / "providers.toml").write_text("")
    world.env |= {"OWNPOST_PROVIDERS": "capture", "OWNPOST_HOSTNAME": "mail.example.org", "DOMAIN_TLS_REPORTS": ""}
    table = {
        **WELL,
        "post.example.org MX": ["10 route1.mx.cloudflare.net."],
        "post.example.org TXT": ['"v=spf1 include:_spf.mx.cloudflare.net -all"'],
    }
    assert bad(world.findings(table)) == []


def test_dkim_of_a_name_below_counts_unless_dmarc_is_strict(world: World) -> None:
    world.host()
    pasted = MAILGUN.replace("mx._domainkey TXT", "mx._domainkey.mg TXT")
    (world.folder / "providers.toml").write_text(pasted)
    table = {**WELL, "mx._domainkey.mg.example.org TXT": [KEY]}
    assert bad(world.findings(table)) == []
    strict = '"v=DMARC1; p=none; adkim=s; rua=mailto:postmaster@example.org"'
    [found] = bad(world.findings({**table, "_dmarc.example.org TXT": [strict]}))
    assert "signs as mg.example.org, which does not count as example.org" in found.finding


def test_a_key_of_the_owners_own_and_a_domain_below_are_looked_at_where_they_are(world: World) -> None:
    """Amazon SES with BYODKIM, and Mailgun at mg."""
    world.host()
    (world.folder / "providers.toml").write_text("")
    world.env |= {"OWNPOST_PROVIDERS": "ses,mailgun", "SES_HOST": "127.0.0.1"}
    world.env["SES_PORT"] = world.env["MAILGUN_PORT"]
    told = {
        ("ses", "example.org"): Authentication("example.org", "example.org", True, (), selectors=("mine",)),
        ("mailgun", "example.org"): Authentication(
            "mg.example.org",
            "mg.example.org",
            True,
            (Record(type="CNAME", name="pdk1._domainkey.mg.example.org", content="pdk1.dkim.mailgun.com"),),
        ),
    }
    table = {
        **WELL,
        "example.org TXT": ['"v=spf1 include:_spf.mx.cloudflare.net ~all"'],
        "pdk1._domainkey.mg.example.org TXT": [KEY],
        "mine._domainkey.example.org TXT": [KEY],
    }
    assert bad(world.findings(table, authentications=told)) == []
    [found] = bad(world.findings({**table, "mine._domainkey.example.org TXT": []}, authentications=told))
    assert "no key at mine._domainkey.example.org" in found.finding


def test_a_provider_that_does_not_know_the_domain_is_not_aligned(world: World) -> None:
    world.host()
    (world.folder / "providers.toml").write_text(MAILGUN.partition("[sendgrid.dns]")[0])
    [found] = bad(world.findings(WELL, authentications={("sendgrid", "example.org"): None}))
    assert found.verdict is Verdict.WRONG
    assert "SendGrid does not know example.org" in found.finding
    assert "make apply" in found.fix


def test_mta_sts_that_was_asked_for_and_is_not_there(world: World) -> None:
    world.host()
    world.env["DOMAIN_MTA_STS"] = "yes"
    [found] = bad(world.findings(WELL))
    assert (found.check, found.verdict) == ("MTA-STS", Verdict.WRONG)
    assert "https://mta-sts.example.org/.well-known/mta-sts.txt" in found.fix


def test_the_report_is_published_for_the_exporter(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """The JSON is printed and stands in run/domain/check.json, whole."""
    world.host()
    world.names.set({**WELL, "example.org MX": ["1 mx.\\027[31mevil.example."]})
    checkdmarc.utils.DNS_CACHE.clear()
    valid = settings.read(world.env)
    with httpx.Client() as client:
        code = Commands(valid, read_files(valid), Console(), client).check(as_json=True)
        report = json.loads(capsys.readouterr().out)
        assert code == 2
        assert report == json.loads((world.folder / "run/domain/check.json").read_text())
        assert report["format"] == 1
        assert not report["good"]
        assert {"domain", "check", "verdict", "finding", "fix"} == set(report["findings"][0])
        Commands(valid, read_files(valid), Console(width=100, highlight=False), client).check(as_json=False)
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert "✘ MX" in text


def test_a_check_that_breaks_costs_its_own_line_only(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.host()

    def broken(*_: object, **__: object) -> Finding:
        raise RuntimeError("boom")

    monkeypatch.setattr("domain.checks.records.mx", broken)
    findings = world.findings(WELL)
    [found] = bad(findings)
    assert found.verdict is Verdict.UNKNOWN
    assert "boom" in found.finding
    assert shown.good(findings)
    assert shown.verdict(findings) == f"Nothing wrong was found, but 1 of {len(findings)} could not be looked at."


def test_what_could_not_be_looked_at_is_never_called_well() -> None:
    def seen(*verdicts: Verdict) -> list[Finding]:
        return [Finding("example.org", "SPF", one, "no resolver answered") for one in verdicts]

    good, unknown, wrong = Verdict.GOOD, Verdict.UNKNOWN, Verdict.WRONG
    assert shown.verdict(seen(good, good)) == "All is well."
    assert shown.verdict(seen(unknown, unknown)) == "Nothing could be looked at: no resolver answered."
    assert shown.verdict(seen(wrong, unknown)) == "1 to mend. 1 of 2 could not be looked at."
    assert shown.good(seen(good, unknown))
    assert not shown.good(seen(good, unknown, unknown))
    assert not json.loads(shown.as_json(seen(unknown), 0.0))["good"]
