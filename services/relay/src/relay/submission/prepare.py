"""The header as it travels: a pure function from what the client sent to what the provider gets, or to a refusal.

Promise: everything stays byte for byte, in its place, but for this. ``Received`` is put first. ``Date`` and
``Message-ID`` are added behind it when missing (RFC 6409, 8.2 and 8.3). ``Bcc`` and ``Resent-Bcc`` are taken out: the
envelope holds those people, and the others must not see them. For accounts with ``from = "rewrite"`` see
:mod:`relay.submission.rewrite`.

The client's address is given to the world only where a setting asks for it, so neither is an EHLO name that holds it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple

from relay import limits
from relay.accounts import Account
from relay.header import Field, split
from relay.refusal import Reason, Refusal, refuse, shown
from relay.submission.mend import mended, suspect
from relay.submission.policy import check_originators, plainly_own
from relay.submission.rewrite import Edit, in_ascii, rewrite

MESSAGE_ID_KEPT = 998  # a line's length, RFC 5322, 2.1.1: longer ones are cut in the spool's copy, not in the header

# What makes a mail that mail, and what no server between a client and us changes: who sends again after a lost 250
# sends the same bytes. Not the whole header, for a server may put a Received field or a fresh DKIM signature on it each
# time. Date is among them: two alarms of one sensor may differ by nothing else. Resent-*: to send it on is another act.
_SEEN = frozenset(
    b"message-id date from reply-to to cc subject content-type content-transfer-encoding resent-date resent-from "
    b"resent-sender resent-to resent-cc resent-bcc resent-message-id resent-reply-to".split()
)
_NAMES = _SEEN | {b"sender", b"received", b"bcc"}
_ORIGINATORS = (b"from", b"sender", b"resent-from", b"resent-sender")
_HIDDEN = frozenset({b"bcc", b"resent-bcc"})
_MESSAGE_ID = re.compile(rb"<[!-;=?-~]+>")
_CLIENT_NAME = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_CLIENT_NAME_LENGTH = 255  # RFC 5321, 4.5.3.1.2


class Prepared(NamedTuple):
    """``header`` and ``sender`` (of the envelope, never empty) as they travel; ``message_id`` with its ``<>``.

    ``seen``: the fields by which a mail that is sent again is known, as the client wrote them; empty when it brought no
    Message-ID. ``text``: what stood in the header and belongs in front of the body.
    """

    header: bytes
    sender: str
    null_sender: bool
    message_id: str
    seen: bytes = b""
    text: bytes = b""


@dataclass(frozen=True, slots=True)
class Trace:
    """What is the same in all messages of a session: the Received field up to the id, and names of ours."""

    received: bytes
    hostname: str
    postmaster: str

    @classmethod
    def make(
        cls,
        *,
        hostname: str,
        domain: str,
        client_name: str,
        client_address: str,
        protocol: str = "ESMTPSA",
        show_address: bool = False,
    ) -> Trace:
        """``protocol`` as in RFC 3848: ESMTPSA after a login; ESMTPS or ESMTP on the LAN listener."""
        client = _client(client_name, client_address, show_address)
        received = f"Received: {client}by {hostname} with {protocol} id "
        return cls(received.encode("ascii"), hostname, f"postmaster@{domain}")

    def in_utf8(self) -> Trace:
        """As it is for a message that came with SMTPUTF8 (RFC 6531, 4.3)."""
        return replace(self, received=self.received.replace(b" with ESMTP", b" with UTF8SMTP"))


def _client(name: str, address: str, show_address: bool) -> str:
    """The ``from`` clause with its space, or nothing when all it could say is what must not be said."""
    hidden = not show_address and _tells_address(name, address)
    name = name[:_CLIENT_NAME_LENGTH].rstrip(".")
    if not _CLIENT_NAME.fullmatch(name):
        name = "" if name.startswith("[") else re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")
    if not show_address:
        return f"from {name}\r\n\t" if name and not hidden else ""
    literal = f"[IPv6:{address}]" if ":" in address else f"[{address}]"
    return f"from {name or literal} ({literal})\r\n\t"


def _tells_address(name: str, address: str) -> bool:
    """Whether an EHLO name is an address, or holds the client's (``ip-203-0-113-7.isp.example``)."""
    if name.startswith("["):
        return True
    try:
        ip_address(name)
    except ValueError:
        pass
    else:
        return True
    digits = "[0-9a-f]+" if ":" in address else "[0-9]+"
    numbers = re.findall(digits, address.lower())
    spelled = ".".join(re.findall(digits, name.lower()))
    spellings = (".".join(numbers), ".".join(reversed(numbers)))
    return len(numbers) > 1 and any(f".{spelling}." in f".{spelled}." for spelling in spellings)


