"""The acme mode against Pebble: certbot's real run, real validation over DNS or HTTP, each fault's own sentence."""

from __future__ import annotations

import asyncio
import io
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from renewer import ledger, loop
from renewer.acme import Acme
from renewer.certbot import Certbot
from renewer.ledger import HOUR
from renewer.log import Log
from renewer.outcome import Failed, Kept, Kind, Offered
from renewer.pair import Pair, chain_of, names_of
from renewer.publish import Publisher
from renewer.settings_acme import AcmeSettings
from renewer.status import Status
from support.acme_proxy import AcmeProxy, acme_proxy
from support.appliance import eventually, sources
from support.fake_cloudflare import FakeCloudflare, fake_cloudflare
from support.pebble import Pebble, pebble
from support.ports import free_port
from support.renewer import Renewer
from support.unix_http import get

HOST = "mail.example.org"
TOKEN = "cfut_0123456789abcdefghijklmnopqrstuvwxyz"
VALIDITY = 5 * 86400

pytestmark = pytest.mark.timeout(120)


class World:
    """Pebble behind a proxy, Cloudflare, and a renewer's source that uses both."""

    def __init__(self, pebble: Pebble, proxy: AcmeProxy, cloudflare: FakeCloudflare, folder: Path) -> None:
        self.pebble, self.proxy, self.cloudflare, self.folder = pebble, proxy, cloudflare, folder
        self.names: tuple[str, ...] = (HOST,)
        self.offset = 0.0  # seconds that our clock is ahead
        self.timeout = 100.0
        self.settings = AcmeSettings(
            folder=folder,
            server=proxy.directory,
            email="postmaster@example.org",
            challenge="dns-cloudflare",
            token=TOKEN,
            propagation_seconds=0,
            http_port=pebble.http_port,
            key_type="ecdsa",
            profile="",
        )

    @property
    def environ(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": sources("renewer"),
            "CLOUDFLARE_BASE_URL": self.cloudflare.base_url,
            "CLOUDFLARE_EMAIL": "somebody@example.org",
            "REQUESTS_CA_BUNDLE": str(self.pebble.trust),
        }

    def now(self) -> float:
        return time.time() + self.offset

    def source(self, **changes: object) -> Acme:
        """A renewer that has just started, with ``changes`` to its settings."""
        settings = replace(self.settings, **changes)  # type: ignore[arg-type]
        certbot = Certbot(settings=settings, names=self.names, environ=self.environ, timeout=self.timeout)
        return Acme(certbot, now=self.now, chance=lambda: 0.0)

    async def obtain(self, current: Pair | None = None, **changes: object) -> Pair:
        outcome = await self.source(**changes).attempt(current)
        assert isinstance(outcome, Offered), outcome
        return outcome.pair

    async def failure(self, current: Pair | None = None, **changes: object) -> Failed:
        outcome = await self.source(**changes).attempt(current)
        assert isinstance(outcome, Failed), outcome
        assert outcome.next_attempt > self.now() + 50
        assert TOKEN not in outcome.sentence
        return outcome

    def orders(self) -> int:
        return self.proxy.seen.count("POST /order-plz")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Pebble, AcmeProxy]]:
    folder = tmp_path_factory.mktemp("pebble")
    with pebble(folder, validity=VALIDITY) as running, acme_proxy(running, folder) as proxy:
        yield running, proxy


@pytest.fixture
def world(authority: tuple[Pebble, AcmeProxy], tmp_path: Path) -> Iterator[World]:
    running, proxy = authority
    proxy.seen.clear()
    with fake_cloudflare(token=TOKEN, zones=["example.org"], challtestsrv=running.challtestsrv) as cloudflare:
        yield World(running, proxy, cloudflare, tmp_path)


async def test_it_obtains_then_keeps_then_renews(world: World) -> None:
    pair = await world.obtain()
    leaf = chain_of(pair.fullchain)[0]
    assert names_of(leaf) == (HOST,)
    assert isinstance(leaf.public_key(), ec.EllipticCurvePublicKey)
    assert "POST /zones/zone-example.org/dns_records" in world.cloudflare.requests()
    assert world.cloudflare.records() == []  # the challenge was taken away again
    outcome = await world.source().attempt(pair)
    assert isinstance(outcome, Kept)
    assert 11 * HOUR < outcome.next_attempt - time.time() <= 12 * HOUR
    assert world.orders() == 1


