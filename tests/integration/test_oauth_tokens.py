"""Access tokens from a real token endpoint over TLS: fetched, kept fresh, and what is said when there is none."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from relay.oauth import service_account
from relay.oauth.endpoint import Endpoint
from relay.oauth.errors import GrantDead, TokenUnavailable
from relay.oauth.settings import OAuthSettings
from relay.oauth.store import Store
from relay.oauth.tokens import MARGIN, Tokens
from relay.providers.provider import client_context
from support.token_server import CLOSE, HANG, TokenServer

MAILBOX = "anna@gmail.example"


class Clock:
    """Both clocks, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now - 1_780_000_000.0


@pytest.fixture
async def server() -> AsyncIterator[TokenServer]:
    async with TokenServer() as server:
        yield server


class Case:
    """One provider's tokens against ``server``; ``again`` is the relay after a restart."""

    def __init__(self, server: TokenServer, spool: Path, **settings: Any) -> None:
        self.server, self.spool, self.clock = server, spool, Clock()
        self.said: list[str] = []
        known: dict[str, Any] = {
            "kind": "google",
            "token_url": f"{server.url}/token",
            "scope": "https://mail.google.com/",
            "client_id": server.client_id,
            "client_secret": server.client_secret,
            "ca": server.pem(),
        }
        self.settings = OAuthSettings(**{**known, **settings})
        self.tokens = self.again()

    def again(self, *, seconds: float = 5.0) -> Tokens:
        context = client_context(self.settings.ca)
        self.tokens = Tokens(
            "gmail", MAILBOX, self.settings, self.spool, clock=self.clock, trouble=self.said.append,
            endpoint=Endpoint(context, seconds),
        )  # fmt: skip
        return self.tokens

    @property
    def store(self) -> Store:
        return Store(self.spool, "gmail", MAILBOX, self.settings)


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


# --- a grant that came after the start, and rotation
async def test_a_grant_of_make_oauth_is_taken_up_without_a_restart(server: TokenServer, tmp_path: Path) -> None:
    case = Case(server, tmp_path, refresh_token="refresh-SECRET-old")
    with pytest.raises(GrantDead):
        await case.tokens.access_token()
    case.store.keep(server.grant())
    assert await case.tokens.access_token() in server.access_tokens


async def test_a_grant_that_comes_while_the_old_one_is_refused_is_used_at_once(
    server: TokenServer, tmp_path: Path
) -> None:
    case = Case(server, tmp_path, refresh_token="refresh-SECRET-old")
    server.gate.clear()
    asking = asyncio.ensure_future(case.tokens.access_token())
    await server.changed.wait()
    case.store.keep(server.grant())
    server.gate.set()
    assert await asking in server.access_tokens
    assert len(server.forms) == 2


async def test_a_rotated_refresh_token_survives_a_restart(server: TokenServer, tmp_path: Path) -> None:
    server.rotate = True
    case = Case(server, tmp_path, refresh_token=server.grant())
    for _ in range(3):
        await case.again().access_token()
    assert [form["refresh_token"] for form in server.forms] == [
        f"refresh-SECRET-{number}" for number in (1, 3, 5)
    ]  # each the one that the answer before brought
    file = tmp_path / "oauth" / "gmail.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


async def test_a_disk_that_refuses_the_rotated_token_is_reported_and_tried_again(
    server: TokenServer, tmp_path: Path
) -> None:
    server.rotate = True
    case = Case(server, tmp_path, refresh_token=server.grant())
    obstacle = tmp_path / "oauth" / "gmail.new"  # root may write anywhere: a mode would not stop it
    obstacle.mkdir(parents=True)
    await case.tokens.access_token()
    (said,) = case.said
    assert said.startswith("the new refresh token of gmail cannot be written: Is a directory; it is kept in memory")
    case.clock.now += 3600
    await case.tokens.access_token()
    assert len(case.said) == 2
    obstacle.rmdir()
    case.clock.now += 3600
    await case.tokens.access_token()
    assert len(case.said) == 2
    assert await case.again().access_token() in server.access_tokens


