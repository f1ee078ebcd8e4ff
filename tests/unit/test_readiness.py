"""The readiness probe: what an operator learns of a provider without sending anything."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiosmtplib
import pytest

from relay.delivery import probe
from relay.delivery.connection import Opener
from relay.delivery.probe import NOT_TRIED, Prober, Readiness, login_of
from relay.oauth.errors import GrantDead, TokenUnavailable
from relay.providers.provider import Provider, client_context
from relay.providers.rules import Standing
from support.delivering import FakeJournal, provider_for
from support.ports import free_port
from support.scripted_provider import CLOSE, HANG, ScriptedProvider, Talk
from support.xoauth2 import XOAuth2Provider

AT = 1_790_000_000.0
USERS = {"apikey": "right"}


class StoppedClock:
    def time(self) -> float:
        return AT

    def monotonic(self) -> float:
        return 0.0


class Watched:
    """A prober and all it told."""

    def __init__(self, *providers: Provider) -> None:
        self.journal, self.told = FakeJournal(), list[Readiness]()
        self.unprobed: list[str] = []
        self.prober = Prober(
            providers,
            hostname="mail.example.org",
            clock=StoppedClock(),
            journal=self.journal,
            looked=self.told.append,
            unprobed=lambda: self.unprobed,
            login=login_of({}),
        )

    async def look(self) -> Readiness:
        (found,) = (await self.prober.look()).values()
        return found


@contextlib.asynccontextmanager
async def two_ports(**more: Any) -> AsyncIterator[tuple[ScriptedProvider, ScriptedProvider, Provider]]:
    """A provider with STARTTLS on one port and TLS on another."""
    async with ScriptedProvider(tls="starttls", users=USERS) as one, ScriptedProvider(tls="tls", users=USERS) as two:
        context = client_context(one.pem() + two.pem())
        ports = ((one.port, "starttls"), (two.port, "tls"))
        yield one, two, provider_for(one, **{"ports": ports, "tls_context": context, **more})


def verbs(peer: ScriptedProvider) -> list[str]:
    return [line.split(" ")[0] for _, line in peer.commands]


async def test_a_provider_that_is_well() -> None:
    async with two_ports() as (one, two, provider):
        watched = Watched(provider)
        found = await watched.look()
    assert found.ready
    assert found.key is True
    assert (found.at, found.sentence) == (AT, "")
    assert [(port.port, port.open, port.login, port.ok) for port in found.ports] == [
        (one.port, True, True, True),
        (two.port, True, True, True),
    ]
    assert verbs(one) == ["EHLO", "STARTTLS", "EHLO", "AUTH", "QUIT"]  # and nothing was sent
    assert verbs(two) == ["EHLO", "AUTH", "QUIT"]
    assert watched.told == [found]
    assert watched.journal.said == [("provider_ready", {"provider": "scripted"})]


@pytest.mark.parametrize("offers", [True, False])
async def test_what_its_ehlo_offers_is_learned(offers: bool) -> None:
    extensions = ("PIPELINING", "SMTPUTF8") if offers else ("PIPELINING",)
    async with ScriptedProvider(tls="tls", users=USERS, extensions=extensions) as peer:
        assert (await Watched(provider_for(peer)).look()).smtputf8 is offers
        closed = provider_for(peer, ports=((free_port(), "tls"),))
    assert (await Watched(closed).look()).smtputf8 is None


async def test_a_wrong_key_is_offered_once_however_many_ports_there_are() -> None:
    async with two_ports(password="wrong") as (one, two, provider):
        watched = Watched(provider)
        found = await watched.look()
    assert not found.ready
    assert found.key is False
    assert all(port.open for port in found.ports)
    assert found.sentence == "535 5.7.8 Authentication credentials invalid"
    assert sorted(port.sentence for port in found.ports) == [found.sentence, NOT_TRIED]
    assert len(one.logins) + len(two.logins) == 1
    assert (watched.told, found.standing) == ([found], Standing.KEY_DEAD)
    assert watched.journal.said == [("provider_not_ready", {"provider": "scripted", "reason": found.sentence})]


async def test_no_login_is_begun_while_another_may_still_be_refused() -> None:
    async with ScriptedProvider(tls="tls", users=USERS) as peer:
        begun: list[int] = []

        async def slowly(opener: Opener, provider: Provider) -> None:
            begun.append(1)
            while verbs(peer).count("EHLO") < 4:
                await peer.changed.wait()
            for _ in range(3):  # the others were greeted, too, and have time to begin
                await opener.noop()
            raise aiosmtplib.SMTPAuthenticationError(535, "5.7.8 No")

        watched = Watched(provider_for(peer, ports=((peer.port, "tls"),) * 4))
        watched.prober._login = slowly
        found = await watched.look()
    assert (begun, found.key) == ([1], False)


async def test_a_shut_port_beside_an_open_one() -> None:
    shut = free_port()
    async with ScriptedProvider(tls="starttls", users=USERS) as peer:
        found = await Watched(provider_for(peer, ports=((shut, "starttls"), (peer.port, "starttls")))).look()
    assert found.ready
    first, second = found.ports
    assert (first.port, first.open, first.login, first.ok) == (shut, False, None, False)
    assert first.sentence == "no connection to the provider: 127.0.0.1 refused the connection"
    assert second.ok


async def test_an_unreachable_provider() -> None:
    async with ScriptedProvider(tls="starttls", users=USERS) as peer:
        found = await Watched(provider_for(peer, ports=((free_port(), "tls"), (free_port(), "starttls")))).look()
    assert not found.ready
    assert found.key is None  # that could not be learned
    assert found.standing is Standing.BUSY
    assert found.sentence == "no connection to the provider: 127.0.0.1 refused the connection"


@pytest.mark.parametrize("stage", ["greeting", "ehlo", "starttls", "auth"])
async def test_a_silent_provider_does_not_make_anybody_wait_for_ever(
    stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "REACH_TIME", 0.2)
    monkeypatch.setattr(probe, "LOGIN_TIME", 0.2)
    async with ScriptedProvider(tls="starttls", users=USERS) as peer:
        peer.always(stage, HANG)
        async with asyncio.timeout(5.0):
            found = await Watched(provider_for(peer, ports=((peer.port, "starttls"),) * 3)).look()
    assert [port.open for port in found.ports] == [stage == "auth"] * 3
    assert (found.ready, found.key) == (False, None)
    assert "did not answer in time" in found.sentence


async def test_a_provider_that_hangs_up_when_it_is_left_is_well() -> None:
    async with ScriptedProvider(tls="starttls", users=USERS) as peer:
        peer.always("quit", CLOSE)
        assert (await Watched(provider_for(peer)).look()).ready


async def test_a_certificate_for_another_name_gets_no_password() -> None:
    async with ScriptedProvider(tls="tls", users=USERS, certificate_name="smtp.example.com") as peer:
        found = await Watched(provider_for(peer)).look()
    assert (found.ready, found.ports[0].open) == (False, False)
    assert "certificate is not valid" in found.sentence
    assert peer.logins == []


async def test_without_starttls_there_is_no_login() -> None:
    async with ScriptedProvider(tls="none", users=USERS) as peer:
        provider = provider_for(peer, ports=((peer.port, "starttls"),), tls_context=client_context())
        found = await Watched(provider).look()
    assert (found.ready, found.ports[0].open) == (False, False)
    assert peer.logins == []


async def test_a_port_that_offers_no_login_does_not_keep_the_next_from_being_tried() -> None:
    async with two_ports() as (one, two, provider):
        one.mechanisms = two.mechanisms = "CRAM-MD5"
        found = await Watched(provider).look()
    assert [port.login for port in found.ports] == [False, False]
    assert "offers no login" in found.sentence


async def test_a_provider_with_login_alone_is_ready() -> None:
    async with two_ports() as (one, two, provider):
        one.mechanisms = two.mechanisms = "LOGIN"
        found = await Watched(provider).look()
    assert (found.ready, found.key) == (True, True)
    assert [*one.logins, *two.logins] == [("apikey", "right")] * 2


async def test_a_port_that_does_not_take_its_own_mechanism_says_nothing_of_the_key() -> None:
    class Broken(ScriptedProvider):
        async def _on_auth(self, talk: Talk, text: str) -> None:
            await self._one(talk, "504 5.5.4 Unrecognized authentication type")

    async with Broken(users=USERS) as one, ScriptedProvider(users=USERS) as two:
        found = await Watched(provider_for(one, ports=((one.port, "none"), (two.port, "none")))).look()
    assert (found.ready, found.key) == (True, True)
    assert [port.login for port in found.ports] == [False, True]
    assert "offers a login by PLAIN or LOGIN and then does not take it" in found.ports[0].sentence


async def test_a_used_up_quota_is_no_dead_key() -> None:
    async with ScriptedProvider(tls="starttls", users=USERS) as peer:
        peer.always("auth", "451 Authentication failed: Maximum credits exceeded")
        found = await Watched(provider_for(peer)).look()
    assert (found.ready, found.key) == (False, None)
    assert found.standing is Standing.USED_UP
    assert found.sentence == "451 Authentication failed: Maximum credits exceeded"


async def test_where_no_login_is_wanted_an_open_port_is_enough() -> None:
    async with ScriptedProvider() as peer:
        found = await Watched(provider_for(peer)).look()
    assert (found.ready, found.key, found.ports[0].login) == (True, None, None)


async def test_a_server_that_knows_no_ehlo_is_greeted_as_mail_would_greet_it() -> None:
    async with ScriptedProvider() as peer:
        peer.always("ehlo", "500 5.5.1 what?")
        assert (await Watched(provider_for(peer)).look()).ready


class Grant:
    """What holds a mailbox's tokens; ``trouble`` is raised in place of one."""

    def __init__(self, token: str, trouble: Exception | None = None) -> None:
        self.token, self.trouble = token, trouble

    async def access_token(self) -> str:
        if self.trouble is not None:
            raise self.trouble
        return self.token

    def refused(self, token: str) -> bool:
        return False


