"""What MAIL and RCPT say: a path and its parameters (RFC 5321, 4.1.1.2 and 4.1.1.3), read on bytes.

``lenient`` is for devices that cannot be changed, on the LAN's port and in accounts whose sender is rewritten anyway:
angle brackets may be missing, doubled or half there, and a name may stand before them, as in ``RCPT TO: Admin
<a@b.example>`` (RFC 7103, 7.1). Of what is between them nothing is forgiven: it becomes part of a line of ours.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from relay.address import ADDRESS_BYTES, NOT_ASCII, RECIPIENT_BYTES, SIMPLE, Bad, parse, parse_recipient
from relay.refusal import Reason, Refusal, refuse, shown

NO_ADDRESS = "?"  # in place of a sender that was let pass unread; no rule allows anybody to send as that

_MAIL = re.compile(rf"[Ff][Rr][Oo][Mm]:<({SIMPLE})>(?: SIZE=([0-9]{{1,15}}))?(?: BODY=8BITMIME)?".encode())
_RCPT = re.compile(rf"[Tt][Oo]:<({SIMPLE})>".encode())
_PATH = re.compile(rb'[ \t]*<((?>(?:"(?>(?:[^"\\]|\\.)*)"|[^"<>])*))>(?:[ \t]+(.*))?', re.DOTALL)
_OPTIONS = re.compile(rb"(?i)(?<![ \t])[ \t]++(?=[a-z0-9-]++=|smtputf8(?![^ \t]))")
_XTEXT = re.compile(r"<[^<>\s]*>|[!-~]+")
_WRITE = "the address in angle brackets."


class Mail(NamedTuple):
    """What ``MAIL`` said. ``sender`` is empty for the null path ``<>``; ``size`` is 0 when none was declared."""

    sender: str
    size: int
    smtputf8: bool


def _path(argument: bytes, start: int, *, lenient: bool) -> tuple[bytes, bytes] | None:
    """The address in ``argument`` from ``start`` on, and what stands behind its path; ``None``: there is no path."""
    match = _PATH.fullmatch(argument, start)
    if match:
        return match[1].strip() if lenient else match[1], match[2] or b""
    return _half_path(argument[start:]) if lenient else None


def _half_path(text: bytes) -> tuple[bytes, bytes] | None:
    name, bracket, rest = text.partition(b"<")
    if bracket and b"@" in name:
        return None  # of two addresses none is meant more than the other
    rest = (rest if bracket else name).strip().lstrip(b"< \t")
    if b">" not in rest:
        address, *options = _OPTIONS.split(rest, 1)
        return address, b"".join(options)
    address, _, behind = rest.partition(b">")
    return address.strip(), behind.lstrip(b"> \t")


def read_mail(
    argument: bytes, *, smtputf8: bool = False, lenient: bool = False, rewrite: bool = False
) -> Mail | Refusal:
    """Read what follows ``MAIL ``: ``FROM:<...>`` and its parameters.

    ``smtputf8`` says whether SMTPUTF8 is offered. ``rewrite`` is for accounts whose sender is rewritten anyway: what
    is no address (``root``, ``root@nas``), or not there, is then taken, and :data:`NO_ADDRESS` stands for it: a
    wildcard among the senders must not let ``www data@example.org`` through.
    """
    match = _MAIL.fullmatch(argument)
    if match and len(match[1]) <= ADDRESS_BYTES:
        return Mail(match[1].decode("ascii"), int(match[2] or 0), False)
    found = None
    if argument[:5].upper() == b"FROM:":
        found = _path(argument, 5, lenient=lenient) or ((argument[5:], b"") if rewrite else None)
    if found is None:
        return refuse(Reason.SYNTAX, f"501 5.5.4 Write MAIL FROM:<address>, {_WRITE}")
    path, behind = found
    options = _mail_options(behind.split(), smtputf8)
    if isinstance(options, Refusal):
        return options
    size, utf8 = options
    if not path and b"<" in argument:
        return Mail("", size, utf8)
    sender = parse(path, utf8=utf8)
    if isinstance(sender, Bad):
        if not rewrite:
            return _no_address(path, sender, "501 5.1.7", "sender")
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


def read_rcpt(argument: bytes, *, smtputf8: bool = False, lenient: bool = False) -> str | Refusal:
    """Read what follows ``RCPT ``. ``smtputf8``: this transaction's MAIL asked for it."""
    match = _RCPT.fullmatch(argument)
    if match and len(match[1]) <= RECIPIENT_BYTES:
        return match[1].decode("ascii")
    found = _path(argument, 3, lenient=lenient) if argument[:3].upper() == b"TO:" else None
    if found is None:
        return refuse(Reason.SYNTAX, f"501 5.5.4 Write RCPT TO:<address>, {_WRITE}")
    path, behind = found
    if behind.strip():
        return _bad_option(behind.split()[0].decode("latin-1").partition("=")[0].upper())
    if not path:
        return refuse(Reason.ADDRESS, "501 5.1.3 The recipient is empty; write RCPT TO:<address>.")
    address = parse_recipient(path, utf8=smtputf8)
    return _no_address(path, address, "501 5.1.3", "recipient") if isinstance(address, Bad) else address


def _no_address(path: bytes, bad: Bad, codes: str, who: str) -> Refusal:
    text = shown(path.decode("utf-8", "replace"))
    if bad is NOT_ASCII:
        return refuse(Reason.ADDRESS, f"553 5.6.7 The {who} <{text}> has {bad.why}.")  # RFC 6531, 3.5
    return refuse(Reason.ADDRESS, f"{codes} The {who} <{text}> is not an address: {bad.why}.")
