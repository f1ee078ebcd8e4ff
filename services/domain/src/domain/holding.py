"""Email Routing that does not receive a domain's mail yet, though it should: what waits for its SPF record. Pure."""

from __future__ import annotations

from collections.abc import Collection

from .diff import Want
from .steps import Delete, DeleteRule, Enable, Kind, PutRule, Step
from .wants import Wishes

_SWITCH = "not switched on before its SPF record is mended: what it forwards would fail SPF"
_MOVE = "mail goes on to where it goes now until its SPF record is mended: servers it names by mx could not stay in it"


def hold(wishes: Wishes, zone: str, undecided: Collection[str], *, on: bool) -> None:
    """Leaves the mail of these domains where it goes: their SPF records cannot be merged.

    What Email Routing forwards would fail SPF, and with the MX records would go what ``mx`` stands for in the record.
    Unless Email Routing is ``on`` in the zone, their rules wait too: it may refuse them, and nothing would use them.
    """
    for domain in undecided:
        if any(step.action == Enable(domain) for step in wishes.steps):
            reason = _SWITCH
        elif domain in wishes.moving:
            reason = _MOVE
        else:
            continue
        held = [one for one in wishes.steps if _switches(one, domain) or (not on and _rules_for(one, zone) == domain)]
        wishes.steps = [step for step in wishes.steps if step not in held]
        wishes.wants = [want for want in wishes.wants if not _leads(want, domain)]
        wishes.say(Kind.BLOCKED, zone, f"Email Routing {domain}", reason)


def _leads(want: Want, domain: str) -> bool:
    return (want.record.type, want.record.name) == ("MX", domain)


def _switches(step: Step, domain: str) -> bool:
    gone = step.action.record if isinstance(step.action, Delete) else None
    return step.action == Enable(domain) or (gone is not None and (gone.type, gone.name) == ("MX", domain))


def _rules_for(step: Step, zone: str) -> str:
    """The domain whose rule a step puts or deletes, or nothing."""
    if not isinstance(step.action, (PutRule, DeleteRule)):
        return ""
    return step.action.rule.home(zone)
