"""The spool's tables and how an older file becomes a newer one.

Everything that belongs to a message has a key that begins with the message's key: ``message key << SHIFT | n``. So a
message's chunks and deliveries lie side by side, are found by a range, and need neither a second index nor a look back
after an insert.

Partial indexes keep the cost with what is open: an ended delivery is in none of them.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Final

import apsw

from relay.spool.errors import SpoolUnusable

SHIFT: Final = 16  # 65,536 chunks of 256 KiB or recipients a message: far above every limit
MASK: Final = (1 << SHIFT) - 1
APPLICATION_ID: Final = (
    0x4F776E70  # "Ownp": `file spool.db` shows it, and another program's database is not taken for ours
)
OPEN: Final = "('due', 'claimed', 'sending', 'held')"
FAILED: Final = "('refused', 'expired', 'unknown')"

_FIRST: Final = f"""
CREATE TABLE message (
    key INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    account TEXT NOT NULL,
    sender TEXT NOT NULL,
    size INTEGER NOT NULL,
    received_at REAL NOT NULL,
    message_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    null_sender INTEGER NOT NULL,
    smtputf8 INTEGER NOT NULL,
    notify TEXT NOT NULL,
    recipients INTEGER NOT NULL,
    chunks INTEGER NOT NULL,
    ended_at REAL
) STRICT;
CREATE INDEX message_open ON message (received_at, size) WHERE ended_at IS NULL;

CREATE TABLE chunk (
    id INTEGER PRIMARY KEY,
    data BLOB NOT NULL
) STRICT;

CREATE TABLE upload (
    key INTEGER PRIMARY KEY
) STRICT;

CREATE TABLE delivery (
    id INTEGER PRIMARY KEY,
    account TEXT NOT NULL,
    recipient TEXT NOT NULL,
    state TEXT NOT NULL,
    next_attempt REAL NOT NULL,
    changed_at REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    doubts INTEGER NOT NULL DEFAULT 0,
    provider TEXT NOT NULL DEFAULT '',
    code INTEGER NOT NULL DEFAULT 0,
    reply TEXT NOT NULL DEFAULT '',
    held REAL NOT NULL DEFAULT 0,
    delay_noticed INTEGER NOT NULL DEFAULT 0,
    acknowledged INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX delivery_due ON delivery (account, next_attempt) WHERE state = 'due';
CREATE INDEX delivery_busy ON delivery (state) WHERE state IN ('claimed', 'sending', 'held');
CREATE INDEX delivery_failed ON delivery (state) WHERE state IN {FAILED} AND acknowledged = 0;

CREATE TABLE event (
    message INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL,
    at REAL NOT NULL,
    account TEXT NOT NULL,
    recipient TEXT NOT NULL,
    provider TEXT NOT NULL,
    code INTEGER NOT NULL,
    reply TEXT NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (message, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('generation', 0);
"""

# Choice of a provider. A flow is (account, sender domain, tried), and its waiting deliveries lie side by side in the
# index: one that no provider takes now costs one seek, however many wait in it. ``tried`` is empty, or the providers
# that this round has been offered to, or "=" and the one that a doubtful delivery is tied to. What is after the last
# "@" of an address is found by cutting off all that is not an "@" from its end.
_SECOND: Final = """
ALTER TABLE delivery ADD COLUMN domain TEXT NOT NULL DEFAULT '';
ALTER TABLE delivery ADD COLUMN tried TEXT NOT NULL DEFAULT '';
UPDATE delivery SET
    domain = (
        SELECT lower(substr(m.sender, 1 + length(rtrim(m.sender, replace(m.sender, '@', '')))))
        FROM message AS m WHERE m.key = delivery.id >> 16
    ),
    tried = iif(doubts > 0, '=' || provider, '')
WHERE state IN ('due', 'claimed', 'sending', 'held');
DROP INDEX delivery_due;
CREATE INDEX delivery_due ON delivery (account, domain, tried, next_attempt) WHERE state = 'due';
DROP INDEX delivery_busy;
CREATE INDEX delivery_busy ON delivery (state, provider) WHERE state IN ('claimed', 'sending', 'held');

CREATE TABLE quota (
    provider TEXT NOT NULL,
    bucket INTEGER NOT NULL,
    used INTEGER NOT NULL,
    PRIMARY KEY (provider, bucket)
) STRICT, WITHOUT ROWID;
"""

# What a message is known by if its client sends it again; NULL: it is never taken for a repeat. It needs no index: the
# relay reads the last minutes' at its start and looks them up in memory.
_THIRD: Final = "ALTER TABLE message ADD COLUMN fingerprint BLOB"

# Whether a message was accepted while mail was written to files (``capture``), and which deliveries are held for that
# reason alone (``mode.py``). What is older counts as meant to be sent.
_FOURTH: Final = """
ALTER TABLE message ADD COLUMN trial INTEGER NOT NULL DEFAULT 0;
ALTER TABLE delivery ADD COLUMN mode_held INTEGER NOT NULL DEFAULT 0;
"""

# The body of a message that ended with a failure is kept for a while: ``kept`` is 1 then. ``gone_at`` is when such a
# body was deleted; where it is NULL and nothing is kept, that was when the message ended.
_SIXTH: Final = """
ALTER TABLE message ADD COLUMN kept INTEGER NOT NULL DEFAULT 0;
ALTER TABLE message ADD COLUMN gone_at REAL;
CREATE INDEX message_kept ON message (ended_at, size) WHERE kept = 1;
"""

# Number n leads from version n to n + 1; never change one that was released.
MIGRATIONS: Final[tuple[str, ...]] = (_FIRST, _SECOND, _THIRD, _FOURTH, _SIXTH)
VERSION: Final = len(MIGRATIONS)


def first(key: int) -> int:
    """The least chunk or delivery id of the message ``key``."""
    return key << SHIFT


def last(key: int) -> int:
    """The greatest chunk or delivery id of the message ``key``."""
    return key << SHIFT | MASK


def numbers(values: Sequence[int]) -> apsw.CArrayBinding:
    """``values`` as the argument of SQL's carray(): keys and ids, which are never negative.

    An empty array has no address that SQLite would take; -1 stands for nothing.
    """
    return apsw.carray(array("q", values or (-1,)))


def check(connection: apsw.Connection) -> None:
    """Refuse a file that is not ours or newer than this program; raises :class:`SpoolUnusable` and changes nothing."""
    version = int(connection.pragma("user_version"))
    application = int(connection.pragma("application_id"))
    empty = connection.execute("SELECT count(*) FROM sqlite_schema").get == 0
    if application not in (0, APPLICATION_ID) or (application == 0 and not empty):
        raise SpoolUnusable(
            "The spool's spool.db belongs to another program; point RELAY_SPOOL to a folder of its own."
        )
    if version > VERSION:
        raise SpoolUnusable(
            f"The spool was written by a newer Ownpost (its schema is {version}, this program knows {VERSION}); "
            "run that version or a later one. Nothing was changed."
        )


def migrate(connection: apsw.Connection, migrations: tuple[str, ...] = MIGRATIONS) -> None:
    """Bring the tables to ``len(migrations)``; each step is one commit, so a crash leaves a whole version."""
    for version in range(int(connection.pragma("user_version")), len(migrations)):
        with connection:
            connection.execute(migrations[version])
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version + 1}")
