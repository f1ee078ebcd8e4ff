"""Which grant holds: that of the settings, of ``make oauth``, of a rotation, of a service account; across restarts."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.oauth import service_account
from relay.oauth.errors import GrantDead
from relay.oauth.store import Store
from support.granted import MAILBOX, Case
from support.token_server import TokenServer


@pytest.fixture
async def server() -> AsyncIterator[TokenServer]:
    async with TokenServer() as server:
        yield server


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
