"""Carries a plan out and looks again, until nothing differs.

Each round looks at everything anew, so it does not matter where an earlier run was interrupted or what came between.
After an answer everything is looked at once more: people take their time, and others work meanwhile. DNS of a zone
changes in one batch, all or nothing. A step that somebody was faster with is no failure: the next round sees it done.
What a later round wants to change or remove and the owner has not yet seen is shown and asked for again.

What a service refuses holds up nothing else: it is left out of the rounds that follow and told at the end, in the
service's own words. So every run ends, however often the same thing is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from . import backup, batch, switch
from .api import ApiError, NotAllowed, Unreachable
from .batch import moves_mail, name_of
from .cloudflare import Zone
from .observe import Reach, Sight
from .steps import (
    Action,
    AddDestination,
    Create,
    Delete,
    DeleteRule,
    Dns,
    Enable,
    Kind,
    Plan,
    PutRule,
    Step,
    Subaddress,
    Unlock,
)

ROUNDS = 8  # create, publish, switch on, unlock, merge, and some of them again where somebody was faster
FASTER: Mapping[type, tuple[int, ...]] = {AddDestination: (409,), DeleteRule: (404,), PutRule: (404, 409)}
_DNS = "DNS"
_UNVERIFIED = "Email Routing refuses it until its destination is verified; then run apply again"
_HELD = "mail goes on to where it goes now until the domain's rules can be made"


class Declined(Exception):
    """The person said no. ``changed``: to what came up after a first part had been carried out."""

    def __init__(self, *, changed: bool) -> None:
        super().__init__("The rest was not changed." if changed else "Nothing was changed.")


class Unsettled(Exception):
    """What was carried out differs again at every look; the text names it."""

    def __init__(self, work: Sequence[Step]) -> None:
        whats = ", ".join(dict.fromkeys(step.what for step in work))
        super().__init__(
            f"After {ROUNDS} rounds this differs again: {whats}. Another program may look after it too, or the service"
            " did not do what it confirmed. All the rest is done."
        )


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a step is left out from now on, and whether that is the owner's to mend (BLOCKED) or to wait for (WAIT)."""

    kind: Kind
    reason: str


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
    _refused: dict[tuple[str, str, str], Refusal] = field(default_factory=dict)
    _met: set[Step] = field(default_factory=set)  # what somebody was faster with, as far as a refusal tells

    def run(self) -> Plan:
        """The plan as it is at the end: nothing in it to do but what the owner must decide.

        Raises Declined, Unsettled, ApiError, CannotBackUp, Busy.
        """
        with backup.locked(self.folder):
            rounds = questions = 0
            while True:
                sight, plan = self.look()
                work = [step for step in plan.work if _key(step) not in self._refused]
                if not work:
                    return self._resting(self._validated(plan))
                if ROUNDS in (rounds, questions):
                    raise Unsettled(work)
                if self._asked(plan, work):
                    questions += 1
                else:
                    rounds += 1
                    self._carry_out(sight, plan, work)

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

    def _carry_out(self, sight: Sight, plan: Plan, work: Sequence[Step]) -> None:
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
            kept = [step for step in plan.steps if step.zone == zone.name and step.kind is Kind.KEEP]
            if steps:
                self._save(zone)
                self._zone(zone, steps, rules=any(step.what.startswith("rule ") for step in kept))

    def _save(self, zone: Zone) -> None:
        if zone.name not in self._saved:
            path = backup.save(self.folder, zone.name, self.reach.cloudflare.export(zone), self.clock())
            self._saved.add(zone.name)
            self.say(f"{zone.name} as it was: {backup.shown(path)}")

    def _zone(self, zone: Zone, steps: Sequence[Step], *, rules: bool) -> None:
        """Locks first, then DNS, then the rest in the plan's order; after a batch that met others' work nothing more.

        Before Email Routing takes a domain's mail over, its rules are made: else it would refuse mail for a moment.
        ``rules``: some that are wanted have been made already.
        """
        unlock = [step for step in steps if isinstance(step.action, Unlock)]
        enable = [step for step in steps if isinstance(step.action, Enable)]
        moved = {name_of(step.action) for step in steps if moves_mail(step)}
        early = [step for step in steps if (enable or moved) and isinstance(step.action, (AddDestination, PutRule))]
        for step in unlock:
            self._one(zone, step)
        self._early(zone, early, moved if enable else None, rules=rules)
        self._hold(zone, moved)
        dns = [step for step in steps if isinstance(step.action, Dns) and _key(step) not in self._refused]
        outcome = batch.carry_out(self.reach.cloudflare, zone, dns, self.say, self._met)
        for name, reason in outcome.refused.items():
            self._refused[zone.name, _DNS, name] = Refusal(Kind.BLOCKED, reason)
        if outcome.again:
            return
        self._enable(zone, enable, dns)
        for step in steps:
            if step not in (*unlock, *early, *enable) and not isinstance(step.action, Dns):
                self._one(zone, step)

    def _early(self, zone: Zone, steps: Sequence[Step], moved: set[str] | None, *, rules: bool) -> None:
        """Destinations and rules before mail comes. ``moved``: the domains that wait for it, None if it is on.

        While it is off it may make no rules, and they follow in the next round. But where it has made some, those that
        it refuses are wrong in themselves, and mail is not moved to them.
        """
        errors = {step: error for step in steps if (error := self._try(zone, step)) is not None}
        made = [step for step in steps if isinstance(step.action, PutRule) and step.action.rule.new]
        rules = rules or any(step not in errors and step not in self._met for step in made)
        for step, error in errors.items():
            rule = step.action.rule if isinstance(step.action, PutRule) else None
            if rule is None or moved is None or (rules and rule.home(zone.name) in moved):
                self._refuse(step, error)

    def _hold(self, zone: Zone, moved: set[str]) -> None:
        """Leaves a domain's records as they are while a rule of its is refused: with them, mail would be refused."""
        refused = {what for home, action, what in self._refused if (home, action) == (zone.name, PutRule.__name__)}
        domains = {zone.name if what == "catch-all" else what.rpartition("@")[2] for what in refused}
        for name in moved & domains:
            self._refused[zone.name, _DNS, name] = Refusal(Kind.BLOCKED, _HELD)

    def _enable(self, zone: Zone, enable: Sequence[Step], dns: Sequence[Step]) -> None:
        """Switches Email Routing on for the domains whose own records are as they should be."""
        homes = {step.action.domain: step for step in enable if isinstance(step.action, Enable)}
        for domain, step in homes.items():
            if (held := self._refused.get((zone.name, _DNS, domain))) is not None:
                self._refused[_key(step)] = held
            else:
                self.say(f"{zone.name}: {step.kind} {step.what}")
        ready = [domain for domain, step in homes.items() if _key(step) not in self._refused]
        removed = [one.action.record for one in dns if isinstance(one.action, Delete)]
        old = [record for record in removed if record.type == "MX"]
        for domain, reason in switch.on(self.reach.cloudflare, zone, ready, old, self.say).items():
            self.say(f"{zone.name}: {homes[domain].what}: {reason}")
            self._refused[_key(homes[domain])] = Refusal(Kind.BLOCKED, reason)
            self._refused[zone.name, _DNS, domain] = Refusal(Kind.BLOCKED, reason)

    def _one(self, zone: Zone, step: Step) -> None:
        if (error := self._try(zone, step)) is not None:
            self._refuse(step, error)

    def _try(self, zone: Zone, step: Step) -> ApiError | None:
        """Carries one step out. Gives back what refused it, unless somebody may have been faster."""
        self.say(f"{zone.name}: {step.kind} {step.what}")
        assert step.action is not None
        try:
            self._act(zone, step.action)
        except (NotAllowed, Unreachable):
            raise
        except ApiError as error:
            if error.status not in FASTER.get(type(step.action), ()) or step in self._met:
                return error
            self._met.add(step)  # if the next look wants the very same, it was something else
        return None

    def _refuse(self, step: Step, error: ApiError) -> None:
        if isinstance(step.action, PutRule) and not step.action.verified:
            self.say(f"{step.zone}: {step.what} waits until its destination is verified ({error})")
            self._refused[_key(step)] = Refusal(Kind.WAIT, _UNVERIFIED)
        else:
            self.say(f"{step.zone}: {step.what}: {error}")
            self._refused[_key(step)] = Refusal(Kind.BLOCKED, str(error))

    def _act(self, zone: Zone, action: Action) -> None:
        cloudflare = self.reach.cloudflare
        match action:
            case AddDestination(email):
                cloudflare.add_destination(zone.account, email)
                self.say(f"{email} gets a mail from Cloudflare: its owner must click the link in it")
            case Unlock(domain):
                cloudflare.unlock_routing(zone, domain)
            case PutRule(rule, _):
                cloudflare.put_rule(zone, rule)
            case DeleteRule(rule):
                cloudflare.delete_rule(zone, rule)
            case Subaddress(wanted):
                cloudflare.set_subaddressing(zone, wanted)

    def _resting(self, plan: Plan) -> Plan:
        """The plan with what was refused as somebody else's turn, or the owner's."""
        return Plan(tuple(map(self._rested, plan.steps)))

    def _rested(self, step: Step) -> Step:
        refusal = self._refused.get(_key(step))
        return step if refusal is None else replace(step, kind=refusal.kind, reason=refusal.reason, action=None)

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


def _key(step: Step) -> tuple[str, str, str]:
    """What a refusal holds for: DNS changes are refused name by name, others one by one."""
    if isinstance(step.action, Dns):
        return step.zone, _DNS, name_of(step.action)
    return step.zone, type(step.action).__name__, step.what
