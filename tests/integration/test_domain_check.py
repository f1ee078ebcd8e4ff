"""``check`` against a name server and a mail host on loopback: all well, then each fault in turn."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import checkdmarc.utils  # type: ignore[import-untyped]
import httpx
import pytest
import trustme
from rich.console import Console

from domain import settings
from domain.checks import run, servers
from domain.checks import show as shown
from domain.checks.model import Finding, Verdict
from domain.commands import Commands, read_files
from domain.dns import Dns, resolver
from support.domain import mailhost, nameserver
from support.domain.nameserver import NameServer, Table
from support.ports import free_port

pytest_plugins = ["support.domain.fixtures"]

KEY = '"v=DKIM1; k=rsa; p=MIGfMA0"'
WELL: Table = {
    "mail.example.org A": ["127.0.0.1"],
    "example.org MX": ["10 route1.mx.cloudflare.net.", "20 route2.mx.cloudflare.net."],
    "example.org TXT": ['"v=spf1 include:_spf.mx.cloudflare.net include:mailgun.org ~all"', '"unrelated"'],
    "_spf.mx.cloudflare.net TXT": ['"v=spf1 ip4:104.30.0.0/20 ~all"'],
    "mailgun.org TXT": ['"v=spf1 ip4:161.38.192.0/20 ~all"'],
    "s1._domainkey.example.org CNAME": ["s1.domainkey.u1.wl.sendgrid.net."],
    "s2._domainkey.example.org CNAME": ["s2.domainkey.u1.wl.sendgrid.net."],
    "s1.domainkey.u1.wl.sendgrid.net TXT": [KEY],
    "s2.domainkey.u1.wl.sendgrid.net TXT": [KEY],
    "mx._domainkey.example.org TXT": [KEY],
    "_dmarc.example.org TXT": ['"v=DMARC1; p=none; rua=mailto:postmaster@example.org"'],
    "route1.mx.cloudflare.net A": ["198.51.100.1"],
    "route2.mx.cloudflare.net A": ["198.51.100.2"],
    "1.0.0.127.in-addr.arpa PTR": ["mail.example.org."],
    "_smtp._tls.example.org TXT": ['"v=TLSRPTv1; rua=mailto:tls@example.org"'],
}
MAILGUN = '[mailgun.dns]\nrecords = ["mx._domainkey TXT k=rsa; p=MIGfMA0"]\n[sendgrid.dns]\nrecords = [\n'
MAILGUN += (
    '"s1._domainkey CNAME s1.domainkey.u1.wl.sendgrid.net", "s2._domainkey CNAME s2.domainkey.u1.wl.sendgrid.net"]'
)


@pytest.fixture(scope="module")
def names() -> Iterator[NameServer]:
    with nameserver.running() as server:
        yield server


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


class World:
    """All that a check looks at. ``host`` serves a certificate on both ports."""

    def __init__(
        self, names: NameServer, authority: trustme.CA, cloudflare: str, folder: Path, stack: ExitStack
    ) -> None:
        self.names, self.authority, self.folder, self.stack = names, authority, folder, stack
        (folder / "aliases.toml").write_text('hello = "me@gmail.com"')
        (folder / "providers.toml").write_text(MAILGUN)
        (folder / "run").mkdir()
        self.env = {
            "OWNPOST_DOMAINS": "example.org",
            "OWNPOST_PROVIDERS": "sendgrid,mailgun",
            "DOMAIN_CLOUDFLARE_API_TOKEN": "t",
            "DOMAIN_CLOUDFLARE_URL": cloudflare,
            "DOMAIN_CONFIG": str(folder),
            "DOMAIN_BACKUPS": str(folder),
            "DOMAIN_RUN": str(folder / "run"),
            "DOMAIN_ADDRESSES": "127.0.0.1",
            "DOMAIN_RESOLVERS": f"127.0.0.1:{names.port}",
            "DOMAIN_TLS_REPORTS": "tls@example.org",
            "SENDGRID_HOST": "127.0.0.1",
            "MAILGUN_HOST": "127.0.0.1",
        }

    def host(self, *, banner: bytes = mailhost.GREETING, offers: bytes = b"STARTTLS", **certificate: object) -> None:
        issued = self.authority.issue_cert("mail.example.org", **certificate)  # type: ignore[arg-type]
        self.serve(issued, banner=banner, offers=offers)

    def serve(
        self, issued: trustme.LeafCert, *, banner: bytes = mailhost.GREETING, offers: bytes = b"STARTTLS"
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issued.configure_cert(context)
        for name, implicit in (("OWNPOST_SUBMISSION_PORT", False), ("OWNPOST_SUBMISSIONS_PORT", True)):
            port = self.stack.enter_context(mailhost.running(context, implicit=implicit, banner=banner, offers=offers))
            self.env[name] = str(port)
        self.env["SENDGRID_PORT"] = self.env["MAILGUN_PORT"] = self.env["OWNPOST_SUBMISSION_PORT"]

    def findings(self, table: Table, now: float | None = None) -> list[Finding]:
        self.names.set(table)
        checkdmarc.utils.DNS_CACHE.clear()
        valid = settings.read(self.env)
        with httpx.Client() as client:
            ground = run.Ground(
                settings=valid,
                files=read_files(valid),
                dns=Dns(resolver(valid.resolvers)),
                client=client,
                addresses=valid.addresses,
                authentications={},
                now=(lambda: now) if now is not None else datetime.now(UTC).timestamp,
            )
            return run.run(ground)


@pytest.fixture
def world(
    names: NameServer,
    authority: trustme.CA,
    cloudflare_process,  # type: ignore[no-untyped-def]
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[World]:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    cloudflare_process.set({"token": "t", "zones": [], "addresses": {}})
    with ExitStack() as stack:
        yield World(names, authority, cloudflare_process.url, tmp_path, stack)


def bad(findings: list[Finding]) -> list[Finding]:
    return [one for one in findings if one.verdict is not Verdict.GOOD]


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


def test_dkim_for_another_domain_is_not_aligned(world: World) -> None:
    world.host()
    (world.folder / "providers.toml").write_text(
        MAILGUN.replace("[mailgun.dns]", "[mailgun.dns]\nspf = []").replace(
            "mx._domainkey TXT", "mx._domainkey.elsewhere TXT"
        )
    )
    table = {**WELL, "mx._domainkey.elsewhere.example.org TXT": [KEY]}
    assert bad(world.findings(table)) == [], "a name below the domain is aligned, relaxed"


def test_a_certificate_for_another_name(world: World) -> None:
    world.serve(world.authority.issue_cert("other.example.org"))
    found = [one for one in bad(world.findings(WELL)) if one.check.startswith("port ")]
    assert len(found) == 2
    assert all("ostname mismatch" in one.finding and "OWNPOST_HOSTNAME" in one.fix for one in found)


def test_a_certificate_that_nobody_trusts(world: World) -> None:
    world.serve(trustme.CA().issue_cert("mail.example.org"))
    found = [one for one in bad(world.findings(WELL)) if one.check.startswith("port ")]
    assert len(found) == 2
    assert all("certificate" in one.finding and "OWNPOST_TLS=acme" in one.fix for one in found)


def test_a_certificate_that_has_run_out_or_soon_will(world: World) -> None:
    world.host(not_after=datetime.now(UTC) - timedelta(days=1))
    found = [one for one in bad(world.findings(WELL)) if one.check.startswith("port ")]
    assert all("expired" in one.finding and "not renewed" in one.fix for one in found)
    world.host(not_after=datetime.now(UTC) + timedelta(days=3))
    found = bad(world.findings(WELL))
    assert [one.verdict for one in found] == [Verdict.ADVICE] * 2
    assert all("ends in 3 days" in one.finding for one in found)


def test_a_port_that_is_shut(world: World) -> None:
    world.host()
    world.env["OWNPOST_SUBMISSION_PORT"] = str(free_port())
    [found] = bad(world.findings(WELL))
    assert found.verdict is Verdict.WRONG
    assert "refused" in found.finding
    assert "firewall" in found.fix


def test_something_else_on_our_port(world: World) -> None:
    world.host(banner=b"SSH-2.0-OpenSSH_9.9\r\n")
    found = bad(world.findings(WELL))
    assert all("SSH-2.0" in one.finding and "nothing but Ownpost" in one.fix for one in found)
    assert len(found) == 2


def test_starttls_taken_out_on_the_way(world: World) -> None:
    world.host(offers=b"XXXXXXXA")
    [found] = bad(world.findings(WELL))
    assert "does not offer STARTTLS" in found.finding


def test_a_providers_port_that_is_blocked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.host()
    shut = free_port()
    world.env["MAILGUN_PORT"] = str(shut)
    [found] = bad(world.findings(WELL))
    assert (found.domain, found.verdict) == ("Mailgun", Verdict.WRONG)
    assert f"cannot be reached on {shut}" in found.finding
    opened = int(world.env["OWNPOST_SUBMISSION_PORT"])
    advice = servers.provider("X", "127.0.0.1", (shut, opened))
    assert advice.fix == f"Set the provider's PORT to {opened}."


def test_a_clock_that_is_wrong(world: World) -> None:
    world.host()
    [found] = bad(world.findings(WELL, now=datetime.now(UTC).timestamp() - 3600))
    assert found.check == "clock"
    assert "behind" in found.finding
    assert "set-ntp" in found.fix


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
    [found] = bad(world.findings(WELL))
    assert found.verdict is Verdict.UNKNOWN
    assert "boom" in found.finding
    assert shown.good([found])
