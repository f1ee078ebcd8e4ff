"""The access tokens of one provider against a :class:`TokenServer`, with a clock moved by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from relay.oauth.endpoint import Endpoint
from relay.oauth.settings import OAuthSettings
from relay.oauth.store import Store
from relay.oauth.tokens import Tokens
from relay.providers.provider import client_context
from support.token_server import TokenServer

MAILBOX = "anna@gmail.example"


class Clock:
    """Both clocks, moved by hand."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now - 1_780_000_000.0


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
