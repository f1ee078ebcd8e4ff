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
from relay.submission import originators
from relay.submission.policy import Fields, too_long


class Edit(NamedTuple):
    """Put ``text`` in place of ``header[start:end]``."""

    start: int
    end: int
    text: bytes


def rewrite(account: Account, header: bytes, fields: Fields) -> tuple[bytes, list[Edit]]:
    """Fields to add and edits to make. Of several From fields or Senders the first is kept; what is too long to be
    read is replaced unread.
    """
    assert account.first_sender is not None  # accounts_rules sees to it
    own = account.first_sender.encode("ascii")
    unread = too_long(fields)
    froms, senders = fields.get(b"from", ()), fields.get(b"sender", ())
    edits, reply_to = [_gone(field) for field in (*froms[1:], *senders[1:])], b""
    for field in (*froms[:1], *fields.get(b"resent-from", ())):
        value = header[field.colon + 1 : field.end]
        boxes = Bad("it is too long") if unread else originators.read(value)
        if _all_own(account, boxes):
            edits += in_ascii(header, field)
            continue
        edits.append(Edit(field.colon + 1, field.end, b" %b\r\n" % own if unread else _replaced(value, own)))
        if field.name == b"from" and b"reply-to" not in fields:
            reply_to = _reply_to(account, boxes)
    for field in (*senders[:1], *fields.get(b"resent-sender", ())):  # without one, From counts (RFC 5322, 3.6.2)
        boxes = Bad("it is too long") if unread else originators.read(header[field.colon + 1 : field.end])
        edits += in_ascii(header, field) if _all_own(account, boxes) else [_gone(field)]
    return reply_to if froms else b"From: %b\r\n" % own, edits


def _all_own(account: Account, boxes: list[Mailbox] | Bad) -> bool:
    return not isinstance(boxes, Bad) and bool(boxes) and all(account.may_send_as(box.address) for box in boxes)


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
