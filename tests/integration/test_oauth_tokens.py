"""Access tokens from a real token endpoint over TLS: fetched, kept fresh, and what is said when there is none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from relay.oauth.errors import GrantDead, TokenUnavailable
from relay.oauth.tokens import MARGIN
from support.granted import Case
from support.token_server import CLOSE, HANG, TokenServer


@pytest.fixture
async def server() -> AsyncIterator[TokenServer]:
    async with TokenServer() as server:
        yield server


async def test_a_token_serves_until_shortly_before_its_end_and_is_then_renewed(
    server: TokenServer, tmp_path: Path
) -> None:
    case = Case(server, tmp_path, refresh_token=server.grant())
    first = await case.tokens.access_token()
    assert first in server.access_tokens
    case.clock.now += 3600 - MARGIN - 1
    assert await case.tokens.access_token() == first
    assert len(server.forms) == 1
    case.clock.now += 1
    second = await case.tokens.access_token()
    assert second != first
    assert len(server.forms) == 2


async def test_many_who_need_a_token_at_once_cause_one_request(server: TokenServer, tmp_path: Path) -> None:
    case = Case(server, tmp_path, refresh_token=server.grant())
    found = await asyncio.gather(*(case.tokens.access_token() for _ in range(20)))
    assert len(set(found)) == 1
    assert server.connections == 1


async def test_one_who_gives_up_waiting_does_not_take_the_token_from_the_others(
    server: TokenServer, tmp_path: Path
) -> None:
    case = Case(server, tmp_path, refresh_token=server.grant())
    hasty, patient = (asyncio.ensure_future(case.tokens.access_token()) for _ in range(2))
    await server.changed.wait()
    hasty.cancel()
    assert await patient in server.access_tokens


async def test_a_short_lived_token_is_used_for_half_its_life(server: TokenServer, tmp_path: Path) -> None:
    server.seconds = 60
    case = Case(server, tmp_path, refresh_token=server.grant())
    first = await case.tokens.access_token()
    case.clock.now += 29
    assert await case.tokens.access_token() == first
    case.clock.now += 1
    assert await case.tokens.access_token() != first


async def test_an_endpoint_in_trouble_is_not_noticed_while_the_token_is_good(
    server: TokenServer, tmp_path: Path
) -> None:
    case = Case(server, tmp_path, refresh_token=server.grant())
    token = await case.tokens.access_token()
    case.clock.now += 3600 - 1
    server.always((503, {"error": "temporarily_unavailable"}))
    assert await case.tokens.access_token() == token
    case.clock.now += 1
    with pytest.raises(TokenUnavailable):
        await case.tokens.access_token()


TROUBLE = [
    ((503, {"error": "backend_error"}), "there is no access token now: 127.0.0.1 answered 503, backend_error"),
    ((429, {"error": "rate_limit_exceeded"}), "answered 429, rate_limit_exceeded"),
    ((400, {"error": "temporarily_unavailable"}), "answered 400, temporarily_unavailable"),
    ((200, {"token_type": "Bearer"}), "127.0.0.1 gave an answer without a usable token"),
    ((200, {"access_token": "two\r\nlines"}), "127.0.0.1 gave an answer without a usable token"),
    ((200, {"access_token": "x" * 16_385}), "127.0.0.1 gave an answer without a usable token"),
    (b"220 this is no HTTP\r\n\r\n", "127.0.0.1 did not answer in HTTP"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "127.0.0.1 answered 200 with something that is not a JSON"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "127.0.0.1 answered 200 with something that is not a JSON"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n" + b" " * 70_000, "an answer of more than 64 KiB"),
    (b"HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1/\r\nContent-Length: 0\r\n\r\n", "answered 302 with something"),
    (CLOSE, "127.0.0.1 did not answer in HTTP"),
]


@pytest.mark.parametrize(("act", "sentence"), TROUBLE, ids=[sentence for _, sentence in TROUBLE])
async def test_trouble_of_the_endpoint_is_a_sentence_and_passes(
    server: TokenServer, tmp_path: Path, act: Any, sentence: str
) -> None:
    case = Case(server, tmp_path, refresh_token=server.grant())
    server.once(act)
    with pytest.raises(TokenUnavailable) as problem:
        await case.tokens.access_token()
    assert sentence in str(problem.value)
    assert "SECRET" not in str(problem.value)
    assert await case.tokens.access_token() in server.access_tokens


async def test_an_endpoint_that_says_nothing_is_given_up(server: TokenServer, tmp_path: Path) -> None:
    case = Case(server, tmp_path, refresh_token=server.grant())
    server.once(HANG)
    with pytest.raises(TokenUnavailable, match="did not answer within 0 seconds"):
        await case.again(seconds=0.2).access_token()


async def test_an_endpoint_with_a_certificate_of_a_stranger_gets_no_secret(server: TokenServer, tmp_path: Path) -> None:
    async with TokenServer() as other:
        case = Case(server, tmp_path, refresh_token=server.grant(), ca=other.pem())
        with pytest.raises(TokenUnavailable, match=r"127\.0\.0\.1 has a certificate that is not valid"):
            await case.tokens.access_token()
    assert server.asked == []


async def test_an_endpoint_that_is_not_there(server: TokenServer, tmp_path: Path) -> None:
    case = Case(server, tmp_path, refresh_token="refresh-SECRET", token_url="https://127.0.0.1:1/token")
    with pytest.raises(TokenUnavailable, match=r"127\.0\.0\.1 cannot be reached"):
        await case.tokens.access_token()


async def test_a_revoked_grant_says_what_to_do(server: TokenServer, tmp_path: Path) -> None:
    case = Case(server, tmp_path, refresh_token=server.grant())
    server.revoke()
    with pytest.raises(GrantDead) as problem:
        await case.tokens.access_token()
    assert str(problem.value) == (
        "the grant has expired or was revoked: Token has been expired or revoked. (invalid_grant);"
        " run make oauth PROVIDER=gmail again"
    )


async def test_an_app_that_is_not_known_names_the_settings(server: TokenServer, tmp_path: Path) -> None:
    case = Case(server, tmp_path, refresh_token=server.grant(), client_id="another")
    with pytest.raises(GrantDead, match="set GMAIL_OAUTH_CLIENT_ID and GMAIL_OAUTH_CLIENT_SECRET right"):
        await case.tokens.access_token()


async def test_without_any_grant_the_first_thing_to_do_is_told(server: TokenServer, tmp_path: Path) -> None:
    case = Case(server, tmp_path)
    with pytest.raises(GrantDead, match="nobody has granted access yet: run make oauth PROVIDER=gmail"):
        await case.tokens.access_token()
    assert server.asked == []


async def test_words_of_the_endpoint_never_give_back_what_we_sent(server: TokenServer, tmp_path: Path) -> None:
    token = server.grant()
    case = Case(server, tmp_path, refresh_token=token)
    words = f"The token {token} of\r\n{server.client_secret} is \x1b[31mbad" + " long" * 200
    server.once((400, {"error": "invalid_grant", "error_description": words}))
    with pytest.raises(GrantDead) as problem:
        await case.tokens.access_token()
    said = str(problem.value)
    assert "The token … of … is ?[31mbad" in said
    assert said.isprintable()
    assert len(said) < 500


async def test_no_secret_is_shown_by_what_holds_it(server: TokenServer, tmp_path: Path) -> None:
    case = Case(server, tmp_path, refresh_token=server.grant())
    await case.tokens.access_token()
    shown = repr((case.tokens, case.settings, case.store, vars(case.tokens)["_settings"]))
    assert "SECRET" not in shown
    assert server.client_secret not in shown
