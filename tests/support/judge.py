"""Whether a spool, as a crash left it, keeps what was promised: held against what clients and provider had seen."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from relay.model import OPEN_STATES, State
from relay.spool import recovery
from support import invariants
from support.appliance import Appliance, eventually
from support.invariants import Kept
from support.traffic import Acknowledged, Copies, ExactSink, Torn, Traffic, whole
from support.unix_http import get


@dataclass
class Verdict:
    """What was found in a spool; ``doubtful`` are numbers that may come twice from here on.

    ``lost`` and ``torn`` hold a sentence for each: the figures count them, and the caller asserts that there are none.
    """

    kept: dict[str, Kept]
    lost: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)
    unfinished: set[int] = field(default_factory=set)
    doubtful: set[int] = field(default_factory=set)


def judge(folder: Path, traffic: Traffic, sink: ExactSink, moment: int | None = None) -> Verdict:
    """Open the spool in ``folder`` as the relay's next start would, and see whether it keeps every promise.

    ``moment`` is the disk's count at the crash: what was promised later is not asked for. None: all that was.

    - What had got its 250 is there (else ``lost``): whole (else ``torn``), once, for exactly its recipients.
    - What had not is there whole, or not at all.
    - What the provider had seen the dot of is not as if it had never been sent; what it has not seen has not ended.
    """
    recovery.open_store(folder, time.time()).close()
    verdict = Verdict(invariants.check(folder))
    acknowledged, taken = dict(traffic.acknowledged), dict(sink.taken)
    numbers = _numbers(acknowledged, taken)
    for number, one in acknowledged.items():
        if one.id not in verdict.kept and not _later(one.steps, moment):
            verdict.lost.append(f"number {number} ({one.id}) got a 250 and is lost")
    seen: dict[int, str] = {}
    for name, kept in verdict.kept.items():
        try:
            number = whole(kept.body) if kept.body is not None else numbers.get(name, -1)
        except Torn as torn:
            verdict.torn.append(f"{name}: {torn}")
            continue
        assert number >= 0, f"{name} has ended, but no provider has seen it"
        assert seen.setdefault(number, name) == name, f"number {number} is there twice: {seen[number]} and {name}"
        sent = traffic.sent[number]
        assert set(kept.deliveries) == set(sent.recipients), f"number {number} has other recipients than it was sent to"
        if number in acknowledged:
            assert acknowledged[number].id == name, f"number {number} is {name}, and its 250 said otherwise"
        _judge_delivery(number, kept, taken.get(number), moment, verdict)
    return verdict


def _judge_delivery(number: int, kept: Kept, taken: Copies | None, moment: int | None, verdict: Verdict) -> None:
    states = set(kept.deliveries.values())
    assert len(states) == 1, f"number {number}: one transaction, and {states}"
    dots = [step for step in taken.steps if not _later(step, moment)] if taken is not None else []
    if states <= OPEN_STATES:
        verdict.unfinished.add(number)
        assert State.CLAIMED not in states, f"number {number}: recovery left it claimed"
        if max(kept.doubts.values()):
            verdict.doubtful.add(number)
        else:
            assert not dots, f"number {number}: the provider has its dot, and the spool does not know"
    else:
        assert states == {State.DELIVERED}, f"number {number} ended as {states}"
        assert dots, f"number {number} was never sent and is marked as delivered"


def _numbers(acknowledged: Mapping[int, Acknowledged], taken: Mapping[int, Copies]) -> dict[str, int]:
    names = {one.id: number for number, one in taken.items()}
    return names | {one.id: number for number, one in acknowledged.items()}


def _later(steps: int, moment: int | None) -> bool:
    return moment is not None and steps > moment


def doubts(kept: Mapping[str, Kept], sink: ExactSink) -> Counter[int]:
    """How often each number was in doubt, as the events of a spool tell: so many more copies there may be."""
    counted: Counter[int] = Counter()
    for number, one in sink.taken.items():
        if one.id in kept:
            counted[number] = kept[one.id].events.count("doubtful") // len(kept[one.id].deliveries)
    return counted


def drain(relay: Appliance, seconds: float = 120.0) -> None:
    """Let the running relay deliver all: what is in doubt, too, and what died with it three times and is held."""

    def queued() -> list[dict[str, object]]:
        rows: list[dict[str, object]] = relay.status("/queue?limit=10000")["deliveries"]
        return rows

    def nothing_left() -> bool:
        """Ask again for what is in doubt; the list has an end, and what is behind that comes up as it gets shorter."""
        rows = queued()
        for name in {str(row["message"]) for row in rows if asks(row) and row["state"] in ("due", "held")}:
            assert get(relay.socket, f"/queue/retry?id={name}", "POST")[0] in (200, 404)  # 404: it has just gone
        return not rows

    def asks(row: Mapping[str, object]) -> bool:
        return bool(row["doubts"]) or row["state"] == "held"

    eventually(lambda: all(map(asks, queued())), "the queue to hold only what is in doubt", seconds)
    eventually(nothing_left, "what was in doubt to be sent again", seconds)
