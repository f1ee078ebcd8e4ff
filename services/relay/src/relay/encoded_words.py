"""Encoded words (RFC 2047) read for people: ``=?utf-8?q?Gr=C3=BC=C3=9Fe?=`` is *Grüße*.

``email.header.decode_header`` is not used: it looks for the end of a word from each beginning anew, so that a field of
many beginnings without an end costs its square: minutes in the event loop. :func:`decode` is linear, never raises, and
asks Python only for the charsets of a fixed list: each unknown name that is looked up stays in memory for ever, and
``idna`` and ``punycode`` are among those that are known, which are quadratic too.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from encodings.aliases import aliases
from typing import NamedTuple

_BEGINNING = re.compile(r"=\?([^?\s]++)\?([bBqQ])\?")  # linear: each try ends at the next "?"
_BASE64 = re.compile(r"([A-Za-z0-9+/]*+)={0,3}")
_OCTET = re.compile(rb"=([0-9A-Fa-f]{2})")
_CHARSETS = frozenset(
    name for pair in aliases.items() for name in pair if not pair[1].endswith(("_codec", "rot_13", "mbcs"))
)


class _Word(NamedTuple):
    start: int
    end: int
    charset: str
    octets: bytes | None  # None: it cannot be read
    plain: bool  # whether all programs read the same in it


def decode(text: str) -> str:
    """``text`` with its encoded words decoded; what is none, or in no charset that we know, stays as it is.

    Octets that make no characters become U+FFFD. A character may be cut by the end of a word (RFC 2047 forbids it,
    many programs do it): words of one charset side by side are put together first.
    """
    shown, octets, charset, done = list[str](), bytearray(), "ascii", 0
    for word in _words(text):
        if word.octets is None or word.charset not in _CHARSETS:
            continue
        between = text[done : word.start]
        if done and between.isspace():
            between = ""  # between two encoded words: no part of the text (RFC 2047, section 6.2)
        if between or word.charset != charset:
            shown += [octets.decode(charset, "replace"), between]
            octets, charset = bytearray(), word.charset
        octets += word.octets
        done = word.end
    return "".join([*shown, octets.decode(charset, "replace"), text[done:]])


def contents(text: str) -> str | None:
    """What stands in the encoded words of ``text`` and nothing else; in charsets that we do not know read as ASCII.

    ``None`` if programs are known to read different things in one of them: another one begins in it (PHP and Perl find
    that one), or its base64 goes on behind the padding or has a letter too many (they read it all the same).
    """
    words = list(_words(text))
    if not all(word.plain for word in words):
        return None
    return "".join(
        (word.octets or b"").decode(word.charset if word.charset in _CHARSETS else "ascii", "replace") for word in words
    )


def _words(text: str) -> Iterator[_Word]:
    position = 0
    while beginning := _BEGINNING.search(text, position):
        end = text.find("?=", beginning.end())
        if end < 0:
            return  # nor has any later one an end: here lies the square
        position = end + 2
        charset = beginning[1].partition("*")[0].lower().replace("-", "_")  # a language may follow (RFC 2231)
        content = text[beginning.end() : end]
        octets = _octets(beginning[2], content.encode("utf-8", "replace"))
        alone = not (_BEGINNING.search(content) or _BEGINNING.match(text, end + 1))
        plain = alone and (beginning[2] in "qQ" or _is_base64(content))
        yield _Word(beginning.start(), position, charset, octets, plain)


def _is_base64(content: str) -> bool:
    match = _BASE64.fullmatch("".join(content.split()))  # long ones are folded by some
    return match is not None and len(match[1]) % 4 != 1


def _octets(encoding: str, content: bytes) -> bytes | None:
    if encoding in "qQ":
        return _OCTET.sub(lambda match: bytes.fromhex(match[1].decode()), content.replace(b"_", b" "))
    try:
        return binascii.a2b_base64(content + b"===")  # padding is forgotten by some; too much of it is ignored
    except binascii.Error:
        return None
