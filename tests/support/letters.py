"""The table of messages that every client has to get through: what they are is what must arrive."""

from __future__ import annotations

import base64
import random
from dataclasses import dataclass
from functools import cache

import dkim  # type: ignore[import-untyped]
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

SENDER, RECIPIENT = "anna@example.org", "bob@example.net"
MIB = 1024 * 1024


@dataclass(frozen=True)
class Letter:
    """``data`` with CRLF line ends. ``refused`` are those recipients that the relay takes for no addresses."""

    name: str
    data: bytes
    recipients: tuple[str, ...] = (RECIPIENT,)
    refused: tuple[str, ...] = ()

    @property
    def longest(self) -> int:
        """Bytes of its longest line."""
        return max(map(len, self.data.split(b"\r\n")))

    @property
    def text(self) -> bytes:
        """What a program reads that keeps files with LF."""
        return self.data.replace(b"\r\n", b"\n")


def _letter(name: str, body: bytes, encoding: str = "8bit", **more: tuple[str, ...]) -> Letter:
    header = (
        f"From: =?utf-8?q?Anna_=C3=84?= <{SENDER}>\r\n"
        f"To: Bob <{RECIPIENT}>,\r\n\tCarol <carol@example.net>\r\n"
        f"Subject: {name},\r\n with a folded subject\r\n"
        "Date: Tue, 24 Nov 2026 12:00:00 +0000\r\n"
        f"Message-ID: <{name}@example.org>\r\n"
        "MIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n"
        f"Content-Transfer-Encoding: {encoding}\r\n\r\n"
    )
    return Letter(name, header.encode() + body, **more)


def _lines(length: int) -> bytes:
    return b"".join(bytes([letter]) * length + b"\r\n" for letter in b"abc")


def _attachment() -> bytes:
    """40 MiB as they travel: base64 in lines of 76."""
    raw = random.Random(1).randbytes(29 * MIB + MIB // 2)
    return base64.encodebytes(raw).replace(b"\n", b"\r\n")[: 40 * MIB // 78 * 78]


@cache
def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def sign(message: bytes, way: str, *more: bytes) -> bytes:
    """``message`` with a DKIM signature in front, over what it says of itself and the fields in ``more``."""
    pem = _key().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    names = [b"from", b"to", b"subject", b"date", b"message-id", *more]
    header, body = way.encode().split(b"/")
    signature: bytes = dkim.sign(
        message, b"s1", b"example.org", pem, canonicalize=(header, body), include_headers=names
    )
    return signature + message


def _signed(name: str, way: str) -> Letter:
    """Signed by the client, over a body that ends in blank lines and holds dots and long lines."""
    plain = _letter(name, b".first\r\n..second\r\nGr\xc3\xbc\xc3\x9fe  \r\n" + _lines(900) + b"\r\n\r\n")
    return Letter(name, sign(plain.data, way))


def signature_holds(message: bytes) -> bool:
    """Whether the DKIM signature in ``message`` verifies, asked of dkimpy with our key in place of DNS."""
    public = (
        _key().public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    record = b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)
    return bool(dkim.verify(message, dnsfunc=lambda name, timeout=5: record))


MANY = tuple(f"person{number}@example.net" for number in range(97))
NOBODY = ("first@elsewhere.1", "second@nowhere.22", "third@example.net.333")

LETTERS = (
    _letter("lines-of-78", _lines(78)),
    _letter("lines-of-998", _lines(998)),
    _letter("lines-of-5000", _lines(5000)),
    _letter("utf-8", "Grüße, naïve café – 日本語 🙂\r\n".encode()),
    _letter("8-bit", b"\xe4\xf6\xfc\xdf \xa0\xad\xff in latin-1\r\n"),
    _letter("dots", b".\x20\r\n.a\r\n..\r\n...b\r\n\r\n. \r\nend.\r\n.\tx\r\nbefore\r\n.\r\nafter\r\n..\r\n.\r\n"),
    _letter("blank-lines-at-the-end", b"text\r\n\r\n\r\n"),
    _letter("empty-body", b""),
    _letter("to-97", b"hello, all\r\n", recipients=MANY),
    _letter("to-97-and-3-refused", b"hello, all\r\n", recipients=MANY, refused=NOBODY),
    _signed("signed-simple", "simple/simple"),
    _signed("signed-relaxed", "relaxed/relaxed"),
    _letter("40-mib", _attachment(), "base64"),
)
BY_NAME = {letter.name: letter for letter in LETTERS}
