"""Whether a chain and a key may be published: pure, and every objection is a sentence that says what to mend.

Checked are the things that make a mail client refuse a server: the key belongs to the leaf, the chain is complete and
in order (Gmail's "Send mail as" builds no missing link), the names cover the host, the dates hold. What cannot be known
here is whether the client trusts the root.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from .pair import Pair, chain_of, names_of

RSA_BITS = 2048  # OpenSSL's security level 2, Debian's default, refuses to load less


def problems(pair: Pair, *, names: Sequence[str], now: float) -> list[str]:
    """What is wrong with ``pair`` for a server called ``names`` at the Unix time ``now``; empty if it may be served."""
    try:
        chain = chain_of(pair.fullchain)
    except ValueError:
        return ["The certificate file holds no certificates in PEM form, or one that cannot be read."]
    return [*_key(pair.privkey, chain), *_chain(chain), *_names(chain[0], names), *_dates(chain, now)]


def covers(certificate: x509.Certificate, name: str) -> bool:
    """Whether the certificate holds ``name`` itself or a wildcard for its left-most label (RFC 9525, section 6.3)."""
    _, _, parent = name.partition(".")
    return bool({name, f"*.{parent}"} & set(names_of(certificate)))


def _key(privkey: bytes, chain: list[x509.Certificate]) -> Iterator[str]:
    try:
        public = load_pem_private_key(privkey, None).public_key()
    except TypeError:
        yield "The key is protected by a passphrase, which nobody could type at a restart: store it without one."
        return
    except (ValueError, UnsupportedAlgorithm):
        yield "The key file does not hold a private key in PEM form."
        return
    if isinstance(public, rsa.RSAPublicKey) and public.key_size < RSA_BITS:
        yield f"The key has {public.key_size} bits: RSA needs at least {RSA_BITS}."
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    owners = [index for index, one in enumerate(chain) if _spki(one) == spki]
    if not owners:
        yield "The key does not belong to the certificate."
    elif owners[0] != 0:
        yield "The server's own certificate must come first in the file, then its issuers."


def _chain(chain: list[x509.Certificate]) -> Iterator[str]:
    for position, (certificate, issuer) in enumerate(pairwise(chain), start=1):
        if not _issued(certificate, issuer):
            yield f"The chain is broken: certificate {position} of the file was not issued by the one after it."
        elif not _is_authority(issuer):
            yield f"The chain is broken: certificate {position + 1} of the file may not issue certificates."
    if len(chain) == 1 and not _issued(chain[0], chain[0]):
        yield "The chain is incomplete: the issuer's certificate must follow the server's in the file."
    if not _serves(chain[0]):
        yield "The certificate is not meant for servers (its extended key usage lacks serverAuth)."


def _names(leaf: x509.Certificate, names: Sequence[str]) -> Iterator[str]:
    missing = [name for name in names if not covers(leaf, name)]
    if missing:
        held = ", ".join(names_of(leaf)) or "no name at all"
        yield f"The certificate does not cover {', '.join(missing)}; it covers {held}."


def _dates(chain: list[x509.Certificate], now: float) -> Iterator[str]:
    moment = datetime.fromtimestamp(now, UTC)
    for position, certificate in enumerate(chain, start=1):
        which = "The certificate" if position == 1 else f"Issuer {position - 1} of the chain"
        if moment >= certificate.not_valid_after_utc:
            yield f"{which} ended on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC."
        elif moment < certificate.not_valid_before_utc:
            begin = f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
            yield f"{which} is not valid before {begin}; is the clock right?"


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def _serves(leaf: x509.Certificate) -> bool:
    try:
        usage = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return ExtendedKeyUsageOID.SERVER_AUTH in usage


def _spki(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
