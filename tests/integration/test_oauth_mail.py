"""Mail through a provider that lets in by XOAUTH2 and nothing else: real TLS on both sides, a real token endpoint."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiosmtplib
import pytest

from relay.delivery.breaker import Breaker
from relay.delivery.connection import Opener, Times
from relay.delivery.login import explained
from relay.delivery.outcome import Finding, judge
from relay.model import State
from relay.oauth.errors import GrantDead, TokenUnavailable
from relay.oauth.settings import OAuthSettings
from relay.oauth.store import Store
from relay.oauth.tokens import Tokens
from relay.providers.provider import Provider
from relay.providers.rules import Stage, Standing
from support.delivering import BODY, FakeJournal, at_rest, delivering, provider_for
from support.memory_spool import FakeClock, MemorySpool
from support.scripted_provider import CLOSE, HANG
from support.token_server import TokenServer
from support.xoauth2 import XOAuth2Provider

MAILBOX = "anna@example.org"
QUICK = Times(connect=0.5, reply=0.5, block=0.5, final=0.5, quit=0.3)


@pytest.fixture
async def server() -> AsyncIterator[TokenServer]:
    async with TokenServer() as server:
        yield server


@pytest.fixture
async def peer(server: TokenServer) -> AsyncIterator[XOAuth2Provider]:
    async with XOAuth2Provider(MAILBOX, server.access_tokens) as peer:
        assert isinstance(peer, XOAuth2Provider)
        yield peer


class Case:
    """A provider ``gmail`` as it is configured, its tokens, and the clock of both."""

    def __init__(self, server: TokenServer, peer: XOAuth2Provider, folder: Path, *, grant: bool = True) -> None:
        self.server, self.peer, self.folder, self.clock = server, peer, folder, FakeClock()
        self.settings = OAuthSettings(
            kind="google",
            token_url=f"{server.url}/token",
            scope="https://mail.google.com/",
            client_id=server.client_id,
            client_secret=server.client_secret,
            refresh_token=server.grant() if grant else "",
            ca=server.pem(),
        )
        self.provider: Provider = provider_for(
            peer, name="gmail", auth="xoauth2", oauth=self.settings, password="", username=MAILBOX
        )
        self.said: list[str] = []
        self.tokens = Tokens("gmail", MAILBOX, self.settings, folder, clock=self.clock, trouble=self.said.append)
        self.all = {"gmail": self.tokens}

    async def opened(self, times: Times = QUICK) -> None:
        """Logs in once."""
        link, _ = await Opener(self.provider, "mail.example.org", times, tokens=self.tokens).open()
        await link.quit(0.3)

    async def failure(self, kind: type[BaseException]) -> tuple[str, Standing]:
        """The sentence of a login that fails, and what it says of the provider."""
        opener = Opener(self.provider, "mail.example.org", QUICK, tokens=self.tokens)
        with pytest.raises(kind) as problem:
            await opener.open()
        assert not opener.is_connected
        verdict = judge(Finding(opener.stage, problem.value))
        assert opener.stage is Stage.LOGIN
        return verdict.outcome.text, verdict.standing


async def test_a_mail_goes_out_with_a_token(server: TokenServer, peer: XOAuth2Provider, tmp_path: Path) -> None:
    case = Case(server, peer, tmp_path)
    spool, journal = MemorySpool(case.clock), FakeJournal()
    message = spool.add(BODY)
    async with delivering(spool, case.provider, tokens=case.all, journal=journal):
        await spool.settled(message)
    assert spool.states(message) == [State.DELIVERED]
    assert [got.content for got in peer.kept] == [BODY]
    assert peer.bearers == list(server.access_tokens)
    assert "SECRET" not in repr((journal.said, spool.of(message)))


async def test_a_revoked_grant_pauses_the_provider_and_a_new_one_lets_the_mail_go(
    server: TokenServer, peer: XOAuth2Provider, tmp_path: Path
) -> None:
    case = Case(server, peer, tmp_path)
    server.revoke()
    spool, journal = MemorySpool(case.clock), FakeJournal()
    message = spool.add(BODY)
    async with delivering(spool, case.provider, tokens=case.all, journal=journal, breaker=Breaker) as dispatcher:
        await at_rest(spool, dispatcher)
        (state,) = dispatcher.providers()
        assert state.state != "open"
        assert "run make oauth PROVIDER=gmail again" in state.reason
        assert spool.notices == []
        Store(tmp_path, "gmail", MAILBOX, case.settings).keep(server.grant())
        spool.advance(3600)
        await spool.until(lambda: spool.states(message) == [State.DELIVERED])
    assert len(peer.kept) == 1
    (paused,) = [fields for event, fields in journal.said if event == "provider_paused"]
    assert "run make oauth PROVIDER=gmail again" in paused["reason"]


# --- the login
async def test_connections_share_one_token(server: TokenServer, peer: XOAuth2Provider, tmp_path: Path) -> None:
    case = Case(server, peer, tmp_path)
    await asyncio.gather(*(case.opened() for _ in range(5)))
    assert len(set(peer.bearers)) == len(server.forms) == 1


async def test_a_token_that_was_revoked_early_is_replaced_on_the_same_connection(
    server: TokenServer, peer: XOAuth2Provider, tmp_path: Path
) -> None:
    case = Case(server, peer, tmp_path)
    await case.opened()
    server.access_tokens.clear()
    case.clock.passed += 60
    await case.opened()
    assert peer.connections == 2
    assert len(peer.bearers) == 3
    assert len(server.forms) == 2


async def test_a_revoked_token_is_known_by_its_334_whatever_the_final_reply_is(
    server: TokenServer, peer: XOAuth2Provider, tmp_path: Path
) -> None:
    case = Case(server, peer, tmp_path)
    await case.opened()
    server.access_tokens.clear()
    case.clock.passed += 60
    peer.final = "501 5.5.2 Cannot decode an empty line"
    await case.opened()
    assert (len(peer.bearers), len(server.forms)) == (3, 2)


async def test_a_token_goes_once_more_to_who_overlooked_it(
    server: TokenServer, peer: XOAuth2Provider, tmp_path: Path
) -> None:
    peer.overlooks = True
    await Case(server, peer, tmp_path).opened()
    assert peer.bearers == list(server.access_tokens)


async def test_xoauth2_refused_as_a_mechanism_says_nothing_of_the_token(
    server: TokenServer, peer: XOAuth2Provider, tmp_path: Path
) -> None:
    peer.refusal = "504 5.5.4 Unrecognized authentication type"
    sentence, standing = await Case(server, peer, tmp_path).failure(aiosmtplib.SMTPNotSupported)
    assert standing is Standing.BUSY
    assert sentence.endswith("a login by XOAUTH2 and then does not take it: 504 5.5.4 Unrecognized authentication type")
    assert len(server.forms) == 1


async def test_a_fresh_token_that_is_refused_is_not_tried_twice(
    server: TokenServer, peer: XOAuth2Provider, tmp_path: Path
) -> None:
    case = Case(server, peer, tmp_path)
    peer.mailbox = "ben@example.org"  # whoever granted it signed in as somebody else
    sentence, standing = await case.failure(aiosmtplib.SMTPAuthenticationError)
    assert standing is Standing.KEY_DEAD
    assert sentence == (
        "5.7.8 Username and Password not accepted. 5.7.8 gsmtp (XOAUTH2: status 400; scope https://mail.google.com/;"
        " the token is for another mailbox, or was not granted for SMTP)"
    )
    assert len(peer.bearers) == 1
    assert "SECRET" not in sentence


async def test_a_dead_grant_is_a_dead_key_with_what_to_do(
    server: TokenServer, peer: XOAuth2Provider, tmp_path: Path
) -> None:
    case = Case(server, peer, tmp_path, grant=False)
    assert await case.failure(GrantDead) == (
        "nobody has granted access yet: run make oauth PROVIDER=gmail",
        Standing.KEY_DEAD,
    )
    assert peer.bearers == []


async def test_a_token_endpoint_in_trouble_is_no_dead_key(
    server: TokenServer, peer: XOAuth2Provider, tmp_path: Path
) -> None:
    case = Case(server, peer, tmp_path)
    server.always((503, {"error": "backend_error"}))
    sentence, standing = await case.failure(TokenUnavailable)
    assert standing is Standing.BUSY
    assert sentence == "there is no access token now: 127.0.0.1 answered 503, backend_error"


async def test_a_provider_without_xoauth2_gets_no_token(
    server: TokenServer, peer: XOAuth2Provider, tmp_path: Path
) -> None:
    peer.mechanisms = "PLAIN LOGIN"
    case = Case(server, peer, tmp_path)
    sentence, _ = await case.failure(aiosmtplib.SMTPNotSupported)
    assert "it offers no login by XOAUTH2" in sentence
    assert server.asked == []
    assert not [line for _, line in peer.commands if line.startswith("AUTH")]


async def test_a_provider_that_is_busy_at_the_login_is_no_dead_key(
    server: TokenServer, peer: XOAuth2Provider, tmp_path: Path
) -> None:
    peer.once("auth", "454 4.7.0 Temporary authentication failure")
    case = Case(server, peer, tmp_path)
    _, standing = await case.failure(aiosmtplib.SMTPAuthenticationError)
    assert standing is Standing.BUSY
    await case.opened()
    assert len(server.forms) == 1  # the token was not at fault


@pytest.mark.parametrize("act", [HANG, CLOSE, "garbage"])
async def test_a_provider_that_goes_away_at_the_login(
    server: TokenServer, peer: XOAuth2Provider, tmp_path: Path, act: Any
) -> None:
    peer.once("auth", act)
    case = Case(server, peer, tmp_path)
    _, standing = await case.failure(Exception)
    assert standing is Standing.BUSY
    await case.opened()


async def test_no_token_is_sent_where_the_certificate_is_a_strangers(server: TokenServer, tmp_path: Path) -> None:
    async with XOAuth2Provider(MAILBOX, server.access_tokens, certificate_name="other.example") as peer:
        assert isinstance(peer, XOAuth2Provider)
        case = Case(server, peer, tmp_path)
        with pytest.raises(Exception, match="certificate"):
            await case.opened()
        while peer.open:  # it learns of it a little later
            await peer.changed.wait()
        assert peer.bearers == []
        assert server.asked == []


# --- what 334 says
@pytest.mark.parametrize(
    ("challenge", "said"),
    [
        ({"status": "401", "schemes": "bearer"}, "(XOAUTH2: status 401; the token has expired or was revoked)"),
        ({"status": 400}, "(XOAUTH2: status 400; the token is for another mailbox, or was not granted for SMTP)"),
        ({"status": "500"}, "(XOAUTH2: status 500)"),
        ({"status": "x" * 500}, f"(XOAUTH2: status {'x' * 100})"),
        ({}, ""),
        ([], ""),
    ],
)
def test_the_challenge_is_decoded(challenge: object, said: str) -> None:
    assert explained(base64.b64encode(json.dumps(challenge).encode()).decode()) == said


@pytest.mark.parametrize("challenge", ["", "no base64!", "bm8gSlNPTg==", "/////w==", "W1tbW1tb" * 20_000])
def test_a_challenge_that_is_none_says_nothing(challenge: str) -> None:
    assert explained(challenge) == ""
