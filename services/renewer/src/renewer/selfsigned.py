"""OWNPOST_TLS=self-signed: a small authority and one certificate, made together.

The authority's key lives only inside :func:`make`: nobody can ever issue a second certificate in its name, so trusting
``certs/ca.pem`` means trusting this one server and nothing else. The price: a renewal brings a new authority, and
``ca.pem`` names the old one beside it (``publish.py``).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from . import verify
from .outcome import Kept, Offered, Outcome
from .pair import Pair, as_pem, chain_of, facts_of

LIFE = timedelta(days=90)  # short enough to see renewing work; whoever trusts ca.pem must trust the next one too
BACKDATED = timedelta(hours=1)  # a client's clock may be behind
RENEWED_BEFORE_END = timedelta(days=30)
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
AUTHORITY = "Ownpost trial authority"
NAME_LENGTH = 64  # RFC 5280, ub-common-name


class SelfSigned:
    """Makes a new pair when there is none, when ours nears its end, and when the names it must cover have changed."""

    def __init__(self, names: Sequence[str], now: Callable[[], float]) -> None:
        self._names = tuple(dict.fromkeys((*names, *LOCAL_NAMES)))
        self._now = now

    async def attempt(self, current: Pair | None) -> Outcome:
        now = self._now()
        if current is not None and self._is_ours(current, now):
            return Kept(_renewal(current))
        pair = make(self._names, now)
        return Offered(pair, _renewal(pair), authority=True)

    def _is_ours(self, current: Pair, now: float) -> bool:
        """Not just valid: a pair that another mode published does not count, for ``ca.pem`` would not vouch for it."""
        root = chain_of(current.fullchain)[-1]
        made_here = root.subject == root.issuer == _common_name(AUTHORITY)
        return made_here and now < _renewal(current) and not verify.problems(current, names=self._names, now=now)


def make(names: Sequence[str], now: float) -> Pair:
    """A pair good for ``names`` (host names, addresses) from the Unix time ``now`` on; its chain ends in its root."""
    begin = datetime.fromtimestamp(now, UTC) - BACKDATED
    root_key, leaf_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root_name = _common_name(AUTHORITY)
    root = (
        _certificate(root_name, root_name, root_key.public_key(), begin)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(root_key, SHA256())
    )
    leaf = (
        _certificate(_common_name(names[0][:NAME_LENGTH]), root_name, leaf_key.public_key(), begin)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key()), critical=False)
        .sign(root_key, SHA256())
    )
    key = leaf_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Pair(as_pem([leaf, root]), key)


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begin: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + BACKDATED + LIFE)
        # Python 3.13 verifies with VERIFY_X509_STRICT, which wants key identifiers and critical basic constraints.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _renewal(pair: Pair) -> float:
    return facts_of(pair.fullchain).not_after - RENEWED_BEFORE_END.total_seconds()
