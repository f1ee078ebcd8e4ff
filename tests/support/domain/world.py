"""All that ``check`` looks at, on loopback: DNS that is well, a mail host, Cloudflare's clock, the operator's files."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import checkdmarc.utils  # type: ignore[import-untyped]
import httpx
import trustme

from domain import settings
from domain.authentication import Authentication
from domain.checks import run
from domain.checks.model import Finding, Verdict
from domain.commands import read_files
from domain.dns import Dns, resolver
from support.domain import mailhost
from support.domain.nameserver import NameServer, Table

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
        self.publish(context, banner=banner, offers=offers)

    def publish(
        self, context: ssl.SSLContext, *, banner: bytes = mailhost.GREETING, offers: bytes = b"STARTTLS"
    ) -> None:
        """Opens both ports."""
        for name, implicit in (("OWNPOST_SUBMISSION_PORT", False), ("OWNPOST_SUBMISSIONS_PORT", True)):
            port = self.stack.enter_context(mailhost.running(context, implicit=implicit, banner=banner, offers=offers))
            self.env[name] = str(port)
        self.env["SENDGRID_PORT"] = self.env["MAILGUN_PORT"] = self.env["OWNPOST_SUBMISSION_PORT"]

    def findings(
        self,
        table: Table,
        now: float | None = None,
        authentications: Mapping[tuple[str, str], Authentication | None] | None = None,
    ) -> list[Finding]:
        """What a check finds where DNS is ``table`` and this machine's clock says ``now``."""
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
                authentications=authentications or {},
                now=(lambda: now) if now is not None else datetime.now(UTC).timestamp,
            )
            return run.run(ground)


def bad(findings: list[Finding]) -> list[Finding]:
    return [one for one in findings if one.verdict is not Verdict.GOOD]
