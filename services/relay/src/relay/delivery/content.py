"""The content of a message as it goes over the wire: control fields taken out, dots stuffed, and nothing else touched.

Only ``CRLF.CRLF`` ends the data (RFC 5321, 4.1.1.4), and only a dot right after a CRLF (or at the very start) is
doubled, as 4.5.2 says. Lone CR or LF never reach the spool; were they there they would travel unchanged, because a
signature covers them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable


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


def field_pattern(names: Iterable[str]) -> re.Pattern[bytes] | None:
    """Finds whole header fields by name, folded lines included; a name that ends in ``*`` stands for all that begin
    so.
    """
    parts = [
        re.escape(name[:-1].encode()) + rb"[!-9;-~]*" if name.endswith("*") else re.escape(name.encode())
        for name in names
    ]
    if not parts:
        return None
    return re.compile(rb"(?im)^(?:" + b"|".join(parts) + rb")[ \t]*:[^\n]*(?:\n[ \t][^\n]*)*(?:\n|\Z)")


def without_fields(piece: bytes, pattern: re.Pattern[bytes] | None) -> bytes:
    """``piece``, which begins with the whole header, without the fields that ``pattern`` finds."""
    if pattern is None:
        return piece
    end = piece.find(b"\r\n\r\n")
    header = piece if end < 0 else piece[: end + 2]
    if pattern.search(header) is None:
        return piece
    return pattern.sub(b"", header) + piece[len(header) :]
