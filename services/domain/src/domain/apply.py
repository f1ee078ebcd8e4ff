"""Carries a plan out and looks again, until nothing differs.

Each round looks at everything anew, so it does not matter where an earlier run was interrupted or what came between.
After an answer everything is looked at once more: people take their time, and others work meanwhile. DNS of a zone
changes in one batch, all or nothing. A step that somebody was faster with is no failure: the next round sees it done.
What a later round wants to change or remove and the owner has not yet seen is shown and asked for again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from . import backup
from .api import ApiError, NotAllowed, Unreachable
from .cloudflare import BATCH, EXISTS, GONE, Zone
from .observe import Reach, Sight
from .records import Record
from .steps import (
    Action,
    AddDestination,
    Create,
    Delete,
    DeleteRule,
    Enable,
    Kind,
    Patch,
    Plan,
    Post,
    PutRule,
    Step,
    Subaddress,
    Unlock,
)

ROUNDS = 6  # create, publish, switch on, unlock, merge: more than that is somebody working against us
DONE = EXISTS | GONE  # a batch that was refused with these met what somebody had already done: look again
FASTER: Mapping[type, tuple[int, ...]] = {AddDestination: (409,), DeleteRule: (404,), PutRule: (404, 409)}


class Declined(Exception):
    """The person said no. ``changed``: to what came up after a first part had been carried out."""

    def __init__(self, *, changed: bool) -> None:
        super().__init__("The rest was not changed." if changed else "Nothing was changed.")


class Unsettled(Exception):
    """Something keeps changing what was just set: another program seems to look after the same records."""


@dataclass(slots=True)
class Applier:
    """One run. ``look`` sees and plans, ``show`` prints a plan, ``agree`` asks (None: nobody), ``say`` tells."""

    reach: Reach
    folder: Path
    look: Callable[[], tuple[Sight, Plan]]
    show: Callable[[Plan], None]
    agree: Callable[[], bool] | None
    say: Callable[[str], None]
    clock: Callable[[], float]
    _agreed: set[tuple[str, str, str]] | None = None  # what was shown of changes and removals when the person agreed
    _changed: bool = False
    _saved: set[str] = field(default_factory=set)
    _created: set[str] = field(default_factory=set)
    _waiting: set[tuple[str, str]] = field(default_factory=set)

    def run(self) -> Plan:
        """The plan as it is at the end: nothing in it to do but what the owner must decide.

        Raises Declined, Unsettled, ApiError, CannotBackUp, Busy.
        """
        with backup.locked(self.folder):
            rounds = 0
            while rounds < ROUNDS:
                sight, plan = self.look()
                work = [step for step in plan.work if not self._waits(step)]
                if not work:
                    return self._resting(self._validated(plan))
                if not self._asked(plan, work):
                    rounds += 1
                    self._carry_out(sight, work)
            raise Unsettled

    def _asked(self, plan: Plan, work: Sequence[Step]) -> bool:
        """Shows the plan and asks, the first time and whenever a later round would touch what was not shown.

        True if a person was asked: by now things may be different.
        """
        touched = {(step.zone, step.what, step.before) for step in work if step.kind is not Kind.ADD}
        if self._agreed is not None and touched <= self._agreed:
            return False
        self.show(plan)
        if self.agree is not None and not self.agree():
            raise Declined(changed=self._changed)
        self._agreed = touched | (self._agreed or set())
        return self.agree is not None

    def _carry_out(self, sight: Sight, work: Sequence[Step]) -> None:
        """Providers that must first name their records go alone, so that DNS then changes once, with all of them."""
        self._changed = True
        creates = [step for step in work if isinstance(step.action, Create)]
        for step in creates:
            assert isinstance(step.action, Create)
            if step.what in self._created:
                raise Unreachable(f"{step.what} was created and is not listed yet; run apply again in a minute.")
            self.say(f"{step.zone}: {step.kind} {step.what}")
            self._created.add(step.what)
            self.reach.services[step.action.provider].create(step.action.domain)
        for zone in sight.zones.values() if not creates else ():
            steps = [step for step in work if step.zone == zone.name]
            if steps:
                self._save(zone)
                self._zone(zone, steps)

    def _save(self, zone: Zone) -> None:
        if zone.name not in self._saved:
            path = backup.save(self.folder, zone.name, self.reach.cloudflare.export(zone), self.clock())
            self._saved.add(zone.name)
            self.say(f"{zone.name} as it was: {backup.shown(path)}")

    def _zone(self, zone: Zone, steps: Sequence[Step]) -> None:
        """Locks first, then DNS, then the rest in the plan's order; after a refused batch nothing in this round.

        Before Email Routing takes a domain's mail over, its rules are made: else it would refuse mail for a moment.
        They may be refused only where Email Routing must be switched on first.
        """
        unlock = [step for step in steps if isinstance(step.action, Unlock)]
        dns = [step for step in steps if isinstance(step.action, (Post, Patch, Delete))]
        enable = [step for step in steps if isinstance(step.action, Enable)]
        over = bool(enable) or any(_moves_mail(one) for one in dns)
        early = [step for step in steps if over and isinstance(step.action, (AddDestination, PutRule))]
        for step in unlock:
            self._one(zone, step)
        for step in early:
            self._one(zone, step, early=bool(enable))
        for deletes, patches, posts in batches(dns):
            self.say(f"{zone.name}: {len(deletes) + len(patches) + len(posts)} DNS changes")
            try:
                self.reach.cloudflare.batch(zone, deletes, patches, posts)
            except ApiError as error:
                if not DONE.intersection(error.codes):
                    raise
                return
        for step in enable:
            self._enable(zone, step, dns)
        for step in steps:
            if step not in (*unlock, *early, *dns, *enable):
                self._one(zone, step)

    def _enable(self, zone: Zone, step: Step, dns: Sequence[Step]) -> None:
        """Switches over, or puts the old MX records back: a domain without any would lose mail."""
        old = [one.action.record for one in dns if isinstance(one.action, Delete) and one.action.record.type == "MX"]
        try:
            self._one(zone, step)
        except (ApiError, KeyboardInterrupt):
            if old:
                self.say(f"{zone.name}: that failed, so the MX records that were there come back")
                self._restore(zone, old)
            raise

    def _restore(self, zone: Zone, old: Sequence[Record]) -> None:
        try:
            self.reach.cloudflare.batch(zone, [], [], [record.body() for record in old])
        except ApiError as error:
            self.say(f"{zone.name} has no MX records now: run apply again, or take them from the backup ({error})")

    def _one(self, zone: Zone, step: Step, *, early: bool = False) -> None:
        """Carries one step out. A rule may be refused for now; an ``early`` one is tried again in the next round."""
        self.say(f"{zone.name}: {step.kind} {step.what}")
        assert step.action is not None
        try:
            self._act(zone, step.action)
        except (NotAllowed, Unreachable):
            raise
        except ApiError as error:
            if error.status in FASTER.get(type(step.action), ()):
                return
            if early:
                return
            if not (isinstance(step.action, PutRule) and not step.action.verified):
                raise
            self._waiting.add((step.zone, step.what))
            self.say(f"{zone.name}: {step.what} waits until its destination is verified ({error})")

    def _act(self, zone: Zone, action: Action) -> None:
        cloudflare = self.reach.cloudflare
        match action:
            case AddDestination(email):
                cloudflare.add_destination(zone.account, email)
                self.say(f"{email} gets a mail from Cloudflare: its owner must click the link in it")
            case Unlock(domain):
                cloudflare.unlock_routing(zone, domain)
            case Enable(domain):
                cloudflare.enable_routing(zone, domain)
            case PutRule(rule, _):
                cloudflare.put_rule(zone, rule)
            case DeleteRule(rule):
                cloudflare.delete_rule(zone, rule)
            case Subaddress(wanted):
                cloudflare.set_subaddressing(zone, wanted)

    def _waits(self, step: Step) -> bool:
        """Whether Email Routing has refused this rule in this run; others for the same address can still go."""
        return isinstance(step.action, PutRule) and (step.zone, step.what) in self._waiting

    def _resting(self, plan: Plan) -> Plan:
        """The plan with what Email Routing refuses for the time being as somebody else's turn."""
        reason = "Email Routing refuses it until its destination is verified; then run apply again"
        return Plan(
            tuple(
                replace(step, kind=Kind.WAIT, reason=reason, action=None) if self._waits(step) else step
                for step in plan.steps
            )
        )

    def _validated(self, plan: Plan) -> Plan:
        """Asks the providers to look; what they do not see yet is for them to wait for. A new plan if one did."""
        changed = False
        for action in plan.validations:
            service = self.reach.services[action.provider]
            found = service.find(action.domain)
            reason = service.validate(found) if found is not None else "it has forgotten the domain."
            changed = changed or not reason
            state = "is content" if not reason else f"does not validate it yet: {reason}"
            self.say(f"{action.domain}: {action.provider} {state}")
        return self.look()[1] if changed else plan


