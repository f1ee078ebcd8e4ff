"""Email Routing that is not switched on yet, though it should be: what waits with the switch. Pure."""

from __future__ import annotations

from collections.abc import Collection

from .steps import Delete, DeleteRule, Enable, Kind, PutRule, Step
from .wants import Wishes


def hold(wishes: Wishes, zone: str, undecided: Collection[str], *, on: bool) -> None:
    """Leaves the switch of these domains as it is: it may add a second SPF record, and the first cannot be merged.

    Unless Email Routing is ``on`` in the zone, their rules wait too: it may refuse them, and nothing would use them.
    """
    for domain in undecided:
        if not any(step.action == Enable(domain) for step in wishes.steps):
            continue
        held = [one for one in wishes.steps if _switches(one, domain) or (not on and _rules_for(one, zone) == domain)]
        wishes.steps = [step for step in wishes.steps if step not in held]
        reason = "not switched on before its SPF record is mended: Cloudflare may add a second one, and mail would fail"
        wishes.say(Kind.BLOCKED, zone, f"Email Routing {domain}", reason)


def _switches(step: Step, domain: str) -> bool:
    gone = step.action.record if isinstance(step.action, Delete) else None
    return step.action == Enable(domain) or (gone is not None and (gone.type, gone.name) == ("MX", domain))


def _rules_for(step: Step, zone: str) -> str:
    """The domain whose rule a step puts or deletes, or nothing."""
    if not isinstance(step.action, (PutRule, DeleteRule)):
        return ""
    to = step.action.rule.to
    return zone if to == "*" else to.rpartition("@")[2]
