"""DNS records as values, and when two of them say the same thing.

Cloudflare gives TXT content back quoted, split, or as it was written: contents are compared unquoted and joined
(RFC 7208, section 3.3) and written quoted. Host names are compared without case and final dot.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from common.names import BadName, ascii_name

AUTOMATIC = 1  # the TTL that Cloudflare chooses
STRING_LENGTH = 255  # bytes of one character-string, RFC 1035, section 3.3
_HOSTS = frozenset({"CNAME", "MX", "NS", "PTR"})
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"\s*', re.DOTALL)
_ESCAPE = re.compile(r"\\(\d{3}|.)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One record. ``content`` of TXT is the text itself, of MX the host; ``id`` and ``locked`` come from Cloudflare."""

    type: str
    name: str
    content: str
    priority: int | None = None
    ttl: int = AUTOMATIC
    proxied: bool = False
    comment: str = ""
    id: str = ""
    locked: bool = False

    @property
    def is_host(self) -> bool:
        """Whether the content is another host's name."""
        return self.type in _HOSTS

    @property
    def value(self) -> str:
        """The content in the one form that is compared."""
        return self.content.rstrip(".").lower() if self.is_host else self.content

    @property
    def key(self) -> tuple[str, str, str]:
        return self.type, self.name, self.value

    def body(self) -> dict[str, Any]:
        """What Cloudflare is sent to create it."""
        body: dict[str, Any] = {"type": self.type, "name": self.name, "content": self.wire, "ttl": self.ttl}
        if self.type in ("A", "AAAA", "CNAME"):
            body["proxied"] = self.proxied
        if self.priority is not None:
            body["priority"] = self.priority
        if self.comment:
            body["comment"] = self.comment
        return body

    @property
    def wire(self) -> str:
        """The content as zone files and Cloudflare take it."""
        return quote(self.content) if self.type == "TXT" else self.content

    def __str__(self) -> str:
        priority = "" if self.priority is None else f"{self.priority} "
        return f"{priority}{self.wire}{' (proxied)' if self.proxied else ''}"


def read(item: dict[str, Any]) -> Record:
    """A record as Cloudflare's API lists it. Raises KeyError or TypeError on anything else."""
    meta = item.get("meta") or {}
    kind, content = str(item["type"]), str(item.get("content") or "")
    return Record(
        type=kind,
        name=ascii_form(item["name"]),
        content=unquote(content) if kind == "TXT" else content.rstrip(".") if kind in _HOSTS else content,
        priority=item.get("priority"),
        ttl=int(item.get("ttl") or AUTOMATIC),
        proxied=bool(item.get("proxied")),
        comment=str(item.get("comment") or ""),
        id=str(item.get("id") or ""),
        locked=bool(meta.get("read_only")),
    )


def ascii_form(name: str) -> str:
    """``name`` as it is compared: punycode where somebody wrote another script; wildcards and the like as they are."""
    try:
        return name.lower().rstrip(".") if name.isascii() else ascii_name(name)
    except BadName:
        return name


def quote(text: str) -> str:
    """``text`` as quoted strings of at most 255 bytes each."""
    data = text.encode()
    pieces = [data[start : start + STRING_LENGTH] for start in range(0, len(data), STRING_LENGTH)] or [b""]
    return " ".join(f'"{_escape(piece)}"' for piece in pieces)


def unquote(content: str) -> str:
    """The text of quoted strings, joined; content that is not quoted is the text itself."""
    if not content.startswith('"'):
        return content
    strings, position = [], 0
    while match := _QUOTED.match(content, position):
        strings.append(match[1])
        position = match.end()
    if position != len(content):
        return content
    return b"".join(_ESCAPE.sub(_unescape, part).encode("latin-1", "ignore") for part in _bytewise(strings)).decode(
        errors="replace"
    )


def _bytewise(strings: list[str]) -> list[str]:
    """Each string with one character a byte, so that ``\\195\\164`` and ``ä`` come out alike."""
    return [part.encode().decode("latin-1") for part in strings]


def _escape(piece: bytes) -> str:
    return "".join(
        f"\\{chr(byte)}" if byte in b'"\\' else chr(byte) if 32 <= byte < 127 else f"\\{byte:03d}" for byte in piece
    )


def _unescape(match: re.Match[str]) -> str:
    return chr(int(match[1]) & 255) if len(match[1]) == 3 else match[1]
