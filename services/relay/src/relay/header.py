"""The header of a message, read on the original bytes and never built anew.

:func:`split` finds the fields; :func:`mailboxes` reads the addresses of one field that says who wrote a message.
Promises: the work is linear in the size; hostile input gives a refusal and never an exception; a field is taken for
what every other program takes it for, whatever the letter case of its name, the spaces before its colon, its folding.
Where programs differ (a line without a colon, a bare CR or LF, addresses outside angle brackets) the message is refused
or every reading of it has to be allowed. The ``email`` package is not used: it is slow, and it re-serialises.
RFC 5322; encoded words (RFC 2047) stand only for display names here, so none can ever become an address.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import NamedTuple

from relay import disguise, limits
from relay.address import SIMPLE, Bad, parse
from relay.refusal import Reason, Refusal, refuse

# Groups are made atomic and not repeated possessively: CPython before 3.11.5 forgets to go back to the last whole
# repetition (gh-106052), and would read past the end of a field.
_FIELD_PATTERN = rb"([!-9;-~]++)([ \t]*+:[^\r\n]*+(?>(?:\r\n[ \t][^\r\n]*+)*)\r\n)"
_FIELD = re.compile(_FIELD_PATTERN)
# What is no field is taken whole up to the end: tried again from each next byte, a long line would cost its square.
_FIELDS = re.compile(_FIELD_PATTERN + rb"|(?s:.++)")
_SIMPLE_LIST = re.compile(
    rb"[ \t]*+"
    rb'(?:(?:[A-Za-z0-9!#$%&\'*+/=?^_`{|}~.\x80-\xff \t-]*+|"[^"\\\x00-\x1f\x7f]*+"[ \t]*+)(<))?'  # display name
    rb"(" + SIMPLE.encode() + rb")"
    rb"(?(1)>)[ \t]*+\r\n"
)
_TOKEN = re.compile(
    rb"(?P<space>[ \t\r\n]++)"
    rb'|(?P<quoted>"(?>(?:[^"\\\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\\[^\x00-\x1f\x7f])*)")'
    rb"|(?P<literal>\[[^\[\]\\\x00-\x20\x7f]*+\])"
    rb"|(?P<special>[<>:;,@])"
    rb"|(?P<atom>[A-Za-z0-9!#$%&'*+/=?^_`{|}~.\x80-\xff-]++)"
)
_COMMENT_PART = re.compile(rb"[^()\\\x00-\x08\x0b\x0c\x0e-\x1f\x7f]++|\\[^\x00-\x1f\x7f]")
TOO_BIG = refuse(
    Reason.HEADER_SIZE, f"552 5.3.4 The header is larger than {limits.HEADER_SIZE} bytes; send a shorter one."
)


class Field(NamedTuple):
    """One field: ``name`` in lower case; the original is ``header[start:end]``, its value ``header[colon + 1:end]``."""

    name: bytes
    start: int
    colon: int
    end: int


class Mailbox(NamedTuple):
    """One address in a field's value. ``start`` and ``end`` span it there, angle brackets included if it has some."""

    address: str
    start: int
    end: int


def end(data: bytes | bytearray, start: int = 0) -> int:
    """Where the header of the message ``data`` ends, just behind its blank line; -1 if that has not come yet.

    ``start`` is how much of ``data`` an earlier call has seen. A message that begins with the blank line has an empty
    header; one whose end comes without any blank line is all header.
    """
    if data.startswith(b"\r\n"):
        return 2
    found = data.find(b"\r\n\r\n", max(0, start - 3))
    return found + 4 if found >= 0 else -1


