"""A host whose IPv6 leads nowhere, as each of our clients meets it: over IPv4, in far less time than it has."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import aiohttp
import apprise
import httpx
import pytest
import trustme
from acme.client import ClientNetwork

from common.connect import DIALER
from domain import api
from domain.checks import servers
from domain.checks.model import Verdict
from relay import limits
from relay.delivery import connection
from relay.delivery.connection import Times
from relay.model import State
from relay.oauth import http
from relay.providers.provider import client_context
from support.delivering import BODY, SHORT, FakeJournal, delivering, provider_for
from support.dual import DUAL, black_hole, listening, name_it
from support.memory_spool import FakeClock, MemorySpool
from support.ports import free_port
from support.scripted_provider import HANG, ScriptedProvider
from support.token_server import TokenServer

PATIENT = Times(connect=30.0, reply=30.0, block=5.0, final=5.0, quit=1.0)
USERS = {"user": "secret"}


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name, to a process that has learned nothing of it yet."""
    name_it(monkeypatch)
    monkeypatch.setattr(DIALER, "_last", {})


@pytest.fixture
def quick() -> Iterator[None]:
    """Within five seconds: the shortest of the time limits that one address could use up alone."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 5.0


# --- mail
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_a_mail_goes_out_at_the_first_try(tls: str) -> None:
    async with ScriptedProvider(tls=tls, users=USERS, certificate_name=DUAL) as peer:
        spool, journal = MemorySpool(FakeClock()), FakeJournal()
        message = spool.add(BODY)
        with black_hole(peer.port):
            async with delivering(spool, provider_for(peer, host=DUAL), times=PATIENT, journal=journal):
                await spool.settled(message)
        (row,) = spool.of(message)
        assert (row.state, row.attempts, journal.said) == (State.DELIVERED, 1, [])


async def test_a_host_that_cannot_be_reached_is_told_with_each_of_its_addresses() -> None:
    async with ScriptedProvider() as peer:
        spool, shut = MemorySpool(FakeClock()), free_port()
        message = spool.add(BODY)
        provider = provider_for(peer, host=DUAL, ports=((shut, "none"),))
        with black_hole(shut):
            async with delivering(spool, provider, times=Times(connect=0.5)):
                await spool.settled(message)
        assert spool.of(message)[0].reply == (
            "no connection to the provider: 127.0.0.1 refused the connection, ::1 did not answer"
        )


async def test_a_connection_that_stands_and_says_nothing_costs_one_try() -> None:
    """A tunnel that swallows large packets, or a box in the way that takes connections for whoever is behind it."""
    async with ScriptedProvider(tls="tls", users=USERS, certificate_name=DUAL) as peer:
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY)
        with listening("::1", peer.port):
            async with delivering(spool, provider_for(peer, host=DUAL), times=Times(connect=0.5, reply=5.0)):
                await spool.settled(message)
                assert spool.states(message) == [State.DUE]
                spool.advance(60)
                await spool.settled(message)
        assert spool.states(message) == [State.DELIVERED]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("stage", ["greeting", "ehlo", "starttls"])
async def test_a_port_that_goes_silent_leaves_the_next_one_its_time(
    stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "PORT_TIME", 0.3)
    async with ScriptedProvider(tls="starttls") as ill, ScriptedProvider(tls="tls", users=USERS) as well:
        ill.always(stage, HANG)
        spool = MemorySpool(FakeClock())
        message = spool.add(BODY)
        ports = ((ill.port, "starttls"), (well.port, "tls"))
        context = client_context(ill.pem() + well.pem())
        async with delivering(spool, provider_for(well, ports=ports, tls_context=context), times=PATIENT):
            await spool.settled(message)
        (row,) = spool.of(message)
        assert (row.state, row.attempts) == (State.DELIVERED, 1)


async def test_no_socket_is_left_of_a_connection_that_comes_to_nothing() -> None:
    async with ScriptedProvider(tls="tls", certificate_name="other.example") as peer:
        opener = connection.Opener(provider_for(peer, tls_context=client_context(peer.pem())), "x.example", SHORT)
        with pytest.raises(Exception, match="certificate"):
            await opener.open()
        while peer.open:  # it learns of it a little later
            await peer.changed.wait()


@pytest.mark.usefixtures("quick")
async def test_a_token_is_had() -> None:
    async with TokenServer() as server:
        form = {"grant_type": "refresh_token", "refresh_token": server.grant(), "client_id": server.client_id}
        form["client_secret"] = server.client_secret
        with black_hole(server.port):
            answer = await http.post_form(
                f"https://{DUAL}:{server.port}/token", form, client_context(server.pem()), seconds=30.0
            )
    assert answer.status == 200


# --- HTTP
class Handler(BaseHTTPRequestHandler):
    """Is well, whatever it is asked."""

    def do_GET(self) -> None:
        body = json.dumps({"well": True}).encode()
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 (http.server's name)

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def site(context: ssl.SSLContext | None = None) -> Iterator[str]:
    """A site at the name whose IPv6 leads nowhere, over TLS if there is a ``context``; its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        running = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        running.start()
        try:
            with black_hole(server.server_port):
                yield f"{'http' if context is None else 'https'}://{DUAL}:{server.server_port}/"
        finally:
            server.shutdown()
            running.join()


@pytest.mark.usefixtures("quick")
def test_a_services_api_answers_the_domain_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(DUAL).configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with site(context) as url, api.client() as client:
        assert client.get(url).json() == {"well": True}


def test_a_service_that_is_not_there_is_told_with_its_addresses() -> None:
    with api.client() as client, pytest.raises(httpx.ConnectError, match=r"::1 and 127\.0\.0\.1 refused"):
        client.get(f"https://{DUAL}:{free_port()}/")


@pytest.mark.usefixtures("quick")
def test_an_open_port_is_open_to_the_domain_tool() -> None:
    with listening("127.0.0.1") as port, black_hole(port):
        assert servers.provider("X", DUAL, (port,)).verdict is Verdict.GOOD


@pytest.mark.usefixtures("quick")
async def test_the_exporter_is_not_held_up_when_it_pings() -> None:
    """aiohttp races by itself."""
    timeout = aiohttp.ClientTimeout(total=20.0)
    with site() as url:
        async with aiohttp.ClientSession(timeout=timeout) as client, client.get(url) as answer:
            assert answer.ok


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what apprise loads
def test_who_notifies_goes_on_to_the_next_address() -> None:
    """apprise's requests does not race, but each address has time of its own: 4 seconds, here one."""
    with site() as url:
        places = apprise.Apprise()
        assert places.add(url.replace("http", "json") + "?cto=1")
        assert places.notify(title="x", body="y")


def test_certbot_goes_on_to_the_next_address() -> None:
    """Likewise; 45 seconds, here one."""
    with site() as url:
        assert ClientNetwork(timeout=1).get(url).json() == {"well": True}
