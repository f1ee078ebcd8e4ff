"""A domain tool on stage: its settings and files as texts, the fakes behind it, and DNS as a table."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from domain import aliases, pasted, plan, settings
from domain.apply import Applier
from domain.authentication import services
from domain.cloudflare import Cloudflare
from domain.observe import Reach, Sight, observe
from domain.plan import Files
from domain.settings import Settings
from domain.steps import Plan
from support.domain.fake import Fake

TOKEN = "cfut_test"
KEY = "SG.test"
FLAT = {
    ("_spf.mx.cloudflare.net", "TXT"): ("v=spf1 ip4:104.30.0.0/20 ~all",),
    ("sendgrid.net", "TXT"): ("v=spf1 ip4:167.89.0.0/17 ~all",),
    ("mailgun.org", "TXT"): ("v=spf1 ip4:161.38.192.0/20 ~all",),
    ("spf.mailjet.com", "TXT"): ("v=spf1 ip4:87.253.232.0/21 ~all",),
}


def zone(name: str, records: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    """A zone of the fake Cloudflare: empty, Email Routing off."""
    base = {
        "id": f"zone-{name}",
        "name": name,
        "account": "account",
        "records": records or [],
        "routing": {"enabled": False, "support_subaddress": False, "skip_wizard": False},
        "rules": [],
        "catch_all": {
            "id": "catchall",
            "name": "",
            "enabled": False,
            "matchers": [{"type": "all"}],
            "actions": [{"type": "drop"}],
        },
        "locked": True,
    }
    return copy.deepcopy({**base, **more})


def cloudflare_state(*zones: dict[str, Any], verified: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    """The fake Cloudflare's state."""
    addresses = [{"id": f"d-{email}", "email": email, "verified": "2026-01-01T00:00:00Z"} for email in verified]
    return {"token": TOKEN, "zones": list(zones), "addresses": {"account": addresses}, **more}


def record(kind: str, name: str, content: str, number: int = 0, **more: Any) -> dict[str, Any]:
    """A record of the fake Cloudflare; TXT content is given plain."""
    content = f'"{content}"' if kind == "TXT" and not content.startswith('"') else content
    base = {"id": f"r-{kind}-{name}-{content}-{number}", "type": kind, "name": name, "content": content, "ttl": 300}
    return {**base, "proxied": False, "comment": None, **more}


@dataclass(repr=False)
class Stage:
    """One operator's set-up. ``env`` adds to the settings; ``dns`` answers SPF's questions."""

    cloudflare: Fake
    sendgrid: Fake
    client: httpx.Client
    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    aliases: str = 'hello = "me@gmail.com"'
    providers: str = ""
    dns: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=lambda: FLAT)
    said: list[str] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)
    shown: list[Plan] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        """What the program finds in its environment."""
        return {
            "OWNPOST_DOMAINS": "example.org",
            "OWNPOST_PROVIDERS": "sendgrid",
            "DOMAIN_CLOUDFLARE_API_TOKEN": TOKEN,
            "DOMAIN_CLOUDFLARE_URL": f"{self.cloudflare.url}/client/v4",
            "DOMAIN_SENDGRID_API_KEY": KEY,
            "DOMAIN_SENDGRID_URL": self.sendgrid.url,
            "DOMAIN_ADDRESSES": "192.0.2.25",
            "DOMAIN_BACKUPS": str(self.folder / "zones"),
            "DOMAIN_CONFIG": str(self.folder),
            **self.env,
        }

    def settings(self) -> Settings:
        return settings.read(self.environment())

    def files(self) -> Files:
        domains = self.settings().domains
        return Files(aliases.parse(self.aliases, domains), pasted.parse(self.providers, domains))

    def reach(self) -> Reach:
        wanted = self.settings()
        assert wanted.cloudflare is not None
        cloudflare = Cloudflare(wanted.cloudflare, self.client, self.slept.append)
        return Reach(cloudflare, services(wanted.keys, self.client, self.slept.append), self.client)

    def look(self) -> tuple[Sight, Plan]:
        wanted, files = self.settings(), self.files()
        sight = observe(wanted, files, self.reach(), wanted.addresses)
        return sight, plan.make(wanted, files, sight.seen, self.fetch)

    def fetch(self, name: str, kind: str) -> tuple[str, ...] | None:
        return self.dns.get((name, kind), ())

    def plan(self) -> Plan:
        return self.look()[1]

    def apply(self, *, agree: bool = True, answer: Callable[[], bool] | None = None) -> Plan:
        """``answer`` takes the place of a person who is asked."""
        applier = Applier(
            reach=self.reach(),
            folder=self.folder / "zones",
            look=self.look,
            show=self.shown.append,
            agree=answer or (None if agree else lambda: False),
            say=self.said.append,
            clock=lambda: 1_800_000_000.0,
        )
        return applier.run()

    def records(self, name: str = "example.org") -> list[dict[str, Any]]:
        """The records of a zone as they are now."""
        found: dict[str, Any] = next(one for one in self.cloudflare.state["zones"] if one["name"] == name)
        return list(found["records"])

    def texts(self, name: str, kind: str = "TXT", zone: str = "example.org") -> list[str]:
        """The contents at a name."""
        found = [one for one in self.records(zone) if (one["type"], one["name"]) == (kind, name)]
        return [one["content"] for one in found]
