"""Ports on loopback that were free a moment ago."""

from __future__ import annotations

import socket


def free_port() -> int:
    """A TCP port that nobody listened on; the system does not hand it out again soon."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