@pytest.mark.parametrize(
    ("grant", "key", "sentence"),
    [
        (Grant("good"), True, ""),
        (Grant("bad"), False, "535 5.7.8 Username and Password not accepted"),
        (Grant("", GrantDead("The grant was revoked: make oauth PROVIDER=gmail.")), False, "The grant was revoked"),
        (Grant("", TokenUnavailable("Google's token endpoint is busy.")), None, "token endpoint is busy"),
    ],
)
async def test_a_mailbox_that_wants_a_token(grant: Grant, key: bool | None, sentence: str) -> None:
    async with XOAuth2Provider("anna@gmail.com", {"good"}) as peer:
        watched = Watched(provider_for(peer, auth="xoauth2"))
        watched.prober._login = login_of({"scripted": grant})  # type: ignore[dict-item]
        found = await watched.look()
    assert (found.ready, found.key) == (not sentence, key)
    assert sentence in found.sentence
    assert not any("MAIL" in line for _, line in peer.commands)


async def test_files_are_always_ready(tmp_path: Path) -> None:
    found = await Watched(Provider(name="capture", host="", ports=(), captured=tmp_path)).look()
    assert (found.ready, found.key, found.ports, found.sentence) == (True, None, (), "")


async def test_all_providers_are_asked_at_once_and_each_gets_its_own_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "REACH_TIME", 0.3)
    async with ScriptedProvider(tls="tls", users=USERS) as well, ScriptedProvider(tls="tls", users=USERS) as ill:
        ill.always("greeting", HANG)
        ports = tuple((port, "tls") for port in [ill.port] * 5)
        watched = Watched(provider_for(well, name="well"), provider_for(ill, name="ill", ports=ports))
        loop = asyncio.get_running_loop()
        began = loop.time()
        found = await watched.prober.look()
        assert loop.time() - began < 5 * 0.3  # one after the other would take five times that
    assert {name: one.ready for name, one in found.items()} == {"well": True, "ill": False}
    assert watched.prober.last == found


