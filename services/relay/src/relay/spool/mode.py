"""Trial mail and real mail: what was accepted under the one kind of provider is never given to the other.

``capture`` writes mail to files, every other provider sends it; it is either that one alone or only others. Which it
was is kept with each message. The settings hold for as long as the process lives, so one look, when the spool is
opened, is enough: whatever does not fit is held, new mail always fits, and the operator's verbs make due only what does
(:mod:`relay.spool.verbs`). A claim need not ask.

Works inside the transaction of its caller.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from relay.model import Event, EventKind
from relay.spool import flows
from relay.spool.schema import MASK, SHIFT

REAL: Final = (
    "It was accepted to be sent, and is held because OWNPOST_PROVIDERS is capture now, which only writes files. Put "
    "the providers back in .env and run make up: then it goes out by itself. Or drop it."
)
TRIAL: Final = (
    "It was accepted in the trial, and is held because OWNPOST_PROVIDERS would really send it now. Drop it; or set "
    "capture again: then it is written to a file by itself."
)
HELD: Final = "state IN ('claimed', 'sending', 'held') AND state = 'held'"  # the words of the index come first

_TOLD: Final = f"RETURNING id, account, recipient, (SELECT m.id FROM message AS m WHERE m.key = delivery.id >> {SHIFT})"
_HOLD: Final = f"""
UPDATE delivery SET state = 'held', mode_held = 1, changed_at = ?2 WHERE id IN (
    SELECT d.id FROM message AS m INDEXED BY message_open CROSS JOIN delivery AS d
    ON d.id BETWEEN m.key << {SHIFT} AND (m.key << {SHIFT} | {MASK})
    WHERE m.ended_at IS NULL AND m.trial <> ?1 AND +d.state = 'due'
) {_TOLD}
"""
# It goes at once, but for one in doubt, which keeps the rest of its wait.
_RELEASE: Final = f"""
UPDATE delivery SET state = 'due', mode_held = 0, held = held + max(0, ?2 - changed_at), changed_at = ?2,
    next_attempt = iif(doubts > 0, min(max(next_attempt, ?2), ?2 + {flows.FAR}), ?2)
WHERE {HELD} AND mode_held = 1 AND (SELECT m.trial FROM message AS m WHERE m.key = delivery.id >> {SHIFT}) = ?1 {_TOLD}
"""

Run = Callable[..., Any]


def reason(trial: bool) -> str:
    """Why a message is held that was accepted in the trial, or to be sent, while the settings are of the other kind."""
    return TRIAL if trial else REAL


def warning(number: int, trial: bool) -> str:
    """What is said of ``number`` deliveries that are held under settings that are a ``trial`` or not."""
    some = "1 delivery" if number == 1 else f"{number} deliveries"
    if trial:
        return f"{some} accepted to be sent will wait, held, while it is capture; put the providers back to send them."
    return f"{some} accepted in the trial will wait, held: make queue shows them; drop them, or set capture again."


def settle(run: Run, trial: bool, now: float) -> list[tuple[int, Event]]:
    """Hold what does not fit settings that are a ``trial`` or not, and let go what was held for that and fits again.

    Returns the events, each with the key of its message. What may have been sent already and is in doubt too often
    (``sending``) stays: nobody sends it again, and it is ended, with its notice, once its providers are back.
    """
    let_go = [_event(row, EventKind.RELEASED, "", now) for row in run(_RELEASE, (trial, now)).fetchall()]
    return let_go + [_event(row, EventKind.HELD, reason(not trial), now) for row in run(_HOLD, (trial, now)).fetchall()]


def _event(row: tuple[Any, ...], kind: EventKind, reply: str, now: float) -> tuple[int, Event]:
    delivery, account, recipient, message = row
    return delivery >> SHIFT, Event(
        kind=kind, at=now, message=message, account=account, recipient=recipient, reply=reply
    )
