"""Email Routing as it should be against as it is: on or off, destinations, rules, catch-all, subaddressing. Pure.

Our rules are known by their name. Mail that is received somewhere else is never cut off: without an alias for the
domain it is left alone, and with one the switch waits until every destination has been verified.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from .aliases import REST, Act, Target
from .cloudflare import Destination, Routing, Rule
from .diff import Claim, Want
from .records import Record
from .spf import is_meant, is_spf, parse
from .steps import AddDestination, Delete, DeleteRule, Enable, Kind, PutRule, Step, Subaddress
from .wants import Wishes, senders

OURS = "Ownpost: "  # how our rules' names begin
RULES = 200  # that Email Routing allows a domain
PRIORITY = 0
_MX = ".mx.cloudflare.net"


@dataclass(frozen=True, slots=True)
class Scene:
    """What the rules of one domain are compared in."""

    zone: str
    domain: str
    routing: Routing
    destinations: Sequence[Destination]
    existing: Sequence[Record]

    def verified(self, target: Target | None) -> bool:
        """Whether mail may go there: only forwarding needs a click."""
        if target is None or target.act is not Act.FORWARD:
            return True
        return any(one.verified and one.email.lower() == target.value.lower() for one in self.destinations)

    @property
    def foreign_mx(self) -> list[Record]:
        ours = {one.value for one in self.routing.needed if one.type == "MX"}
        there = [one for one in self.existing if one.type == "MX" and one.name == self.domain]
        return [one for one in there if one.value not in ours and not one.value.endswith(_MX)]

    @property
    def needed(self) -> list[Record]:
        """The records that Email Routing wants, at this domain's names."""
        return [
            replace(
                one,
                name=self.domain + one.name.removeprefix(self.zone)
                if one.name == self.zone
                else _below(one.name, self),
            )
            for one in self.routing.needed
        ]

    @property
    def on(self) -> bool:
        """Whether mail to the domain goes through it. The API says it of the zone, of which one domain is enough.

        Where MX records lack, switching it on adds them; Cloudflare refuses them as ordinary DNS records.
        """
        there = {one.key for one in self.existing}
        wanted = [one for one in self.needed if one.type == "MX"]
        return self.routing.enabled and bool(wanted) and all(one.key in there for one in wanted)


def _below(name: str, scene: Scene) -> str:
    return f"{name.removesuffix('.' + scene.zone)}.{scene.domain}"


def route(wishes: Wishes, scene: Scene, aliases: Mapping[str, Target], postmaster: str) -> None:
    """Adds to ``wishes`` all that Email Routing of one domain takes."""
    what = f"Email Routing {scene.domain}"
    foreign = scene.foreign_mx
    if foreign and not aliases:
        where = ", ".join(sorted(one.content for one in foreign))
        reason = (
            f"left alone: {where} receives the domain's mail and config/aliases.toml has nothing for it;"
            f" see that somebody reads postmaster@{scene.domain} there, to which notices come back"
        )
        wishes.say(Kind.WAIT, scene.zone, what, reason)
        return
    targets = dict(aliases)
    if "postmaster" not in targets:
        _add_postmaster(wishes, scene, targets, postmaster)
    _destinations(wishes, scene, targets)
    if foreign and not all(map(scene.verified, targets.values())):
        reason = "mail goes on to where it goes now until every destination is verified; then run apply again"
        wishes.say(Kind.WAIT, scene.zone, what, reason)
        wishes.certain = False
        return
    _records(wishes, scene, foreign)
    _rules(wishes, scene, targets)


def _add_postmaster(wishes: Wishes, scene: Scene, targets: dict[str, Target], postmaster: str) -> None:
    forwards = [one for one in (targets.get(REST), *targets.values()) if one is not None and one.act is Act.FORWARD]
    if postmaster and postmaster.lower() != f"postmaster@{scene.domain}":
        targets["postmaster"] = Target(Act.FORWARD, postmaster)
    elif forwards:
        targets["postmaster"] = forwards[0]
    else:
        reason = (
            "notices come from it and nobody would read it: set DOMAIN_POSTMASTER, or a line in config/aliases.toml"
        )
        wishes.say(Kind.BLOCKED, scene.zone, f"rule postmaster@{scene.domain}", reason)


