"""Stands between an ACME client and Pebble and makes the authority fail in ways that Pebble itself cannot.

Pebble builds its URLs from the Host field it is sent, so the client stays on the proxy for the whole conversation.
"""

from __future__ import annotations

import http.client
import json
import re
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from support.pebble import Pebble

PROBLEM = "urn:ietf:params:acme:error:"


@dataclass
class AcmeProxy:
    """``fault`` applies to requests whose "METHOD /path" it matches; None lets everything pass."""

    pebble: Pebble
    port: int = 0
    fault: dict[str, Any] | None = None
    spoiled: dict[str, str] | None = None
    seen: list[str] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    @property
    def directory(self) -> str:
        return f"https://localhost:{self.port}/dir"

    @contextmanager
    def failing(
        self, path: str, *, status: int = 0, kind: str = "", detail: str = "", hang: bool = False, **headers: str
    ) -> Iterator[None]:
        """Answer with a problem document (RFC 8555, section 6.7), or not at all; ``Retry_After`` becomes a field."""
        self.fault = {"path": path, "status": status, "kind": kind, "detail": detail, "hang": hang, "headers": headers}
        try:
            yield
        finally:
            self.fault = None
            self.released.set()
            self.released = threading.Event()

    @contextmanager
    def order_invalid(self, problem: dict[str, str]) -> Iterator[None]:
        """Every order turns invalid once it was finalized, for the reason given (RFC 8555, section 7.1.3)."""
        self.spoiled = problem
        try:
            yield
        finally:
            self.spoiled = None

    def _spoil(self, content: bytes) -> bytes:
        if b'"finalize"' not in content:
            return content
        order = json.loads(content)
        if order.get("status") in ("processing", "valid"):
            order |= {"status": "invalid", "error": self.spoiled}
        return json.dumps(order).encode()

    def forward(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        self.seen.append(f"{method} {path}")
        context = ssl.create_default_context(cafile=str(self.pebble.trust))
        target = http.client.HTTPSConnection(urlsplit(self.pebble.directory).netloc, context=context, timeout=20)
        try:
            target.request(method, path, body, headers)
            answer = target.getresponse()
            status, fields, content = answer.status, answer.getheaders(), answer.read()
        finally:
            target.close()
        if self.spoiled:
            content = self._spoil(content)
        fault = self.fault
        if fault is None or not re.search(fault["path"], f"{method} {path}"):
            return status, fields, content
        if fault["hang"]:
            self.released.wait()
        # The real answer's nonce is passed on: RFC 8555, section 6.5, wants one in errors too.
        fields = [(name, value) for name, value in fields if name.lower() == "replay-nonce"]
        fields += [(name.replace("_", "-"), value) for name, value in fault["headers"].items()]
        problem = {"type": PROBLEM + fault["kind"], "detail": fault["detail"], "status": fault["status"]}
        return fault["status"], [*fields, ("Content-Type", "application/problem+json")], json.dumps(problem).encode()


def _handler(proxy: AcmeProxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, fields, content = proxy.forward(self.command, self.path, dict(self.headers), body)
            self.send_response_only(status)
            for name, value in fields:
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_POST = do_HEAD = handle_any  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that was ended while it waited


@contextmanager
def acme_proxy(pebble: Pebble, folder: Path) -> Iterator[AcmeProxy]:
    """Serves while the block runs, with Pebble's own server certificate."""
    proxy = AcmeProxy(pebble)
    server = _Server(("127.0.0.1", 0), _handler(proxy))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pebble.crt", folder / "pebble.key")
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    proxy.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
