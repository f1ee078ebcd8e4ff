"""Ports on loopback that nobody else takes before the test does."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator
from itertools import cycle

FIRST, END = 10_240, 32_768  # Linux itself hands out those above (net.ipv4.ip_local_port_range)


def _ours() -> Iterator[int]:
    """This process's share, round and round: pytest's other workers draw from shares of their own."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    share = range(FIRST + worker, END, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
    begin = secrets.randbelow(len(share))  # two runs on one machine seldom meet
    return cycle([*share[begin:], *share[:begin]])


_PORTS = _ours()


def free_port() -> int:
    """A TCP port that nobody listens on, and that is not handed out again soon."""
    while True:
        port = next(_PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