async def test_a_certificate_that_nears_its_end_is_renewed_through_dns(
    authority: tuple[Pebble, AcmeProxy], tmp_path: Path
) -> None:
    """Pebble's renewal information and certbot decide; the certificate lives 40 seconds."""
    folder = tmp_path / "pebble"
    folder.mkdir()
    with (
        pebble(folder, validity=40) as running,
        acme_proxy(running, folder) as proxy,
        fake_cloudflare(token=TOKEN, zones=["example.org"], challtestsrv=running.challtestsrv) as cloudflare,
    ):
        world = World(running, proxy, cloudflare, tmp_path)
        first = await world.obtain()
        deadline = time.monotonic() + 60
        outcome = await world.source().attempt(first)
        while isinstance(outcome, Kept) and time.monotonic() < deadline:
            outcome = await world.source().attempt(first)
        assert isinstance(outcome, Offered), outcome
        assert outcome.pair != first
        assert any("renewalInfo" in request for request in proxy.seen)
        assert cloudflare.requests().count("POST /zones/zone-example.org/dns_records") == 2


async def test_what_certbot_holds_is_published_even_if_we_died_in_between(world: World) -> None:
    pair = await world.obtain()
    outcome = await world.source().attempt(None)
    assert isinstance(outcome, Offered)
    assert outcome.pair == pair
    assert world.orders() == 1


async def test_other_names_and_another_key_need_another_certificate(world: World) -> None:
    pair = await world.obtain()
    world.names = (HOST, "imap.example.org")
    other = await world.obtain(pair, key_type="rsa")
    leaf = chain_of(other.fullchain)[0]
    assert set(names_of(leaf)) == set(world.names)
    assert isinstance(leaf.public_key(), rsa.RSAPublicKey)
    assert isinstance(await world.source(key_type="rsa").attempt(other), Kept)


async def test_a_profile_that_the_authority_lacks_falls_back(world: World) -> None:
    pair = await world.obtain(profile="shortlived")
    assert isinstance(await world.source(profile="shortlived").attempt(pair), Kept)


async def test_http_01_is_answered_on_our_port(world: World) -> None:
    pair = await world.obtain(challenge="http-01", token="")
    assert names_of(chain_of(pair.fullchain)[0]) == (HOST,)
    assert world.cloudflare.requests() == []


async def test_http_01_on_a_port_that_nobody_reaches(world: World) -> None:
    failure = await world.failure(challenge="http-01", token="", http_port=free_port())
    assert failure.kind is Kind.VALIDATION
    assert "could not validate mail.example.org (connection: " in failure.sentence
    assert "is port 80 of this server reached from the Internet" in failure.sentence


async def test_nobody_else_can_read_what_certbot_keeps_and_the_token_is_nowhere(world: World) -> None:
    await world.obtain()
    home = world.folder / "certbot"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    for path in home.rglob("*"):
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes(), path


CLOUDFLARE_FAULTS = {
    "401": (
        {"status": 401, "code": 10000, "message": "Authentication error"},
        Kind.TOKEN,
        (
            "Cloudflare refuses CLOUDFLARE_API_TOKEN (401: 10000 Authentication error): it must be valid and allow "
            "Zone:Read and DNS:Edit for the zone of mail.example.org."
        ),
    ),
    "403": (
        {"status": 403, "code": 1009, "message": "Not allowed", "path": "POST"},
        Kind.TOKEN,
        (
            "Cloudflare refuses CLOUDFLARE_API_TOKEN (403: 1009 Not allowed): it must be valid and allow "
            "Zone:Read and DNS:Edit for the zone of mail.example.org."
        ),
    ),
    "429": (
        {"status": 429, "code": 10013, "message": "Slow down", "headers": {"Retry-After": "1"}},
        Kind.CLOUDFLARE,
        "Cloudflare's API wants fewer requests (429: 10013 Slow down); another program may use the same account.",
    ),
    "500": (
        {"status": 500, "code": 10001, "message": "Internal"},
        Kind.CLOUDFLARE,
        "Cloudflare's API fails (500: 10001 Internal); nothing to change here.",
    ),
    "a record that never shows": (
        {"mute": True},
        Kind.VALIDATION,
        (
            "The ACME server could not validate mail.example.org "
            "(unauthorized: No TXT records found for DNS challenge); "
            "is the domain's DNS served by Cloudflare? If so, raise ACME_DNS_PROPAGATION_SECONDS."
        ),
    ),
}


@pytest.mark.parametrize("fault", CLOUDFLARE_FAULTS)
async def test_cloudflare_fails(world: World, fault: str) -> None:
    how, kind, sentence = CLOUDFLARE_FAULTS[fault]
    with world.cloudflare.failing(**how):
        failure = await world.failure()
    assert (failure.kind, failure.sentence) == (kind, sentence)


async def test_a_renewal_fails_with_the_same_sentence_and_the_old_pair_stays(world: World) -> None:
    pair = await world.obtain()
    renewal = world.folder / "certbot" / "config" / "renewal" / "ownpost.conf"
    renewal.write_text("renew_before_expiry = 30 days\n" + renewal.read_text())
    failure = await world.failure(pair, token="wrong-token")
    assert failure.kind is Kind.TOKEN
    assert failure.sentence.startswith("Cloudflare refuses CLOUDFLARE_API_TOKEN (403: 9109 Invalid access token)")
    assert world.source()._held() == pair


