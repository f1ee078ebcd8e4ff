"""A certificate chain and its key as one value, and what can be read from it.

PEM in, PEM out; nothing here judges (``verify.py`` does) and nothing touches the disk (``publish.py`` does).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding


@dataclass(frozen=True, slots=True)
class Pair:
    """What a server needs to speak TLS: the leaf first, then its issuers; and the leaf's private key. Both PEM."""

    fullchain: bytes
    privkey: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Facts:
    """What people and the exporter want to know of a certificate. Times are Unix seconds."""

    serial: str  # hexadecimal, lower case, as browsers show it
    names: tuple[str, ...]
    issuer: str
    not_before: float
    not_after: float

    def days_left(self, now: float) -> float:
        """Days until the certificate ends; negative once it has."""
        return (self.not_after - now) / 86400.0


def chain_of(fullchain: bytes) -> list[x509.Certificate]:
    """The certificates of a PEM file in their order. Raises ValueError if there is none or one is broken."""
    chain = x509.load_pem_x509_certificates(fullchain)
    for certificate in chain:
        _read_whole(certificate)
    return chain


def _read_whole(certificate: x509.Certificate) -> None:
    """Raises ValueError if a part cannot be read: cryptography looks at each only when it is asked for."""
    try:
        _ = certificate.subject, certificate.issuer, certificate.extensions
        certificate.public_key()
    except (UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise ValueError(str(error)) from error


def as_pem(chain: list[x509.Certificate]) -> bytes:
    """The certificates as PEM, without the comments, keys and blank lines that people's files hold besides."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """DNS names and addresses of the subject alternative name; the common name does not count (RFC 9525, section 2)."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(_texts(names))


def facts_of(fullchain: bytes) -> Facts:
    """What the leaf says. Raises ValueError as :func:`chain_of` does."""
    leaf = chain_of(fullchain)[0]
    return Facts(
        serial=f"{leaf.serial_number:x}",
        names=names_of(leaf),
        issuer=_name(leaf.issuer),
        not_before=leaf.not_valid_before_utc.timestamp(),
        not_after=leaf.not_valid_after_utc.timestamp(),
    )


def _texts(names: x509.SubjectAlternativeName) -> Iterator[str]:
    for name in names:
        if isinstance(name, x509.DNSName):
            yield name.value.lower()
        elif isinstance(name, x509.IPAddress):
            yield str(name.value)


def _name(name: x509.Name) -> str:
    """The common name if there is one (Let's Encrypt's says ``R13``), else all of it."""
    common = name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(common[0].value) if common else name.rfc4514_string()
