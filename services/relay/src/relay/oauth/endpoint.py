"""A provider's token endpoint (RFC 6749, section 3.2): a form goes out, a grant or the reason of a refusal comes back.

What counts of a refusal is who can mend it: time (:class:`~.errors.TokenUnavailable`), or a person
(:class:`~.errors.GrantDead`). RFC 6749 5.2 has few words for it, and the providers added their own; a word that nobody
told us counts as a person's matter when the status is 4xx: it will be the same in a minute.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from relay.oauth import http
from relay.oauth.errors import TokenUnavailable

ACCESS_TOKEN_LIFE = 3600.0  # seconds, where the answer does not say (RFC 6749, 5.1: expires_in is RECOMMENDED)
LONGEST_TOKEN = (
    16 * 1024
)  # characters; RFC 4954 allows 12,288 octets of a line of AUTH, and no provider's token comes near
WORDS = 300  # characters of a provider's own words
_SECRETS = ("client_secret", "refresh_token", "code", "code_verifier", "device_code", "assertion")
_LATER = frozenset({"temporarily_unavailable", "server_error", "slow_down", "internal_failure", "rate_limit_exceeded"})


@dataclass(frozen=True, slots=True)
class Granted:
    """An access token, for how many seconds it is good, and a refresh token if one came with it."""

    access_token: str = field(repr=False)
    seconds: float
    refresh_token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Refusal:
    """The endpoint's own words: ``error`` is RFC 6749's code, ``words`` are for people. Both fit to be shown."""

    error: str
    words: str

    def __str__(self) -> str:
        return f"{self.words} ({self.error})" if self.words else self.error


class Endpoint:
    """Speaks to the endpoints of one provider. Raises :class:`TokenUnavailable` whenever there is no usable answer."""

    def __init__(self, context: ssl.SSLContext, seconds: float = http.TIME) -> None:
        self._context, self._seconds = context, seconds

    async def token(self, url: str, form: Mapping[str, str]) -> Granted | Refusal:
        """What the token endpoint at ``url`` gives for ``form``."""
        answer = await self.ask(url, form)
        return answer if isinstance(answer, Refusal) else _granted(url, answer)

    async def ask(self, url: str, form: Mapping[str, str]) -> Mapping[str, Any] | Refusal:
        """The fields of a successful answer to ``form``."""
        try:
            answer = await http.post_form(url, form, self._context, self._seconds)
        except http.Unreachable as error:
            raise TokenUnavailable(f"there is no access token now: {error}") from None
        if answer.status == 200 and "error" not in answer.fields:
            return answer.fields
        refusal = _refusal(answer, [form[name] for name in _SECRETS if form.get(name)])
        # slow_down is an answer to who polls for a device code (RFC 8628, 3.5): those look at it themselves
        polled = "device_code" in form and answer.status < 500
        if not polled and (answer.status >= 500 or answer.status in (200, 429) or refusal.error in _LATER):
            raise TokenUnavailable(f"there is no access token now: {_host(url)} answered {answer.status}, {refusal}")
        return refusal


def _granted(url: str, fields: Mapping[str, Any]) -> Granted:
    token, refresh = fields.get("access_token"), fields.get("refresh_token") or ""
    if not _is_token(token) or not (refresh == "" or _is_token(refresh)):
        raise TokenUnavailable(f"there is no access token now: {_host(url)} gave an answer without a usable token")
    return Granted(str(token), _seconds(fields.get("expires_in")), str(refresh))


def _is_token(value: object) -> bool:
    """Whether ``value`` can be a token (RFC 6749, appendix A: VSCHAR): what is not would break out of a line."""
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_TOKEN:
        return False
    return value.isascii() and value.isprintable() and " " not in value


def _seconds(value: object) -> float:
    """Microsoft sends a number, older services a number in quotes."""
    text = str(value)
    digits = text.isascii() and text.isdigit() and 0 < len(text) < 10
    return float(text) if digits else ACCESS_TOKEN_LIFE


def _refusal(answer: http.Answer, secrets: Iterable[str]) -> Refusal:
    error: Any = answer.fields.get("error")
    words: Any = answer.fields.get("error_description")
    if isinstance(error, dict):  # Google's gateways answer {"error": {"status": …, "message": …}}
        error, words = error.get("status"), error.get("message")
    return Refusal(_shown(error, secrets) or f"status {answer.status}", _shown(words, secrets))


def _shown(value: object, secrets: Iterable[str]) -> str:
    """``value`` as one short line without anything secret that we sent."""
    text = " ".join(value.split()) if isinstance(value, str) else ""
    for secret in secrets:
        text = text.replace(secret, "…")
    text = "".join(char if char.isprintable() else "?" for char in text)
    return text if len(text) <= WORDS else text[: WORDS - 1] + "…"


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""
