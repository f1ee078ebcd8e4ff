"""What stands in a From field for some program to take it for another address than ours is; no honest client writes it.

RFC 5322 has one reading of ``"a\\"<boss@bank.example>"<anna@example.org>``, and the sender is anna. Programs that know
less of it than we do (they end a quoted string at the first quote, take comments for names, decode encoded words before
they look for brackets) find boss there: PHP's mailparse, Horde, postal-mime. A display name is free to hold an address,
but only where all of them see that it is a name: in a quoted string right before its angle bracket, or in plain encoded
words. Linear in the size of the value.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay import encoded_words

COMMENT = "a comment holds an at sign or an angle bracket; leave that out"
QUOTED = 'an at sign or an angle bracket in quotes belongs into a name such as "anna@home" <anna@example.org>, alone'
WORDS = "an encoded word holds an at sign together with a comma, a semicolon, a quote or an angle bracket"
UNCLEAR = "an encoded word (=?...?=) is not well formed, and programs read different things in it"
_SPACE = b" \t\r\n"
_MARKS = '<>,;"\0\r\n'  # the last three end a name, to programs in C and to those that decode before they unfold

Span = tuple[int, int]


def in_words(value: bytes) -> str:
    """What is wrong with the encoded words of ``value``; nothing if they can only be read as names."""
    if b"=?" not in value:
        return ""
    hidden = encoded_words.contents(value.decode("utf-8", "replace"))
    if hidden is None:
        return UNCLEAR
    return WORDS if "@" in hidden and any(mark in hidden for mark in _MARKS) else ""


def in_text(value: bytes, comments: Sequence[Span], quoted: Sequence[Span]) -> str:
    """What is wrong with its comments and quoted strings, given where they are; nothing if they are what they seem."""
    if any(_tells(value[start:end]) for start, end in comments):
        return COMMENT
    telling = [span for span in quoted if _tells(value[slice(*span)])]
    if not telling:
        return ""
    escapes = any(b'\\"' in value[slice(*span)] or b"\\\\" in value[slice(*span)] for span in quoted)
    return QUOTED if comments or escapes or not all(_stands_alone(value, *span) for span in telling) else ""


def _tells(text: bytes) -> bool:
    return b"@" in text or b"<" in text or b">" in text


def _stands_alone(value: bytes, start: int, end: int) -> bool:
    """Whether the quoted string is the whole of a name: between the beginning of a mailbox and its angle bracket."""
    while start and value[start - 1] in _SPACE:
        start -= 1
    while value[end : end + 1] and value[end] in _SPACE:
        end += 1
    return (not start or value[start - 1] in b",:;") and value.startswith(b"<", end)
