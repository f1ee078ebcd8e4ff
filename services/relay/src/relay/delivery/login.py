"""Logging in with an access token: AUTH XOAUTH2, as Google and Microsoft speak it.

The token goes out with the command. A refusal comes in two steps: 334 with an error as JSON in base64, which is
answered by an empty line, and then the final reply (developers.google.com/gmail/imap/xoauth2-protocol). What the JSON
says becomes part of the sentence. A token that was in use before may have been revoked since: then one fresh token is
tried on the same connection, so that this never looks like a dead key.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any

import aiosmtplib
from aiosmtplib.auth import auth_xoauth2_encode

if TYPE_CHECKING:
    from relay.oauth.tokens import Tokens
    from relay.providers.provider import Provider

_CONTINUE, _ACCEPTED, _REFUSED = 334, 235, 535  # RFC 4954, section 4
_SHOWN = 100  # characters of one value of the JSON
# What the statuses in the JSON mean, as far as the provider's reply alone does not tell.
_MEANINGS = {
    "400": "the token is for another mailbox, or was not granted for SMTP",
    "401": "the token has expired or was revoked",
    "403": "the mailbox does not allow this token",
}


async def login(opener: aiosmtplib.SMTP, provider: Provider, tokens: Tokens) -> None:
    """Logs in on a connection that stands and is secured; closes it where that fails.

    Raises :class:`~relay.oauth.errors.GrantDead` and :class:`~relay.oauth.errors.TokenUnavailable` where there is no
    token, aiosmtplib.SMTPAuthenticationError where the provider refuses it, and whatever else aiosmtplib raises.
    """
    try:
        await _login(opener, provider, tokens)
    except BaseException:
        opener.close()
        raise


async def _login(opener: aiosmtplib.SMTP, provider: Provider, tokens: Tokens) -> None:
    if opener.is_ehlo_or_helo_needed:
        await opener.ehlo()
    if "xoauth2" not in opener.server_auth_methods:
        raise aiosmtplib.SMTPNotSupported("it offers no login by XOAUTH2")
    token = await tokens.access_token()
    try:
        await _authenticate(opener, provider, token)
    except aiosmtplib.SMTPAuthenticationError as error:
        if error.code != _REFUSED or not tokens.refused(token) or not opener.is_connected:
            raise
        await _authenticate(opener, provider, await tokens.access_token())


async def _authenticate(opener: aiosmtplib.SMTP, provider: Provider, token: str) -> None:
    reply = await opener.execute_command(b"AUTH", b"XOAUTH2", auth_xoauth2_encode(provider.username, token))
    hint = ""
    if reply.code == _CONTINUE:
        hint = explained(reply.message)
        reply = await opener.execute_command(b"")
    if reply.code != _ACCEPTED:
        raise aiosmtplib.SMTPAuthenticationError(reply.code, f"{reply.message} {hint}".strip())


def explained(challenge: str) -> str:
    """What the JSON in a 334 says, in brackets, ready to follow the provider's reply; empty if it says nothing."""
    try:
        value: Any = json.loads(base64.b64decode(challenge.strip(), validate=True))
    except (binascii.Error, ValueError, RecursionError):
        return ""
    if not isinstance(value, dict):
        return ""
    status, scope = (str(value.get(name, ""))[:_SHOWN] for name in ("status", "scope"))
    said = [f"status {status}" if status else "", f"scope {scope}" if scope else "", _MEANINGS.get(status, "")]
    return f"(XOAUTH2: {'; '.join(filter(None, said))})" if any(said) else ""
