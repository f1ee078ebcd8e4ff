"""The bytes after DATA: where the message ends, and what it is without its transparency.

Pure: blocks of bytes go in, pieces of the message come out; how the input was cut into blocks makes no difference. Only
the five bytes CRLF.CRLF end a message (RFC 5321, 4.1.1.4), where the CRLF of the DATA line counts as the first.
Whatever some other server might take for an end or for a line's end (bare CR, bare LF, NUL) is what SMTP smuggling is
made of (CVE-2023-51764 and its kin): it is refused, or, for old scripts and printers that are known to be our own,
mended to CRLF. A dot is taken away after a CRLF only, before anything is mended: a client that writes bare LF does not
double its dots either (curl does not).

A refused message is read to its end all the same, because the client goes on sending it: :attr:`Decoder.fault` says
what is wrong, :meth:`Decoder.feed` then returns nothing more, and the end is still found where it is and nowhere else.

Ordinary text costs a handful of searches in C for each block; Python looks at single lines only where it must.
"""

from __future__ import annotations

import re
from enum import Enum

from relay import limits
from relay.refusal import Reason, Refusal

_ENDINGS = re.compile(rb"\r\n|\r|\n")
_WINDOW = limits.BODY_LINE // 2  # longer blocks are cut, so that a line over the limit always spans several


class Fault(Enum):
    """What makes a message unacceptable; the value is its rank: a higher one replaces a lower one."""

    TOO_BIG = 1
    LONG_LINE = 2
    NUL = 3
    BARE_CR = 4
    BARE_LF = 5


FAULTS = {
    Fault.LONG_LINE: Refusal(
        f"554 5.6.0 A line is longer than {limits.BODY_LINE} bytes; break it, or encode that part in base64.",
        Reason.LINE,
    ),
    Fault.NUL: Refusal("554 5.6.0 There is a NUL byte in the message; encode binary parts in base64.", Reason.NUL),
    Fault.BARE_CR: Refusal("550 5.5.2 There is a bare CR in the message; lines must end in CRLF.", Reason.NEWLINE),
    Fault.BARE_LF: Refusal("550 5.5.2 There is a bare LF in the message; lines must end in CRLF.", Reason.NEWLINE),
}


class Decoder:
    """Takes one message out of the stream.

    ``limit``: the most bytes that the message may have, transparency removed. ``normalize``: mend bare CR and bare LF
    instead of refusing them; they still end nothing.
    """

    __slots__ = ("_held", "_limit", "_line", "_normalize", "_start", "done", "fault", "rest", "size")

    def __init__(self, limit: int, *, normalize: bool = False) -> None:
        self.done = False  # CRLF.CRLF was read
        self.rest = b""  # what came after it: the client's next commands
        self.fault: Fault | None = None
        self.size = 0  # bytes of the message so far, also of what was not returned
        self._limit = limit
        self._normalize = normalize
        self._start = True  # the next byte follows a CRLF
        self._held = b""  # "\r", "." or ".\r": what it means depends on the next byte
        self._line = 0  # bytes of the line that is not yet ended

    def feed(self, block: bytes) -> bytes:
        """The part of the message that ``block`` (and what was held back before) settles; empty after a fault."""
        if len(block) > _WINDOW:
            return self._feed_long(block)
        if self._held:
            block, self._held = self._held + block, b""
        # One search for both, a doubled dot and the end; none at all in base64.
        dot = block.find(b"\r\n.") if b"." in block else -1
        if dot >= 0 or (self._start and block[:1] == b"."):
            block = self._cut_at_end(block, dot)
        if not self.done:
            block = self._hold_back(block)
        return self._settle(block, 0 <= dot < len(block) - 2) if block else b""

    def _feed_long(self, block: bytes) -> bytes:
        pieces = []
        for at in range(0, len(block), _WINDOW):
            if self.done:
                self.rest += block[at:]
                break
            pieces.append(self.feed(block[at : at + _WINDOW]))
        return b"".join(pieces)

    def _cut_at_end(self, block: bytes, dot: int) -> bytes:
        if self._start and block.startswith(b".\r\n"):
            end = 0
        elif dot < 0 or (end := block.find(b"\r\n.\r\n", dot) + 2) < 2:
            return block
        self.done = True
        self.rest = block[end + 3 :]
        return block[:end]

    def _hold_back(self, block: bytes) -> bytes:
        """``block`` without the bytes at its end that may be half a line ending or half the end of the message."""
        if block.endswith(b"\r"):
            held = 2 if block.endswith(b"\r\n.\r") or (self._start and block == b".\r") else 1
        elif block.endswith(b"\r\n.") or (self._start and block == b"."):
            held = 1
        else:
            return block
        self._held = block[-held:]
        return block[:-held]

    def _settle(self, block: bytes, stuffed: bool) -> bytes:
        """``stuffed``: some line of ``block`` but the first begins with a dot."""
        crlf = block.count(b"\r\n")
        # Counted by what is missing after a replace, which is twice as fast as bytes.count for a single byte.
        bare_lf = len(block) - len(block.replace(b"\n", b"")) != crlf
        bare = bare_lf or len(block) - len(block.replace(b"\r", b"")) != crlf
        if bare and not self._normalize:
            self._refuse(Fault.BARE_LF if bare_lf else Fault.BARE_CR)
        if b"\0" in block:
            self._refuse(Fault.NUL)
        start, self._start = self._start, block.endswith(b"\r\n")
        if stuffed:
            block = block.replace(b"\r\n.", b"\r\n")
        if start and block[:1] == b".":
            block = block[1:]
        if bare and self._normalize:
            block = _ENDINGS.sub(b"\r\n", block)
            crlf = 1
        self._measure(block, crlf)
        return b"" if self.fault else block

    def _measure(self, block: bytes, crlf: int) -> None:
        self.size += len(block)
        if self.size > self._limit:
            self._refuse(Fault.TOO_BIG)
        if self._line + (block.find(b"\r\n") if crlf else len(block)) > limits.BODY_LINE:
            self._refuse(Fault.LONG_LINE)
        self._line = len(block) - block.rfind(b"\r\n") - 2 if crlf else self._line + len(block)

    def _refuse(self, fault: Fault) -> None:
        if self.fault is None or self.fault.value < fault.value:
            self.fault = fault