async def test_two_who_ask_share_one_look_and_one_provider_can_be_asked_alone() -> None:
    async with ScriptedProvider(tls="tls", users=USERS) as one, ScriptedProvider(tls="tls", users=USERS) as two:
        watched = Watched(provider_for(one, name="one"), provider_for(two, name="two"))
        await asyncio.gather(watched.prober.look(), watched.prober.look(), watched.prober.look("one"))
        assert (one.connections, two.connections) == (1, 1)
        await watched.prober.look("two")
        assert (one.connections, two.connections) == (1, 2)
        with pytest.raises(KeyError):
            await watched.prober.look("three")


async def test_it_looks_by_itself_and_tells_what_changes() -> None:
    async with ScriptedProvider(tls="tls", users=USERS) as peer:
        watched, stop = Watched(provider_for(peer)), asyncio.Event()
        running = asyncio.ensure_future(watched.prober.run(stop, every=0.01))
        while peer.connections < 3:
            await peer.changed.wait()
        peer.always("auth", "535 5.7.8 revoked")
        while len(watched.journal.said) < 2:
            await peer.changed.wait()
        stop.set()
        await running
    assert [event for event, _ in watched.journal.said] == ["provider_ready", "provider_not_ready"]


async def test_a_provider_that_no_message_probes_is_looked_at_soon_and_the_others_are_left_alone() -> None:
    async with ScriptedProvider(tls="tls", users=USERS) as one, ScriptedProvider(tls="tls", users=USERS) as two:
        watched, stop = Watched(provider_for(one, name="one"), provider_for(two, name="two")), asyncio.Event()
        watched.unprobed = ["two"]
        running = asyncio.ensure_future(watched.prober.run(stop, every=3600.0, soon=0.01))
        while two.connections < 4:
            await two.changed.wait()
        stop.set()
        await running
    assert one.connections == 1


async def test_it_stops_in_the_middle_of_a_look() -> None:
    async with ScriptedProvider(tls="tls", users=USERS) as peer:
        peer.always("auth", HANG)
        watched, stop = Watched(provider_for(peer)), asyncio.Event()
        running = asyncio.ensure_future(watched.prober.run(stop))
        while not peer.logins:
            await peer.changed.wait()
        stop.set()
        async with asyncio.timeout(5.0):
            await running


async def test_a_bug_in_a_login_is_found_and_costs_that_port_only() -> None:
    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    async with ScriptedProvider(tls="tls", users=USERS) as peer:
        watched = Watched(provider_for(peer))
        watched.prober._login = broken
        found = await watched.look()
    assert (found.ready, found.key) == (False, None)
    assert found.sentence == "internal error: ZeroDivisionError"
