"""The syntax of an SPF record (RFC 7208, section 4.5, 4.6.1, 5, 6, 7 and appendix A). Pure, and linear in time.

One wrong term anywhere makes the whole record an error to receivers (section 4.6), so all of them are read.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

LONGEST = 4096  # characters; receivers have trouble far below, and no resolver is asked for this much

_VERSION = re.compile(r"v=spf1(?= |$)", re.IGNORECASE)
_MEANT = re.compile(r"[\s\"']*v=spf1(?![0-9])", re.IGNORECASE)
_DIRECTIVE = re.compile(r"([+?~-]?)([a-z][a-z0-9]*)((?:[:/].*)?)", re.IGNORECASE)
_MODIFIER = re.compile(r"([a-z][a-z0-9._-]*)=(.*)", re.IGNORECASE)
_DUAL_CIDR = re.compile(r"(?:/(0|[1-9][0-9]?))?(?://(0|[1-9][0-9]{0,2}))?")
_SPAN_AT_END = re.compile(r"/[0-9]*(?://[0-9]*)?\Z|//[0-9]*\Z")
_MACRO = re.compile(r"%(?:\{([a-z])([0-9]*)(r?)[.+,/_=-]*\}|[%_-])", re.IGNORECASE)
_LITERAL = re.compile(r"[!-$&-~]*")
_TOP_LABEL = re.compile(r"(?=[a-z0-9-]*[a-z-])[a-z0-9](?:[a-z0-9-]*[a-z0-9])?", re.IGNORECASE)
_LETTERS = frozenset("slodiphv")  # c, r and t stand in an explanation's text only (section 7.2)
_LABEL, _NAME = 63, 253  # RFC 1035, section 2.3.4

MECHANISMS = frozenset({"all", "include", "a", "mx", "ptr", "ip4", "ip6", "exists"})


class Unreadable(ValueError):
    """The record is wrong, or two contradict each other; the text says how, as a sentence."""


@dataclass(frozen=True, slots=True)
class Term:
    """A mechanism. ``domain`` is empty where the record's own is meant; ``span`` is a network behind it, or is one."""

    qualifier: str
    name: str
    domain: str = ""
    span: str = ""


@dataclass(frozen=True, slots=True)
class Spf:
    """A record's parts: mechanisms in front of ``all``, its qualifier ("" without ``all``), redirect, modifiers."""

    mechanisms: tuple[str, ...]
    all: str
    redirect: str
    modifiers: tuple[str, ...]


def is_spf(text: str) -> bool:
    """Whether receivers take ``text`` for an SPF record (section 4.5)."""
    return _VERSION.match(text) is not None


def is_meant(text: str) -> bool:
    """Whether its owner does: with a tab or nothing behind the version, or quotes before it, receivers do not."""
    return _MEANT.match(text) is not None


def parse(text: str) -> Spf:
    """Reads a record. Raises Unreadable."""
    if len(text) > LONGEST:
        raise Unreadable(f"it is {len(text)} characters long.")
    version = _VERSION.match(text)
    if version is None:
        raise Unreadable('it does not begin with "v=spf1 ", as receivers want it.')
    mechanisms: list[str] = []
    modifiers: list[str] = []
    once: dict[str, str] = {}
    everything = ""
    for term in filter(None, text[version.end() :].split(" ")):
        name, equals, value = _modifier(term)
        if equals:
            if name in once:
                raise Unreadable(f"it has {name}= twice.")
            if name in ("redirect", "exp"):
                once[name] = value
            if name != "redirect":
                modifiers.append(term)
            continue
        mechanism = directive(term)
        if mechanism.name == "all":
            everything = everything or mechanism.qualifier or "+"
        elif not everything:
            mechanisms.append(term)
    redirect = "" if everything else once.get("redirect", "")
    return Spf(tuple(mechanisms), everything, redirect, tuple(modifiers))


