"""``from = "rewrite"``: for programs that cannot be told whom to send as (``root``, ``www-data@nas``).

The account's first sender takes the place of what is not the account's in From and Resent-From; display names and
comments stay. A Sender or Resent-Sender that is not the account's is taken out. What was in From goes into Reply-To if
it is a full address and there is no Reply-To, so that answers still find their way. What is the account's stays.
"""

from __future__ import annotations

from typing import NamedTuple

from relay.accounts import Account
from relay.address import Bad
from relay.header import Field, Mailbox, address_span, mailboxes, names_only
from relay.refusal import Refusal
from relay.submission import originators
from relay.submission.policy import Fields, check_counts


class Edit(NamedTuple):
    """Put ``text`` in place of ``header[start:end]``."""

    start: int
    end: int
    text: bytes


def rewrite(account: Account, header: bytes, fields: Fields) -> tuple[bytes, list[Edit]] | Refusal:
    """Fields to add and edits to make; a refusal only for what no program sends by mistake (two From fields)."""
    problem = check_counts(fields)
    if problem:
        return problem
    assert account.first_sender is not None  # accounts_rules sees to it
    own = account.first_sender.encode("ascii")
    edits, reply_to = [], b""
    for field in (*fields.get(b"from", ()), *fields.get(b"resent-from", ())):
        value = header[field.colon + 1 : field.end]
        boxes = originators.read(value)
        if not isinstance(boxes, Bad) and boxes and all(account.may_send_as(box.address) for box in boxes):
            edits += in_ascii(header, field)
            continue
        edits.append(Edit(field.colon + 1, field.end, _replaced(value, own)))
        if field.name == b"from" and b"reply-to" not in fields:
            reply_to = _reply_to(account, boxes)
    for name in (b"sender", b"resent-sender"):
        strange = _strange(account, header, fields, name)
        for field in fields.get(name, ()):
            edits += [_gone(field)] if field in strange else in_ascii(header, field)
    added = reply_to if fields.get(b"from") else b"From: %b\r\n" % own
    return added, edits


def _strange(account: Account, header: bytes, fields: Fields, name: bytes) -> list[Field]:
    """Sender fields that name somebody else; without one, From counts (RFC 5322, 3.6.2)."""
    strange = []
    for field in fields.get(name, ()):
        boxes = originators.read(header[field.colon + 1 : field.end])
        if isinstance(boxes, Bad) or not boxes or not all(account.may_send_as(box.address) for box in boxes):
            strange.append(field)
    return strange


def in_ascii(header: bytes, field: Field) -> list[Edit]:
    """What writes the addresses of a field as they were judged: those domains as A-labels that are not."""
    new = originators.in_ascii(header[field.colon + 1 : field.end])
    return [] if new is None else [Edit(field.colon + 1, field.end, new)]


def _gone(field: Field) -> Edit:
    return Edit(field.start, field.end, b"")


def _replaced(value: bytes, own: bytes) -> bytes:
    """``value`` with ``own`` in place of the address, its display name and comments kept where that can be done."""
    new, kept = b"<%b>" % own, b""
    if names_only(value):
        kept = b"%b %b\r\n" % (value.rstrip(b" \t\r\n"), new)
    elif span := address_span(value):
        kept = value[: span[0]] + new + value[span[1] :]
    read = mailboxes(kept)
    # Whatever the display name held: what is sent has exactly this one address.
    alone = not isinstance(read, Bad) and [box.address for box in read] == [own.decode()]
    return kept if alone else b" %b\r\n" % own


def _reply_to(account: Account, boxes: list[Mailbox] | Bad) -> bytes:
    """The Reply-To field for the full addresses that are taken out of From; nothing if there are none."""
    if isinstance(boxes, Bad):
        return b""
    others = [box.address for box in boxes if box.address.isascii() and not account.may_send_as(box.address)]
    return b"Reply-To: %b\r\n" % ",\r\n ".join(others).encode() if others else b""