def prepare(
    header: bytes, *, account: Account, sender: str, trace: Trace, message_id: str, now: float, lenient: bool
) -> Prepared | Refusal:
    """The header as it travels. ``header`` ends with its blank line, or is the whole message if it has no body.

    ``sender`` is what MAIL said, already checked; empty for the null sender. ``message_id`` is our own id for the
    message, ``now`` the Unix time of its acceptance. ``lenient``: what is wrong with the header is mended.
    """
    fields, text = split(header, _NAMES), b""
    if lenient and (not fields or isinstance(fields, Refusal) or suspect(header)):
        header, text = mended(header)
        fields = split(header, _NAMES)
    if isinstance(fields, Refusal):
        return fields
    found: dict[bytes, list[Field]] = {}
    for field in fields:
        found.setdefault(field.name, []).append(field)
    hops = len(found.get(b"received", ()))
    if hops > limits.RECEIVED_FIELDS:
        return refuse(
            Reason.LOOP, f"554 5.4.6 The message went through {hops} servers: a loop; find who sends it back."
        )
    added = b""
    edits: list[Edit] = []
    if not plainly_own(account, header, found):
        problem = check_originators(account, header, found)
        if problem is None:
            edits = [edit for name in _ORIGINATORS for field in found.get(name, ()) for edit in in_ascii(header, field)]
        elif account.rewrite:
            added, edits = rewrite(account, header, found)
        else:
            return problem
    value, own, missing = _identity(header, found, edits, trace, message_id, now)
    seen = b"".join([header[one.start : one.end] for one in fields if one.name in _SEEN]) if own else b""
    for name in _HIDDEN & found.keys():
        edits += [Edit(field.start, field.end, b"") for field in found[name]]
    received = b"%b%b;\r\n\t%b\r\n" % (trace.received, message_id.encode("ascii"), date(now))
    travels_as = envelope_sender(account, sender, trace.postmaster)
    travels = b"".join((received, missing, added, _edited(header, edits)))
    return Prepared(travels, travels_as, not sender, value, seen, text)


def needs_utf8(prepared: Prepared, recipients: Iterable[str]) -> bool:
    """Whether a client that said SMTPUTF8 had reason to: some say it always, and any provider carries what is ASCII."""
    return not (prepared.header.isascii() and all(map(str.isascii, (prepared.sender, *recipients))))


def envelope_sender(account: Account, sender: str, postmaster: str) -> str:
    """What MAIL FROM towards the provider will say for a client's ``sender``; providers refuse the null sender."""
    if not sender:
        return postmaster
    if account.rewrite and not account.may_send_as(sender):
        return account.first_sender or postmaster
    return sender


def _identity(
    header: bytes, found: dict[bytes, list[Field]], edits: list[Edit], trace: Trace, message_id: str, now: float
) -> tuple[str, bool, bytes]:
    """The Message-ID's value, whether it is the client's own, and the fields to add for it and for Date; empty ones are
    replaced, not doubled.
    """
    added = b""
    for field in found.get(b"date", ()):
        if header[field.colon + 1 : field.end].isspace():
            edits.append(Edit(field.start, field.end, b""))
        else:
            break
    else:
        added = b"Date: %b\r\n" % date(now)
    for field in found.get(b"message-id", ()):
        text = header[field.colon + 1 : field.end]
        if not text.isspace():
            match = _MESSAGE_ID.search(text)
            return shown((match[0] if match else text.strip()).decode("latin-1"), MESSAGE_ID_KEPT), True, added
        edits.append(Edit(field.start, field.end, b""))
    value = f"<{message_id}@{trace.hostname}>"
    return value, False, b"%bMessage-ID: %b\r\n" % (added, value.encode("ascii"))


def _edited(header: bytes, edits: list[Edit]) -> bytes:
    if not edits:
        return header
    parts, position = [], 0
    for edit in sorted(edits):
        parts += [header[position : edit.start], edit.text]
        position = edit.end
    return b"".join([*parts, header[position:]])


def date(now: float) -> bytes:
    """The Unix time ``now`` as RFC 5322 writes it, in UTC."""
    return _date(int(now))


@lru_cache(maxsize=4)  # thousands of messages have the same second
def _date(second: int) -> bytes:
    return format_datetime(datetime.fromtimestamp(second, UTC)).encode("ascii")
