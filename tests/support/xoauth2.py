"""A scripted provider that lets in by AUTH XOAUTH2 and by nothing else, with the tokens of a :class:`TokenServer`."""

from __future__ import annotations

import base64
import json
from collections.abc import Container
from typing import Any

from support.scripted_provider import ScriptedProvider, Talk

CHALLENGE = {"status": "400", "schemes": "Bearer", "scope": "https://mail.google.com/"}


class XOAuth2Provider(ScriptedProvider):
    """``tokens`` are those that hold for ``mailbox``; ``challenge`` is what 334 says of another one."""

    def __init__(self, mailbox: str, tokens: Container[str], **more: Any) -> None:
        super().__init__(users={mailbox: ""}, mechanisms="XOAUTH2", **{"tls": "starttls", **more})
        self.mailbox, self.tokens = mailbox, tokens
        self.challenge: object = CHALLENGE
        self.refusal = ""  # of the mechanism
        self.overlooks = False  # the response that comes with the command
        self.final = "535-5.7.8 Username and Password not accepted.\n535 5.7.8 gsmtp"
        self.bearers: list[str] = []

    async def _on_auth(self, talk: Talk, text: str) -> None:
        _, mechanism, response = text.split(" ")
        assert mechanism == "XOAUTH2"
        if self.refusal:
            await self._one(talk, self.refusal)
            return
        if self.overlooks:
            await self._one(talk, "334 ")
            response = (await talk.reader.readline()).decode().strip()
        user, bearer, *end = base64.b64decode(response, validate=True).decode().split("\x01")
        assert user.startswith("user=")
        assert bearer.startswith("auth=Bearer ")
        assert end == ["", ""]
        token = bearer.removeprefix("auth=Bearer ")
        self.bearers.append(token)
        if user == f"user={self.mailbox}" and token in self.tokens:
            if await self._do(talk, "auth"):
                talk.user = self.mailbox
            return
        challenge = self.challenge if isinstance(self.challenge, bytes) else json.dumps(self.challenge).encode()
        await self._one(talk, f"334 {base64.b64encode(challenge).decode()}")
        assert await talk.reader.readline() == b"\r\n"  # the client's empty answer
        await self._one(talk, self.final)
