"""Mail addresses in commands: a strict grammar of our own, on bytes.

Promise: what comes out is an address that every program behind us reads in the same way as we do. So the grammar is
RFC 5321's (dot-atom or quoted local part, domain or address literal) without what is read differently by different
programs: source routes (``<@a,@b:c@d>``), local parts that name another host (``a%b@c``, ``b!a@c``, ``"a@b"@c``),
control characters. Sizes as in RFC 5321, 4.5.3.1: local part 64 bytes, address 254. A domain has a dot, for providers
deliver only to full names; international domains come in their ASCII form (``xn--``). Anything beyond ASCII needs
SMTPUTF8 (RFC 6531), and must not turn into a special character when it is normalised.

**Comparing**: domains without regard to letter case, as they are defined, and local parts too: RFC 5321 leaves that to
the domain's owner, and an owner who has listed ``anna@`` means ``Anna@``. Only ASCII letters are folded: ``str.lower``
turns KELVIN SIGN into ``k``, and a look-alike must stay a stranger.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import NamedTuple
from unicodedata import normalize

from relay.refusal import Reason, Refusal, refuse, shown

LOCAL_BYTES, ADDRESS_BYTES = 64, 254
NO_ADDRESS = "?"  # what `read_mail` makes of a sender that it let pass unread; no rule allows anybody to send as that

_ATEXT = r"A-Za-z0-9#$&'*+/=?^_`{|}~\-"  # RFC 5322's without ``!`` and ``%``
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_TOP = "[A-Za-z](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"  # never all digits: ``a@192.0.2.1`` is a mistake for a literal
_DOMAIN = rf"(?:{_LABEL}\.)+{_TOP}"
# Atomic, not ``)*+``: before CPython 3.11.5 a possessive group keeps a dot that nothing follows (gh-106052).
_DOT_ATOM = rf"[{_ATEXT}]++(?>(?:\.[{_ATEXT}]++)*)"
SIMPLE = rf"(?=[^@]{{1,64}}+@){_DOT_ATOM}@{_DOMAIN}"  # the pattern of nearly every address there is

_MAIL = re.compile(rf"[Ff][Rr][Oo][Mm]:<({SIMPLE})>(?: SIZE=([0-9]{{1,15}}))?(?: BODY=8BITMIME)?".encode())
_RCPT = re.compile(rf"[Tt][Oo]:<({SIMPLE})>".encode())
_PATH = re.compile(rb'[ \t]*<((?>(?:"(?>(?:[^"\\]|\\.)*)"|[^"<>])*))>(?:[ \t]+(.*))?', re.DOTALL)
_BARE_PATH = re.compile(rb"[ \t]*([^\s<>]+)(?:[ \t]+(.*))?", re.DOTALL)
_SIMPLE = re.compile(SIMPLE)
_LOCAL = re.compile(_DOT_ATOM)
_LOCAL_UTF8 = re.compile(rf"[{_ATEXT}\x80-\U0010ffff]+(?:\.[{_ATEXT}\x80-\U0010ffff]+)*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"@', re.DOTALL)
_HOST = re.compile(_DOMAIN)
_HOST_UTF8 = re.compile(r"(?:[A-Za-z0-9\x80-\U0010ffff-]{1,63}\.)+[A-Za-z0-9\x80-\U0010ffff-]{1,63}")
_XTEXT = re.compile(r"<[^<>\s]*>|[!-~]+")
_SPECIALS = '@%!<>()[]\\,;:" '
_FOLD = str.maketrans({chr(upper): chr(upper + 32) for upper in range(ord("A"), ord("Z") + 1)})


class Bad(NamedTuple):
    """Why a text is no address: a sentence without its full stop, to be put behind "... is not an address: "."""

    why: str


class Mail(NamedTuple):
    """What ``MAIL`` said. ``sender`` is empty for the null path ``<>``; ``size`` is 0 when none was declared."""

    sender: str
    size: int
    smtputf8: bool


def fold(address: str) -> str:
    """The form in which two addresses are compared (see the module's docstring)."""
    return address.lower() if address.isascii() else address.translate(_FOLD)


def parse(raw: bytes, *, utf8: bool = False) -> str | Bad:
    """``raw`` as an address, needlessly quoted local parts unquoted; ``utf8`` allows more than ASCII in it."""
    if len(raw) > ADDRESS_BYTES:
        return Bad(f"it is longer than {ADDRESS_BYTES} bytes")
    try:
        text = raw.decode("utf-8" if utf8 else "ascii")
    except UnicodeDecodeError:
        return Bad(
            "it is not valid UTF-8" if utf8 else "only ASCII is possible here; a domain has an ASCII form, xn--..."
        )
    if _SIMPLE.fullmatch(text):
        return text
    if not text.isprintable():
        return Bad("it has control or invisible characters")
    if not text.isascii() and _hides_specials(text):
        return Bad("it has a character that other programs take for a special one, such as @ or <")
    return _parse_rare(text)


def _parse_rare(text: str) -> str | Bad:
    if text.startswith("@"):
        return Bad("source routes are not taken; write the address alone")
    quoted = _QUOTED.match(text)
    if quoted:
        local, domain = re.sub(r"\\(.)", r"\1", quoted[1]), text[quoted.end() :]
    else:
        local, at, domain = text.rpartition("@")
        if not at:
            return Bad("it has no domain; write it in full, like name@example.org")
    problem = _bad_local(local, quoted=quoted is not None) or _bad_domain(domain)
    if problem:
        return Bad(problem)
    if quoted and not _LOCAL.fullmatch(local):
        local = '"' + re.sub(r'(["\\])', r"\\\1", local) + '"'
    return f"{local}@{domain}"


def _hides_specials(text: str) -> bool:
    """Whether who normalises ``text`` before reading it finds more specials: FULLWIDTH COMMERCIAL AT becomes ``@``."""
    plain = normalize("NFKC", text)
    return any(plain.count(char) > text.count(char) for char in _SPECIALS)


def _bad_local(local: str, *, quoted: bool) -> str:
    if not local:
        return "nothing stands before the @"
    if len(local.encode()) > LOCAL_BYTES:
        return f"the part before the @ is longer than {LOCAL_BYTES} bytes"
    if any(char in local for char in "@%!"):
        return "another host in the part before the @ is not taken (%, ! and a second @)"
    if not quoted and not _LOCAL_UTF8.fullmatch(local):
        return "the part before the @ has a character or a dot in a place that needs quotes"
    return ""


def _bad_domain(domain: str) -> str:
    if domain.startswith("[") and domain.endswith("]"):
        why = "the brackets hold no IP address, like [192.0.2.1] or [IPv6:2001:db8::1]"
        return "" if _is_literal(domain[1:-1]) else why
    if "." not in domain.strip("."):
        return "the domain is not a full name; write one with a dot, like example.org"
    if not (_HOST if domain.isascii() else _HOST_UTF8).fullmatch(domain):
        return "the domain may hold only letters, digits, hyphens and single dots"
    return ""


def _is_literal(text: str) -> bool:
    try:
        if text[:5].lower() == "ipv6:":
            return "%" not in text and bool(IPv6Address(text[5:]))
        return bool(IPv4Address(text))
    except AddressValueError:
        return False


def read_mail(argument: bytes, *, smtputf8: bool = False, lenient: bool = False) -> Mail | Refusal:
    """Read what follows ``MAIL `` (RFC 5321, 4.1.1.2): ``FROM:<...>`` and its parameters.

    ``smtputf8`` says whether SMTPUTF8 is offered. ``lenient`` is for accounts whose sender is rewritten anyway: what
    is no address (``root``, ``root@nas``), with or without angle brackets, is then taken, and :data:`NO_ADDRESS` stands
    for it: a wildcard among the senders must not let ``www data@example.org`` through.
    """
    match = _MAIL.fullmatch(argument)
    if match and len(match[1]) <= ADDRESS_BYTES:
        return Mail(match[1].decode("ascii"), int(match[2] or 0), False)
    if argument[:5].upper() != b"FROM:":
        return refuse(Reason.SYNTAX, "501 5.5.4 Write MAIL FROM:<address>, the address in angle brackets.")
    path = _PATH.fullmatch(argument, 5) or (_BARE_PATH.fullmatch(argument, 5) if lenient else None)
    if not path:
        return refuse(Reason.SYNTAX, "501 5.5.4 Write MAIL FROM:<address>, the address in angle brackets.")
    options = _mail_options((path[2] or b"").split(), smtputf8)
    if isinstance(options, Refusal):
        return options
    size, utf8 = options
    sender = parse(path[1], utf8=utf8) if path[1] else ""
    if isinstance(sender, Bad):
        if not lenient or len(path[1]) > ADDRESS_BYTES:
            return refuse(Reason.ADDRESS, f"501 5.1.7 The sender <{_quote(path[1])}> is not an address: {sender.why}.")
        sender = NO_ADDRESS
    return Mail(sender, size, utf8)


def _mail_options(words: list[bytes], smtputf8: bool) -> tuple[int, bool] | Refusal:
    """Size and SMTPUTF8 of the parameters; AUTH= is read and ignored, as RFC 4954 allows (Postfix always sends it)."""
    size, utf8, seen = 0, False, set()
    for word in words:
        name, equals, value = word.decode("latin-1").partition("=")
        name, value = name.upper(), value.upper()
        if name in seen:
            return refuse(Reason.PARAMETER, f"501 5.5.4 The parameter {shown(name)} stands there twice; give it once.")
        seen.add(name)
        if name == "SIZE" and value.isascii() and value.isdigit() and len(value) <= 20:
            size = int(value)
        elif name == "SMTPUTF8" and not equals and smtputf8:
            utf8 = True
        elif not ((name == "BODY" and value in {"7BIT", "8BITMIME"}) or (name == "AUTH" and _XTEXT.fullmatch(value))):
            return _bad_option(name)
    return size, utf8


_NOT_OFFERED = {
    "RET": "DSN is not offered here; leave RET, ENVID, NOTIFY and ORCPT out",
    "SMTPUTF8": "SMTPUTF8 is not offered here; use ASCII addresses and leave it out",
}
_NOT_OFFERED |= dict.fromkeys(("ENVID", "NOTIFY", "ORCPT"), _NOT_OFFERED["RET"])
_RIGHT = {"SIZE": "SIZE=bytes, a number", "BODY": "BODY=7BIT or BODY=8BITMIME", "AUTH": "AUTH=<> or AUTH=address"}


def _bad_option(name: str) -> Refusal:
    if name in _RIGHT:
        return refuse(Reason.PARAMETER, f"501 5.5.4 The parameter {name} is wrong; it is {_RIGHT[name]}.")
    why = _NOT_OFFERED.get(name, f"The parameter {shown(name, 40)} is not known here; leave it out")
    return refuse(Reason.PARAMETER, f"555 5.5.4 {why}.")


def read_rcpt(argument: bytes, *, smtputf8: bool = False) -> str | Refusal:
    """Read what follows ``RCPT `` (RFC 5321, 4.1.1.3). ``smtputf8``: this transaction's MAIL asked for it."""
    match = _RCPT.fullmatch(argument)
    if match and len(match[1]) <= ADDRESS_BYTES:
        return match[1].decode("ascii")
    path = _PATH.fullmatch(argument, 3) if argument[:3].upper() == b"TO:" else None
    if not path:
        return refuse(Reason.SYNTAX, "501 5.5.4 Write RCPT TO:<address>, the address in angle brackets.")
    if path[2] and path[2].strip():
        return _bad_option(path[2].split()[0].decode("latin-1").partition("=")[0].upper())
    if not path[1]:
        return refuse(Reason.ADDRESS, "501 5.1.3 The recipient is empty; write RCPT TO:<address>.")
    address = parse(path[1], utf8=smtputf8)
    if isinstance(address, Bad):
        return refuse(Reason.ADDRESS, f"501 5.1.3 The recipient <{_quote(path[1])}> is not an address: {address.why}.")
    return address


def _quote(raw: bytes) -> str:
    return shown(raw.decode("utf-8", "replace"))
