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

from common.connect import DIALER, Dialer
from relay import limits
from relay.delivery.login import log_in
from relay.delivery.replies import Link
from relay.providers.rules import Stage

if TYPE_CHECKING:
    from relay.oauth.tokens import Tokens
    from relay.providers.provider import Provider, Tls


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
    """An aiosmtplib client that knows how far it has come."""

    def __init__(
        self,
        provider: Provider,
        hostname: str,
        times: Times,
        *,
        to: tuple[int, Tls] | None = None,
        tokens: Tokens | None = None,
        dialer: Dialer = DIALER,
    ) -> None:
        """``to``: one of the provider's ports, by default its first. ``tokens``: of a provider that wants one."""
        self._at, tls = to or provider.ports[0]
        super().__init__(
            hostname=provider.host,
            local_hostname=hostname,
            timeout=times.reply,
            use_tls=tls == "tls",
            start_tls=tls == "starttls",
            tls_context=provider.tls_context,
        )
        self._provider, self._tokens, self._seconds, self._dialer = provider, tokens, times.connect, dialer
        self.stage = Stage.CONNECT

    async def starttls(self, **options: Any) -> aiosmtplib.SMTPResponse:
        """As aiosmtplib's; remembers the stage."""
        self.stage = Stage.TLS
        return await super().starttls(**options)

    async def reach(self, seconds: float = 0.0) -> None:
        """Connects, secures and greets, all within ``seconds``, by default those of :attr:`Times.connect`; closes the
        connection where that fails.
        """
        self.stage, seconds = Stage.CONNECT, seconds or self._seconds
        try:
            async with self._dialer.connected(self._provider.host, self._at, seconds) as won:
                await self.connect(sock=won, timeout=seconds)
                if self.is_ehlo_or_helo_needed:
                    await self.greet()
        except BaseException:
            self.close()
            raise
        self.timeout = self._seconds

    async def open(self, seconds: float = 0.0) -> tuple[Link, Offer]:
        """Connects (see :meth:`reach`) and logs in, if the provider wants that.

        Raises what aiosmtplib, ssl, the system and :mod:`relay.oauth` raise; see :func:`~.outcome.judge`.
        """
        await self.reach(seconds)
        if self._provider.username:
            await log_in(self, self._provider, self._tokens)
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