def split(header: bytes, names: Container[bytes] | None = None) -> list[Field] | Refusal:
    """The fields of ``header`` (with or without its blank line) in order; with ``names`` (lower case), those only.

    The whole header is read all the same. That it is returned in part is for speed: this runs for every message.
    """
    if len(header) > limits.HEADER_SIZE:
        return TOO_BIG
    if header.count(b"\n") - header.endswith(b"\r\n\r\n") > limits.HEADER_LINES:
        return refuse(
            Reason.HEADER_SIZE, f"552 5.3.4 The header has more than {limits.HEADER_LINES} lines; send a shorter one."
        )
    fields = []
    position = 0
    for name, rest in _FIELDS.findall(header):
        if not name:
            break
        start, colon = position, position + len(name)
        position = colon + len(rest)
        name = name.lower()
        if names is None or name in names:
            if rest[0] != 58:  # spaces before the colon: obsolete, and yet the same field
                colon += rest.index(b":")
            fields.append(Field(name, start, colon, position))
    if position == len(header) or (position == len(header) - 2 and header.endswith(b"\r\n")):
        return fields
    return _bad_line(header)


def _bad_line(header: bytes) -> Refusal:
    position, line = 0, 1
    while match := _FIELD.match(header, position):
        position = match.end()
        line += match[0].count(b"\n")
    text = header[position:].partition(b"\n")[0]
    if text[:1] in (b" ", b"\t"):
        why = "begins with a space but continues nothing"
    elif b":" not in text:
        why = "has no colon; put a blank line between header and text"
    else:
        why = "is no field: a name in ASCII without spaces, a colon, text, CRLF"
    return refuse(Reason.HEADER, f"550 5.6.0 Line {line} of the header {why}.")


def sole_address(header: bytes, field: Field) -> str:
    """The one address in ``field`` when it has the form that nearly all have, else nothing; for speed."""
    simple = _SIMPLE_LIST.fullmatch(header, field.colon + 1, field.end)
    if not simple or b"=?" in simple[2] or disguise.in_words(simple[0]):
        return ""
    return simple[2].decode("ascii")


def mailboxes(value: bytes) -> list[Mailbox] | Bad:
    """The mailboxes in ``value``, what stands behind a field's colon; the members of groups are among them.

    An address that stands where a display name belongs (``a@b <c@d>``) is returned as well: which of the two another
    program shows cannot be known, so both have to be allowed. What only pretends to be a name is refused
    (:mod:`relay.disguise`).
    """
    if problem := disguise.in_words(value):
        return Bad(problem)
    simple = _SIMPLE_LIST.fullmatch(value)
    if simple and b"=?" not in simple[2]:
        start, stop = simple.span(2)
        around = 1 if simple[1] else 0
        return [Mailbox(simple[2].decode("ascii"), start - around, stop + around)]
    comments: list[tuple[int, int]] = []
    tokens = _tokens(value, comments)
    if isinstance(tokens, Bad):
        return tokens
    quoted = [(token.start, token.end) for token in tokens if token.kind == "quoted"]
    if problem := disguise.in_text(value, comments, quoted):
        return Bad(problem)
    return _read_list(tokens)


class _Token(NamedTuple):
    kind: str
    text: bytes
    start: int
    end: int


def _tokens(value: bytes, comments: list[tuple[int, int]] | None = None) -> list[_Token] | Bad:
    """Words and specials of ``value``; not white space, and not comments: their spans go to ``comments``."""
    tokens, position = [], 0
    while position < len(value):
        if value[position] == 40:  # "("
            start, position = position, _skip_comment(value, position)
            if position < 0:
                return Bad("a comment has no end, or a control character in it")
            if comments is not None:
                comments.append((start, position))
            continue
        match = _TOKEN.match(value, position)
        if not match:
            return Bad("a quote, a bracket or a control character stands in the wrong place")
        if match.lastgroup and match.lastgroup != "space":
            kind = match[0].decode() if match.lastgroup == "special" else match.lastgroup
            tokens.append(_Token(kind, match[0], match.start(), match.end()))
        position = match.end()
    return tokens


