"""Logging in: by name and password (AUTH PLAIN or LOGIN), or by access token (AUTH XOAUTH2, as Google and Microsoft
speak it).

What a mechanism was refused for is told apart: one that the provider does not take, though it offers it, gives way to
the next, and says nothing about the password; a refused password is not offered again, since providers lock accounts
for that. Each 334 gets one answer, and none that its question does not ask for.

A refused token comes in two steps: 334 with an error as JSON in base64, which is answered by an empty line, and then
the final reply (developers.google.com/gmail/imap/xoauth2-protocol). What the JSON says becomes part of the sentence. A
token that was in use before may have been revoked since: then one fresh token is tried on the same connection, so that
this never looks like a dead key.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import TYPE_CHECKING, Any

import aiosmtplib
from aiosmtplib.auth import auth_login_encode, auth_plain_encode, auth_xoauth2_encode

from relay.providers.rules import Stage

if TYPE_CHECKING:
    from relay.delivery.connection import Opener
    from relay.oauth.tokens import Tokens
    from relay.providers.provider import Provider

_CONTINUE, _ACCEPTED, _REFUSED = 334, 235, 535  # RFC 4954, section 4
# "Not this mechanism", or not in this way, whatever came with it (RFC 5321, 4.2.4; RFC 4954, section 4)
_NOT_THIS = frozenset({500, 501, 502, 503, 504})
_INITIAL = 512 - len("AUTH PLAIN \r\n")  # bytes; a longer response waits for the question (RFC 4954, section 4)
_TELLING = 12  # characters of a response by which it is known where a reply quotes it, be it cut off
_SHOWN = 100  # characters of one value of the JSON
# What the statuses in the JSON mean, as far as the provider's reply alone does not tell.
_MEANINGS = {
    "400": "the token is for another mailbox, or was not granted for SMTP",
    "401": "the token has expired or was revoked",
    "403": "the mailbox does not allow this token",
}


class NoLogin(aiosmtplib.SMTPNotSupported):
    """It offers no mechanism of ours here; nothing was told."""


class _MechanismRefused(Exception):
    """The provider does not take this mechanism; that says nothing about name and password."""

    def __init__(self, reply: aiosmtplib.SMTPResponse) -> None:
        super().__init__(f"{reply.code} {reply.message}")
        self.code = reply.code


async def log_in(opener: Opener, provider: Provider, tokens: Tokens | None) -> None:
    """Logs in on a connection that stands and is secured; closes it where that fails.

    Raises aiosmtplib.SMTPAuthenticationError where the provider refuses name and password or the token,
    aiosmtplib.SMTPNotSupported where it takes no mechanism of ours (:class:`NoLogin`: it offers none),
    :class:`~relay.oauth.errors.GrantDead` and :class:`~relay.oauth.errors.TokenUnavailable` where there is no token,
    and whatever else aiosmtplib raises.
    """
    opener.stage = Stage.LOGIN
    try:
        if tokens is None:
            await _by_password(opener, provider.username, provider.password)
        else:
            await _by_token(opener, provider.username, tokens)
    except BaseException:
        opener.close()
        raise


def _not_taken(mechanisms: str, refusal: str) -> aiosmtplib.SMTPNotSupported:
    return aiosmtplib.SMTPNotSupported(f"it offers a login by {mechanisms} and then does not take it: {refusal}")


# --- by name and password
async def _by_password(opener: Opener, name: str, password: str) -> None:
    ours = {"PLAIN": _plain, "LOGIN": _login}
    offered = [mechanism for mechanism in ours if mechanism.lower() in opener.server_auth_methods]
    ways = [ours[mechanism] for mechanism in offered]
    if not ways:
        raise NoLogin("it offers no login by PLAIN or LOGIN")
    refusal, fresh = "", True
    while ways:
        try:
            await ways[0](opener, name, password)
            return
        except _MechanismRefused as error:
            refusal, fresh = str(error), False
            if ways.pop(0) is _plain and error.code == 501:
                ways.append(_plain_when_asked)
        except aiosmtplib.SMTPServerDisconnected:
            if fresh:
                raise
            await opener.reach()  # it hung up on the mechanism that it does not take
            opener.stage, fresh = Stage.LOGIN, True
    raise aiosmtplib.SMTPNotSupported(
        f"it offers a login by {' or '.join(offered)} and then does not take it: {refusal}"
    )


async def _plain(opener: Opener, name: str, password: str) -> None:
    response = auth_plain_encode(name, password)
    if len(response) > _INITIAL:
        await _plain_when_asked(opener, name, password)
        return
    reply = await _told(opener, password, b"AUTH", b"PLAIN", response)
    if reply.code == _CONTINUE:  # it overlooked the response and asks for it
        reply = await _plain_answer(opener, reply, password, response)
    _accepted(reply)


async def _plain_when_asked(opener: Opener, name: str, password: str) -> None:
    reply = await _begun(opener, b"PLAIN")
    _accepted(await _plain_answer(opener, reply, password, auth_plain_encode(name, password)))


async def _plain_answer(
    opener: Opener, question: aiosmtplib.SMTPResponse, password: str, response: bytes
) -> aiosmtplib.SMTPResponse:
    if _asks(question.message):  # as LOGIN does: the response would be taken for the name
        await _leave(opener, question)
    return await _told(opener, password, response)


async def _login(opener: Opener, name: str, password: str) -> None:
    """The provider asks first, so that the name does not go with the command: some refuse it there (RFC 4954, section
    4), and one that overlooks it takes the password for the name.
    """
    encoded_name, encoded_password = auth_login_encode(name, password)
    reply = await _begun(opener, b"LOGIN")
    if _asks(reply.message) == "password":
        await _leave(opener, reply)
    reply = await _told(opener, password, encoded_name)  # the name is the password with some
    if reply.code == _CONTINUE:
        if _asks(reply.message) == "name":
            await _leave(opener, reply)
        reply = await _told(opener, password, encoded_password)
    _accepted(reply)


async def _begun(opener: Opener, mechanism: bytes) -> aiosmtplib.SMTPResponse:
    """The provider's first question. Nothing is told yet, so that no refusal here is about name and password."""
    reply = await opener.execute_command(b"AUTH", mechanism)
    if reply.code >= 500:
        raise _MechanismRefused(reply)
    if reply.code != _CONTINUE:
        raise aiosmtplib.SMTPAuthenticationError(reply.code, reply.message)
    return reply


