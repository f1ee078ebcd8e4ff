"""One SPF record (RFC 7208) out of all that are there and all that is needed. Pure.

Merging never takes a pass away: the owner's terms keep their order and qualifiers, ours are put in front of ``all`` or
``redirect``. What stands behind ``all``, and a ``redirect`` beside it, never had an effect (section 5.1, 6.1) and must
not gain one, so it is dropped. A record that already has all that is needed is returned byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

LOOKUPS = 10  # section 4.6.4
VOIDS = 2  # section 4.6.4: more than two make a permerror
LONG = 450  # bytes; beyond, the answer with its neighbours may not fit into one UDP packet
MANY = 8  # look-ups that deserve a word: two more and the next provider breaks it

_VERSION = re.compile(r"v=spf1(?= |$)", re.IGNORECASE)
_TERM = re.compile(r"([+?~-]?)(all|include|a|mx|ptr|ip4|ip6|exists)([:/].*)?", re.IGNORECASE)
_MODIFIER = re.compile(r"([a-z][a-z0-9._-]*)=(.*)", re.IGNORECASE)
_QUERYING = frozenset({"include", "a", "mx", "ptr", "exists"})

Fetch = Callable[[str, str], "tuple[str, ...] | None"]
"""``fetch(name, type)``: the answers, empty when the name has none, None when nobody could say."""


class Unreadable(ValueError):
    """The record is wrong or two contradict each other; the text says how, as a sentence."""


@dataclass(frozen=True, slots=True)
class Spf:
    """A record's parts: mechanisms in front of ``all``, its qualifier ("" without ``all``), redirect, modifiers."""

    mechanisms: tuple[str, ...]
    all: str
    redirect: str
    modifiers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Merged:
    """The record to publish, and what its owner should know about it."""

    text: str
    notes: tuple[str, ...]


def is_spf(text: str) -> bool:
    return _VERSION.match(text) is not None


def parse(text: str) -> Spf:
    """Reads a record. Raises Unreadable."""
    mechanisms: list[str] = []
    modifiers: list[str] = []
    everything = redirect = ""
    for term in _VERSION.sub("", text, count=1).split():
        mechanism, modifier = _TERM.fullmatch(term), _MODIFIER.fullmatch(term)
        if mechanism is None and modifier is None:
            raise Unreadable(f"its term {term!r} is not one of SPF's.")
        if mechanism is None and modifier is not None:
            if modifier[1].lower() == "redirect":
                redirect = modifier[2]
            else:
                modifiers.append(term)
        elif mechanism is not None and not everything:
            if mechanism[2].lower() == "all":
                everything = mechanism[1] or "+"
            else:
                mechanisms.append(term)
    return Spf(tuple(mechanisms), everything, "" if everything else redirect, tuple(modifiers))


def merge(records: Sequence[str], needs: Sequence[str]) -> Merged:
    """One record from ``records`` (all that are published) and ``needs`` (mechanisms such as ``include:_spf.example``).

    Raises Unreadable where a record is wrong, or where two redirect to different places.
    """
    parsed = [parse(record) for record in records]
    mechanisms = list(dict.fromkeys(term for one in parsed for term in one.mechanisms))
    present = {_plain(term) for term in mechanisms}
    missing = [need for need in dict.fromkeys(needs) if _plain(need) not in present]
    notes = [f"{term} is not a pass: it stays as its owner wrote it." for term in mechanisms if _weak(term, needs)]
    if len(records) == 1 and not missing:
        return Merged(records[0], (*notes, *_notes_on(parsed[0].all, records[0])))
    everything, redirect = _ending([one for one in parsed if not _made(one, needs)] or parsed)
    ending = [f"redirect={redirect}"] if redirect else [f"{everything}all"]
    if everything == "+":
        ending = ["+all"] if len(records) == 1 else ["~all"]
    modifiers = dict.fromkeys(term for one in parsed for term in one.modifiers)
    text = " ".join(["v=spf1", *mechanisms, *missing, *ending, *modifiers])
    return Merged(text, (*notes, *_notes_on(everything, text)))


