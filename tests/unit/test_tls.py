"""The certificate that is served: taken up whole or not at all, and never at the cost of the one in force."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from relay.submission import tls
from relay.submission.tls import CertificateProblem, Certificates, load
from support.chains import DAY, NOW, Authority, Issued, issue
from support.fakes import FakeJournal

HOST = "mail.example.org"
NO_CHECK_TIME = 0x200000  # OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which Python does not name


class SetClock:
    def __init__(self) -> None:
        self.now = NOW

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.new()


def publish(certs: Path, serial: str, leaf: Issued, authority: Authority, key: bytes | None = None) -> None:
    folder = certs / serial
    folder.mkdir(parents=True)
    (folder / "fullchain.pem").write_bytes(leaf.pem + authority.intermediate.pem)
    (folder / "privkey.pem").write_bytes(leaf.key_pem() if key is None else key)
    point(certs, serial)


def point(certs: Path, serial: str) -> None:
    link = certs / ".next"
    link.symlink_to(serial)
    link.rename(certs / "current")


def shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """A handshake in memory; both ends of it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_hostname=HOST),
    )
    for _ in range(5):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return ends


def trusting(authority: Authority) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority.root.pem.decode())
    context.verify_flags |= NO_CHECK_TIME  # these tests have their own day
    return context


# --- one pair ---


@pytest.mark.parametrize("name", [HOST, "*.example.org", "MAIL.example.org"])
def test_a_good_pair_is_served_with_its_whole_chain(tmp_path: Path, authority: Authority, name: str) -> None:
    publish(tmp_path, "1", authority.leaf(name), authority)
    served = load(tmp_path, HOST, NOW)
    _, client = shake_hands(served.context, trusting(authority))
    assert client.version() == "TLSv1.3"
    assert (served.folder, served.names) == ((tmp_path / "1").resolve(), (name,))
    assert (served.not_before, served.not_after) == (NOW - DAY, NOW + 60 * DAY)


def test_an_rsa_pair_too(tmp_path: Path, authority: Authority) -> None:
    publish(tmp_path, "1", authority.leaf(HOST, key=rsa.generate_private_key(65537, 2048)), authority)
    shake_hands(load(tmp_path, HOST, NOW).context, trusting(authority))


def test_no_client_certificate_is_asked_for_and_no_ticket_given(tmp_path: Path, authority: Authority) -> None:
    publish(tmp_path, "1", authority.leaf(HOST), authority)
    context = load(tmp_path, HOST, NOW).context
    assert context.verify_mode is ssl.CERT_NONE
    assert context.num_tickets == 0
    for option in (ssl.OP_NO_TICKET, ssl.OP_NO_COMPRESSION, ssl.OP_NO_RENEGOTIATION):
        assert context.options & option


def test_only_ciphers_with_forward_secrecy_and_authentication(tmp_path: Path, authority: Authority) -> None:
    publish(tmp_path, "1", authority.leaf(HOST), authority)
    for cipher in load(tmp_path, HOST, NOW).context.get_ciphers():
        assert cipher["name"].startswith(("TLS_", "ECDHE-"))
        assert cipher["aead"]


@pytest.mark.parametrize(("version", "works"), [(ssl.TLSVersion.TLSv1_2, True), (ssl.TLSVersion.TLSv1_1, False)])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_1_2_is_the_oldest(tmp_path: Path, authority: Authority, version: ssl.TLSVersion, works: bool) -> None:
    publish(tmp_path, "1", authority.leaf(HOST), authority)
    client = trusting(authority)
    client.set_ciphers("ALL:@SECLEVEL=0")
    client.minimum_version = ssl.TLSVersion.TLSv1
    client.maximum_version = version
    context = load(tmp_path, HOST, NOW).context
    if works:
        assert shake_hands(context, client)[1].version() == "TLSv1.2"
    else:
        with pytest.raises(ssl.SSLError):
            shake_hands(context, client)


Spoil = Callable[[Path, Authority], None]


def _write(name: str, data: bytes) -> Spoil:
    def spoil(certs: Path, authority: Authority) -> None:
        publish(certs, "1", authority.leaf(HOST), authority)
        (certs / "1" / name).write_bytes(data)

    return spoil


def _remove(name: str) -> Spoil:
    def spoil(certs: Path, authority: Authority) -> None:
        publish(certs, "1", authority.leaf(HOST), authority)
        (certs / "1" / name).unlink()

    return spoil


def _mismatch(certs: Path, authority: Authority) -> None:
    publish(certs, "1", authority.leaf(HOST), authority, key=authority.leaf(HOST).key_pem())


def _encrypted(certs: Path, authority: Authority) -> None:
    leaf = authority.leaf(HOST)
    publish(certs, "1", leaf, authority, key=leaf.key_pem(b"secret"))


def _expired(certs: Path, authority: Authority) -> None:
    publish(certs, "1", authority.leaf(HOST, begin=NOW - 9 * DAY, days=-1), authority)


def _ends_now(certs: Path, authority: Authority) -> None:
    publish(certs, "1", authority.leaf(HOST, days=0), authority)


def _not_yet(certs: Path, authority: Authority) -> None:
    publish(certs, "1", authority.leaf(HOST, begin=NOW + DAY), authority)


def _other_name(certs: Path, authority: Authority) -> None:
    publish(certs, "1", authority.leaf("www.example.org", "*.mail.example.org", "*.org"), authority)


