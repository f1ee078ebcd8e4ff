"""The self-signed mode: what it makes satisfies a strict client, and when it makes a new one."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.verification import PolicyBuilder, Store

from renewer.outcome import Kept, Offered
from renewer.pair import Pair, chain_of, names_of
from renewer.selfsigned import SelfSigned, make
from renewer.verify import problems
from support.chains import NOW, Authority, issue

DAY = 86400.0
HOST = "mail.example.org"


async def offered(names: list[str], now: float = NOW, current: Pair | None = None) -> Offered:
    outcome = await SelfSigned(names, lambda: now).attempt(current)
    assert isinstance(outcome, Offered)
    return outcome


async def test_the_first_attempt_makes_a_pair_that_may_be_published() -> None:
    offer = await offered([HOST])
    assert problems(offer.pair, names=[HOST, "localhost", "127.0.0.1", "::1"], now=NOW) == []
    assert offer.authority
    assert offer.next_attempt == NOW + 60 * DAY


@pytest.mark.parametrize(
    "name", [x509.DNSName(HOST), x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("::1"))]
)
async def test_a_client_that_trusts_the_authority_accepts_each_name(name: x509.DNSName | x509.IPAddress) -> None:
    leaf, root = chain_of((await offered([HOST])).pair.fullchain)
    policy = PolicyBuilder().store(Store([root])).time(datetime.fromtimestamp(NOW, UTC)).build_server_verifier(name)
    assert policy.verify(leaf, []) == [leaf, root]


async def test_it_is_p256_for_ninety_days() -> None:
    leaf, root = chain_of((await offered([HOST])).pair.fullchain)
    for certificate in (leaf, root):
        key = certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert key.curve.name == "secp256r1"
        assert certificate.not_valid_after_utc.timestamp() == NOW + 90 * DAY
        assert certificate.not_valid_before_utc.timestamp() < NOW


async def test_each_authority_is_new_and_its_key_is_not_the_published_one() -> None:
    one, two = (await offered([HOST])).pair, (await offered([HOST])).pair
    assert chain_of(one.fullchain)[-1] != chain_of(two.fullchain)[-1]
    assert chain_of(one.fullchain)[0].public_key() != chain_of(one.fullchain)[-1].public_key()


async def test_it_is_kept_until_thirty_days_before_its_end() -> None:
    pair = (await offered([HOST])).pair
    last = NOW + 60 * DAY - 1
    assert await SelfSigned([HOST], lambda: last).attempt(pair) == Kept(NOW + 60 * DAY)
    assert (await offered([HOST], last + 1, pair)).pair != pair


async def test_another_host_name_needs_another_certificate() -> None:
    pair = (await offered([HOST])).pair
    renamed = (await offered(["mx.example.org", "192.0.2.7"], NOW, pair)).pair
    assert names_of(chain_of(renamed.fullchain)[0]) == ("mx.example.org", "192.0.2.7", "localhost", "127.0.0.1", "::1")


async def test_a_certificate_of_another_mode_is_replaced() -> None:
    authority = Authority.new()
    leaf = authority.leaf(HOST, "localhost", "127.0.0.1", "::1")
    bought = Pair(leaf.pem + authority.intermediate.pem, leaf.key_pem())
    assert (await offered([HOST], NOW, bought)).pair != bought
    own = issue(HOST, names=[HOST])
    assert (await offered([HOST], NOW, Pair(own.pem, own.key_pem()))).authority


def test_a_host_name_longer_than_a_common_name_may_be() -> None:
    name = ".".join(["a" * 30] * 4) + ".example.org"
    assert problems(make([name], NOW), names=[name], now=NOW) == []