async def _told(opener: Opener, secret: str, *words: bytes) -> aiosmtplib.SMTPResponse:
    """The reply to ``words``, the last of which holds ``secret`` in base64. Some servers quote what they refuse, and
    replies are logged and sent to people, so neither is left in it.
    """
    reply = await opener.execute_command(*words)
    encoded = re.escape(words[-1][:_TELLING].decode("ascii"))
    said = re.sub(rf"{encoded}[A-Za-z0-9+/=]*", "…", reply.message, flags=re.IGNORECASE) if encoded else reply.message
    return aiosmtplib.SMTPResponse(reply.code, said.replace(secret, "…") if secret else said)


async def _leave(opener: Opener, question: aiosmtplib.SMTPResponse) -> None:
    """Answers an odd question by ending the mechanism (RFC 4954, section 4). Raises."""
    await opener.execute_command(b"*")
    raise _MechanismRefused(question)


def _asks(challenge: str) -> str:
    """What a question of AUTH LOGIN asks for, in whatever words: ``name``, ``password``, or nothing that we know."""
    try:
        challenge = base64.b64decode(challenge.strip(), validate=True).decode("latin-1")
    except (binascii.Error, ValueError):
        pass  # some ask in clear
    said = challenge.lower()
    name, password = "name" in said or "user" in said, "pass" in said
    return "" if name == password else "name" if name else "password"


def _accepted(reply: aiosmtplib.SMTPResponse) -> None:
    """Raises what a reply that is no yes means."""
    if reply.code in _NOT_THIS:
        raise _MechanismRefused(reply)
    if reply.code != _ACCEPTED:
        raise aiosmtplib.SMTPAuthenticationError(reply.code, reply.message)


# --- by token
async def _by_token(opener: Opener, name: str, tokens: Tokens) -> None:
    if "xoauth2" not in opener.server_auth_methods:
        raise NoLogin("it offers no login by XOAUTH2")
    token = await tokens.access_token()
    try:
        await _xoauth2(opener, name, token)
    except aiosmtplib.SMTPAuthenticationError as error:
        if error.code != _REFUSED or not tokens.refused(token) or not opener.is_connected:
            raise
        await _xoauth2(opener, name, await tokens.access_token())


async def _xoauth2(opener: Opener, name: str, token: str) -> None:
    response = auth_xoauth2_encode(name, token)
    reply = await _told(opener, token, b"AUTH", b"XOAUTH2", response)
    if reply.code == _CONTINUE and not reply.message.strip():  # no error, but a question: it overlooked the response
        reply = await _told(opener, token, response)
    hint, judged = "", reply.code == _CONTINUE
    if judged:
        hint = explained(reply.message)
        reply = await opener.execute_command(b"")
    if reply.code in _NOT_THIS and not judged:
        raise _not_taken("XOAUTH2", f"{reply.code} {reply.message}")
    if reply.code != _ACCEPTED:
        # To some an empty line is a syntax error (501); what the 334 said of the token stands all the same.
        code = _REFUSED if judged and reply.code in _NOT_THIS else reply.code
        raise aiosmtplib.SMTPAuthenticationError(code, f"{reply.message} {hint}".strip())


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
