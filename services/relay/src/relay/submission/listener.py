"""A port on which clients are let in: bound, counted, shaken hands with, and in the end sent away politely.

Connections are accepted here, not by the loop's ``create_server``, so that who is one too many is turned away before a
TLS handshake costs anything, and so that each failed handshake is known, with its reason: a client that "cannot
connect" has mostly met one. Each handshake is made with the certificate in force at that moment.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Sequence

from relay import limits
from relay.accounts import Accounts
from relay.refusal import Reason, Refusal
from relay.submission.desk import Desk
from relay.submission.dialogue import own_mistake
from relay.submission.hello import tls_trouble
from relay.submission.session import Session

BACKLOG = 1024
AT_ONCE = 64  # connections accepted in one turn of the loop
OUT_OF_SOMETHING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
WAIT_WHEN_OUT = 1.0  # seconds
LAST_COMMITS = 10.0  # seconds that a commit may still take after its client was hung up on
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

EARLY = Refusal("554 5.5.0 The client must wait for our greeting before it sends anything.", Reason.PIPELINING)
CROWDED = Refusal(
    "421 4.3.2 All connections are in use; try again in a minute (the operator's setting is RELAY_CONNECTIONS).",
    Reason.CONNECTIONS,
)
STRANGER = Refusal("554 5.7.1 Your address is not in RELAY_LAN_NETWORKS; the operator can add it.", Reason.NETWORK)


class Listener:
    """One port, given as bound sockets (:func:`relay.submission.ports.take`).

    ``networks``: who alone may connect (the LAN listener); ``gateways`` never count as one of them.
    """

    def __init__(
        self,
        desk: Desk,
        sockets: Sequence[socket.socket],
        *,
        networks: Sequence[Network] | None = None,
        gateways: frozenset[str] = frozenset(),
    ) -> None:
        self.desk = desk
        self.open = False  # clients can connect
        self.port = int(sockets[0].getsockname()[1])
        self.address = LOOPBACK.get(address := sockets[0].getsockname()[0], address)  # where this machine reaches it
        self._networks, self._gateways = networks, gateways
        self._sockets = sockets
        self._arriving: set[asyncio.Task[None]] = set()
        self._sessions: set[Session] = set()
        self._counted: set[Session] = set()  # those that hold a place of the limiter's
        self._loop: asyncio.AbstractEventLoop

    @property
    def needs_certificate(self) -> bool:
        """Whether nobody can be served without one: everywhere but on the LAN's port, where TLS is an offer."""
        return self.desk.certificate is not None and self.desk.lan is None

    # --- opening ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Let clients in."""
        self._loop = asyncio.get_running_loop()
        for sock in self._sockets:
            sock.listen(BACKLOG)
            self._loop.add_reader(sock.fileno(), self._accept, sock)
        self.open = True

    # --- letting in ---------------------------------------------------------------------------------------------------

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(AT_ONCE):
            try:
                sock, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._cannot_accept(listening, error)
                return
            sock.setblocking(False)
            self._admit(sock, address[0])

    def _cannot_accept(self, listening: socket.socket, error: OSError) -> None:
        """Out of file descriptors or memory: wait, or the loop would spin on the connection that nobody takes."""
        self.desk.journal.system(
            "accept_failed", listener=self.desk.listener, error=errno.errorcode.get(error.errno or 0, "?")
        )
        if error.errno in OUT_OF_SOMETHING:
            self._loop.remove_reader(listening.fileno())
            self._loop.call_later(WAIT_WHEN_OUT, self._accept_again, listening)

    def _accept_again(self, listening: socket.socket) -> None:
        if self.open:
            self._loop.add_reader(listening.fileno(), self._accept, listening)

    def _admit(self, sock: socket.socket, peer: str) -> None:
        refusal = self._stranger(peer) or self.desk.limiter.connect(peer)
        if refusal is not None:
            self._turn_away(sock, peer, refusal)
            return
        if not self.desk.implicit_tls and _talks_first(sock):
            self.desk.limiter.disconnect(peer)
            self._turn_away(sock, peer, EARLY)
            return
        session = Session(self.desk, self._loop, peer)
        self._counted.add(session)
        task = self._loop.create_task(self._receive(session, sock, peer))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)
        self.desk.limiter.stranger(peer, session, lambda: self._send_away(session, task, sock))

    def _send_away(self, session: Session, task: asyncio.Task[None], sock: socket.socket) -> None:
        """End a stranger's connection, or its handshake, for somebody else to have its place.

        Which is free at once: on a busy machine the end takes some turns of the loop, and as long as what is ending
        counted, each newcomer would send one more away than is needed.
        """
        self._give_back(session)
        self.desk.journal.connection_refused(self.desk.listener, session.peer, CROWDED.reason)
        if session.task is None:
            self._say(sock, CROWDED)
            task.cancel()
        else:
            session.make_way(CROWDED.reply)

    def _give_back(self, session: Session) -> None:
        if session in self._counted:
            self._counted.remove(session)
            self.desk.limiter.disconnect(session.peer)

    def _stranger(self, peer: str) -> Refusal | None:
        if self._networks is None:
            return None
        address = ipaddress.ip_address(peer.partition("%")[0])
        known = peer not in self._gateways and any(address in network for network in self._networks)
        return None if known else STRANGER

    def _turn_away(self, sock: socket.socket, peer: str, refusal: Refusal) -> None:
        self.desk.journal.connection_refused(self.desk.listener, peer, refusal.reason)
        with sock:
            self._say(sock, refusal)

    def _say(self, sock: socket.socket, refusal: Refusal) -> None:
        """Our first and last words on a connection; there are none where a handshake comes first."""
        if not self.desk.implicit_tls:
            try:
                sock.send(refusal.reply.encode("ascii", "replace") + b"\r\n")
                sock.recv(65536)  # closing with unread bytes would reset the connection and lose the reply
            except OSError:
                pass  # it has gone, or sends nothing

    async def _receive(self, session: Session, sock: socket.socket, peer: str) -> None:
        desk = self.desk
        context = desk.certificate.context if desk.implicit_tls and desk.certificate is not None else None
        try:
            transport, _ = await self._loop.connect_accepted_socket(
                lambda: session,
                sock,
                ssl=context,
                ssl_handshake_timeout=limits.TLS_HANDSHAKE_TIME if context else None,
            )
        except (OSError, asyncio.CancelledError) as error:
            desk.limiter.gone(peer, session)
            self._give_back(session)
            if session.task is not None:  # cancelled just when it had begun
                session.transport.abort()
            sock.close()
            if isinstance(error, asyncio.CancelledError):
                raise
            if context:
                desk.journal.tls_handshake(desk.listener, peer, "", False, tls_trouble(error))
            return
        desk.journal.connection(desk.listener, peer)
        if context:
            desk.journal.tls_handshake(desk.listener, peer, transport.get_extra_info("ssl_object").version(), True)
        assert session.task is not None
        self._sessions.add(session)
        session.task.add_done_callback(lambda task: self._ended(session, task))

    def _ended(self, session: Session, task: asyncio.Task[None]) -> None:
        self._sessions.discard(session)
        self.desk.limiter.gone(session.peer, session)
        self._give_back(session)
        self.desk.journal.connection_ended(self.desk.listener, session.peer)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            own_mistake(self.desk.journal, error)

    def accounts_changed(self, accounts: Accounts) -> None:
        """Others are in force: who is logged in may have to go."""
        for session in self._sessions:
            session.accounts_changed(accounts)

    # --- closing ------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Let nobody in any more, and tell those who are idle to come back later."""
        for sock in self._sockets:
            if self.open:
                self._loop.remove_reader(sock.fileno())
            sock.close()
        self.open = False
        for task in self._arriving:
            task.cancel()
        for session in self._sessions:
            session.wire.stop()

    async def drain(self, seconds: float) -> None:
        """After :meth:`close`: wait at most ``seconds`` for open messages, then hang up. No commit is cancelled."""
        if await self._gone(seconds):
            for session in list(self._sessions):
                session.abandon()
            await self._gone(LAST_COMMITS)

    async def _gone(self, seconds: float) -> bool:
        """Wait for all sessions to end; whether some have not."""
        tasks = [task for task in (*self._arriving, *(session.task for session in self._sessions)) if task is not None]
        if not tasks:
            return False
        _, pending = await asyncio.wait(tasks, timeout=seconds)
        return bool(pending)


def _talks_first(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(1, socket.MSG_PEEK))
    except OSError:
        return False
