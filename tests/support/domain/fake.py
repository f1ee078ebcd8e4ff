"""What the fake services have in common: HTTP, a journal of requests, faults on demand, and a way to start one.

Tests talk to a fake at ``/_test/…`` below the same address: ``PUT state`` replaces everything, ``GET state`` and
``GET journal`` read, ``PUT faults`` says what happens to the n-th request from then on: ``{"3": {"status": 500}}``,
``{"hang_up": "before"}`` or ``"after"`` (carried out, but the answer never arrives), ``{"status": 429, "headers":
{…}}``. A request whose form is not the documented one is answered 400 and stands in the journal with ``"wrong"``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx


@dataclass
class Request:
    """A request as the services see it; ``body`` is decoded JSON, a form's text, or None."""

    method: str
    path: str
    query: dict[str, str]
    body: Any
    headers: dict[str, str]


@dataclass
class Wrong(Exception):
    """The request has not the documented form."""

    why: str


Answer = tuple[int, Any]
Service = Callable[[dict[str, Any], Request], Answer]


@dataclass
class Control:
    """State and journal of one fake."""

    serve: Service
    state: dict[str, Any] = field(default_factory=dict)
    journal: list[dict[str, Any]] = field(default_factory=list)
    faults: dict[str, dict[str, Any]] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    def test(self, request: Request) -> Answer:
        name = request.path.removeprefix("/_test/")
        if request.method == "GET":
            return 200, {"state": self.state, "journal": self.journal}[name]
        if name == "state":
            self.state, self.journal, self.faults = request.body, [], {}
        else:
            self.journal, self.faults = [], request.body
        return 200, {}

    def answer(self, request: Request) -> tuple[int, Any, dict[str, str], bool]:
        """Status, body, headers, and whether to hang up instead."""
        if request.path.startswith("/_test/"):
            return *self.test(request), {}, False
        entry = {"method": request.method, "path": request.path, "query": request.query, "body": request.body}
        self.journal.append(entry)
        fault = self.faults.get(str(len(self.journal)), {})
        if fault.get("hang_up") == "before" or "status" in fault:
            return fault.get("status", 0), fault.get("body", {}), fault.get("headers", {}), "hang_up" in fault
        try:
            status, body = self.serve(self.state, request)
        except Wrong as error:
            entry["wrong"] = error.why
            status, body = 400, {"success": False, "errors": [{"code": 1, "message": error.why}]}
        return status, body, {}, "hang_up" in fault


def _handler(control: Control) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        wbufsize = -1  # head and body in one write

        def handle_any(self) -> None:
            data = self.rfile.read(int(self.headers.get("content-length") or 0))
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            body = json.loads(data) if "json" in self.headers.get("content-type", "") else data.decode() or None
            request = Request(self.command, parts.path, query, body, {k.lower(): v for k, v in self.headers.items()})
            with control.lock:
                status, answer, headers, hang_up = control.answer(request)
            if hang_up:
                self.close_connection = True
                return
            text = isinstance(answer, str)
            payload = answer.encode() if text else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain" if text else "application/json")
            self.send_header("Content-Length", str(len(payload)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(payload)
            self.wfile.flush()

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None:
            """Nothing: the journal has it."""

    return Handler


def serve(service: Service) -> None:
    """Serves on a port of the system's choice, told on standard output, until standard input ends."""
    ThreadingHTTPServer.daemon_threads = True
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(Control(service))) as server:
        print(server.server_port, flush=True)
        from threading import Thread

        Thread(target=server.serve_forever, daemon=True).start()
        sys.stdin.read()
        server.shutdown()


@dataclass
class Fake:
    """A running fake, from the test's side."""

    url: str
    client: httpx.Client

    def set(self, state: dict[str, Any]) -> None:
        self.client.put(f"{self.url}/_test/state", json=state).raise_for_status()

    def spoil(self, faults: dict[int, dict[str, Any]]) -> None:
        """Counts requests anew and spoils those named."""
        self.client.put(f"{self.url}/_test/faults", json=faults).raise_for_status()

    @property
    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = self.client.get(f"{self.url}/_test/state").json()
        return state

    @property
    def journal(self) -> list[dict[str, Any]]:
        journal: list[dict[str, Any]] = self.client.get(f"{self.url}/_test/journal").json()
        return journal

    @property
    def writes(self) -> list[str]:
        """What changed something, as "METHOD path"."""
        return [f"{one['method']} {one['path']}" for one in self.journal if one["method"] != "GET"]

    @property
    def wrong(self) -> list[str]:
        """Requests whose form is not the documented one."""
        return [f"{one['method']} {one['path']}: {one['wrong']}" for one in self.journal if "wrong" in one]


@contextmanager
def running(module: str) -> Iterator[Fake]:
    """Runs ``support.domain.MODULE`` as a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"support.domain.{module}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline())
        with httpx.Client() as client:
            yield Fake(f"http://127.0.0.1:{port}", client)
    finally:
        process.communicate()
