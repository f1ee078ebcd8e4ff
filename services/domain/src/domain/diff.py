"""Wanted records against those that are there: what to add, change, remove and keep. Pure.

A record that is not ours is touched only when it is *in the way* of a wanted one, and what that means is the want's
claim. Ours are known by their comment; those that nothing wants any more are removed. Identical records are kept,
whoever made them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from . import dmarc, spf
from .records import Record
from .steps import Delete, Kind, Patch, Post, Step


class Claim(Enum):
    """What else may not stand beside a wanted record at its name."""

    NOTHING = "other records may stay"
    TYPE = "no other record of its type"
    SPF = "no other SPF record"
    DMARC = "no other DMARC record"
    DKIM = "no other DKIM key"


@dataclass(frozen=True, slots=True)
class Want:
    """A record that should be there, and why. ``yields``: to what another service or the owner may still use."""

    record: Record
    reason: str
    claim: Claim = Claim.NOTHING
    yields: bool = False


@dataclass(frozen=True, slots=True)
class Scene:
    """Where the comparison takes place. ``protected``: names whose CNAME is somebody's website and never removed."""

    zone: str
    mark: str
    protected: frozenset[str] = frozenset()


def compare(scene: Scene, existing: Sequence[Record], wants: Iterable[Want], *, remove_orphans: bool) -> list[Step]:
    """All steps for the records of one zone; unconcerned records do not appear."""
    steps: list[Step] = []
    settled, used = [], set()
    for want in _single(scene, wants, steps):
        match = next((one for one in existing if one.id not in used and same(want, one)), None)
        settled.append((want, match))
        if match is not None:
            used.add(match.id)
    gone: set[str] = set()
    for want, match in settled:
        rivals = [
            one for one in existing if one.id not in used | gone and in_the_way(scene, want.record, want.claim, one)
        ]
        if fence := _fence(scene, want, rivals):
            steps.append(fence)
            continue
        gone |= {one.id for one in rivals}
        steps += _settle(scene, want, match, rivals)
    if remove_orphans:
        steps += [
            _remove(scene, one, "we published it and nothing needs it any more")
            for one in _orphans(scene, existing, used | gone)
        ]
    return steps


def same(want: Want, record: Record) -> bool:
    """Whether ``record`` says what is wanted; the tags of a DKIM key may be spaced differently."""
    if want.claim is Claim.DKIM and (want.record.type, want.record.name) == (record.type, record.name):
        return _key(want.record.content) == _key(record.content)
    return want.record.key == record.key


def in_the_way(scene: Scene, wanted: Record, claim: Claim, other: Record) -> bool:
    """Whether ``other`` cannot stay beside ``wanted``. A CNAME at the zone's own name may: Cloudflare flattens it."""
    if other.name != wanted.name or (other.type == "NS" and other.name == scene.zone):
        return False
    if wanted.type == "CNAME" or other.type == "NS":
        return True
    if other.type == "CNAME":
        return other.name != scene.zone or wanted.type in ("A", "AAAA")
    if other.type != wanted.type:
        return False
    return claim is Claim.TYPE or _claimed(claim, other.content)


def _claimed(claim: Claim, content: str) -> bool:
    match claim:
        case Claim.SPF:
            return spf.is_spf(content)
        case Claim.DMARC:
            return dmarc.is_dmarc(content)
        case Claim.DKIM:
            return "p" in dmarc.tags(content)
        case _:
            return False


def _key(content: str) -> tuple[tuple[str, str], ...]:
    tags = {name: "".join(value.split()) for name, value in dmarc.tags(content).items()}
    return tuple(sorted((tags | {"v": tags.get("v", "DKIM1"), "k": tags.get("k", "rsa")}).items()))


def _single(scene: Scene, wants: Iterable[Want], steps: list[Step]) -> list[Want]:
    """The wants without repetitions; two different ones that exclude each other are a step for the owner."""
    found: dict[tuple[str, str, str], Want] = {}
    for want in wants:
        rival = next((one for one in found.values() if _exclude(one, want)), None)
        if rival is None:
            found.setdefault(want.record.key, want)
        else:
            reason = f"{rival.reason}, and {want.reason}: two different records, of which one can be; {_way_out(rival)}"
            steps.append(
                _step(Kind.BLOCKED, scene, want.record, reason, before=str(rival.record), after=str(want.record))
            )
    return list(found.values())


