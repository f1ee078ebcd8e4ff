"""One SPF record (RFC 7208) out of all that are there and all that is needed. Pure.

Merging never takes a pass away: the owner's terms keep their order and qualifiers, ours are put in front of ``all`` or
``redirect``. What stands behind ``all``, and a ``redirect`` beside it, never had an effect (section 5.1, 6.1) and must
not gain one, so it is dropped. A record that already has all that is needed is returned byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .spf_syntax import MECHANISMS, Spf, Term, Unreadable, directive, is_meant, is_spf, parse

__all__ = [
    "Cost",
    "Fetch",
    "Merged",
    "Spf",
    "Unreadable",
    "asked_for",
    "cost",
    "has",
    "hosts_by_mx",
    "is_meant",
    "is_spf",
    "merge",
    "parse",
]

LOOKUPS = 10  # section 4.6.4
VOIDS = 2  # section 4.6.4: more than two make a permerror
HOSTS = 10  # section 4.6.4: of one mx; more make a permerror
LONG = 450  # bytes; beyond, the answer with its neighbours may not fit into one UDP packet
MANY = 8  # look-ups that deserve a word: two more and the next provider breaks it

_QUERYING = frozenset({"include", "a", "mx", "ptr", "exists"})

Fetch = Callable[[str, str], "tuple[str, ...] | None"]
"""``fetch(name, type)``: the answers, empty when the name has none, None when nobody could say."""


@dataclass(frozen=True, slots=True)
class Merged:
    """The record to publish, and what its owner should know about it."""

    text: str
    notes: tuple[str, ...]


def merge(records: Sequence[str], needs: Sequence[str]) -> Merged:
    """One record from ``records`` (all that are published) and ``needs`` (mechanisms such as ``include:_spf.example``).

    Raises Unreadable where a record is wrong, or where two redirect to different places.
    """
    parsed = [parse(record) for record in records]
    parsed.sort(key=lambda one: _made(one, needs))  # what a service put there comes after the owner's own
    mechanisms = list(dict.fromkeys(term for one in parsed for term in one.mechanisms))
    present = {_plain(term) for term in mechanisms}
    missing = [need for need in dict.fromkeys(needs) if _plain(need) not in present]
    notes = [note for one in parsed for note in _notes_on_terms(one, needs)]
    if len(records) == 1 and not missing:
        return Merged(records[0], (*notes, *_notes_on(parsed[0].all, records[0])))
    everything, redirect = _ending([one for one in parsed if not _made(one, needs)] or parsed)
    ending = [f"redirect={redirect}"] if redirect else [f"{everything}all"]
    if everything == "+":
        ending = ["+all"] if len(records) == 1 else ["~all"]
    text = " ".join(["v=spf1", *mechanisms, *missing, *ending, *_modifiers(parsed)])
    return Merged(text, (*notes, *_notes_on(everything, text)))


def _modifiers(parsed: Sequence[Spf]) -> list[str]:
    """Each once; of two explanations the first, for two are an error (section 6)."""
    found: dict[str, str] = {}
    for term in (term for one in parsed for term in one.modifiers):
        found.setdefault("exp" if _name(term) == "exp" else term, term)
    return list(found.values())


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


def _notes_on_terms(record: Spf, needs: Sequence[str]) -> list[str]:
    notes = []
    for term in record.mechanisms:
        if term[0] in "?~-" and _plain(term) in {_plain(need) for need in needs}:
            notes.append(f"{term} is not a pass: it stays as its owner wrote it.")
        if directive(term).name == "ptr":
            notes.append(f"{term} is slow and unreliable, and some receivers skip it (RFC 7208, section 5.5).")
    ignored = [term for term in record.modifiers if _name(term) in MECHANISMS]
    return notes + [
        f"{term} has no effect: a mechanism is written with a colon, {term.replace('=', ':', 1)}." for term in ignored
    ]


def asked_for(text: str) -> tuple[str, ...]:
    """The mechanisms that a provider asks for: one, or a whole record as dashboards show it. Raises Unreadable."""
    if is_meant(text):
        return parse(text).mechanisms
    if directive(text).name == "all":
        raise Unreadable("all is the owner's to choose; name a mechanism such as include:spf.example.org.")
    return (text,)


def has(record: Spf, need: str) -> bool:
    """Whether ``record`` lets ``need`` pass."""
    return any(_plain(term) == _plain(need) and term[0] not in "?~-" for term in record.mechanisms)


def _plain(term: str) -> str:
    """A mechanism in the one form that is compared; the case of macros matters (section 7.3)."""
    term = term.lstrip("+?~-")
    return term if "%" in term else term.lower().rstrip(".")


def _name(modifier: str) -> str:
    return modifier.partition("=")[0].lower()


def hosts_by_mx(text: str, domain: str, hosts: Sequence[str]) -> list[str]:
    """Mechanisms that let ``hosts`` pass as ``mx`` lets them while they are the domain's MX. Raises Unreadable."""
    terms = [term for term in map(directive, parse(text).mechanisms) if term.name == "mx"]
    spans = [term.span for term in terms if term.qualifier in ("", "+") and _target(term, domain) == domain]
    return [f"a:{host}{span}" for span in spans for host in hosts]


