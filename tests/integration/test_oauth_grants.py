"""A person grants access: by a code typed in elsewhere, or by a browser that is sent back."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from relay.oauth import loopback
from relay.oauth.endpoint import Endpoint, Granted, Refusal
from relay.oauth.errors import TokenUnavailable
from relay.oauth.grants import CodeRequest, DeviceCode, NotGranted, device_code, wait_for_device
from relay.oauth.settings import OAuthSettings
from relay.providers.provider import client_context
from support.token_server import HANG, TokenServer

REDIRECT = "http://127.0.0.1:8498"


@pytest.fixture
async def server() -> AsyncIterator[TokenServer]:
    async with TokenServer() as server:
        yield server


def asleep() -> TokenServer:
    """A server that nobody asks: it only plays the browser."""
    server = TokenServer()
    server.port = 443
    return server


def settings(server: TokenServer, **more: Any) -> OAuthSettings:
    known: dict[str, Any] = {
        "kind": "microsoft",
        "token_url": f"{server.url}/token",
        "device_url": f"{server.url}/device",
        "authorize_url": f"{server.url}/authorize",
        "scope": "https://outlook.office365.com/SMTP.Send offline_access",
        "client_id": server.client_id,
        "client_secret": server.client_secret,
    }
    return OAuthSettings(**{**known, **more})


def endpoint(server: TokenServer, seconds: float = 5.0) -> Endpoint:
    return Endpoint(client_context(server.pem()), seconds)


class Patience:
    """A clock that only sleeping moves; ``script`` is what the person does before each question."""

    def __init__(self, server: TokenServer, *script: str) -> None:
        self.server, self.script = server, list(script)
        self.now, self.slept = 0.0, list[float]()

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)
        if self.script:
            self.server.device = self.script.pop(0)

    async def wait(self, server: TokenServer, code: DeviceCode, seconds: float = 5.0) -> Granted:
        return await wait_for_device(
            endpoint(server, seconds), settings(server), code, sleep=self.sleep, now=lambda: self.now
        )


async def code_of(server: TokenServer) -> DeviceCode:
    code = await device_code(endpoint(server), settings(server))
    assert isinstance(code, DeviceCode)
    return code


# --- RFC 8628
async def test_a_device_is_granted_once_the_person_has_typed_the_code(server: TokenServer) -> None:
    code = await code_of(server)
    assert code.user_code == "WDJB-MJHT"
    assert server.asked[0][1]["scope"] == "https://outlook.office365.com/SMTP.Send offline_access"
    patience = Patience(server, "pending", "pending", "granted")
    granted = await patience.wait(server, code)
    assert granted.refresh_token in server.refresh_tokens
    assert patience.slept == [1, 1, 1]


async def test_slow_down_makes_us_ask_five_seconds_less_often_for_good(server: TokenServer) -> None:
    patience = Patience(server, "slow_down", "pending", "slow_down", "granted")
    await patience.wait(server, await code_of(server))
    assert patience.slept == [1, 6, 6, 11]


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ("denied", "access was denied in the browser"),
        ("authorization_declined", "access was denied in the browser"),
        ("expired", "the code has expired before access was granted; run it again"),
        ("bad_verification_code", "access was not granted: It is bad_verification_code. (bad_verification_code)"),
    ],
)
async def test_a_device_that_is_not_granted_says_why(server: TokenServer, state: str, sentence: str) -> None:
    with pytest.raises(NotGranted) as problem:
        await Patience(server, "pending", state).wait(server, await code_of(server))
    assert str(problem.value) == sentence


async def test_a_person_who_never_comes_ends_the_wait_with_the_code(server: TokenServer) -> None:
    server.interval = 60
    code, patience = await code_of(server), Patience(server)
    server.always((400, {"error": "authorization_pending"}))
    with pytest.raises(NotGranted, match="has expired"):
        await patience.wait(server, code)
    assert patience.now == 900
    assert len(server.forms) == 15


async def test_trouble_of_the_endpoint_while_waiting_is_waited_out_ever_more_patiently(server: TokenServer) -> None:
    code = await code_of(server)
    server.once((503, {"error": "x"}), HANG, b"garbage\r\n\r\n")
    patience = Patience(server, "pending", "pending", "pending", "granted")
    await patience.wait(server, code, seconds=0.3)
    assert patience.slept == [1, 2, 4, 8]


async def test_a_provider_without_device_codes_says_so(server: TokenServer) -> None:
    server.once((400, {"error": "invalid_scope", "error_description": "Invalid device flow scope."}))
    refusal = await device_code(endpoint(server), settings(server))
    assert isinstance(refusal, Refusal)
    assert str(refusal) == "Invalid device flow scope. (invalid_scope)"


@pytest.mark.parametrize(
    "answer", [{}, {"device_code": "x"}, {"device_code": "x", "user_code": "a\nb", "verification_uri": "https://x"}]
)
async def test_a_code_that_cannot_be_shown_is_none(server: TokenServer, answer: dict[str, str]) -> None:
    server.once((200, answer))
    with pytest.raises(TokenUnavailable):
        await device_code(endpoint(server), settings(server))


async def test_a_device_grant_without_a_refresh_token_is_no_grant(server: TokenServer) -> None:
    code = await code_of(server)
    server.once((200, {"access_token": "an-hour", "expires_in": 3600}))
    with pytest.raises(NotGranted, match="without a refresh token"):
        await Patience(server).wait(server, code)


# --- RFC 6749 4.1 with PKCE
async def test_a_browser_grant_is_bound_to_who_asked_for_it(server: TokenServer) -> None:
    request = CodeRequest(settings(server), REDIRECT, "anna@example.org")
    back = server.browser(request.url)
    granted = await request.exchange(endpoint(server), request.code(back))
    assert granted.refresh_token in server.refresh_tokens
    stranger = CodeRequest(settings(server), REDIRECT, "anna@example.org")
    assert not stranger.awaits(back)
    with pytest.raises(NotGranted, match="the code was refused: Bad code, verifier or redirect"):
        await stranger.exchange(endpoint(server), stranger.code(server.browser(request.url)))


def test_the_address_to_open_gives_nothing_away() -> None:
    request = CodeRequest(settings(asleep(), kind="google"), REDIRECT, "anna@example.org")
    query = dict(parse_qsl(urlsplit(request.url).query))
    verifier = vars(request)["_verifier"]
    assert verifier not in request.url
    digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    assert (query["code_challenge"], query["code_challenge_method"]) == (digest, "S256")
    assert re.fullmatch(r"[A-Za-z0-9._~-]{43,128}", verifier)
    assert query["login_hint"] == "anna@example.org"
    assert (query["access_type"], query["prompt"]) == ("offline", "consent")
    assert "client_secret" not in query
    assert "SECRET" not in repr(request)


def test_what_is_pasted_wrong_is_explained() -> None:
    server = asleep()
    request = CodeRequest(settings(server), REDIRECT, "anna@example.org")
    other = CodeRequest(settings(server), REDIRECT, "anna@example.org")
    for text in ("", "4/0AX-code-alone", "http://[::1", f"{REDIRECT}/?code=x", "x" * 100_000):
        assert not request.awaits(text)
        assert request.why_not(text).startswith("that is not the whole address")
    assert "belongs to another try" in request.why_not(server.browser(other.url))
    denied = server.browser(request.url, consent=False)
    assert request.awaits(denied)
    with pytest.raises(NotGranted, match="access was denied in the browser"):
        request.code(denied)
    assert request.awaits(f"  {server.browser(request.url)}\r\n")


# --- RFC 8252
async def test_a_browser_is_thanked_and_its_answer_taken_and_strangers_are_not() -> None:
    taken: list[str] = []

    def take(target: str) -> bool:
        taken.append(target)
        return target.startswith("/?state=right&")

    async with loopback.listening("127.0.0.1", 0, take) as port, httpx.AsyncClient() as client:
        address = f"http://127.0.0.1:{port}"
        assert (await client.get(f"{address}/favicon.ico")).status_code == 404
        assert (await client.get(f"{address}/?state=wrong&code=1")).status_code == 404
        assert (await client.post(f"{address}/?state=right&code=1")).status_code == 404
        answer = await client.get(f"{address}/?state=right&code=1")
    assert answer.status_code == 200
    assert "You can close this page" in answer.text
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert taken == ["/favicon.ico", "/?state=wrong&code=1", "/?state=right&code=1"]
    with pytest.raises(OSError, match="Connect call failed"):
        await asyncio.open_connection("127.0.0.1", port)


@pytest.mark.parametrize("rubbish", [b"\x16\x03\x01\x02\x00", b"GET /" + b"x" * 20_000, b"GET / HTTP/1.1\r\n", b""])
async def test_rubbish_at_the_loopback_address_does_no_harm(rubbish: bytes) -> None:
    async with loopback.listening("127.0.0.1", 0, lambda target: True) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(rubbish)
        await writer.drain()
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"http://127.0.0.1:{port}/")).status_code == 200
        writer.close()
