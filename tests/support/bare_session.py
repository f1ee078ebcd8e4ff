"""A session without a socket: bytes go in exactly as a test cuts them, and come out as they were written.

The session, its timers and its verbs are the real ones. What is not: the transport, TLS (a handshake succeeds at once),
passwords and spool. So thousands of dialogues take seconds, and a byte arrives when the test says so.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from typing import Any, cast

from relay.accounts import Account, Accounts
from relay.clock import SystemClock
from relay.submission.limiter import Limiter
from relay.submission.session import Session
from support.fakes import FakeAccountsFile, FakeJournal, FakePasswords, FakeSpool
from support.reception import PASSWORD, desk_for, offers, person, settings


class Handshake:
    """What a transport says of its TLS."""

    def version(self) -> str:
        return "TLSv1.3"


class FakeCertificates:
    """There is a certificate."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


class FakeTransport(asyncio.Transport):
    """Remembers what was written; closes at once."""

    def __init__(self, session: Session, *, secure: bool) -> None:
        super().__init__({"ssl_object": Handshake() if secure else None})
        self.session = session
        self.written = b""
        self.gone = self.paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def is_closing(self) -> bool:
        return self.gone

    def close(self) -> None:
        if not self.gone:
            self.gone = True
            asyncio.get_running_loop().call_soon(self.session.connection_lost, None)

    abort = close


class FakeLoop:
    """The running loop, where a TLS handshake only changes the transport."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def start_tls(self, transport: FakeTransport, session: Session, *_: object, **__: object) -> FakeTransport:
        return FakeTransport(session, secure=True)


class BareSession:
    """One session of the listener ``name``; to be made inside a running loop."""

    def __init__(
        self,
        name: str = "submission",
        *,
        accounts: list[Account] | None = None,
        spool: FakeSpool | None = None,
        **desk: Any,
    ) -> None:
        people = accounts or [person()]
        self.file = FakeAccountsFile(Accounts(people))
        self.spool, self.journal = spool or FakeSpool(), FakeJournal()
        wanted = settings(people[0].name)
        made = desk_for(
            wanted,
            name,
            offers(wanted),
            accounts=self.file,
            passwords=FakePasswords(self.file, {one.name: PASSWORD for one in people}),
            limiter=Limiter(clock=SystemClock()),
            repeats=None,
            spool=self.spool,
            journal=self.journal,
            certificate=FakeCertificates(),
        )
        loop = cast(asyncio.AbstractEventLoop, FakeLoop(asyncio.get_running_loop()))
        self.session = Session(replace(made, **desk), loop, "192.0.2.7")
        self.session.connection_made(FakeTransport(self.session, secure=name == "submissions"))
        self._read = 0
        self._first = self.transport

    @property
    def transport(self) -> FakeTransport:
        """The present one: STARTTLS makes another."""
        if isinstance(self.session.transport, FakeTransport):  # none once it is lost
            self._present = self.session.transport
        return self._present

    @property
    def closed(self) -> bool:
        """The server has hung up."""
        return self.transport.gone

    async def settle(self) -> None:
        """Until the session has taken all that was sent, and waits or has ended."""
        session = self.session
        assert session.task is not None
        for _ in range(100_000):
            if session.task.done() or (session.wire._waiter is not None and not session.wire._waiter.done()):
                return
            await asyncio.sleep(0)
        raise AssertionError("the session neither waits nor ends")

    async def send(self, *pieces: bytes) -> list[bytes]:
        """Each piece arrives by itself; returns the lines that were answered."""
        for piece in pieces:
            if not self.closed:
                self.session.data_received(piece)
            await self.settle()
        return self.said()

    def said(self) -> list[bytes]:
        """The complete lines written since the last look, without CRLF."""
        if self.transport is not self._first:
            new = self._first.written[self._read :] + self.transport.written
            self._first, self._read = self.transport, 0
        else:
            new = self.transport.written[self._read :]
        self._read = len(self.transport.written)
        assert new == b"" or new.endswith(b"\r\n"), new
        return new.split(b"\r\n")[:-1]

    async def codes(self, *pieces: bytes) -> list[int]:
        """As :meth:`send`; only the codes, one for each reply."""
        return [int(line[:3]) for line in await self.send(*pieces) if line[3:4] == b" "]

    async def end(self) -> None:
        """The client goes."""
        self.transport.close()
        assert self.session.task is not None
        await self.session.task
