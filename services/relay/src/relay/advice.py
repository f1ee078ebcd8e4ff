"""What is legal in the settings and accounts, but most likely not meant. Pure.

The log has these sentences once at the start, ``/status.json`` (``warnings``) as long as they hold, and so the page: an
appliance that sends nothing, or mail that receivers refuse, must not be called well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from common.names import is_loopback, within
from relay.accounts import Account, Accounts
from relay.settings import Settings

# RFC 2606 and RFC 6761: nobody owns these or what is below them.
RESERVED: Final = ("example", "example.com", "example.net", "example.org", "invalid", "localhost", "test")
NAMED: Final = 3  # accounts that one sentence names


def advice(settings: Settings, accounts: Accounts) -> list[str]:
    """All that the operator should look at, a sentence each that begins with the setting or file."""
    found = [*settings.warnings, *_routes(settings, accounts)]
    sending = [one for one in settings.providers if one.preset != "capture"]
    if not sending and not is_loopback(settings.bind):
        found.append(
            f"OWNPOST_PROVIDERS: capture writes mail to files and sends nothing, though OWNPOST_BIND={settings.bind} "
            "lets other machines in. Name a provider that sends: docs/providers.md."
        )
    if any(not is_loopback(one.host) for one in sending):
        found += [
            f"OWNPOST_DOMAINS: {domain} is reserved for examples and belongs to nobody. Put your own domain there."
            for domain in settings.domains
            if _within(domain, RESERVED)
        ]
        found += foreign_senders(settings.domains, accounts)
    return found


def _routes(settings: Settings, accounts: Accounts) -> list[str]:
    """A route for an account that does not exist is never used; most likely its name is mistyped."""
    names = {account.name for account in accounts}
    return [
        f"config/providers.toml: a [[route]] names the account {name}, which is not in accounts.toml like that."
        for name in sorted({route.account for route in settings.routes.routes if route.account} - names)
    ]


def foreign_senders(domains: Sequence[str], accounts: Iterable[Account]) -> list[str]:
    """Senders whose domain nobody sets up here: receivers take their mail for forged."""
    found = [
        f"{account.name} as {sender}"
        for account in accounts
        for sender in account.senders
        if not account.disabled and not _within(sender.rpartition("@")[2].lower(), domains)
    ]
    if not found:
        return []
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    text = (
        f"config/accounts.toml: these may send from a domain that OWNPOST_DOMAINS ({' '.join(domains)}) does not name: "
        f"{', '.join(found[:NAMED])}{more}. Providers refuse such mail, or receivers take it for forged; name the "
        "domain there, or mend the sender."
    )
    return [text]


def _within(domain: str, parents: Sequence[str]) -> bool:
    return any(within(domain, parent) for parent in parents)
