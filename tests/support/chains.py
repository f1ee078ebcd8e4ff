"""Certificates with chosen faults, for judging what looks at certificates. Roots, intermediates and leaves on P-256."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
NOW = 1_800_000_000.0  # 2027-01-15 08:00 UTC
DAY = 86400.0
ODD = {  # extensions that are broken, or of a kind that cannot be read
    "a name cut short": ("2.5.29.17", b"\x30\x03\x82\x05a"),
    "an X.400 name": ("2.5.29.17", b"\x30\x05\xa3\x03\x0c\x01a"),
    "usage of nothing": ("2.5.29.37", b"\x01"),
}


@dataclass(frozen=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Key

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def key_pem(self, password: bytes | None = None) -> bytes:
        lock: KeySerializationEncryption = BestAvailableEncryption(password) if password else NoEncryption()
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)


def issue(
    name: str,
    by: Issued | None = None,
    *,
    names: Sequence[str] = (),
    authority: bool = False,
    begin: float = NOW - DAY,
    end: float = NOW + 60 * DAY,
    usage: ObjectIdentifier | None = ExtendedKeyUsageOID.SERVER_AUTH,
    key: Key | None = None,
    odd: tuple[str, bytes] | None = None,
) -> Issued:
    """A certificate for ``name`` with the alternative ``names``, signed by ``by``, or by itself.

    ``odd``: one more extension, as its object identifier and its bytes.
    """
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(by.certificate.subject if by else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(begin, UTC))
        .not_valid_after(datetime.fromtimestamp(end, UTC))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), False)
    if usage is not None and not authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), False)
    if odd:
        builder = builder.add_extension(x509.UnrecognizedExtension(ObjectIdentifier(odd[0]), odd[1]), False)
    return Issued(builder.sign(by.key if by else key, SHA256()), key)


@dataclass(frozen=True)
class Authority:
    """A root and the intermediate that issues, as a public authority has them."""

    root: Issued
    intermediate: Issued
    now: float

    @classmethod
    def new(cls, *, now: float = NOW, intermediate_days: float = 900) -> Authority:
        root = issue("Root", authority=True, begin=now - DAY, end=now + 3000 * DAY)
        end = now + intermediate_days * DAY
        return cls(root, issue("Intermediate", root, authority=True, begin=now - DAY, end=end), now)

    def leaf(self, *names: str, begin: float | None = None, days: float = 60, key: Key | None = None) -> Issued:
        begin = self.now - DAY if begin is None else begin
        return issue(names[0], self.intermediate, names=names, begin=begin, end=self.now + days * DAY, key=key)
