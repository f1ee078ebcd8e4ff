"""A mail provider that does what it is told: every answer settable for every stage, every byte recorded.

Real sockets, real TLS (trustme), real AUTH. An *act* is what it does in place of its usual answer at a stage: a reply
as text (one line or several, CRLF added), raw bytes, :data:`HANG` (no answer, ever), :data:`CLOSE` (a clean end),
:data:`RESET` (a hard one), or a list of those.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import ssl
import struct
from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from support.loopback import LoopbackServer


class Deed(Enum):
    """What is not a reply."""

    HANG = "hang"
    CLOSE = "close"
    RESET = "reset"


HANG, CLOSE, RESET = Deed.HANG, Deed.CLOSE, Deed.RESET
Act = str | bytes | Deed | list["Act"]
STAGES = ("greeting", "ehlo", "starttls", "auth", "mail", "rcpt", "data", "body", "final", "rset", "quit")
USUAL = {
    "greeting": "220 scripted ESMTP",
    "starttls": "220 2.0.0 go ahead",
    "auth": "235 2.7.0 welcome",
    "mail": "250 2.1.0 sender ok",
    "rcpt": "250 2.1.5 recipient ok",
    "data": "354 go on",
    "final": "250 2.0.0 queued as {number}",
    "rset": "250 2.0.0 flushed",
    "quit": "221 2.0.0 bye",
}


@dataclass
class Got:
    """A message whose final dot arrived."""

    mail: str  # the whole MAIL line
    recipients: list[str]
    wire: bytes  # content as it came, dots still doubled, final dot not included
    connection: int
    kept: bool = True  # False where we answered 4xx or 5xx

    @property
    def content(self) -> bytes:
        """The content with its dots undone, the way RFC 5321, 4.5.2 says."""
        return b"".join(line.removeprefix(b".") for line in self.wire.splitlines(keepends=True))


@dataclass
class Talk:
    """One connection, as far as it has come."""

    number: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    secure: bool = False
    user: str = ""
    mail: str = ""
    recipients: list[str] = field(default_factory=list)


class Over(Exception):
    """This connection has ended."""


class ScriptedProvider(LoopbackServer):
    """Starts on a free loopback port as an async context manager."""

    def __init__(
        self,
        *,
        tls: str = "none",
        users: dict[str, str] | None = None,
        extensions: tuple[str, ...] = ("PIPELINING", "SIZE 52428800", "8BITMIME"),
        mechanisms: str = "PLAIN LOGIN",
        certificate_name: str = "127.0.0.1",
    ) -> None:
        super().__init__()
        self.tls, self.users, self.extensions, self.mechanisms = tls, users, extensions, mechanisms
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert(certificate_name).configure_cert(self._context)
        self._acts: dict[str, deque[Act]] = {stage: deque() for stage in STAGES}
        self._always: dict[str, Act] = {}
        self.rcpt: dict[str, Act] = {}  # by address
        self.messages: list[Got] = []
        self.commands: list[tuple[int, str]] = []  # (connection, line)
        self.logins: list[tuple[str, str]] = []
        self.open = 0
        self.reads: list[bytes] = []  # as they came from the socket, in clear
        self.changed = asyncio.Event()

    # --- the script
    def once(self, stage: str, *acts: Act) -> None:
        """The next times this stage is reached, do these, one each time; then the usual."""
        self._acts[stage].extend(acts)

    def always(self, stage: str, act: Act | None) -> None:
        """From now on do this at that stage; None for the usual."""
        if act is None:
            self._always.pop(stage, None)
        else:
            self._always[stage] = act

    @property
    def kept(self) -> list[Got]:
        """The messages it kept: those it said 250 to, and those it did not answer at all."""
        return [got for got in self.messages if got.kept]

    # --- life
    def listening(self) -> dict[str, Any]:
        """Options of :func:`asyncio.start_server`."""
        return {"ssl": self._context if self.tls == "tls" else None, "limit": 2**26}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        self.open += 1
        talk = Talk(self.connections, reader, writer, secure=self.tls == "tls")
        try:
            await self._talk(talk)
        except asyncio.CancelledError:
            talk.writer.transport.abort()  # the test is over
        except (Over, OSError, asyncio.IncompleteReadError):
            pass  # the client left, or the script ended it
        finally:
            self.open -= 1
            talk.writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await talk.writer.wait_closed()
            self._tell()

    def _tell(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    # --- the conversation
    async def _do(self, talk: Talk, stage: str, act: Act | None = None) -> bool:
        """Does what the script says at this stage. Whether that was the usual, or at least a yes."""
        if act is None:
            queue = self._acts[stage]
            act = queue.popleft() if queue else self._always.get(stage, USUAL.get(stage, ""))
        for one in act if isinstance(act, list) else [act]:
            await self._one(talk, one)
        first = act[0] if isinstance(act, list) else act
        return isinstance(first, str) and first[:1] in ("2", "3")

    async def _one(self, talk: Talk, act: Act) -> None:
        if isinstance(act, str):
            text = act.replace("{number}", str(len(self.messages)))
            act = b"".join(line.encode() + b"\r\n" for line in text.split("\n"))
        if isinstance(act, bytes):
            talk.writer.write(act)
            await talk.writer.drain()
        elif act is HANG:
            self._tell()
            transport = talk.writer.transport
            assert isinstance(transport, asyncio.Transport)
            transport.pause_reading()
            await asyncio.Event().wait()  # until the test is over
        elif act is RESET:
            raw = talk.writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            talk.writer.transport.abort()
            raise Over
        elif act is CLOSE:
            raise Over

    async def _talk(self, talk: Talk) -> None:
        await self._do(talk, "greeting")
        while line := await talk.reader.readline():
            text = line.rstrip(b"\r\n").decode("utf-8", "replace")
            self.commands.append((talk.number, text))
            self._tell()
            verb = text.split(" ", 1)[0].upper()
            handler = getattr(self, f"_on_{verb.lower()}", None)
            if handler is None:
                await self._one(talk, "500 5.5.2 what?")
            else:
                await handler(talk, text)

    async def _on_ehlo(self, talk: Talk, _: str) -> None:
        if self._acts["ehlo"] or "ehlo" in self._always:
            await self._do(talk, "ehlo")
            return
        offers = list(self.extensions)
        offers += ["STARTTLS"] if self.tls == "starttls" and not talk.secure else []
        offers += [f"AUTH {self.mechanisms}"] if self.users and (talk.secure or self.tls == "none") else []
        lines = ["scripted", *offers]
        await self._one(
            talk, "\n".join(f"250{'-' if n < len(lines) else ' '}{line}" for n, line in enumerate(lines, 1))
        )

    async def _on_helo(self, talk: Talk, _: str) -> None:
        await self._one(talk, "250 scripted")

    async def _on_starttls(self, talk: Talk, _: str) -> None:
        if await self._do(talk, "starttls"):
            try:
                await talk.writer.start_tls(self._context)
            except (ssl.SSLError, OSError) as error:
                raise Over from error
            talk.secure = True

    async def _on_auth(self, talk: Talk, text: str) -> None:
        """As strict as RFC 4954 lets it be: LOGIN, in which the server speaks first, takes no initial response."""
        _, mechanism, *rest = text.split(" ")
        if mechanism.upper() == "PLAIN":
            _, user, password = base64.b64decode(rest[0]).decode().split("\0")
        elif rest:
            await self._one(talk, "501 5.5.4 the name comes when it is asked for")
            return
        else:
            user, password = [await self._ask(talk, question) for question in ("Username:", "Password:")]
        self.logins.append((user, password))
        right = (self.users or {}).get(user) == password
        if await self._do(talk, "auth", None if right else "535 5.7.8 Authentication credentials invalid"):
            talk.user = user

    async def _ask(self, talk: Talk, question: str) -> str:
        """Asks so in a login, and returns the answer."""
        await self._one(talk, f"334 {base64.b64encode(question.encode()).decode()}")
        return base64.b64decode(await talk.reader.readline()).decode()

    async def _on_mail(self, talk: Talk, text: str) -> None:
        if self.users and not talk.user:
            await self._one(talk, "530 5.7.0 Authentication required")
        elif await self._do(talk, "mail"):
            talk.mail, talk.recipients = text, []

    async def _on_rcpt(self, talk: Talk, text: str) -> None:
        address = text[text.index("<") + 1 : text.rindex(">")]
        if not talk.mail:
            await self._one(talk, "503 5.5.1 MAIL first")
        elif await self._do(talk, "rcpt", self.rcpt.get(address)):
            talk.recipients.append(address)

    async def _on_data(self, talk: Talk, _: str) -> None:
        scripted = self._acts["data"] or "data" in self._always
        if not talk.recipients and not scripted:
            await self._one(talk, "503 5.5.1 no valid recipients")
            return
        if not await self._do(talk, "data"):
            return
        begun = b""  # another connection may have taken the act meanwhile: then this byte is the message's first
        if self._acts["body"] or "body" in self._always:
            begun = await talk.reader.readexactly(1)
            await self._do(talk, "body")
        lines: list[bytes] = []
        while (line := begun + await talk.reader.readline()) != b".\r\n":
            begun = b""
            if not line:
                raise Over
            lines.append(line)
        got = Got(talk.mail, talk.recipients, b"".join(lines), talk.number)
        self.messages.append(got)
        self._tell()
        talk.mail, talk.recipients = "", []
        got.kept = self._keeps()
        await self._do(talk, "final")

    def _keeps(self) -> bool:
        act = self._acts["final"][0] if self._acts["final"] else self._always.get("final", USUAL["final"])
        first = act[0] if isinstance(act, list) and act else act
        return not (isinstance(first, str) and first[:1] in ("4", "5"))

    async def _on_rset(self, talk: Talk, _: str) -> None:
        talk.mail, talk.recipients = "", []
        await self._do(talk, "rset")

    async def _on_noop(self, talk: Talk, _: str) -> None:
        await self._one(talk, "250 2.0.0 ok")

    async def _on_quit(self, talk: Talk, _: str) -> None:
        await self._do(talk, "quit")
        raise Over
