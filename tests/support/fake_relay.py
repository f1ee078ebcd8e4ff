"""A control socket that answers from a table, for what talks to one."""

from __future__ import annotations

import http.server
import json
import socketserver
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any


class FakeRelay:
    """Answers ``METHOD /path?query`` from ``answers``: (status, value), or a function that gives such a pair.

    ``asked`` holds every request. ``folder`` is what RELAY_RUN names.
    """

    def __init__(self, folder: Path) -> None:
        self.answers: dict[str, tuple[int, Any] | Callable[[], tuple[int, Any]]] = {}
        self.asked: list[str] = []
        self.folder = folder
        (folder / "relay").mkdir()
        self._server = socketserver.ThreadingUnixStreamServer(str(folder / "relay/relay.sock"), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        relay = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                line = f"{self.command} {self.path}"
                relay.asked.append(line)
                found = relay.answers.get(line, (404, {"error": f"nothing is known of {line}."}))
                status, value = found() if callable(found) else found
                body = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Nobody wants to read that."""

        return Handler

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
