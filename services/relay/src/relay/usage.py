"""What submission counts and knows, with what the spool remembers of it: a restart gives nobody a second day's worth,
and a client whose 250 a crash swallowed is known again.
"""

from __future__ import annotations

from relay import limits
from relay.accounts import Account, Accounts
from relay.accounts_file import SystemJournal
from relay.clock import Clock
from relay.settings import LanSettings, Settings
from relay.spool import Spool
from relay.submission.limiter import Limiter
from relay.submission.repeats import Recent, Repeats

LAN = "lan"  # the LAN listener, as events call it


def lan_budget(lan: LanSettings) -> Account:
    """The LAN listener's own daily cap, counted beside that of the account it acts for. No login has such a name."""
    return Account(
        name="lan listener",
        password_hash="",
        senders=(),
        recipients_per_day=lan.recipients_per_day,
        recipients_per_hour=None,
    )


async def limiter(
    settings: Settings, accounts: Accounts, spool: Spool, clock: Clock, gateways: frozenset[str], journal: SystemJournal
) -> Limiter:
    """Counts of connections, none yet, and of recipients."""

    def resumed(name: str, why: str) -> None:
        journal.system("account_resumed", account=name, why=why)

    counts = Limiter(
        clock=clock,
        connections=settings.connections,
        connections_per_address=settings.connections_per_address,
        gateways=gateways,
    )
    counts.volume.on_end = resumed
    since = clock.time() - limits.DAY
    for account in accounts:
        for at, recipients in await spool.used(account.name, clock.time() - 7 * limits.DAY):
            counts.volume.add(account.name, recipients, at)
            if at > since:
                counts.add(account.name, recipients, at)
    if settings.lan and (acting := accounts.find(settings.lan.account)):
        for at, recipients in await spool.used(acting.name, since, LAN):
            counts.add(lan_budget(settings.lan).name, recipients, at)
    return counts


async def repeats(settings: Settings, spool: Spool, clock: Clock) -> Repeats | None:
    """What was kept lately; ``None`` when nobody wants to know."""
    if not settings.repeat_minutes:
        return None
    window, now = settings.repeat_minutes * limits.MINUTE, clock.time()
    recent = Recent(clock, window)
    for at, fingerprint, message in await spool.fingerprints(now - window, limits.REPEATS):
        recent.add(fingerprint, message, now - at)
    return Repeats(recent, spool.states_of)
