"""A name with two addresses, ::1 and 127.0.0.1, of which the first swallows what is sent to it."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Iterator
from typing import Any

import pytest

DUAL = "dual.test"


@contextlib.contextmanager
def black_hole(port: int) -> Iterator[None]:
    """At ::1 and ``port`` no SYN is answered, as behind a route that leads nowhere: the listener's queue is full."""
    with contextlib.ExitStack() as stack:
        hole = stack.enter_context(socket.socket(socket.AF_INET6))
        try:
            hole.bind(("::1", port))
        except OSError as error:
            pytest.skip(f"no IPv6 on loopback: {error}")
        hole.listen(0)
        for _ in range(20):
            one = stack.enter_context(socket.socket(socket.AF_INET6))
            one.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                one.connect(("::1", port))
            if not select.select([], [one], [], 0.3)[1]:
                break
        else:
            pytest.skip("this kernel makes no black hole of a full queue")
        yield


@contextlib.contextmanager
def listening(host: str, port: int = 0) -> Iterator[int]:
    """A listener whose queue takes connections; its port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as server:
        yield server.getsockname()[1]


def name_it(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Lets :data:`DUAL` have ``addresses``, by default ::1 and 127.0.0.1 in this order, for all that ask the system."""
    real = socket.getaddrinfo

    def answer(host: Any, port: Any, family: int = 0, *rest: Any, **more: Any) -> Any:
        if host not in (DUAL, DUAL.encode()):
            return real(host, port, family, *rest, **more)
        found = [real(one, port, 0, *rest, **more)[0] for one in addresses or ("::1", "127.0.0.1")]
        return [row for row in found if family in (socket.AF_UNSPEC, row[0])]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