async def test_a_domain_that_is_not_in_the_account(world: World) -> None:
    world.names = ("mail.example.net",)
    failure = await world.failure()
    assert failure.kind is Kind.ZONE
    assert failure.sentence.startswith(
        "Cloudflare's account has no zone for mail.example.net that CLOUDFLARE_API_TOKEN may see"
    )


async def test_cloudflare_cannot_be_reached(world: World) -> None:
    world.cloudflare = replace(world.cloudflare, url=f"http://127.0.0.1:{free_port()}")
    failure = await world.failure()
    assert failure.kind is Kind.NETWORK
    assert failure.sentence.startswith("Cloudflare's API cannot be reached")


async def test_cloudflare_hangs(world: World) -> None:
    world.timeout = 6.0
    with world.cloudflare.failing(hang=True):
        failure = await world.failure()
    assert failure.kind is Kind.TIMEOUT
    assert failure.sentence == "certbot was ended after 6 seconds: Cloudflare or the ACME server hangs."
    world.timeout = 100.0
    await world.obtain()  # no lock of certbot's was left behind


EXACT_SET = (
    "too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s, retry after "
    "2099-01-01 10:00:00 UTC: see https://letsencrypt.org/docs/rate-limits/"
)
AUTHORITY_FAULTS = {
    "badNonce": (
        {
            "path": "POST /order-plz",
            "status": 400,
            "kind": "badNonce",
            "detail": "JWS has an invalid anti-replay nonce",
        },
        Kind.AUTHORITY,
        (
            "The ACME server refused our requests as repeated (badNonce: JWS has an invalid anti-replay nonce); "
            "nothing to change here."
        ),
    ),
    "refused name": (
        {"path": "POST /order-plz", "status": 400, "kind": "rejectedIdentifier", "detail": "forbidden by policy"},
        Kind.AUTHORITY,
        "The ACME server refused the order (rejectedIdentifier): forbidden by policy",
    ),
    "out of order": (
        {"path": "POST /order-plz", "status": 500, "kind": "serverInternal", "detail": "Internal error"},
        Kind.AUTHORITY,
        "The ACME server refused the order (serverInternal): Internal error",
    ),
    "finalize": (
        {"path": "POST /finalize", "status": 403, "kind": "unauthorized", "detail": "not authorized to finalize"},
        Kind.AUTHORITY,
        "The ACME server refused the order (unauthorized): not authorized to finalize",
    ),
}


@pytest.mark.parametrize("fault", AUTHORITY_FAULTS)
async def test_the_authority_fails(world: World, fault: str) -> None:
    how, kind, sentence = AUTHORITY_FAULTS[fault]
    with world.proxy.failing(**how):  # type: ignore[arg-type]
        failure = await world.failure()
    assert (failure.kind, failure.sentence) == (kind, sentence)
    assert failure.next_attempt - world.now() > 0.24 * HOUR


async def test_an_order_that_turns_invalid(world: World) -> None:
    problem = {"type": "urn:ietf:params:acme:error:caa", "detail": "CAA record for example.org prevents issuance"}
    with world.proxy.order_invalid(problem):
        failure = await world.failure()
    assert failure.kind is Kind.AUTHORITY
    assert failure.sentence == "The ACME server refused the order (caa): CAA record for example.org prevents issuance"


async def test_a_rate_limit_names_its_end_and_is_obeyed_over_restarts(world: World) -> None:
    with world.proxy.failing("POST /order-plz", status=429, kind="rateLimited", detail="Slow down", Retry_After="7200"):
        failure = await world.failure()
    assert failure.kind is Kind.RATE_LIMIT
    assert failure.sentence == "The ACME server's rate limit is reached: Slow down"
    assert 7100 < failure.next_attempt - world.now() <= 7200
    asked = world.orders()
    assert (await world.failure()).next_attempt == failure.next_attempt
    assert world.orders() == asked
    world.offset = 7201
    await world.obtain()


async def test_a_rate_limit_whose_end_stands_in_the_text_only(world: World) -> None:
    with world.proxy.failing("POST /order-plz", status=429, kind="rateLimited", detail=EXACT_SET):
        failure = await world.failure()
    assert failure.sentence == f"The ACME server's rate limit is reached: {EXACT_SET}"
    assert failure.next_attempt - world.now() > 7 * 24 * HOUR


async def test_restarting_does_not_get_round_the_limit_of_failed_validations(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "VALIDATIONS_PER_HOUR", 1)
    with world.cloudflare.failing(mute=True):
        await world.failure()
        asked = world.orders()
        failure = await world.failure()
    assert failure.kind is Kind.VALIDATION
    assert failure.next_attempt - world.now() > 0.9 * HOUR
    assert world.orders() == asked
    world.offset = HOUR + 1
    await world.obtain()


