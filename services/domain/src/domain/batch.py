"""DNS changes of a zone in as few batches as Cloudflare allows, each all or nothing.

A batch that is refused for one record would keep every other from being published, at every run anew. So it is then
tried name by name, each of which is still all or nothing; what is refused comes back in Cloudflare's words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from .api import ApiError, NotAllowed, Unreachable
from .cloudflare import BATCH, EXISTS, GONE, Cloudflare, Zone
from .steps import Action, Delete, Dns, Patch, Post, Step

DONE = EXISTS | GONE  # what somebody else seems to have done already: look again


@dataclass(slots=True)
class Outcome:
    """``refused``: why, by the record's name. ``again``: somebody was faster, so look before anything else is done."""

    refused: dict[str, str] = field(default_factory=dict)
    again: bool = False


def carry_out(
    cloudflare: Cloudflare, zone: Zone, steps: Sequence[Step], say: Callable[[str], None], met: set[Step]
) -> Outcome:
    """``met`` is what somebody was faster with; met a second time it is refused. Raises NotAllowed, Unreachable."""
    outcome = Outcome()
    for chunk in chunks(steps):
        say(f"{zone.name}: {len(chunk)} DNS changes")
        error = _send(cloudflare, zone, chunk)
        if error is None:
            continue
        if DONE.intersection(error.codes) and not met.issuperset(chunk):
            met.update(chunk)
            outcome.again = True
            return outcome
        groups = by_name(chunk)
        for group in groups:
            refusal = _send(cloudflare, zone, group) if len(groups) > 1 else error
            if refusal is not None:
                name = name_of(group[0].action)
                outcome.refused[name] = str(refusal)
                say(f"{zone.name}: {name}: {refusal}")
    return outcome


def _send(cloudflare: Cloudflare, zone: Zone, steps: Sequence[Step]) -> ApiError | None:
    actions = [step.action for step in steps]
    try:
        cloudflare.batch(
            zone,
            [one.record.id for one in actions if isinstance(one, Delete)],
            [patch(one) for one in actions if isinstance(one, Patch)],
            [one.record.body() for one in actions if isinstance(one, Post)],
        )
    except (NotAllowed, Unreachable):
        raise
    except ApiError as error:
        return error
    return None


def chunks(steps: Sequence[Step]) -> Iterator[list[Step]]:
    """All in one, unless there are more than a free zone takes in one call. Where mail goes changes last.

    What belongs to one name stays together: a domain's MX records do not change without its SPF record.
    """
    chunk: list[Step] = []
    for group in sorted(by_name(steps), key=lambda group: any(map(moves_mail, group))):
        if chunk and len(chunk) + len(group) > BATCH:
            yield chunk
            chunk = []
        chunk = chunk + group
    if chunk:
        yield chunk


def by_name(steps: Sequence[Step]) -> list[list[Step]]:
    groups: dict[str, list[Step]] = {}
    for step in steps:
        groups.setdefault(name_of(step.action), []).append(step)
    return list(groups.values())


def name_of(action: Action | None) -> str:
    """The name of the record that a DNS action changes."""
    assert isinstance(action, Dns)
    return action.new.name if isinstance(action, Patch) else action.record.name


def moves_mail(step: Step) -> bool:
    """Whether an MX record goes or changes."""
    old = step.action.old if isinstance(step.action, Patch) else None
    old = step.action.record if isinstance(step.action, Delete) else old
    return old is not None and old.type == "MX"


def patch(action: Patch) -> dict[str, Any]:
    """What differs, so that everything else of a record stays its owner's; with the fields that the schema requires."""
    old, new = action.old, action.new
    body: dict[str, Any] = {"id": old.id, "name": old.name, "type": old.type, "ttl": old.ttl}
    if new.value != old.value:
        body["content"] = new.wire
    if new.priority is not None and new.priority != old.priority:
        body["priority"] = new.priority
    if old.proxied and not new.proxied:
        body["proxied"] = False
    return body