def _skip_comment(value: bytes, position: int) -> int:
    """Where the comment that begins at ``position`` ends (they nest), or -1."""
    depth = 0
    while position < len(value):
        char = value[position]
        if char == 40:
            depth, position = depth + 1, position + 1
        elif char == 41:
            depth, position = depth - 1, position + 1
            if not depth:
                return position
        else:
            part = _COMMENT_PART.match(value, position)
            if not part:
                return -1
            position = part.end()
    return -1


def names_only(value: bytes) -> bool:
    """Whether ``value`` is a display name without any address (``From: Cron Daemon``)."""
    tokens = _tokens(value)
    return not isinstance(tokens, Bad) and {token.kind for token in tokens} <= {"atom", "quoted"} and bool(tokens)


def address_span(value: bytes) -> tuple[int, int] | None:
    """Where the one thing stands in ``value`` that is meant as an address, right or wrong; brackets included.

    ``Daemon <root@nas>``, ``root@nas (Daemon)``; ``None`` when there is none, or more than one.
    """
    tokens = _tokens(value)
    if isinstance(tokens, Bad) or any(token.kind in {",", ";", ":"} for token in tokens):
        return None
    marks = [token for token in tokens if token.kind in {"<", ">"}]
    if not marks and any(token.kind == "@" for token in tokens):
        return tokens[0].start, tokens[-1].end
    return (marks[0].start, marks[1].end) if [mark.kind for mark in marks] == ["<", ">"] else None


def _read_list(tokens: list[_Token]) -> list[Mailbox] | Bad:
    """Cut the list at its commas and at the colon and semicolon of each group; read each piece."""
    found: list[Mailbox] = []
    piece: list[_Token] = []
    in_group, in_angle = False, False
    for token in [*tokens, _Token(",", b",", 0, 0)]:
        kind = token.kind
        if kind in {"<", ">"}:
            in_angle = kind == "<"
        if in_angle or kind not in {",", ":", ";"}:
            piece.append(token)
            continue
        if kind == ":":
            if in_group or not piece or any(part.kind not in {"atom", "quoted"} for part in piece):
                return Bad("a colon stands in the wrong place")
            in_group, piece = True, []
            continue
        if kind == ";" and not in_group:
            return Bad("addresses are separated by commas, not by semicolons")
        in_group = in_group and kind != ";"
        problem = _read_piece(piece, found)
        if problem:
            return problem
        piece = []
    return Bad("a group or an angle bracket has no end") if in_group or in_angle else found


def _read_piece(piece: list[_Token], found: list[Mailbox]) -> Bad | None:
    """Read ``display name <address>`` or ``address``; an empty piece (``a@b,,c@d``) is none (RFC 5322, 4.4)."""
    kinds = [token.kind for token in piece]
    if "<" in kinds:
        opened = kinds.index("<")
        if kinds[-1] != ">" or kinds.count("<") + kinds.count(">") != 2:
            return Bad("angle brackets stand in the wrong place")
        if kinds[opened + 1 : opened + 2] == ["@"]:
            return Bad("source routes are not taken; write the address alone")
        inside = _read_address(piece[opened + 1 : -1])
        if isinstance(inside, Bad):
            return inside
        found.append(Mailbox(inside, piece[opened].start, piece[-1].end))
        piece, kinds = piece[:opened], kinds[:opened]
        if "@" not in kinds:
            return None
    if piece:
        bare = _read_address(piece)
        if isinstance(bare, Bad):
            return bare
        found.append(Mailbox(bare, piece[0].start, piece[-1].end))
    return None


def _read_address(tokens: list[_Token]) -> str | Bad:
    """``local @ domain`` out of its tokens; only spaces and comments next to the ``@`` are bridged."""
    if [token.kind for token in tokens] not in _SHAPES:
        return Bad("an address looks like name@example.org, a name before it like Anna <anna@example.org>")
    if any(b"=?" in token.text for token in tokens):
        return Bad("an encoded word is not an address")
    return parse(b"".join(token.text for token in tokens), utf8=True)


_SHAPES = (["atom", "@", "atom"], ["quoted", "@", "atom"], ["atom", "@", "literal"], ["quoted", "@", "literal"])
