"""Headers of devices that cannot be changed, mended: an alarm must not be lost because a blank line is (RFC 7103, 7).

For the LAN's port and for accounts whose sender is rewritten; everybody else's header is taken as it is or refused.
Nothing is thrown away but the line that begins a message in an mbox file, and a Bcc in the text. What comes out is a
well-formed header, judged like any other, and the text that has to go in front of the body:

- text without a header, also where it looks like fields that nobody knows ("Time: 12:00"), is all text;
- text right behind the last field (the blank line is missing) begins where no known field follows; in a message
  without any blank line at the first field that nobody knows, but behind From, without which it might be refused;
- a line in the midst of the header that is no field gets its colon, if it begins with a known field's name, and else
  continues the field before it, which it most likely does: it lacks the space in front;
- spaces before a colon go: they are obsolete, and to some programs the header ends there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from relay import limits

_LINES = re.compile(
    rb"([!-9;-~]++)[ \t]*+:[^\r\n]*+(?>(?:\r\n[ \t][^\r\n]*+)*)\r\n"  # a field
    rb"|[^\r\n]*+\r\n"
    rb"|(?s:.++)"  # what has no end is taken whole: tried again from each next byte, it would cost its square
)
_MBOX = re.compile(rb">?From [^ \r\n]++ ++(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) [^\r\n]*+\r\n")  # RFC 4155
_SPACED = re.compile(rb"(?m)^[!-9;-~]++[ \t]++:")
_NO_COLON = re.compile(rb"([!-9;-~]++)[ \t]++")
_KNOWN = frozenset(
    b"from to cc bcc subject date sender reply-to message-id in-reply-to references comments keywords mime-version "
    b"received return-path importance priority precedence auto-submitted organization user-agent dkim-signature".split()
)
_HIDDEN = frozenset({b"bcc", b"resent-bcc"})
_KNOWN_STARTS = (b"x-", b"content-", b"resent-", b"list-", b"arc-", b"authentication-", b"thread-", b"disposition-")


class _Part(NamedTuple):
    """A field with its folded lines, or one line that is none; ``name`` is in lower case, empty for the latter."""

    name: bytes
    start: int
    end: int

    @property
    def known(self) -> bool:
        return _is_known(self.name)


def suspect(header: bytes) -> bool:
    """Whether a header that can be read may need mending all the same: it has no end, or a space before a colon."""
    if not header.endswith(b"\r\n\r\n"):
        return True
    return (b" :" in header or b"\t:" in header) and _SPACED.search(header) is not None


def mended(head: bytes) -> tuple[bytes, bytes]:
    """The header in ``head``, with its blank line, and what is text. ``head`` ends with its blank line, or there is
    none: it is the whole message, or as much as a header may have. What is too large for a header stays as it is.
    """
    blank = head == b"\r\n" or head.endswith(b"\r\n\r\n")
    end = len(head) - 2 * blank
    parts = list(islice(_parts(head, end), limits.HEADER_LINES + 1))
    if parts and _MBOX.match(head):
        del parts[0]
    while parts and head[parts[0].start : parts[0].end].isspace():
        del parts[0]
    if not parts:
        return b"\r\n", b"" if blank else head
    stop = _stop(head, parts, blank=blank)
    if stop == len(parts) and parts[-1].end < end:
        return head, b""
    header = b"".join([_mended(head, part) for part in parts[:stop]])
    text = b"".join([head[part.start : part.end] for part in parts[stop:] if part.name not in _HIDDEN])
    return header + b"\r\n", text + head[parts[-1].end :] if text else b""


def _stop(head: bytes, parts: list[_Part], *, blank: bool) -> int:
    """How many parts are the header."""
    known = [at for at, part in enumerate(parts[: _delimiter(head, parts)]) if part.known]
    if not known or not parts[0].name:
        return 0
    if not blank:
        author = _author(head, parts)
        return next((at for at, part in enumerate(parts) if at > author and not part.known), len(parts))
    behind = known[-1] + 1
    return len(parts) if all(part.name for part in parts[behind:]) else behind


def _delimiter(head: bytes, parts: list[_Part]) -> int:
    """Which part is the first delimiter of a multipart text, behind which come other fields (RFC 2046, 5.1.1)."""
    told = head.lower().find(b"boundary=")
    if told < 0:
        return len(parts)
    found = (at for at, part in enumerate(parts) if part.start > told and head.startswith(b"--", part.start))
    return next(found, len(parts))


def _author(head: bytes, parts: list[_Part]) -> int:
    """Which part is the first From, if only fields come before it and it holds an address; else -1."""
    for at, part in enumerate(parts):
        if part.name == b"from":
            return at if b"@" in head[part.start : part.end] else -1
        if not part.name:
            break
    return -1


def _parts(head: bytes, end: int) -> Iterator[_Part]:
    for match in _LINES.finditer(head, 0, end):
        if head.endswith(b"\r\n", match.start(), match.end()):
            yield _Part((match[1] or b"").lower(), match.start(), match.end())


def _mended(head: bytes, part: _Part) -> bytes:
    line = head[part.start : part.end]
    if part.name:
        size = len(part.name)
        return line if line[size : size + 1] == b":" else line[:size] + line[line.index(b":") :]
    word = _NO_COLON.match(line)
    if word and _is_known(word[1].lower()):
        return word[1] + b": " + line[word.end() :]
    return b"" if line.isspace() else b" " + line.lstrip()


def _is_known(name: bytes) -> bool:
    return name in _KNOWN or name.startswith(_KNOWN_STARTS)
