"""What was accepted lately, asked at the start only: it costs a walk back from the newest key, and no index.

Keys are given out when an upload begins, so they are nearly in the order of acceptance: the walk goes on for as long as
an upload may take.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any, Final

from relay.model import EventKind, Kind

STEP: Final = 10_000  # messages looked at in one query
_LATE: Final = 7_200.0  # seconds that an upload may take
_USED: Final = f"""
SELECT received_at, recipients FROM message
WHERE key > ?1 AND key <= ?2 AND account = ?3 AND received_at >= ?4 AND kind = '{Kind.MAIL.value}'
    AND (?5 = '' OR EXISTS (
        SELECT 1 FROM event
        WHERE message = message.key AND event.kind = '{EventKind.ACCEPTED.value}'
            AND iif(detail = '', '{{}}', detail) ->> 'listener' = ?5
    ))
"""
_FINGERPRINTS: Final = """
SELECT received_at, fingerprint, id FROM message
WHERE key > ?1 AND key <= ?2 AND received_at >= ?3 AND fingerprint IS NOT NULL AND trial = ?4
"""

Run = Callable[..., Any]


def used(run: Run, account: str, since: float, listener: str, step: int = STEP) -> list[tuple[float, int]]:
    """(accepted at, recipients) of the account's messages since then, oldest first; ``listener`` is empty for all."""
    return _since(run, _USED, since, step, account, since, listener)


def fingerprints(
    run: Run, since: float, most: int, step: int = STEP, *, trial: bool = False
) -> list[tuple[float, bytes, str]]:
    """(accepted at, fingerprint, id) of the last ``most`` messages since then that have a fingerprint, oldest first; of
    the trial's or of the others.
    """
    return _since(run, _FINGERPRINTS, since, step, since, trial, most=most)[-most:]


def _since(run: Run, statement: str, since: float, step: int, *arguments: Any, most: float = inf) -> list[Any]:
    top = run("SELECT coalesce(max(key), 0) FROM message").get
    found: list[Any] = []
    while top > 0 and len(found) < most:
        found += run(statement, (top - step, top, *arguments))
        top -= step
        before = run("SELECT received_at FROM message WHERE key <= ? ORDER BY key DESC LIMIT 1", (top,)).fetchall()
        if not before or before[0][0] < since - _LATE:
            break
    return sorted(found)
