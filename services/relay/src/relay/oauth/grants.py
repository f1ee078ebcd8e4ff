"""How a person grants us access: with a code typed into a page (RFC 8628), or in a browser that is sent back to us with
a code (RFC 6749 4.1, with PKCE, RFC 7636; for programs like this one RFC 8252).

Both end in :class:`~.endpoint.Granted` with a refresh token, or in :class:`NotGranted` with a sentence. Secrets of a
grant under way (verifier, state, device code) live in memory only.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from relay.oauth.endpoint import Endpoint, Granted, Refusal
from relay.oauth.errors import TokenUnavailable
from relay.oauth.settings import OAuthSettings
from relay.oauth.tokens import client_of

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"  # RFC 8628, section 3.4
INTERVAL = (
    5.0  # seconds between two questions, where the answer names none (RFC 8628, 3.2), and what slow_down adds (3.5)
)
LONGEST_INTERVAL = 60.0
LIFE = 900.0  # seconds that a code is good for, where the answer does not say
_REDIRECT_LENGTH = 16 * 1024  # characters of a pasted address; Microsoft's codes have 2,000


class NotGranted(Exception):
    """No grant came of it; the text is a sentence without anything secret."""


# --- RFC 8628
@dataclass(frozen=True, slots=True)
class DeviceCode:
    """What the person types in (``user_code``) and where (``url``)."""

    user_code: str
    url: str
    seconds: float
    interval: float
    secret: str = field(repr=False)


async def device_code(endpoint: Endpoint, settings: OAuthSettings) -> DeviceCode | Refusal:
    """A fresh code. Raises TokenUnavailable."""
    answer = await endpoint.ask(settings.device_url, {**client_of(settings), "scope": settings.scope})
    if isinstance(answer, Refusal):
        return answer
    code, user_code = answer.get("device_code"), answer.get("user_code")
    url = answer.get("verification_uri") or answer.get("verification_url")  # the latter is Google's older name
    if not all(isinstance(one, str) and one.isprintable() and one for one in (code, user_code, url)):
        raise TokenUnavailable("there is no code now: the answer lacks device_code, user_code or verification_uri")
    return DeviceCode(
        str(user_code), str(url), _number(answer, "expires_in", LIFE), _number(answer, "interval", INTERVAL), str(code)
    )


def _number(answer: Mapping[str, Any], name: str, default: float) -> float:
    value = answer.get(name)
    return float(value) if isinstance(value, (int, float)) and 0 < value < 86_400 else default


async def wait_for_device(
    endpoint: Endpoint,
    settings: OAuthSettings,
    code: DeviceCode,
    *,
    sleep: Callable[[float], Awaitable[None]],
    now: Callable[[], float],
) -> Granted:
    """Asks until the person has decided. Raises :class:`NotGranted`."""
    form = {**client_of(settings), "grant_type": DEVICE_GRANT, "device_code": code.secret}
    interval, ends = code.interval, now() + code.seconds
    while now() + interval <= ends:
        await sleep(interval)
        try:
            answer = await endpoint.token(settings.token_url, form)
        except TokenUnavailable:  # RFC 8628, 3.5: ask less often
            interval = min(2 * interval, LONGEST_INTERVAL)
            continue
        if isinstance(answer, Granted):
            return _with_refresh_token(answer)
        if answer.error == "slow_down":
            interval += INTERVAL
        elif answer.error != "authorization_pending":
            raise NotGranted(_DEVICE_ENDS.get(answer.error, f"access was not granted: {answer}"))
    raise NotGranted(_DEVICE_ENDS["expired_token"])


_DEVICE_ENDS = {
    "access_denied": "access was denied in the browser",
    "authorization_declined": "access was denied in the browser",  # Microsoft's word for it
    "expired_token": "the code has expired before access was granted; run it again",
}


# --- RFC 6749 4.1 with PKCE
class CodeRequest:
    """One request for an authorization code, which ``redirect`` brings back."""

    def __init__(self, settings: OAuthSettings, redirect: str, mailbox: str) -> None:
        self._settings, self._redirect, self._mailbox = settings, redirect, mailbox
        self._verifier = secrets.token_urlsafe(64)  # 86 characters; RFC 7636, 4.1 wants 43 to 128
        self._state = secrets.token_urlsafe(32)

    @property
    def url(self) -> str:
        """What the person opens in a browser. Holds nothing secret: the challenge is a hash, and state is worth
        nothing without the verifier.
        """
        digest = hashlib.sha256(self._verifier.encode("ascii")).digest()
        query = {
            "client_id": self._settings.client_id,
            "response_type": "code",
            "redirect_uri": self._redirect,
            "scope": self._settings.scope,
            "state": self._state,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii"),
            "code_challenge_method": "S256",
            "login_hint": self._mailbox,
        }
        if self._settings.kind == "google":  # without these it gives a refresh token the first time only
            query |= {"access_type": "offline", "prompt": "consent"}
        return f"{self._settings.authorize_url}?{urlencode(query)}"

    def awaits(self, redirected: str) -> bool:
        """Whether the browser was sent to ``redirected`` because of this request."""
        return hmac.compare_digest(_query(redirected)["state"].encode(), self._state.encode())

    def why_not(self, redirected: str) -> str:
        """What is wrong with an address that is not the awaited one."""
        if _query(redirected)["state"]:
            return "that address belongs to another try; use the one that this try's page sent you to"
        return "that is not the whole address: it begins with http:// and holds state= and code="

    def code(self, redirected: str) -> str:
        """The code in the awaited address. Raises :class:`NotGranted`."""
        query = _query(redirected)
        if query["error"] or not query["code"]:
            words = "".join(char for char in query["error"][:80] if char.isalnum() or char in "_-")
            raise NotGranted("access was denied in the browser" if words == "access_denied" else f"no code: {words}")
        return query["code"]

    async def exchange(self, endpoint: Endpoint, code: str) -> Granted:
        """The grant for ``code``. Raises :class:`NotGranted`, TokenUnavailable."""
        form = {
            **client_of(self._settings),
            "grant_type": "authorization_code",
            "code": code,
            "code_verifier": self._verifier,
            "redirect_uri": self._redirect,
        }
        answer = await endpoint.token(self._settings.token_url, form)
        if isinstance(answer, Granted):
            return _with_refresh_token(answer)
        raise NotGranted(f"the code was refused: {answer}; run it again")


def _query(redirected: str) -> dict[str, str]:
    """What an address says of ``state``, ``code`` and ``error``; empty where it says nothing."""
    try:
        query = parse_qs(urlsplit(redirected.strip()[:_REDIRECT_LENGTH]).query, max_num_fields=32)
    except ValueError:
        query = {}
    return {name: query.get(name, [""])[0] for name in ("state", "code", "error")}


def _with_refresh_token(granted: Granted) -> Granted:
    if granted.refresh_token:
        return granted
    raise NotGranted("access was granted for an hour only, without a refresh token; is offline_access in the scope?")
