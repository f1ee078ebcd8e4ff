"""Opens a connection to a provider: TCP, TLS, EHLO, login, by aiosmtplib; then hands it over to our own
:class:`~.replies.Link`.

TLS is required as the provider's settings say, verified against the system's or the provider's own authorities, and
never falls back to plain text: a provider that offers no STARTTLS gets neither login nor mail. Errors leave as
exceptions, with :attr:`Opener.stage` telling where.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import aiosmtplib

from relay import limits
from relay.delivery.login import login as by_token
from relay.delivery.replies import Link
from relay.providers.rules import Stage

if TYPE_CHECKING:
    from relay.oauth.tokens import Tokens
    from relay.providers.provider import Provider, Tls

# Replies to AUTH that say "not this mechanism" (RFC 4954, section 6), so that the other one is worth a try. A refused
# password is not: trying it twice makes providers lock the account sooner.
_OTHER_MECHANISM = frozenset({500, 501, 502, 503, 504, 534})


@dataclass(frozen=True, slots=True)
class Times:
    """Time limits of a conversation, in seconds (RFC 5321, 4.5.3.2)."""

    connect: float = limits.CONNECT_TIME
    reply: float = limits.REPLY_TIME
    block: float = 3 * limits.MINUTE  # for the provider to take a piece of the content
    final: float = limits.FINAL_REPLY_TIME
    quit: float = 2.0  # courtesy only
    rate: float = 16 * limits.KIB  # bytes a second that even a slow uplink manages: limits grow by size / rate


@dataclass(frozen=True, slots=True)
class Offer:
    """What the provider's EHLO offered, as far as it matters to us."""

    pipelining: bool
    size: bool
    size_limit: int  # 0: none told
    eightbit: bool
    smtputf8: bool


class Opener(aiosmtplib.SMTP):
    """An aiosmtplib client that knows how far it has come, and only logs in with PLAIN or LOGIN."""

    AUTH_METHODS = ("plain", "login")  # CRAM-MD5 wants the provider to keep the password in the clear, and nobody does

    def __init__(
        self,
        provider: Provider,
        hostname: str,
        times: Times,
        *,
        to: tuple[int, Tls] | None = None,
        tokens: Tokens | None = None,
    ) -> None:
        """``to``: one of the provider's ports, by default its first. ``tokens``: of a provider that wants one."""
        port, tls = to or provider.ports[0]
        by_password = bool(provider.username) and provider.auth == "password"
        super().__init__(
            hostname=provider.host,
            port=port,
            username=provider.username if by_password else None,
            password=provider.password if by_password else None,
            local_hostname=hostname,
            timeout=times.reply,
            use_tls=tls == "tls",
            start_tls=tls == "starttls",
            tls_context=provider.tls_context,
        )
        self._provider, self._tokens, self._seconds = provider, tokens, times.connect
        self.stage = Stage.CONNECT

    async def starttls(self, **options: Any) -> aiosmtplib.SMTPResponse:
        """As aiosmtplib's; remembers the stage."""
        self.stage, self.timeout = Stage.TLS, self._seconds
        return await super().starttls(**options)

    async def login(
        self, username: str | bytes, password: str | bytes, /, timeout: Any = aiosmtplib.typing.Default.token
    ) -> aiosmtplib.SMTPResponse:
        """Logs in; the next mechanism is tried only if the provider refused the mechanism, not the password."""
        self.stage, self.timeout = Stage.LOGIN, self._seconds
        if self.is_ehlo_or_helo_needed:
            await self.ehlo(timeout=timeout)
        refusal: aiosmtplib.SMTPAuthenticationError | None = None
        for name in self.supported_auth_methods:
            method = self.auth_plain if name == "plain" else self.auth_login
            try:
                return await method(username, password, timeout=timeout)
            except aiosmtplib.SMTPAuthenticationError as error:
                refusal = error
                if error.code not in _OTHER_MECHANISM or not self.is_connected:
                    break
        raise refusal or aiosmtplib.SMTPNotSupported("it offers no login by PLAIN or LOGIN")

    async def open(self, seconds: float = 0.0) -> tuple[Link, Offer]:
        """Connects (within ``seconds``, if given), secures, logs in.

        Raises what aiosmtplib, ssl, the system and :mod:`relay.oauth` raise; see :func:`~.outcome.judge`.
        """
        await self.connect(timeout=seconds or self._seconds)
        self.timeout = self._seconds
        if self._tokens is not None:
            self.stage = Stage.LOGIN
            await by_token(self, self._provider, self._tokens)
        if self.is_ehlo_or_helo_needed:
            await self.greet()
        if self.transport is None or self.transport.is_closing():
            raise aiosmtplib.SMTPServerDisconnected("Connection lost")
        transport = cast("asyncio.Transport", self.transport)
        link = Link(asyncio.get_running_loop(), transport)
        transport.set_protocol(link)
        return link, self._offer()

    async def greet(self) -> None:
        """EHLO, or HELO where a server does not know it; one that has neither TLS nor a login may be that old."""
        try:
            await self.ehlo()
        except aiosmtplib.SMTPHeloError as error:
            if error.code not in (500, 502) or not self.is_connected:
                raise
            await self.helo()

    def _offer(self) -> Offer:
        size = self.esmtp_extensions.get("size", "").strip()
        return Offer(
            pipelining=self.supports_extension("pipelining"),
            size=self.supports_extension("size"),
            size_limit=int(size) if size.isascii() and size.isdigit() and len(size) < 16 else 0,
            eightbit=self.supports_extension("8bitmime"),
            smtputf8=self.supports_extension("smtputf8"),
        )
