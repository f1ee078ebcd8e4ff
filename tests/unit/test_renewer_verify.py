"""What the renewer refuses to publish, and the sentence it gives for it."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from renewer.pair import Pair
from renewer.verify import problems
from support.chains import DAY, NOW, ODD, Authority, Issued, issue

HOST = "mail.example.org"
UNREADABLE = "The certificate file holds no certificates in PEM form, or one that cannot be read."
AUTHORITY = Authority.new()
LEAF = AUTHORITY.leaf(HOST)


def judge(pair: Pair, *names: str, now: float = NOW) -> list[str]:
    return problems(pair, names=names or (HOST,), now=now)


def served(leaf: Issued, *issuers: Issued, key: bytes | None = None) -> Pair:
    return Pair(b"".join(one.pem for one in (leaf, *issuers)), key or leaf.key_pem())


@pytest.mark.parametrize("issuers", [(AUTHORITY.intermediate,), (AUTHORITY.intermediate, AUTHORITY.root)])
def test_a_whole_chain_with_or_without_its_root_is_good(issuers: tuple[Issued, ...]) -> None:
    assert judge(served(LEAF, *issuers)) == []


@pytest.mark.parametrize(
    "make", [lambda: ec.generate_private_key(ec.SECP384R1()), lambda: rsa.generate_private_key(65537, 2048)]
)
def test_other_keys_that_openssl_loads_are_good(make) -> None:
    assert judge(served(AUTHORITY.leaf(HOST, key=make()), AUTHORITY.intermediate)) == []


def test_a_certificate_that_signed_itself_is_its_own_chain() -> None:
    assert judge(served(issue(HOST, names=[HOST]))) == []


def test_a_wildcard_covers_one_label() -> None:
    pair = served(AUTHORITY.leaf("*.example.org"), AUTHORITY.intermediate)
    assert judge(pair) == []
    for uncovered in ("example.org", "a.mail.example.org", "mail.example.com"):
        assert judge(pair, uncovered) == [f"The certificate does not cover {uncovered}; it covers *.example.org."]


def test_the_common_name_does_not_count_as_a_name() -> None:
    pair = served(issue(HOST, AUTHORITY.intermediate), AUTHORITY.intermediate)
    assert judge(pair) == [f"The certificate does not cover {HOST}; it covers no name at all."]


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_a_certificate_that_cannot_be_read_whole_is_refused_and_ends_nothing(odd: tuple[str, bytes]) -> None:
    pair = served(issue(HOST, AUTHORITY.intermediate, usage=None, odd=odd), AUTHORITY.intermediate)
    assert judge(pair) == [UNREADABLE]


def test_every_name_is_asked_for() -> None:
    pair = served(LEAF, AUTHORITY.intermediate)
    assert judge(pair, HOST, "smtp.example.org", "example.org") == [
        "The certificate does not cover smtp.example.org, example.org; it covers mail.example.org."
    ]


OTHER = Authority.new()
WEAK = AUTHORITY.leaf(HOST, key=rsa.generate_private_key(65537, 1024))
NOT_AN_AUTHORITY = issue("Intermediate", AUTHORITY.root, end=NOW + 90 * DAY)
CLIENT = issue(HOST, AUTHORITY.intermediate, names=[HOST], usage=ExtendedKeyUsageOID.CLIENT_AUTH)
EXPIRING = Authority.new(intermediate_days=10)
KEY = LEAF.key_pem()

FAULTS = {
    "the key of another certificate": (
        served(LEAF, AUTHORITY.intermediate, key=OTHER.leaf(HOST).key_pem()),
        "The key does not belong to the certificate.",
    ),
    "the issuer first": (
        Pair(AUTHORITY.intermediate.pem + LEAF.pem, KEY),
        "The server's own certificate must come first in the file, then its issuers.",
    ),
    "no issuer": (
        served(LEAF),
        "The chain is incomplete: the issuer's certificate must follow the server's in the file.",
    ),
    "another authority's issuer of the same name": (
        served(LEAF, OTHER.intermediate),
        "The chain is broken: certificate 1 of the file was not issued by the one after it.",
    ),
    "the root without the intermediate": (
        served(LEAF, AUTHORITY.root),
        "The chain is broken: certificate 1 of the file was not issued by the one after it.",
    ),
    "an issuer that may not issue": (
        served(issue(HOST, NOT_AN_AUTHORITY, names=[HOST]), NOT_AN_AUTHORITY),
        "certificate 2 of the file may not issue certificates.",
    ),
    "a certificate for clients": (
        served(CLIENT, AUTHORITY.intermediate),
        "The certificate is not meant for servers (its extended key usage lacks serverAuth).",
    ),
    "a short RSA key": (served(WEAK, AUTHORITY.intermediate), "The key has 1024 bits: RSA needs at least 2048."),
    "a key with a passphrase": (
        served(LEAF, AUTHORITY.intermediate, key=LEAF.key_pem(b"secret")),
        "The key is protected by a passphrase, which nobody could type at a restart: store it without one.",
    ),
    "no key": (
        served(LEAF, AUTHORITY.intermediate, key=b"no"),
        "The key file does not hold a private key in PEM form.",
    ),
    "an empty certificate file": (Pair(b"", KEY), UNREADABLE),
    "half a certificate": (
        Pair(LEAF.pem[:200], KEY),
        UNREADABLE,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named(fault: str) -> None:
    pair, sentence = FAULTS[fault]
    assert any(sentence in problem for problem in judge(pair)), judge(pair)


def test_dates_hold_to_the_second() -> None:
    pair = served(AUTHORITY.leaf(HOST, begin=NOW, days=1), AUTHORITY.intermediate)
    assert judge(pair, now=NOW) == []
    assert judge(pair, now=NOW + DAY - 1) == []
    assert judge(pair, now=NOW - 1) == ["The certificate is not valid before 2027-01-15 08:00 UTC; is the clock right?"]
    assert judge(pair, now=NOW + DAY) == ["The certificate ended on 2027-01-16 08:00 UTC."]


def test_an_issuer_that_has_ended_ends_the_chain() -> None:
    pair = served(EXPIRING.leaf(HOST), EXPIRING.intermediate)
    assert judge(pair, now=NOW + 11 * DAY) == ["Issuer 1 of the chain ended on 2027-01-25 08:00 UTC."]


def test_all_problems_come_at_once() -> None:
    pair = served(AUTHORITY.leaf("other.example.org", days=1), key=OTHER.leaf(HOST).key_pem())
    assert len(judge(pair, now=NOW + 2 * DAY)) == 4


def test_the_key_is_in_no_repr() -> None:
    assert "PRIVATE" not in repr(served(LEAF))