def _moves_mail(step: Step) -> bool:
    old = step.action.old if isinstance(step.action, Patch) else None
    old = step.action.record if isinstance(step.action, Delete) else old
    return old is not None and old.type == "MX"


def batches(steps: Sequence[Step]) -> Iterator[tuple[list[str], list[dict[str, Any]], list[dict[str, Any]]]]:
    """Deletes, patches and posts, all in one call unless there are more than a free zone takes in one."""
    order = (Delete, Patch, Post)
    ordered = [step.action for kind in order for step in steps if isinstance(step.action, kind)]
    for start in range(0, len(ordered), BATCH):
        actions = ordered[start : start + BATCH]
        yield (
            [action.record.id for action in actions if isinstance(action, Delete)],
            [patch(action) for action in actions if isinstance(action, Patch)],
            [action.record.body() for action in actions if isinstance(action, Post)],
        )


def patch(action: Patch) -> dict[str, Any]:
    """Only what differs, so that everything else of a record stays its owner's."""
    old, new = action.old, action.new
    body: dict[str, Any] = {"id": old.id}
    if new.value != old.value:
        body["content"] = new.wire
    if new.priority is not None and new.priority != old.priority:
        body["priority"] = new.priority
    if old.proxied and not new.proxied:
        body["proxied"] = False
    return body
