"""The whole way, as a person goes it: a relay without a grant, ``make oauth``, and the mail that waited leaves."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from support.appliance import PASSWORD, Appliance, account, eventually
from support.token_server import TokenServer
from support.xoauth2 import XOAuth2Provider

MAILBOX = "office@example.org"
T = TypeVar("T")


def relay_for(folder: Path, server: TokenServer, peer: XOAuth2Provider) -> Appliance:
    """A relay whose only provider is Microsoft 365, as it is here."""
    (folder / "token.pem").write_text(server.pem())
    (folder / "smtp.pem").write_text(peer.pem())
    chosen = {
        "HOST": "127.0.0.1",
        "PORT": str(peer.port),
        "TLS": "starttls",
        "CA_FILE": str(folder / "smtp.pem"),
        "USERNAME": MAILBOX,
        "OAUTH_CLIENT_ID": server.client_id,
        "OAUTH_CLIENT_SECRET": server.client_secret,
        "OAUTH_TOKEN_URL": f"{server.url}/token",
        "OAUTH_DEVICE_URL": f"{server.url}/device",
        "OAUTH_CA_FILE": str(folder / "token.pem"),
    }
    settings = {f"MICROSOFT365_{name}": value for name, value in chosen.items()}
    return Appliance(
        folder,
        {"OWNPOST_PROVIDERS": "microsoft365", **settings},
        accounts={"printer": account(["*@example.org"])},
    )


def send(relay: Appliance, subject: str) -> None:
    """What a printer can do: log in with a password."""
    context = ssl.create_default_context(cafile=str(relay.ca))
    with smtplib.SMTP_SSL("127.0.0.1", relay.submissions, context=context, timeout=20) as smtp:
        smtp.login("printer", PASSWORD)
        smtp.sendmail(MAILBOX, ["bob@example.net"], f"From: {MAILBOX}\r\nSubject: {subject}\r\n\r\nScan.\r\n")


def waiting(relay: Appliance) -> str:
    """What the queue says of it."""
    return " ".join(one["reply"] for one in relay.status("/queue")["deliveries"])


async def aside(work: Callable[..., T], *arguments: object) -> T:
    """Blocking work beside the servers, which live in this loop."""
    return await asyncio.to_thread(work, *arguments)


async def test_mail_waits_for_the_grant_and_goes_out_when_it_is_there(tmp_path: Path) -> None:
    server = TokenServer(rotate=True)
    async with server, XOAuth2Provider(MAILBOX, server.access_tokens) as peer:
        assert isinstance(peer, XOAuth2Provider)
        relay = relay_for(tmp_path, server, peer)
        await aside(relay.start)
        try:
            await aside(send, relay, "one")
            await aside(eventually, lambda: "run make oauth PROVIDER=microsoft365" in waiting(relay), "what to do")
            assert peer.bearers == []
            server.device = "granted"
            done = await aside(relay.operator, "oauth", "microsoft365")
            assert done.returncode == 0, done.stdout
            assert "The relay has logged in with it." in done.stdout
            await aside(eventually, lambda: len(peer.kept) == 1, "the mail that waited for nothing else")

            await aside(relay.stop)
            await aside(relay.start)
            await aside(send, relay, "two")
            await aside(eventually, lambda: len(peer.kept) == 2, "mail after a restart, with the token that was kept")
        finally:
            await aside(relay.stop)
        assert b"Subject: one" in peer.kept[0].content
        assert b"Subject: two" in peer.kept[1].content
        refreshed = [form["refresh_token"] for form in server.forms if form["grant_type"] == "refresh_token"]
        assert len(refreshed) == len(set(refreshed)) >= 2  # each ended with its use
    seen = relay.log.read_text() + done.stdout + done.stderr
    seen += "".join(file.read_bytes().decode("latin-1") for file in (tmp_path / "spool").glob("spool.db*"))
    assert "-SECRET-" not in seen
    assert server.client_secret not in seen
