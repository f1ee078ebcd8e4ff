"""Access tokens of one provider, kept fresh.

Promises:

- a token is handed out only while it is good for :data:`MARGIN` more seconds; before that ends the next one is fetched;
- one refresh at a time: who asks meanwhile waits for the same one, and learns of the same failure;
- a token endpoint in trouble costs nothing as long as the token in hand is good;
- a rotated refresh token is on disk before the access token that came with it is used; when the disk refuses, it is
  kept in memory, written at the next refresh, and ``trouble`` hears of it;
- a grant that is dead is asked for anew each time: ``make oauth`` may have brought another meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from relay.clock import Clock
from relay.oauth import service_account
from relay.oauth.endpoint import Endpoint, Granted, Refusal
from relay.oauth.errors import GrantDead, TokenUnavailable
from relay.oauth.settings import OAuthSettings
from relay.oauth.store import Store
from relay.providers.provider import client_context

MARGIN = 300.0  # seconds before its end at which a token is renewed: a login and a slow clock fit in
FRESH = 10.0  # seconds after which a refused token may have been revoked rather than wrong from the beginning
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"  # RFC 7523, section 2.1


class Tokens:
    """Access tokens for ``username`` at the provider ``name``. ``trouble`` gets a sentence for the log."""

    def __init__(
        self,
        name: str,
        username: str,
        settings: OAuthSettings,
        spool: Path,
        *,
        clock: Clock,
        trouble: Callable[[str], None],
        endpoint: Endpoint | None = None,
    ) -> None:
        self.name = name
        self._username = username
        self._settings = settings
        self._store = Store(spool, name, username, settings)
        self._clock = clock
        self._trouble = trouble
        self._endpoint = endpoint
        self._token = ""
        self._came_at = self._renew_at = self._ends_at = 0.0  # of the token in hand, by the monotonic clock
        self._unkept = ("", "")  # a rotated refresh token that the disk refused, and the one it came from
        self._refreshing: asyncio.Task[str] | None = None

    async def access_token(self) -> str:
        """A token that is good now. Raises :class:`GrantDead`, :class:`TokenUnavailable`."""
        if self._token and self._clock.monotonic() < self._renew_at:
            return self._token
        if self._refreshing is None:
            self._refreshing = asyncio.ensure_future(self._refresh())
            self._refreshing.add_done_callback(self._refreshed)
        try:
            return await asyncio.shield(self._refreshing)
        except TokenUnavailable:
            if self._token and self._clock.monotonic() < self._ends_at:
                return self._token
            raise

    def refused(self, token: str) -> bool:
        """The provider did not take ``token``: it is not handed out again. Whether another one is worth a try: one that
        was refused as soon as it came was not revoked meanwhile, and the next will be no better.
        """
        if token != self._token:
            return True
        self._token = ""
        return self._clock.monotonic() - self._came_at > FRESH

    def _refreshed(self, task: asyncio.Task[str]) -> None:
        self._refreshing = None
        if not task.cancelled():
            task.exception()  # whoever waited has it; nobody may wait any more

    async def _refresh(self) -> str:
        granted = await (self._by_key() if self._settings.kind == "service-account" else self._by_refresh_token())
        now = self._came_at = self._clock.monotonic()
        self._token = granted.access_token
        self._ends_at = now + granted.seconds
        self._renew_at = now + max(granted.seconds - MARGIN, granted.seconds / 2)
        return self._token

    # --- a service account (RFC 7523)
    async def _by_key(self) -> Granted:
        key, settings = self._settings.key, self._settings
        assert key is not None  # the settings see to it
        assertion = service_account.assertion(
            key, audience=settings.token_url, scope=settings.scope, mailbox=self._username, now=self._clock.time()
        )
        answer = await self._ask({"grant_type": JWT_BEARER, "assertion": assertion})
        if isinstance(answer, Granted):
            return answer
        raise GrantDead(
            f"the service account got no access: {answer}; is domain-wide delegation on for its client id"
            f" {key.client_id or 'in the key file'} with the scope {settings.scope}, and is this machine's clock right?"
        )

    # --- a refresh token (RFC 6749, section 6)
    async def _by_refresh_token(self) -> Granted:
        token = await self._newest()
        while token:
            answer = await self._ask({"grant_type": "refresh_token", "refresh_token": token})
            if isinstance(answer, Granted):
                await self._rotate(token, answer.refresh_token)
                return answer
            tried, token = token, await self._newest()
            if token == tried:  # else another one was kept while we asked, and that is the one to try
                raise GrantDead(_dead(self.name, answer))
        raise GrantDead(f"nobody has granted access yet: run make oauth PROVIDER={self.name}")

    async def _newest(self) -> str:
        token, came_from = self._unkept
        try:
            kept = await asyncio.to_thread(self._store.newest)
        except OSError as error:
            if token:
                return token
            raise TokenUnavailable(f"the refresh token cannot be read: {error.strerror or error}") from None
        if kept != came_from:
            self._unkept = ("", "")
            return kept
        return token or kept

    async def _rotate(self, used: str, fresh: str) -> None:
        """Keeps what the answer to ``used`` brought, and what the disk refused before."""
        unkept, came_from = self._unkept
        old = came_from if unkept and unkept == used else used
        new = fresh or used
        if new == old:
            return
        try:
            await asyncio.to_thread(self._store.replace, old, new)
            self._unkept = ("", "")
        except OSError as error:
            self._unkept = (new, old)
            self._trouble(
                f"the new refresh token of {self.name} cannot be written: {error.strerror or error};"
                " it is kept in memory and is lost when the relay ends"
            )

    async def _ask(self, form: Mapping[str, str]) -> Granted | Refusal:
        if self._endpoint is None:
            self._endpoint = Endpoint(client_context(self._settings.ca))
        return await self._endpoint.token(self._settings.token_url, {**form, **client_of(self._settings)})


def client_of(settings: OAuthSettings) -> dict[str, str]:
    """The fields of a form by which the app shows who it is (RFC 6749, section 2.3.1)."""
    fields = {"client_id": settings.client_id, "client_secret": settings.client_secret}
    return {name: value for name, value in fields.items() if value}


def _dead(name: str, answer: Refusal) -> str:
    """What to do about a refused refresh token."""
    if answer.error in ("invalid_client", "unauthorized_client", "deleted_client", "disabled_client"):
        setting = name.upper().replace("-", "_")
        return (
            f"the app was refused: {answer}; set {setting}_OAUTH_CLIENT_ID and {setting}_OAUTH_CLIENT_SECRET right,"
            f" then run make oauth PROVIDER={name} again"
        )
    return f"the grant has expired or was revoked: {answer}; run make oauth PROVIDER={name} again"
