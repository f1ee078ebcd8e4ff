"""Taking a port without letting anybody in yet, so that an occupied one is told at the start with all else."""

from __future__ import annotations

import errno
import socket

WILDCARDS = frozenset({"0.0.0.0", "::", ""})


class CannotListen(Exception):
    """A port cannot be had; the text is a sentence that names the setting."""


def take(address: str, port: int, setting: str) -> list[socket.socket]:
    """Sockets bound to ``address`` and ``port``, not listening. Raises :class:`CannotListen`.

    A wildcard means every address of this machine, IPv6 too where there is such a thing. Port 0: the system chooses.
    """
    if address not in WILDCARDS:
        return [_bound(address, port, setting)]
    first = _bound("0.0.0.0", port, setting)
    try:
        return [first, _bound("::", int(first.getsockname()[1]), setting)]
    except CannotListen as problem:
        if isinstance(problem.__cause__, OSError) and problem.__cause__.errno != errno.EADDRINUSE:
            return [first]  # no IPv6 here
        first.close()
        raise


def _bound(address: str, port: int, setting: str) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        raise CannotListen(f"{setting}: {_why_not(error, address, port)}") from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
    except OSError as error:
        sock.close()
        raise CannotListen(f"{setting}: {_why_not(error, address, port)}") from error
    return sock


def _why_not(error: OSError, address: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {address} is in use by another program; end that, or choose another port."
    if error.errno == errno.EACCES:
        return f"port {port} needs privileges that this program does not have; choose one above 1023."
    return f"cannot listen on {address} port {port}: {error.strerror}."
