"""A plan for people, in colour on a terminal, and for scripts as JSON. Nothing in a record can steer the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable

from rich.console import Console
from rich.text import Text

from common.names import printable, readable

from .steps import Create, Kind, Plan, Step

SIGNS = {Kind.ADD: "+", Kind.CHANGE: "~", Kind.REMOVE: "-", Kind.KEEP: "=", Kind.WAIT: "…", Kind.BLOCKED: "!"}
STYLES = {
    Kind.ADD: "green",
    Kind.CHANGE: "yellow",
    Kind.REMOVE: "red",
    Kind.KEEP: "dim",
    Kind.WAIT: "cyan",
    Kind.BLOCKED: "bold red",
}
COUNTED = (
    (Kind.ADD, "to add"),
    (Kind.CHANGE, "to change"),
    (Kind.REMOVE, "to remove"),
    (Kind.BLOCKED, "to be decided by you"),
    (Kind.KEEP, "as it should be"),
)
FORMAT = 1  # of the JSON


def plan(console: Console, plan: Plan) -> None:
    """Prints all steps by zone: removals first, so that what goes is named before anything else."""
    zones = list(dict.fromkeys(step.zone for step in plan.steps))
    for zone in zones:
        console.print(Text(readable(zone), style="bold"))
        steps = [step for step in plan.steps if step.zone == zone]
        for step in sorted(steps, key=lambda step: step.kind is not Kind.REMOVE):
            for line in _lines(step):
                console.print(line, soft_wrap=True)
        console.print()
    counts = [f"{sum(step.kind is kind for step in plan.steps)} {words}" for kind, words in COUNTED]
    console.print(Text(", ".join(counts) + "."), soft_wrap=True)


def rest(console: Console, plan: Plan) -> None:
    """After ``apply``: what is left, and whose turn it is."""
    for step in (one for one in plan.steps if one.kind in (Kind.WAIT, Kind.BLOCKED)):
        for line in _lines(step):
            console.print(line, soft_wrap=True)
    waiting = sum(step.kind is Kind.WAIT for step in plan.steps)
    if plan.blocked:
        said = "The rest is done."
    elif waiting:
        said = f"Done here; {waiting} of the lines above wait for others. make plan shows whether they came."
    else:
        said = "Nothing is left to do."
    console.print(said, soft_wrap=True)


def _lines(step: Step) -> Iterable[Text]:
    style = STYLES[step.kind]
    yield Text(f"  {SIGNS[step.kind]} {step.kind:7} {printable(step.what)}", style=style)
    if step.before and step.after:
        yield Text(f"      {printable(step.before)}", style="dim")
        yield Text(f"    → {printable(step.after)}", style=style)
    elif step.before or step.after:
        yield Text(f"      {printable(step.before or step.after)}", style="dim" if step.kind is Kind.KEEP else style)
    yield Text(f"      {printable(step.reason)}", style="italic dim")


def plan_json(plan: Plan) -> str:
    """The plan as JSON; ``docs/domain.md`` describes it."""
    steps = [
        {
            "kind": str(step.kind),
            "zone": step.zone,
            "what": step.what,
            "before": step.before,
            "after": step.after,
            "reason": step.reason,
        }
        for step in plan.steps
    ]
    return json.dumps({"format": FORMAT, "different": plan.different, "steps": steps}, indent=2)


def text(plan: Plan) -> str:
    """What to paste at a DNS host other than Cloudflare: zone file lines, what must go first, each with its reason."""
    lines: list[str] = []
    for zone in dict.fromkeys(step.zone for step in plan.steps):
        lines += ["", f"; {readable(zone)}"]
        for step in (one for one in plan.steps if one.zone == zone):
            lines += _text_lines(step)
    return "\n".join(lines[1:]) + "\n"


def _text_lines(step: Step) -> list[str]:
    kind, _, name = step.what.partition(" ")
    reason = f"; {printable(step.reason)}"
    if isinstance(step.action, Create):
        return [f"; {printable(step.what)}: add the domain in its dashboard, then print this again for its records"]
    match step.kind:
        case Kind.ADD:
            return [reason, zone_line(name, kind, step.after)]
        case Kind.CHANGE:
            return [
                f"{reason}; in the place of:",
                f"; {zone_line(name, kind, step.before)}",
                zone_line(name, kind, step.after),
            ]
        case Kind.REMOVE:
            return [f"; take out, {printable(step.reason)}:", f"; {zone_line(name, kind, step.before)}"]
        case Kind.KEEP:
            return (
                [f"; there already: {zone_line(name, kind, step.after)}"]
                if step.after
                else [f"; {printable(step.what)}: {printable(step.reason)}"]
            )
        case _:
            return [f"; {printable(step.what)}: {printable(step.reason)}"]


def zone_line(name: str, kind: str, content: str) -> str:
    """A record in the form of RFC 1035, section 5.1."""
    host = "." if kind in ("CNAME", "MX") else ""
    return f"{name}. 3600 IN {kind} {printable(content)}{host}"
