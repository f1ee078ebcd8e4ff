"""Mail addresses in commands, on bytes: a strict grammar for our own, a wide one for other people's.

**Ours** (:func:`parse`: MAIL, From, senders): what comes out is an address that every program behind us reads in the
same way as we do. So the grammar is RFC 5321's (dot-atom or quoted local part, domain or address literal) without what
is read differently by different programs: source routes (``<@a,@b:c@d>``), local parts that name another host
(``a%b@c``, ``b!a@c``, ``"a@b"@c``), control characters. Sizes as in RFC 5321, 4.5.3.1: local part 64 bytes, path 256
with its brackets. A domain has a dot, for providers deliver only to full names; its labels may hold an underscore,
since there are such hosts.

**Recipients** (:func:`parse_recipient`) exist or do not, whatever a grammar for writing new ones says: ticket systems
and SRS make local parts of 76 bytes, ``a..b@`` has been given out by mobile carriers. What can neither end the line nor
be read as anything but one address at one domain goes on as it stands, and the provider judges.

**Domains** in other scripts become A-labels (``xn--``), by UTS 46, in all of them: so a domain is the same as itself
however it is written. What is beyond ASCII before the @ needs SMTPUTF8 (RFC 6531), and must not turn into a special
character when it is normalised.

**Comparing**: domains without regard to letter case, as they are defined, and local parts too: RFC 5321 leaves that to
the domain's owner, and an owner who has listed ``anna@`` means ``Anna@``. Only ASCII letters are folded: ``str.lower``
turns KELVIN SIGN into ``k``, and a look-alike must stay a stranger.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import NamedTuple
from unicodedata import normalize

from common.names import BadName, ascii_name

LOCAL_BYTES, ADDRESS_BYTES = 64, 254
RECIPIENT_BYTES = 256  # RFC 5321, 4.5.3.1.3, without counting the brackets: who is near the limit is meant well

_ATEXT = r"A-Za-z0-9#$&'*+/=?^_`{|}~\-"  # RFC 5322's without ``!`` and ``%``
_LABEL = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_TOP = "[A-Za-z](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"  # never all digits: ``a@192.0.2.1`` is a mistake for a literal
_DOMAIN = rf"(?:{_LABEL}\.)+{_TOP}"
# Atomic, not ``)*+``: before CPython 3.11.5 a possessive group keeps a dot that nothing follows (gh-106052).
_DOT_ATOM = rf"[{_ATEXT}]++(?>(?:\.[{_ATEXT}]++)*)"
SIMPLE = rf"(?=[^@]{{1,64}}+@){_DOT_ATOM}@{_DOMAIN}"  # the pattern of nearly every address there is

_SIMPLE = re.compile(SIMPLE)
_LOCAL = re.compile(_DOT_ATOM)
_LOCAL_UTF8 = re.compile(rf"[{_ATEXT}\x80-\U0010ffff]+(?:\.[{_ATEXT}\x80-\U0010ffff]+)*")
_LOCAL_OF_OTHERS = re.compile(rf"[{_ATEXT}%!.\x80-\U0010ffff]+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"@', re.DOTALL)
_HOST = re.compile(_DOMAIN)
_HOST_OF_OTHERS = re.compile(r"(?:[A-Za-z0-9_-]{1,63}\.)*(?![0-9]+\Z)[A-Za-z0-9_-]{1,63}")
_BRACKET = "the part before the @ has an angle bracket"
_SPECIALS = '@%!<>()[]\\,;:" '
_FOLD = str.maketrans({chr(upper): chr(upper + 32) for upper in range(ord("A"), ord("Z") + 1)})


class Bad(NamedTuple):
    """Why a text is no address: a sentence without its full stop, to be put behind "... is not an address: "."""

    why: str


def fold(address: str) -> str:
    """The form in which two addresses are compared (see the module's docstring)."""
    return address.lower() if address.isascii() else address.translate(_FOLD)


NOT_ASCII = Bad("letters beyond ASCII before the @; that takes SMTPUTF8, offered while every provider takes it")


def login_name(text: str) -> str:
    """A login name, a domain in it as A-labels: ``anna@münchen.example`` logs in as ``anna@xn--mnchen-3ya.example``."""
    local, at, domain = text.rpartition("@")
    if text.isascii() or not at:
        return text
    try:
        return f"{local}@{ascii_name(domain)}"
    except BadName:
        return text


def parse(raw: bytes, *, utf8: bool = False) -> str | Bad:
    """``raw`` as an address of ours, needlessly quoted local parts unquoted; ``utf8``: more than ASCII before the @."""
    return _parse(raw, ADDRESS_BYTES, utf8=utf8, strict=True)


def parse_recipient(raw: bytes, *, utf8: bool = False) -> str | Bad:
    """``raw`` as an address that mail may be sent to; a dot at its end is taken off, as Postfix does."""
    return _parse(raw, RECIPIENT_BYTES, utf8=utf8, strict=False)


def as_kept(recipient: str) -> str:
    """The form in which the spool holds ``recipient``; what is no address stays as it is."""
    parsed = parse_recipient(recipient.encode("utf-8", "surrogateescape"), utf8=True)
    return recipient if isinstance(parsed, Bad) else parsed


def parse_entry(text: str) -> str | Bad:
    """An entry of a list of senders, an address of ours or ``*@domain``."""
    wild = text.startswith("*@")
    parsed = parse((f"any{text[1:]}" if wild else text).encode("utf-8", "replace"), utf8=True)
    return parsed if isinstance(parsed, Bad) or not wild else "*" + parsed.removeprefix("any")


def _parse(raw: bytes, limit: int, *, utf8: bool, strict: bool) -> str | Bad:
    if len(raw) > limit:  # before anything else looks at it
        return Bad(f"it is longer than {limit} bytes")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return Bad("it is not valid UTF-8")
    if _SIMPLE.fullmatch(text):
        return text
    if not text.isprintable():
        return Bad("it has control or invisible characters")
    if not text.isascii() and _hides_specials(text):
        return Bad("it has a character that other programs take for a special one, such as @ or <")
    found = _parse_rare(text, strict)
    if isinstance(found, Bad):
        return found
    if not utf8 and not found.isascii():
        return NOT_ASCII
    return found if len(found.encode()) <= limit else Bad(f"it is longer than {limit} bytes with its domain in ASCII")


def _parse_rare(text: str, strict: bool) -> str | Bad:
    if text.startswith("@"):
        return Bad("source routes are not taken; write the address alone")
    quoted = _QUOTED.match(text)
    if quoted:
        local, domain = re.sub(r"\\(.)", r"\1", quoted[1]), text[quoted.end() :]
    else:
        local, at, domain = text.rpartition("@")
        if not at:
            return Bad("it has no domain; write it in full, like name@example.org")
    if not local:
        return Bad("nothing stands before the @")
    judge = _bad_local if strict else _bad_local_of_others
    if problem := judge(local, quoted=quoted is not None):
        return Bad(problem)
    host = _domain(domain if strict else domain.removesuffix("."), strict)
    if isinstance(host, Bad):
        return host
    if quoted and not _LOCAL.fullmatch(local):
        local = '"' + re.sub(r'(["\\])', r"\\\1", local) + '"'
    return f"{local}@{host}"


def _hides_specials(text: str) -> bool:
    """Whether who normalises ``text`` before reading it finds more specials: FULLWIDTH COMMERCIAL AT becomes ``@``."""
    plain = normalize("NFKC", text)
    return any(plain.count(char) > text.count(char) for char in _SPECIALS)


def _bad_local(local: str, *, quoted: bool) -> str:
    if len(local.encode()) > LOCAL_BYTES:
        return f"the part before the @ is longer than {LOCAL_BYTES} bytes"
    if any(char in local for char in "@%!"):
        return "another host in the part before the @ is not taken (%, ! and a second @)"
    if quoted and ("<" in local or ">" in local):  # some programs end the path at the first ">", quotes or not
        return _BRACKET
    if not quoted and not _LOCAL_UTF8.fullmatch(local):
        return "the part before the @ has a character or a dot in a place that needs quotes"
    return ""


def _bad_local_of_others(local: str, *, quoted: bool) -> str:
    if quoted:
        return _BRACKET if "<" in local or ">" in local else ""
    if "@" in local:
        return "it has two @; name one recipient at a time"
    if not _LOCAL_OF_OTHERS.fullmatch(local):
        return "the part before the @ has a character that needs quotes"
    return ""


def _domain(domain: str, strict: bool) -> str | Bad:
    """``domain`` as DNS holds it (as it stands if it is ASCII), or an address literal."""
    if domain.startswith("[") and domain.endswith("]"):
        why = "the brackets hold no IP address, like [192.0.2.1] or [IPv6:2001:db8::1]"
        return domain if _is_literal(domain[1:-1]) else Bad(why)
    host = domain
    if not domain.isascii() and " " not in domain and not domain.endswith("."):
        try:
            host = ascii_name(domain)
        except BadName:
            return Bad("the domain cannot be read; one in another script has an ASCII form, xn--...")
    if strict and "." not in host.strip("."):
        return Bad("the domain is not a full name; write one with a dot, like example.org")
    if not (_HOST if strict else _HOST_OF_OTHERS).fullmatch(host):
        return Bad("the domain may hold only letters, digits, hyphens and single dots")
    return host


def _is_literal(text: str) -> bool:
    try:
        if text[:5].lower() == "ipv6:":
            return "%" not in text and bool(IPv6Address(text[5:]))
        return bool(IPv4Address(text))
    except AddressValueError:
        return False