def _way_out(rival: Want) -> str:
    if rival.record.type in ("A", "AAAA"):
        return "choose another sub-domain there, such as send, or leave it out if it serves links and pictures only"
    return "give one up"


def _exclude(one: Want, other: Want) -> bool:
    if one.record.name != other.record.name or one.record.key == other.record.key:
        return False
    cname = "CNAME" in (one.record.type, other.record.type)
    return cname or one.claim is other.claim is Claim.DKIM


def _fence(scene: Scene, want: Want, rivals: Sequence[Record]) -> Step | None:
    """A step that says why the want cannot be had without the owner: what is in the way is more than a mail record."""
    name, after = want.record.name, str(want.record)
    if any(one.type == "NS" for one in rivals):
        return _step(
            Kind.BLOCKED, scene, want.record, f"{name} is delegated to other name servers; add it there", after=after
        )
    if name in scene.protected and any(one.type == "CNAME" for one in rivals):
        reason = f"{name} is a CNAME, beside which nothing else can stand; replace it by A and AAAA records first"
        return _step(Kind.BLOCKED, scene, want.record, reason, after=after)
    others = [one for one in rivals if not _replaceable(scene, want.record, one)] if want.yields else []
    if others:
        reason = "something else is published at this name and may be in use; remove it yourself if nothing needs it"
        before = ", ".join(f"{one.type} {one}" for one in others)
        return _step(Kind.BLOCKED, scene, want.record, reason, before=before, after=after)
    return None


def _replaceable(scene: Scene, wanted: Record, other: Record) -> bool:
    """Whether a provider's record may take the place of ``other``: ours, or one that led to the same provider."""
    ends = [one.value.rsplit(".", 2)[-2:] for one in (wanted, other)]
    return other.comment == scene.mark or (other.is_host and wanted.type == other.type and ends[0] == ends[1])


def _settle(scene: Scene, want: Want, match: Record | None, rivals: list[Record]) -> list[Step]:
    """The steps for one want: kept, changed from a rival of its type, or added; the other rivals go."""
    new = want.record
    steps = []
    if match is not None and match.proxied and not new.proxied:
        unproxied = replace(match, proxied=False)
        reason = f"{want.reason}; Cloudflare's proxy carries no mail"
        steps.append(_step(Kind.CHANGE, scene, match, reason, str(match), str(unproxied), Patch(match, unproxied)))
    elif match is not None:
        steps.append(_step(Kind.KEEP, scene, match, want.reason, after=str(match)))
    elif old := next((one for one in rivals if one.type == new.type), None):
        rivals.remove(old)
        steps.append(_step(Kind.CHANGE, scene, new, want.reason, str(old), str(new), Patch(old, new)))
    else:
        new = replace(new, comment=scene.mark)
        steps.append(_step(Kind.ADD, scene, new, want.reason, after=str(new), action=Post(new)))
    return [_remove(scene, one, f"in the way: {want.reason}") for one in rivals] + steps


def _orphans(scene: Scene, existing: Sequence[Record], used: set[str]) -> list[Record]:
    """Ours that nothing wants, but for what mail may still stand on: a policy that its owner raised, a domain's MX."""
    ours = [one for one in existing if one.comment == scene.mark and one.id not in used]
    return [
        one
        for one in ours
        if not (one.type == "MX" and one.name in scene.protected)
        and not (dmarc.is_dmarc(one.content) and dmarc.strictness(one.content) > 0)
    ]


def _remove(scene: Scene, record: Record, reason: str) -> Step:
    return _step(Kind.REMOVE, scene, record, reason, before=str(record), action=Delete(record))


def _step(
    kind: Kind,
    scene: Scene,
    record: Record,
    reason: str,
    before: str = "",
    after: str = "",
    action: Post | Patch | Delete | None = None,
) -> Step:
    what = f"{record.type} {record.name}"
    return Step(kind=kind, zone=scene.zone, what=what, reason=reason, before=before, after=after, action=action)
