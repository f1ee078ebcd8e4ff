"""Who a message says it is from, where the domain is written in another script, however the program wrote it.

Seen: in UTF-8 as it stands; by Python's EmailMessage as ``anna@=?utf-8?q?m=C3=BCnchen?=.example``; by older Python and
PHP as one encoded word that holds the whole field. RFC 2047 allows neither of the latter, and readers differ in what
they show; so what travels is the address in the form in which it was judged, its domain as A-labels.
"""

from __future__ import annotations

import re

from relay import encoded_words
from relay.address import Bad
from relay.header import Mailbox, mailboxes

_WHOLE = re.compile(rb"\s*+(?:=\?[^?\s]*+\?[^?\s]*+\?[^?\s]*+\?=\s*+)++")
_DOMAIN = re.compile(rb'(?<=@)[^\s@<>()\[\],;:"\\]++')


def read(value: bytes) -> list[Mailbox] | Bad:
    """As :func:`relay.header.mailboxes`, of what stands behind a field's colon; its encoded domains are read too."""
    return mailboxes(_readable(value))


def in_ascii(value: bytes) -> bytes | None:
    """``value``, which :func:`read` has read, with the addresses as they were read; ``None``: it says that already."""
    text = _readable(value)
    boxes = mailboxes(text)
    if isinstance(boxes, Bad):
        return None
    parts, position = [], 0
    for box in sorted(boxes, key=lambda box: box.start):
        source, address = text[box.start : box.end], box.address.encode()
        if address.rpartition(b"@")[2] not in source:
            source = b"<%b>" % address if source.startswith(b"<") else address
        parts += [text[position : box.start], source]
        position = box.end
    new = b"".join([*parts, text[position:]])
    if value.isascii() and not new.isascii():  # a name that was encoded together with its address
        new = b" %b\r\n" % b", ".join([box.address.encode() for box in boxes])
    return None if new == value else new


def _readable(value: bytes) -> bytes:
    """``value``; where it cannot be read and holds encoded words in the wrong place, with those decoded."""
    if b"=?" not in value or not isinstance(mailboxes(value), Bad):
        return value
    if _WHOLE.fullmatch(value):
        text = _decoded(value.strip())
        return value if text.isascii() else b" %b\r\n" % text  # ASCII is encoded to hide it, and for nothing else
    return _DOMAIN.sub(lambda domain: _decoded(domain[0]), value)


def _decoded(raw: bytes) -> bytes:
    """``raw`` with its encoded words decoded; as it is where that would not stay on its line."""
    text = encoded_words.decode(raw.decode("utf-8", "replace"))
    return text.encode("utf-8", "replace") if text.isprintable() else raw