async def test_a_rotation_does_not_undo_a_grant_made_meanwhile(server: TokenServer, tmp_path: Path) -> None:
    server.rotate = True
    case = Case(server, tmp_path, refresh_token=server.grant())
    newer = server.grant()
    case.store.keep(newer)
    assert not case.store.replace(case.settings.refresh_token, "refresh-SECRET-of-the-old-one")
    assert case.store.newest() == newer


@pytest.mark.parametrize("change", [{"refresh_token": "new-in-env"}, {"client_id": "another"}])
async def test_a_change_in_the_settings_wins_over_what_was_kept(
    server: TokenServer, tmp_path: Path, change: dict[str, str]
) -> None:
    kept = Case(server, tmp_path, refresh_token="from-env")
    kept.store.keep("rotated")
    assert kept.store.newest() == "rotated"
    changed = Case(server, tmp_path, **{"refresh_token": "from-env", **change})
    assert changed.store.newest() == changed.settings.refresh_token


async def test_another_mailbox_is_not_logged_in_to_with_the_grant_of_the_first(
    server: TokenServer, tmp_path: Path
) -> None:
    case = Case(server, tmp_path)
    case.store.keep("granted-by-anna")
    assert Store(tmp_path, "gmail", "ben@gmail.example", case.settings).newest() == ""


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}", '{"refresh_token": 5}'])
async def test_a_damaged_file_leaves_the_token_of_the_settings(server: TokenServer, tmp_path: Path, text: str) -> None:
    case = Case(server, tmp_path, refresh_token="from-env")
    case.store.keep("rotated")
    (tmp_path / "oauth" / "gmail.json").write_text(text)
    assert case.store.newest() == "from-env"


async def test_what_a_killed_run_left_is_no_hindrance(server: TokenServer, tmp_path: Path) -> None:
    case = Case(server, tmp_path)
    case.store.keep("one")
    (tmp_path / "oauth" / "gmail.new").write_text("half a to")
    case.store.keep("two")
    assert case.store.newest() == "two"
    assert [file.name for file in (tmp_path / "oauth").iterdir()] == ["gmail.json"]


# --- a service account
async def test_a_service_account_gets_a_token_for_the_mailbox(server: TokenServer, tmp_path: Path) -> None:
    key = service_account.parse(server.account_file())
    case = Case(server, tmp_path, kind="service-account", key=key, client_id="", client_secret="")
    assert await case.tokens.access_token() in server.access_tokens
    assert server.claims["sub"] == MAILBOX
    assert server.claims["scope"] == "https://mail.google.com/"
    assert server.claims["iat"] <= case.clock.now < server.claims["exp"] <= case.clock.now + 3600
    assert not (tmp_path / "oauth").exists()


async def test_a_service_account_without_delegation_says_what_the_administrator_must_do(
    server: TokenServer, tmp_path: Path
) -> None:
    key = service_account.parse(server.account_file())
    case = Case(server, tmp_path, kind="service-account", key=key, client_id="", client_secret="")
    server.once((401, {"error": "unauthorized_client", "error_description": "Client is unauthorized."}))
    with pytest.raises(GrantDead) as problem:
        await case.tokens.access_token()
    assert "Client is unauthorized. (unauthorized_client)" in str(problem.value)
    assert "domain-wide delegation on for its client id 117 with the scope https://mail.google.com/" in str(
        problem.value
    )


async def test_a_key_file_that_is_none_is_told_without_being_quoted(server: TokenServer) -> None:
    good = json.loads(server.account_file())
    for text in ("", "no json", "[]", "{}", json.dumps({**good, "private_key": "-----BEGIN SECRET-----"})):
        with pytest.raises(service_account.NotAKey) as problem:
            service_account.parse(text)
        assert "SECRET" not in str(problem.value)
