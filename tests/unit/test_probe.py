"""The health check's question over a Unix socket."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from probe import ask


class Answerer:
    """Accepts one connection, reads the request, sends the pieces of the answer, closes."""

    def __init__(self, path: Path) -> None:
        self.path, self.request = str(path), b""
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        self.thread: threading.Thread | None = None

    def answer(self, *pieces: bytes) -> None:
        self.thread = threading.Thread(target=self._serve, args=(pieces,))
        self.thread.start()

    def _serve(self, pieces: tuple[bytes, ...]) -> None:
        connection, _ = self.listener.accept()
        with connection:
            self.request = connection.recv(4096)
            for piece in pieces:
                connection.sendall(piece)

    def close(self) -> None:
        if self.thread:
            self.thread.join()
        self.listener.close()


@pytest.fixture
def answerer(tmp_path: Path) -> Iterator[Answerer]:
    it = Answerer(tmp_path / "s")
    yield it
    it.close()


def test_200_is_well(answerer: Answerer) -> None:
    answerer.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n", b"\r\n", b"ok\n")
    assert ask(answerer.path, "/livez", 5) == (True, "ok")
    assert answerer.request.startswith(b"GET /livez HTTP/1.1\r\nHost: ")


def test_503_is_not_well_and_its_reasons_are_told(answerer: Answerer) -> None:
    answerer.answer(b'HTTP/1.1 503 Service Unavailable\r\n\r\n["no certificate yet"]')
    assert ask(answerer.path, "/readyz", 5) == (False, '["no certificate yet"]')


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"220 mail.example.org ESMTP\r\n", b"HTTP/1.1"])
def test_what_is_no_http_is_not_well(answerer: Answerer, answer: bytes) -> None:
    answerer.answer(answer)
    well, reason = ask(answerer.path, "/livez", 5)
    assert not well
    assert "no HTTP answer" in reason


def test_silence_ends_with_the_time_limit(answerer: Answerer) -> None:
    well, reason = ask(answerer.path, "/livez", 0.05)
    assert not well
    assert "timed out" in reason


def test_nobody_there(tmp_path: Path) -> None:
    well, reason = ask(str(tmp_path / "none"), "/livez", 5)
    assert not well
    assert "No such file" in reason