def _destinations(wishes: Wishes, scene: Scene, targets: Mapping[str, Target]) -> None:
    known = {one.email.lower() for one in scene.destinations}
    wanted = {one.value.lower(): one.value for one in targets.values() if one.act is Act.FORWARD}
    for key, email in wanted.items():
        if key not in known:
            reason = "Cloudflare sends it a mail; its owner must click the link in it before mail is forwarded"
            step = Step(
                kind=Kind.ADD, zone=scene.zone, what=f"destination {email}", reason=reason, action=AddDestination(email)
            )
            wishes.steps.append(step)
        elif not scene.verified(Target(Act.FORWARD, email)):
            wishes.say(
                Kind.WAIT,
                scene.zone,
                f"destination {email}",
                "its owner has not yet clicked the link in Cloudflare's mail",
            )


def _records(wishes: Wishes, scene: Scene, foreign: Sequence[Record]) -> None:
    """MX, SPF and DKIM; they are added by switching Email Routing on, and mended one by one once it is."""
    mx = [one for one in scene.needed if one.type == "MX"]
    spf = [one for one in scene.needed if one.type == "TXT" and is_spf(one.content)]
    texts = [one.content for one in scene.existing if one.type == "TXT" and one.name == scene.domain]
    texts = [text for text in texts if is_meant(text)]
    senders(wishes, scene.domain, texts, foreign)
    if scene.on or texts or wishes.spf.get(scene.domain):
        for record in spf:
            for mechanism in parse(record.content).mechanisms:
                wishes.need(record.name, mechanism, "Email Routing")
    if scene.on:
        if foreign:
            wishes.moving.add(scene.domain)
        for record in mx:
            wishes.wants.append(Want(record, "where mail to the domain goes: Email Routing", Claim.TYPE))
        for record in (one for one in scene.needed if one.type == "TXT" and one not in spf):
            wishes.wants.append(Want(record, "Email Routing's DKIM key for what it forwards", Claim.DKIM))
        return
    for record in foreign:
        reason = "in the way: mail to the domain is to go through Email Routing"
        what = f"MX {record.name}"
        step = Step(
            kind=Kind.REMOVE, zone=scene.zone, what=what, reason=reason, before=str(record), action=Delete(record)
        )
        wishes.steps.append(step)
    reason = "receives mail to the domain and forwards it; Cloudflare adds the records it needs"
    after = ", ".join(f"MX {one}" for one in mx)
    what = f"Email Routing {scene.domain}"
    step = Step(kind=Kind.ADD, zone=scene.zone, what=what, reason=reason, after=after, action=Enable(scene.domain))
    wishes.steps.append(step)


def _rules(wishes: Wishes, scene: Scene, targets: Mapping[str, Target]) -> None:
    if len(targets) > RULES:
        reason = f"{len(targets)} aliases; Email Routing takes {RULES} a domain"
        wishes.say(Kind.BLOCKED, scene.zone, f"rules of {scene.domain}", reason)
        return
    wanted = {f"{local}@{scene.domain}": target for local, target in targets.items() if local != REST}
    for to, target in wanted.items():
        _rule(wishes, scene, to, target)
    for rule in scene.routing.rules:
        if rule.to.rpartition("@")[2] == scene.domain and rule.to not in wanted and _ours(rule):
            wishes.steps.append(_delete(scene, rule, "config/aliases.toml does not name it any more"))
    _catch_all(wishes, scene, targets.get(REST))


def _rule(wishes: Wishes, scene: Scene, to: str, target: Target) -> None:
    there = [one for one in scene.routing.rules if one.to == to]
    own = [one for one in there if not one.foreign]
    reason = (
        "config/aliases.toml" if not to.startswith("postmaster@") else "notices come from it, so somebody must read it"
    )
    if any(one.foreign for one in there):
        wishes.say(
            Kind.BLOCKED,
            scene.zone,
            f"rule {to}",
            "a Worker's deployment made a rule for it; remove it there, or the alias here",
        )
        return
    kept = min(own, key=lambda one: (not _same(one.target, target), not one.enabled), default=None)
    wanted = Rule(to, target, True, f"{OURS}{to}", kept.id if kept else "", kept.priority if kept else PRIORITY)
    wishes.steps.append(_put(scene, kept, wanted, reason))
    for rule in own:
        if rule is not kept:
            wishes.steps.append(_delete(scene, rule, "of several rules for one address only the most recent works"))


