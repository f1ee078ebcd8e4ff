"""Email Routing takes the mail of domains over, or what was there comes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .api import ApiError, NotAllowed, Unreachable
from .cloudflare import MANAGED, Cloudflare, Zone
from .records import Record
from .spf import is_spf

Say = Callable[[str], None]


def on(
    cloudflare: Cloudflare, zone: Zone, domains: Sequence[str], removed: Sequence[Record], say: Say
) -> dict[str, str]:
    """Switches it on for each domain, and tells for which it was refused, and why.

    ``removed`` are the MX records that made room; where the switch fails they come back, for a domain without any
    would lose mail. Raises NotAllowed, Unreachable.
    """
    refused: dict[str, str] = {}
    for done, domain in enumerate(domains):
        try:
            _switch(cloudflare, zone, domain, say)
        except (NotAllowed, Unreachable, KeyboardInterrupt):
            _give_back(cloudflare, zone, [one for one in removed if one.name in domains[done:]], say)
            raise
        except ApiError as error:
            _give_back(cloudflare, zone, [one for one in removed if one.name == domain], say)
            refused[domain] = str(error)
    return refused


def _switch(cloudflare: Cloudflare, zone: Zone, domain: str, say: Say) -> None:
    """An SPF record that Cloudflare replaces by its own comes back beside it, and the next round merges the two.

    Mostly it leaves one that is there alone, but not always: cloudflare/terraform-provider-cloudflare issue 6444.
    """
    before = _spf(cloudflare, zone, domain)
    cloudflare.enable_routing(zone, domain)
    kept = {one.key for one in _spf(cloudflare, zone, domain)} if before else set()
    lost = [one for one in before if one.key not in kept]
    if lost:
        say(f"{zone.name}: Cloudflare replaced the SPF record of {domain}; what it said comes back")
        cloudflare.batch(zone, [], [], [record.body() for record in lost])


def _spf(cloudflare: Cloudflare, zone: Zone, domain: str) -> list[Record]:
    return [one for one in cloudflare.records(zone) if (one.type, one.name) == ("TXT", domain) and is_spf(one.content)]


def _give_back(cloudflare: Cloudflare, zone: Zone, old: Sequence[Record], say: Say) -> None:
    if not old:
        return
    say(f"{zone.name}: that failed, so the MX records that were there come back")
    try:
        cloudflare.batch(zone, [], [], [record.body() for record in old])
    except ApiError as error:
        if MANAGED.intersection(error.codes):
            say(f"{zone.name}: Email Routing receives the mail already, though it did not say so; run apply again")
        else:
            say(f"{zone.name} has no MX records now: run apply again, or take them from the backup ({error})")