def _made(record: Spf, needs: Sequence[str]) -> bool:
    """Whether a service put it there, with nothing but what is needed: its ``all`` says nothing of the owner's will."""
    needed = {_plain(need) for need in needs}
    return record.all == "~" and bool(record.mechanisms) and {_plain(one) for one in record.mechanisms} <= needed


def _ending(parsed: Sequence[Spf]) -> tuple[str, str]:
    """The qualifier of ``all`` and the redirect of the merged record."""
    qualifiers = {one.all for one in parsed if one.all}
    redirects = {one.redirect.lower(): one.redirect for one in parsed if one.redirect}
    if len(redirects) > 1:
        raise Unreadable(f"two records redirect to different places: {', '.join(sorted(redirects.values()))}.")
    if len(qualifiers) == 1:
        return qualifiers.pop(), ""
    if not qualifiers and redirects:
        return "", redirects.popitem()[1]
    return "~", ""


def _notes_on(everything: str, text: str) -> list[str]:
    notes = []
    if everything in ("+", "?"):
        notes.append(f"it ends in {everything}all, which lets anybody send in this name: ~all is safer.")
    if len(text.encode()) > LONG:
        notes.append(f"it is {len(text.encode())} bytes long; over {LONG} some receivers have trouble reading it.")
    return notes


def _plain(term: str) -> str:
    return term.lstrip("+?~-").lower().rstrip(".")


def _weak(term: str, needs: Sequence[str]) -> bool:
    return term[0] in "?~-" and _plain(term) in {_plain(need) for need in needs}


def hosts_by_mx(text: str, domain: str, hosts: Sequence[str]) -> list[str]:
    """Mechanisms that let ``hosts`` pass as ``mx`` lets them while they are the domain's MX. Raises Unreadable."""
    matches = [_TERM.fullmatch(term) for term in parse(text).mechanisms]
    passing = [match for match in matches if match is not None and match[2].lower() == "mx" and match[1] in ("", "+")]
    ranges = [(match[3] or "").lower().removeprefix(f":{domain}") for match in passing]
    return [f"a:{host}{span}" for span in ranges if not span.startswith(":") for host in hosts]


@dataclass(slots=True)
class Cost:
    """What evaluating a record takes; ``unknown`` names what could not be looked up, and so was not followed."""

    lookups: int = 0
    voids: int = 0
    unknown: list[str] = field(default_factory=list)


def cost(text: str, domain: str, fetch: Fetch) -> Cost:
    """Counts the look-ups and void look-ups of the whole tree under ``text`` (section 4.6.4), as if nothing matched."""
    total = Cost()
    _count(text, domain, fetch, total, frozenset({domain}))
    return total


def _count(text: str, domain: str, fetch: Fetch, total: Cost, path: frozenset[str]) -> None:
    try:
        record = parse(text)
    except Unreadable:
        return
    targets = [(_TERM.fullmatch(term), term) for term in record.mechanisms]
    for match, term in targets:
        if match is not None and match[2].lower() in _QUERYING:
            _look_up(match[2].lower(), _target(term, domain), fetch, total, path)
    if record.redirect:
        _look_up("include", record.redirect.lower().rstrip("."), fetch, total, path)


def _look_up(mechanism: str, target: str, fetch: Fetch, total: Cost, path: frozenset[str]) -> None:
    total.lookups += 1
    if (
        "%" in target
        or mechanism == "ptr"
        or total.lookups > LOOKUPS + 1
        or (mechanism == "include" and target in path)
    ):
        return  # a macro depends on the message; beyond the limit the number does not matter any more
    answers = fetch(target, {"include": "TXT", "mx": "MX"}.get(mechanism, "A"))
    if answers is None:
        total.unknown.append(target)
    elif not answers:
        total.voids += mechanism == "include" or not (mechanism in ("a", "exists") and fetch(target, "AAAA"))
    elif mechanism == "include":
        for answer in filter(is_spf, answers):
            _count(answer, target, fetch, total, path | {target})


def _target(term: str, domain: str) -> str:
    """The domain a mechanism asks for."""
    _, colon, rest = term.partition(":")
    return rest.split("/", 1)[0].lower().rstrip(".") if colon and "%" not in rest else rest if colon else domain