async def test_the_authority_cannot_be_reached(world: World) -> None:
    port = free_port()
    failure = await world.failure(server=f"https://localhost:{port}/dir")
    assert failure.kind is Kind.NETWORK
    assert failure.sentence.startswith("The ACME server localhost cannot be reached (Connection refused)")


async def test_an_authority_whose_own_certificate_is_not_trusted(world: World, tmp_path: Path) -> None:
    empty = tmp_path / "other.pem"
    empty.write_bytes(world.pebble.root())
    world.pebble = replace(world.pebble, trust=empty)
    failure = await world.failure()
    assert failure.kind is Kind.NETWORK
    assert failure.sentence.startswith("The ACME server localhost shows a certificate that is not trusted")


async def test_being_stopped_ends_certbot_first(world: World) -> None:
    with world.cloudflare.failing(hang=True):
        attempt = asyncio.ensure_future(world.source().attempt(None))
        await asyncio.to_thread(eventually, world.cloudflare.requests, "certbot asked nothing")
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
    await world.obtain()  # certbot's lock would say so if one were left


async def test_the_loop_goes_on_through_faults_of_both_sides(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "LONGEST_SLEEP", 0.05)
    (tmp_path / "certs").mkdir()
    publisher, output, stop = Publisher(tmp_path / "certs"), io.StringIO(), asyncio.Event()
    status = Status("acme", HOST, world.now)
    running = asyncio.ensure_future(
        loop.Loop(
            source=world.source(),
            publisher=publisher,
            status=status,
            log=Log(output, "text", world.now),
            now=world.now,
        ).run(stop)
    )

    async def seen(words: str) -> None:
        await asyncio.to_thread(eventually, lambda: words in output.getvalue(), words)
        world.offset += 2 * HOUR

    with world.cloudflare.failing(status=403, code=10000, message="Authentication error"):
        await seen("certificate_failed kind=token")
    with world.proxy.failing("POST /order-plz", status=500, kind="serverInternal", detail="Internal error"):
        await seen("certificate_failed kind=authority")
    await seen("certificate_recovered")
    assert publisher.current() is not None
    assert status.as_json()["last_error"] == ""
    stop.set()
    await running
    publisher.close()
    assert [line.split(" ")[2] for line in output.getvalue().splitlines()] == [
        "certificate_failed",
        "certificate_failed",
        "certificate_published",
        "certificate_recovered",
    ]


def test_as_a_process_the_whole_way_and_the_token_in_no_output(world: World, tmp_path: Path) -> None:
    """First a wrong token, then the right one, then a restart; as an operator lives through it."""
    (tmp_path / "token").write_text(TOKEN + "\n")
    environ = world.environ | {
        "OWNPOST_TLS": "acme",
        "ACME_SERVER": world.proxy.directory,
        "ACME_DNS_PROPAGATION_SECONDS": "0",
        "RENEWER_ACME": str(tmp_path),
    }
    renewer = Renewer(tmp_path, **environ, CLOUDFLARE_API_TOKEN="x" * 40)
    try:
        renewer.start()
        eventually(lambda: b"certificate_failed" in renewer.log.read_bytes(), "no failure")
        status = renewer.status()
        assert "Cloudflare refuses CLOUDFLARE_API_TOKEN (403: 9109" in str(status["last_error"])
        assert (status["mode"], status["last_success"], status["certificate"]) == ("acme", None, None)
        assert b'ownpost_renewer_failures_total{kind="token"} 1.0' in get(renewer.socket, "/metrics")[1]
        assert renewer.stop() == 0
        del renewer.environ["CLOUDFLARE_API_TOKEN"]
        renewer.environ["CLOUDFLARE_API_TOKEN_FILE"] = str(tmp_path / "token")
        renewer.start()
        name = renewer.published()
        assert stat.S_IMODE((renewer.certs / name / "privkey.pem").stat().st_mode) == 0o600
        assert renewer.stop() == 0
        renewer.start()
        eventually(lambda: get(renewer.socket, "/livez")[0] == 200, "no answer")
        eventually(lambda: renewer.status()["last_success"], "no success")
        assert renewer.published() == name
        assert renewer.stop() == 0
    finally:
        renewer.kill()
    assert TOKEN.encode() not in renewer.log.read_bytes()
    assert b"x" * 40 not in renewer.log.read_bytes()


async def test_a_volume_that_cannot_be_written(world: World, tmp_path: Path) -> None:
    (tmp_path / "certbot").write_text("in the way")
    failure = await world.failure()
    assert failure.kind is Kind.DISK
    assert failure.sentence == f"The folder {tmp_path}/certbot cannot be used: Not a directory."