def _no_name(certs: Path, authority: Authority) -> None:
    publish(certs, "1", issue(HOST, authority.intermediate), authority)


def _outside(certs: Path, authority: Authority) -> None:
    publish(certs.parent / "elsewhere", "1", authority.leaf(HOST), authority)
    certs.mkdir(exist_ok=True)
    (certs / "current").symlink_to(certs.parent / "elsewhere" / "1")


def _loop(certs: Path, authority: Authority) -> None:
    certs.mkdir(exist_ok=True)
    (certs / "current").symlink_to("current")


def _nothing(certs: Path, authority: Authority) -> None:
    pass


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_mismatch, "does not belong to the certificate"),
        (_encrypted, "no unencrypted private key"),
        (_expired, "expired on 2027-01-14"),
        (_ends_now, "expired on 2027-01-15 08:00 UTC"),
        (_not_yet, "valid only from 2027-01-16"),
        (_other_name, "is for www.example.org, *.mail.example.org, *.org, but OWNPOST_HOSTNAME is mail.example.org"),
        (_no_name, "is for no name"),
        (_outside, "outside of"),
        (_loop, "does not lead to a certificate yet"),
        (_nothing, "does not lead to a certificate yet"),
        (_write("fullchain.pem", b""), "no certificate in PEM format"),
        (_write("fullchain.pem", b"-----BEGIN CERTIFICATE-----\nnonsense"), "no certificate in PEM format"),
        (_write("privkey.pem", b"nonsense"), "no unencrypted private key"),
        (_remove("fullchain.pem"), "fullchain.pem cannot be read"),
        (_remove("privkey.pem"), "privkey.pem cannot be read"),
    ],
)
def test_a_bad_pair_is_refused_with_the_reason(
    tmp_path: Path, authority: Authority, spoil: Spoil, sentence: str
) -> None:
    spoil(tmp_path / "certs", authority)
    with pytest.raises(CertificateProblem, match=r"\.$") as problem:
        load(tmp_path / "certs", HOST, NOW)
    assert sentence in str(problem.value)


# --- one after the other ---


class Shop:
    def __init__(self, certs: Path) -> None:
        self.journal, self.clock, self.changes = FakeJournal(), SetClock(), 0
        self.certs = certs
        self.certificates = Certificates(certs, HOST, clock=self.clock, journal=self.journal, on_change=self.changed)

    def changed(self) -> None:
        self.changes += 1

    def events(self) -> list[str]:
        return [args[0] for args, _ in self.journal.told("system")]


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_without_a_certificate_there_is_none_and_it_is_said_once(shop: Shop) -> None:
    assert not shop.certificates.refresh()
    assert not shop.certificates.refresh()
    assert shop.certificates.context is None
    assert "does not lead to a certificate yet" in shop.certificates.problem
    assert shop.events() == ["certificate_refused"]


def test_a_new_publication_is_taken_up_in_a_new_context(shop: Shop, authority: Authority) -> None:
    publish(shop.certs, "1", authority.leaf(HOST), authority)
    assert shop.certificates.refresh()
    first = shop.certificates.context
    assert not shop.certificates.refresh()
    publish(shop.certs, "2", authority.leaf(HOST), authority)
    assert shop.certificates.refresh()
    assert shop.certificates.context is not first
    assert shop.changes == 2
    assert shop.events() == ["certificate_loaded", "certificate_loaded"]


@pytest.mark.parametrize("spoil", [_mismatch, _expired, _remove("privkey.pem"), _write("fullchain.pem", b"half")])
def test_a_bad_publication_leaves_the_old_one_in_force(shop: Shop, authority: Authority, spoil: Spoil) -> None:
    publish(shop.certs, "0", authority.leaf(HOST), authority)
    shop.certificates.refresh()
    good = shop.certificates.current
    spoil(shop.certs, authority)
    assert not shop.certificates.refresh()
    assert shop.certificates.current is good
    assert shop.journal.told("system")[-1][1]["kept"] is True
    assert good is not None
    shake_hands(good.context, trusting(authority))
    publish(shop.certs, "2", authority.leaf(HOST), authority)
    assert shop.certificates.refresh()
    assert shop.certificates.problem == ""


def test_a_pair_that_is_not_valid_yet_is_taken_up_when_it_is(shop: Shop, authority: Authority) -> None:
    publish(shop.certs, "1", authority.leaf(HOST, begin=NOW + 30), authority)
    assert not shop.certificates.refresh()
    shop.clock.now += tls.RETRY - 1
    assert not shop.certificates.refresh()
    shop.clock.now += 1
    assert shop.certificates.refresh()


def test_a_vanished_publication_changes_nothing(shop: Shop, authority: Authority) -> None:
    publish(shop.certs, "1", authority.leaf(HOST), authority)
    shop.certificates.refresh()
    (shop.certs / "current").unlink()
    assert not shop.certificates.refresh()
    assert shop.certificates.context is not None


async def test_the_watch_sees_a_publication_and_ends_when_told(shop: Shop, authority: Authority) -> None:
    stop, seen = asyncio.Event(), asyncio.Event()
    shop.certificates.on_change = seen.set
    watching = asyncio.create_task(shop.certificates.watch(stop, interval=0.01))
    publish(shop.certs, "1", authority.leaf(HOST), authority)
    await asyncio.wait_for(seen.wait(), 10)
    stop.set()
    await asyncio.wait_for(watching, 10)