def _put(scene: Scene, old: Rule | None, wanted: Rule, reason: str) -> Step:
    """Keeps, changes or adds a rule. One whose destination is not verified is off, and that is no difference."""
    verified = scene.verified(wanted.target)
    what = "catch-all" if wanted.to == "*" else f"rule {wanted.to}"
    same = old is not None and _same(old.target, wanted.target)
    if old is not None and same and (old.enabled or not verified):
        return Step(kind=Kind.KEEP, zone=scene.zone, what=what, reason=reason, after=shown(old))
    if same:
        reason += "; it is switched off"
    return Step(
        kind=Kind.ADD if old is None else Kind.CHANGE,
        zone=scene.zone,
        what=what,
        reason=reason,
        before=shown(old) if old else "",
        after=shown(wanted),
        action=PutRule(wanted, verified),
    )


def _same(one: Target | None, other: Target | None) -> bool:
    """Whether mail goes to the same place; the case of an address makes no difference."""
    return one == other or (one is not None and other is not None and str(one).lower() == str(other).lower())


def _catch_all(wishes: Wishes, scene: Scene, target: Target | None) -> None:
    """The zone's one rule for the rest: set where ``*`` is an alias, taken back where it was ours, else left alone."""
    old = scene.routing.catch_all
    if scene.domain != scene.zone:
        if target is not None:
            reason = (
                f"Email Routing has one catch-all, that of {scene.zone}; give each address of {scene.domain} a line"
            )
            wishes.say(Kind.BLOCKED, scene.zone, f"catch-all {scene.domain}", reason)
    elif target is not None and old.foreign:
        reason = 'a Worker\'s deployment looks after it; remove it there, or "*" from config/aliases.toml'
        wishes.say(Kind.BLOCKED, scene.zone, "catch-all", reason)
    elif target is not None:
        wanted = Rule("*", target, True, f"{OURS}*")
        wishes.steps.append(_put(scene, old if old.target is not None else None, wanted, 'config/aliases.toml, "*"'))
    elif _ours(old) and old.enabled:
        wanted = Rule("*", Target(Act.DROP), False, f"{OURS}*")
        reason = 'config/aliases.toml has no "*" any more'
        step = Step(
            kind=Kind.CHANGE,
            zone=scene.zone,
            what="catch-all",
            reason=reason,
            before=shown(old),
            after=shown(wanted),
            action=PutRule(wanted, True),
        )
        wishes.steps.append(step)


def subaddressing(wishes: Wishes, zone: str, routing: Routing, wanted: bool | None) -> None:
    """``user+anything`` to ``user``, for the whole zone."""
    if wanted is None or (not routing.enabled and not any(isinstance(step.action, Enable) for step in wishes.steps)):
        return
    states = {True: "on", False: "off"}
    kind = Kind.KEEP if routing.subaddressing == wanted else Kind.CHANGE
    step = Step(
        kind=kind,
        zone=zone,
        what="subaddressing",
        reason="DOMAIN_SUBADDRESSING: whether user+anything reaches user",
        before="" if kind is Kind.KEEP else states[routing.subaddressing],
        after=states[wanted],
        action=None if kind is Kind.KEEP else Subaddress(wanted),
    )
    wishes.steps.append(step)


def _ours(rule: Rule) -> bool:
    return rule.name.startswith(OURS) and not rule.foreign


def _delete(scene: Scene, rule: Rule, reason: str) -> Step:
    what = f"rule {rule.to}"
    return Step(
        kind=Kind.REMOVE, zone=scene.zone, what=what, reason=reason, before=shown(rule), action=DeleteRule(rule)
    )


def shown(rule: Rule) -> str:
    """A rule's target for people."""
    target = str(rule.target) if rule.target is not None else "something else"
    return target if rule.enabled else f"{target} (off)"