def _modifier(term: str) -> tuple[str, str, str]:
    """Name, ``=`` and value; no ``=`` where the term is none. Modifiers that nobody knows are allowed (section 6)."""
    match = _MODIFIER.fullmatch(term)
    if match is None:
        return "", "", ""
    name = match[1].lower()
    if name in ("redirect", "exp"):
        _domain_spec(match[2], term)
    else:
        _macros(match[2], term)
    return name, "=", match[2]


def directive(term: str) -> Term:
    """Reads a mechanism with its qualifier. Raises Unreadable."""
    match = _DIRECTIVE.fullmatch(term)
    name = match[2].lower() if match is not None else ""
    if match is None or name not in MECHANISMS:
        raise Unreadable(f"its term {_shown(term)} is not one of SPF's.")
    qualifier, rest = match[1], match[3]
    if name in ("ip4", "ip6"):
        return Term(qualifier, name, span=_network(name, rest, term))
    if name == "all" and rest:
        raise Unreadable(f"its term {_shown(term)} has something behind all.")
    span = ""
    if name in ("a", "mx"):
        match = _SPAN_AT_END.search(rest)
        span = match[0] if match is not None else rest if rest.startswith("/") else ""
        _spans(span, term)
    rest = rest.removesuffix(span)
    if rest:
        _domain_spec(rest[1:] if rest.startswith(":") else "", term)
    elif name in ("include", "exists"):
        raise Unreadable(f"its term {_shown(term)} names no domain.")
    return Term(qualifier, name, rest[1:], span)


def _network(name: str, rest: str, term: str) -> str:
    """``:ADDRESS`` or ``:ADDRESS/LENGTH``, whose bits behind the length receivers do not look at (section 5.6)."""
    address, slash, length = rest[1:].partition("/")
    try:
        parsed = ipaddress.ip_address(address)
        if rest[:1] != ":" or parsed.version != int(name[2]) or "%" in address:
            raise ValueError
        if slash and (not re.fullmatch("0|[1-9][0-9]{0,2}", length) or int(length) > parsed.max_prefixlen):
            raise ValueError
    except ValueError:
        raise Unreadable(f"its term {_shown(term)} is not an IPv{name[2]} address or network.") from None
    return rest


def _spans(span: str, term: str) -> None:
    """``/LENGTH`` for IPv4, ``//LENGTH`` for IPv6, or both."""
    match = _DUAL_CIDR.fullmatch(span)
    if match is None or int(match[1] or 0) > 32 or int(match[2] or 0) > 128:
        raise Unreadable(f"its term {_shown(term)} has no right length of a network: at most /32 and //128.")


def _domain_spec(text: str, term: str) -> None:
    """A domain, or what becomes one by its macros (section 7.1): it ends in a macro, or in a dot and a top label."""
    ends = _macros(text, term)
    if ends == len(text) and ends:
        return
    name = text.removesuffix(".")
    _, dot, top = name[ends:].rpartition(".")
    if not dot or not _TOP_LABEL.fullmatch(top):
        raise Unreadable(f"its term {_shown(term)} names no domain such as example.org.")
    labels = name[ends:].split(".")[1 if ends else 0 :]
    if not all(0 < len(label) <= _LABEL for label in labels) or (not ends and len(name) > _NAME):
        raise Unreadable(f"its term {_shown(term)} names a domain that cannot be.")


def _macros(text: str, term: str) -> int:
    """Looks at each macro (section 7.1). Where the last one ends that stands for a part of the message."""
    position = ends = 0
    while position < len(text):
        literal = _LITERAL.match(text, position)
        position = literal.end() if literal is not None else position
        if position == len(text):
            break
        macro = _MACRO.match(text, position)
        expands = macro is not None and macro[1] is not None
        if macro is None or (expands and (macro[1].lower() not in _LETTERS or (macro[2] and not int(macro[2])))):
            raise Unreadable(f"its term {_shown(term)} has a character or a macro that SPF does not know.")
        position = macro.end()
        ends = position if expands else ends
    return ends


def _shown(term: str) -> str:
    return repr(term if len(term) <= 100 else f"{term[:100]}…")
