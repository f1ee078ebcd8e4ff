"""The content of a message as it goes over the wire: control fields taken out, the provider's own put in, dots stuffed,
and nothing else touched.

Only ``CRLF.CRLF`` ends the data (RFC 5321, 4.1.1.4), and only a dot right after a CRLF (or at the very start) is
doubled, as 4.5.2 says. Lone CR or LF never reach the spool; were they there they would travel unchanged, because a
signature covers them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Iterable, Sequence

from relay import header, limits

# A message identifier (RFC 5322, 3.6.4), read leniently: what programs write between the brackets is of many kinds.
_ID = re.compile(rb"<[!-;=?-~]{1,400}>")
REFERENCE_ROOM = 1_000  # bytes that :func:`with_reference` adds at most: two identifiers, the field's name, line ends


class Stuffer:
    """Doubles leading dots in content that comes in pieces; a line end may be cut anywhere."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b"\r\n"  # the content starts at the start of a line

    def stuff(self, piece: bytes) -> bytes:
        """``piece`` as it is to be written."""
        if not piece:
            return piece
        tail = self._tail
        stuffed = piece.replace(b"\r\n.", b"\r\n..") if b"\r\n." in piece else piece
        if piece[0] == 0x2E and tail == b"\r\n":
            stuffed = b"." + stuffed
        elif tail[-1:] == b"\r" and piece.startswith(b"\n."):
            stuffed = b"\n." + stuffed[1:]
        self._tail = piece[-2:] if len(piece) > 1 else tail[-1:] + piece
        return stuffed

    def end(self) -> bytes:
        """The line end that is missing, if any, and the final dot."""
        return b".\r\n" if self._tail == b"\r\n" else b"\r\n.\r\n"


async def header_first(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """``pieces`` with the whole header in the first one, however they were cut: fields that steer a provider are looked
    for there only. A message without a blank line is all header.
    """
    head = bytearray()
    async for piece in pieces:
        seen = len(head)
        head += piece
        if header.end(head, seen) >= 0 or len(head) > limits.HEADER_KEPT:
            break
    yield bytes(head)
    async for piece in pieces:
        yield piece


def field_pattern(names: Iterable[str], keep: Iterable[str] = ()) -> re.Pattern[bytes] | None:
    """Finds whole header fields by name, folded lines included; a name that ends in ``*`` stands for all that begin
    so. With ``keep`` also every field that is not one of those.
    """
    parts = [_name(name) for name in names]
    kept = b"|".join([_name(name) for name in keep])
    parts += [rb"(?!(?:" + kept + rb")[ \t]*:)[!-9;-~]+"] if kept else []
    if not parts:
        return None
    return re.compile(rb"(?im)^(?:" + b"|".join(parts) + rb")[ \t]*:[^\n]*(?:\n[ \t][^\n]*)*(?:\n|\Z)")


def _name(name: str) -> bytes:
    return re.escape(name[:-1].encode()) + rb"[!-9;-~]*" if name.endswith("*") else re.escape(name.encode())


def without_fields(piece: bytes, pattern: re.Pattern[bytes] | None) -> bytes:
    """``piece``, which begins with the whole header, without the fields that ``pattern`` finds."""
    if pattern is None:
        return piece
    end = piece.find(b"\r\n\r\n")
    header = piece if end < 0 else piece[: end + 2]
    if pattern.search(header) is None:
        return piece
    return pattern.sub(b"", header) + piece[len(header) :]


def idempotency_key(message_id: str, recipients: Iterable[str]) -> str:
    """What names one sending of a message to these recipients, the same whenever it is repeated.

    The message's id alone would not do: the parts of a message that goes out in several, or the recipients that a
    provider put off, would be taken for repetitions of the first.
    """
    names = "\n".join(sorted(recipients)).encode()
    return f"{message_id}-{hashlib.blake2b(names, digest_size=8).hexdigest()}"


def fields(headers: Sequence[tuple[str, str]], key: str) -> bytes:
    """The header fields of a provider, ``{id}`` in a value standing for ``key``."""
    return "".join([f"{name}: {value.replace('{id}', key)}\r\n" for name, value in headers]).encode("ascii")


def with_reference(piece: bytes, message_id: str) -> bytes:
    """``piece``, which begins with the whole header, with ``message_id`` at the end of its References.

    For providers that replace the Message-ID: a reply refers to the id that they give and to the References that it
    finds, so the thread holds for whoever knows the message by its first id (RFC 5322, 3.6.4). An id that is none, and
    one that is there already, change nothing.
    """
    own, end = message_id.encode("utf-8", "replace"), piece.find(b"\r\n\r\n")
    if _ID.fullmatch(own) is None or end < 0:
        return piece
    header = piece[: end + 2]
    found = _REFERENCES.search(header)
    if found is None:
        return header + b"References: " + _parent(header) + own + piece[end:]
    if own in found[0]:
        return piece
    return header[: found.start()] + found[0].rstrip() + b"\r\n " + own + b"\r\n" + piece[found.end() :]


def with_short_fields(piece: bytes, most: int) -> bytes:
    """``piece``, which begins with the whole header, for a provider that takes no field whose value is empty or over
    ``most`` bytes: without such X- fields, which nobody reads who matters, and with the first and the last of the
    References that fit (RFC 5537, 3.4.4). What else is too long it may refuse.
    """
    end = piece.find(b"\r\n\r\n")
    header = piece if end < 0 else piece[: end + 2]

    def fitting(field: re.Match[bytes]) -> bytes:
        name, _, value = field[0].partition(b":")
        if 0 < len(value.strip()) <= most:
            return field[0]
        return b"" if name[:2].lower() == b"x-" else _shortened(_ID.findall(value), most)

    changed = _LONG.sub(fitting, header)
    return piece if changed == header else changed + piece[len(header) :]


def _shortened(ids: Sequence[bytes], most: int) -> bytes:
    """References of the first of ``ids`` and as many of the last as ``most`` bytes hold."""
    first, last, left = ids[:1], list[bytes](), most - sum(map(len, ids[:1]))
    for one in reversed(ids[1:]):
        left -= len(one) + len(b"\r\n ")
        if left < 0:
            break
        last.insert(0, one)
    return b"References: " + b"\r\n ".join([*first, *last]) + b"\r\n" if ids else b""


def _parent(header: bytes) -> bytes:
    """What the References would begin with: the message that this one answers, if it says so."""
    field = _IN_REPLY_TO.search(header)
    answered = _ID.search(field[0]) if field else None
    return answered[0] + b"\r\n " if answered else b""


def _one_field(name: str) -> re.Pattern[bytes]:
    pattern = field_pattern((name,))
    assert pattern is not None
    return pattern


_REFERENCES, _IN_REPLY_TO = _one_field("References"), _one_field("In-Reply-To")
_LONG = re.compile(rb"(?im)^(?:X-[!-9;-~]*|References)[ \t]*:[^\n]*(?:\n[ \t][^\n]*)*(?:\n|\Z)")
