"""When a *suspect* gets its turn: mail that was in hand at two unclean ends of the relay, tried with nothing beside it.

Such mail lies in flows of its own (``rows.SUSPECT`` begins their ``tried``), so that a spool without any pays nothing.
One message of it is in hand at a time. What else is in hand is waited for before, and nothing else is claimed while it
is tried: for a minute each, since a provider may take ten to answer. If the relay dies again, the suspect that recovery
finds in hand is the guilty one; where others were with it by then, it is still the only one that was there each time.

Works inside the transaction of its caller.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from relay import limits
from relay.spool import rows
from relay.spool.flows import Flow, Run
from relay.spool.schema import SHIFT

# What is ``sending`` and of the other mode (``mode.py``) is in nobody's hand.
_IN_HAND: Final = f"""
SELECT d.tried GLOB '{rows.SUSPECT}*', min(d.changed_at)
FROM delivery AS d CROSS JOIN message AS m ON m.key = d.id >> {SHIFT}
WHERE d.state IN ('claimed', 'sending', 'held') AND d.state IN ('claimed', 'sending') AND m.trial = ?1 GROUP BY 1
"""
_WAITING: Final = f"""
SELECT id >> {SHIFT} FROM delivery INDEXED BY delivery_due
WHERE state = 'due' AND account = ?1 AND domain = ?2 AND tried = ?3 AND next_attempt <= ?4
ORDER BY next_attempt, id
"""


@dataclass(slots=True)
class Turn:
    """What may be claimed now."""

    suspects: bool  # one message of them
    others: bool
    until: float = 0.0  # when to look again, if others may not


@dataclass(slots=True)
class Alone:
    """Remembers whether there is any suspect, and since when one waits for the rest to be done."""

    trial: bool  # mail is written to files
    wary: bool = True  # there may be one: known when it was looked for
    ready: list[Flow] = field(default_factory=list)  # flows of suspects, one of which may be taken now
    _asked: float | None = None

    def begin(self) -> None:
        """The flows are being looked at."""
        self.wary = False
        self.ready.clear()

    def turn(self, run: Run, now: float, taken: Callable[[], bool]) -> Turn:
        """Whose turn it is. To be asked while :attr:`wary`, or when there was a suspect before this look. ``taken``:
        whether a provider takes any of what is :attr:`ready`, asked when nothing else is in its way: for what nobody
        takes, nobody is kept waiting.
        """
        since: dict[int, float] = dict(run(_IN_HAND, (self.trial,)))
        if 1 in since:
            self.wary, self._asked = True, None
            return _wait(since[1], now)
        if not (self.ready and taken()):
            self._asked = None
            return Turn(False, True)
        if 0 in since:
            self._asked = now if self._asked is None else self._asked
            turn = _wait(self._asked, now)
            if not turn.others:
                return turn
        self._asked = None
        return Turn(True, True)

    def busy(self, run: Run) -> bool:
        """Whether a suspect is in hand."""
        return 1 in dict(run(_IN_HAND, (self.trial,)))

    def messages(self, run: Run, now: float) -> list[int]:
        """Keys of the messages of suspects that may be taken, in the order of their flows."""
        found = [row[0] for flow in self.ready for row in run(_WAITING, (flow.account, flow.domain, flow.tried, now))]
        return list(dict.fromkeys(found))


def _wait(since: float, now: float) -> Turn:
    """A minute from then; a clock that was set cannot make it longer."""
    return Turn(False, not since <= now < since + limits.ALONE, since + limits.ALONE)