@dataclass(slots=True)
class Cost:
    """What evaluating a record takes; ``unknown`` names what could not be looked up, and so was not followed.

    ``broken``: what is wrong below the record, and makes it an error too, as sentences without a full stop.
    """

    lookups: int = 0
    voids: int = 0
    unknown: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def cost(text: str, domain: str, fetch: Fetch) -> Cost:
    """Counts the look-ups and void look-ups of the whole tree under ``text`` (section 4.6.4), as if nothing matched.

    Raises Unreadable.
    """
    total = Cost()
    _count(parse(text), domain, fetch, total, frozenset({domain}))
    return total


def _count(record: Spf, domain: str, fetch: Fetch, total: Cost, path: frozenset[str]) -> None:
    for term in map(directive, record.mechanisms):
        if term.name in _QUERYING:
            _look_up(term.name, _target(term, domain), fetch, total, path)
    if record.redirect:
        _look_up("include", record.redirect.lower().rstrip("."), fetch, total, path)


def _look_up(mechanism: str, target: str, fetch: Fetch, total: Cost, path: frozenset[str]) -> None:
    total.lookups += 1
    if "%" in target or mechanism == "ptr" or total.lookups > LOOKUPS + 1:
        return  # a macro depends on the message; beyond the limit the number does not matter any more
    if mechanism == "include" and target in path:
        total.broken.append(f"{target} leads back to itself")
        return
    answers = fetch(target, {"include": "TXT", "mx": "MX"}.get(mechanism, "A"))
    if answers is None:
        total.unknown.append(target)
        return
    if not answers:
        total.voids += mechanism == "include" or not (mechanism in ("a", "exists") and fetch(target, "AAAA"))
    if mechanism == "mx" and len(answers) > HOSTS:
        total.broken.append(f"{target} has {len(answers)} MX records, and receivers stop at {HOSTS}")
    if mechanism == "include":
        _include(target, [answer for answer in answers if is_spf(answer)], fetch, total, path | {target})


def _include(target: str, texts: Sequence[str], fetch: Fetch, total: Cost, path: frozenset[str]) -> None:
    if len(texts) != 1:
        total.broken.append(f"{target} has {len(texts) or 'no'} SPF record{'s' if texts else ''}")
        return
    try:
        record = parse(texts[0])
    except Unreadable as error:
        total.broken.append(f"the SPF record of {target} is wrong: {str(error).removesuffix('.')}")
        return
    _count(record, target, fetch, total, path)


def _target(term: Term, domain: str) -> str:
    """The domain a mechanism asks for."""
    return term.domain if "%" in term.domain else term.domain.lower().rstrip(".") or domain
