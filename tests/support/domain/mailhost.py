"""The mail host as clients find it: EHLO, STARTTLS or TLS at once, with whatever certificate a test wants."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread

GREETING = b"220 mail.example.org ESMTP\r\n"


@contextmanager
def running(
    context: ssl.SSLContext, *, implicit: bool, offers: bytes = b"STARTTLS", banner: bytes = GREETING
) -> Iterator[int]:
    """Serves one client after the other; the port. ``offers``: what EHLO lists before TLS."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        Thread(target=_serve, args=(listening, context, implicit, offers, banner), daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


def _serve(listening: socket.socket, context: ssl.SSLContext, implicit: bool, offers: bytes, banner: bytes) -> None:
    with suppress(OSError):
        while True:
            connection, _ = listening.accept()
            with suppress(OSError, ValueError), connection:
                connection.settimeout(10)
                _talk(connection, context, implicit, offers, banner)


def _talk(connection: socket.socket, context: ssl.SSLContext, secure: bool, offers: bytes, banner: bytes) -> None:
    if secure:
        with context.wrap_socket(connection, server_side=True) as wrapped:
            wrapped.sendall(banner)
            _dialogue(wrapped, context, True, offers)
    else:
        connection.sendall(banner)
        _dialogue(connection, context, False, offers)


def _dialogue(connection: socket.socket, context: ssl.SSLContext, secure: bool, offers: bytes) -> None:
    while command := connection.recv(1000):
        match command.split()[0].upper():
            case b"EHLO":
                connection.sendall(b"250-mail.example.org\r\n250 " + (b"AUTH PLAIN" if secure else offers) + b"\r\n")
            case b"STARTTLS":
                connection.sendall(b"220 2.0.0 Go ahead.\r\n")
                with context.wrap_socket(connection, server_side=True) as wrapped:
                    _dialogue(wrapped, context, True, offers)
                return
            case _:
                connection.sendall(b"221 2.0.0 Bye.\r\n")
                return
