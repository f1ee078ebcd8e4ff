"""``make providers`` and ``make queue`` against a running relay whose providers misbehave, over real TLS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import smtplib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

from support.appliance import PASSWORD, Appliance, account, eventually
from support.ports import free_port
from support.scripted_provider import ScriptedProvider
from support.unix_http import get

T = TypeVar("T")
USERS = {"us": "the right key"}


def settings(folder: Path, name: str, peer: ScriptedProvider, **more: str) -> dict[str, str]:
    """What leads a relay to ``peer`` under the name ``name``."""
    (folder / f"{name}.pem").write_text(peer.pem())
    own = {"HOST": "127.0.0.1", "PORT": str(peer.port), "TLS": "starttls", "CA_FILE": str(folder / f"{name}.pem")}
    own |= {"USERNAME": "us", "PASSWORD": "the right key", **more}
    return {f"{name.upper()}_{key}": value for key, value in own.items()}


@contextlib.asynccontextmanager
async def relay_for(folder: Path, *names: str, **settings: str) -> AsyncIterator[Appliance]:
    chosen = {"OWNPOST_PROVIDERS": ",".join(names), "RELAY_LOG_FORMAT": "json", **settings}
    relay = Appliance(folder, chosen, accounts={"anna": account(["*@example.org"])})
    await asyncio.to_thread(relay.start)
    try:
        yield relay
    finally:
        await asyncio.to_thread(relay.stop)


async def aside(work: Callable[..., T], *arguments: Any) -> T:
    """Blocking work beside the providers, which live in this loop."""
    return await asyncio.to_thread(work, *arguments)


async def verb(relay: Appliance, *arguments: str) -> tuple[int, str]:
    """Exit code and words of an operator's verb."""
    done = await aside(lambda: relay.operator(*arguments))
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def send(relay: Appliance, *recipients: str) -> None:
    context = ssl.create_default_context(cafile=str(relay.ca))
    with smtplib.SMTP_SSL("127.0.0.1", relay.submissions, context=context, timeout=20) as smtp:
        smtp.login("anna", PASSWORD)
        smtp.sendmail("anna@example.org", recipients, "From: anna@example.org\r\n\r\nHello.\r\n")


def events(relay: Appliance, *names: str) -> list[str]:
    found = [json.loads(line)["event"] for line in relay.log.read_text().splitlines() if line.startswith("{")]
    return [one for one in found if one in names]


def waits(relay: Appliance) -> list[str]:
    return [one["waits"] for one in relay.status("/queue")["deliveries"] if one["waits"]]


def metric(relay: Appliance, name: str) -> str:
    text = get(relay.socket, "/metrics")[1].decode()
    (line,) = [line for line in text.splitlines() if line.startswith(f"ownpost_{name} ")]
    return line.rpartition(" ")[2]


async def test_a_wrong_key_and_a_blocked_port_are_told_before_any_mail_met_them(tmp_path: Path) -> None:
    async with ScriptedProvider(tls="starttls", users=USERS) as peer:
        shut = str(free_port())
        chosen = settings(tmp_path, "well", peer) | settings(tmp_path, "wrong", peer, PASSWORD="an old key")
        chosen |= settings(tmp_path, "away", peer, PORT=shut)
        async with relay_for(tmp_path, "well", "wrong", "away", **chosen) as relay:
            code, words = await verb(relay, "providers")
            assert code == 1
            assert "wrong It refuses our login: 535 5.7.8 Authentication credentials invalid." in words
            assert "put it into .env as WRONG_PASSWORD, and `make up`." in words
            assert f"cannot be reached (port {shut}): no connection to the provider: 127.0.0.1 refused the" in words
            assert "1 of 3 providers are well." in words
            assert (await verb(relay, "providers", "well"))[0] == 0
            assert (await verb(relay, "providers", "nobody"))[1].startswith("'nobody' is not among the providers")
            found = {
                name: await aside(metric, relay, f'provider_ready{{provider="{name}"}}') for name in ("well", "away")
            }
            assert found == {"well": "1.0", "away": "0.0"}
        assert "an old key" not in relay.log.read_text()
    assert not any("MAIL" in line for _, line in peer.commands)


async def test_a_login_that_works_again_ends_the_pause_of_a_dead_key(tmp_path: Path) -> None:
    peer = ScriptedProvider(tls="starttls", users={"us": "another key"})
    async with peer, relay_for(tmp_path, "brevo", **settings(tmp_path, "brevo", peer)) as relay:
        await aside(send, relay, "bob@example.net")
        await aside(eventually, lambda: events(relay, "provider_paused"), "the pause")
        await aside(send, relay, "eve@example.net")
        code, words = await verb(relay, "queue")
        assert code == 0
        assert words.startswith("The provider is paused: nothing is sent before ")
        assert "brevo: its key was refused: 5.7.8 Authentication credentials invalid" in words
        assert "waits until" not in words, "what is said for all above stands in no row"
        code, words = await verb(relay, "providers")
        assert code == 1
        assert "Paused until" in words
        assert "its key was refused" in words
        assert await aside(metric, relay, 'provider_pause_reason{provider="brevo",reason="key_dead"}') == "1.0"
        peer.users = USERS
        code, words = await verb(relay, "providers")
        assert (code, words.endswith("All is well.")) == (0, True)
        await aside(eventually, lambda: len(peer.kept) == 2, "all mail, for it waited for nothing else")
        assert sorted(got.recipients[0] for got in peer.kept) == ["bob@example.net", "eve@example.net"]
        assert events(relay, "provider_resumed")
        assert await aside(metric, relay, 'provider_paused{provider="brevo"}') == "0.0"


async def test_a_quota_is_shown_told_of_once_and_waited_for(tmp_path: Path) -> None:
    async with ScriptedProvider(tls="starttls", users=USERS) as peer:
        chosen = settings(tmp_path, "brevo", peer, DAILY_QUOTA="2", MONTHLY_QUOTA="none")
        async with relay_for(tmp_path, "brevo", **chosen) as relay:
            await aside(send, relay, "bob@example.net", "eve@example.net")
            await aside(eventually, lambda: relay.status()["providers"][0]["quotas"][0]["used"] == 2, "the first mail")
            await aside(send, relay, "zoe@example.net")
            await aside(eventually, lambda: waits(relay), "the second mail to wait for the quota")
            code, words = await verb(relay, "queue")
            assert code == 0
            assert words.startswith("The provider is paused: nothing is sent before ")
            assert "brevo: its quota is used up: 2 of 2 recipients a day" in words
            assert "Mail is safe here" in words
            code, words = await verb(relay, "providers")
            assert code == 1
            assert "2 of 2 a day" in words
            assert "its quota is used up" in words
            for name, value in (("used", "2.0"), ("limit", "2.0")):
                assert await aside(metric, relay, f'provider_quota_{name}_recipients{{provider="brevo"}}') == value
            (row,) = (await aside(relay.status, "/queue"))["deliveries"]
            assert (row["recipient"], row["state"], row["attempts"]) == ("zoe@example.net", "due", 0)
            (provider,) = (await aside(relay.status))["providers"]
            assert (provider["state"], provider["quotas"][0]["used"]) == ("paused", 2)
    assert len(peer.kept) == 1
