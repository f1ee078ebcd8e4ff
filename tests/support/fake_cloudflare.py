"""A small Cloudflare API that serves what certbot's plugin asks of it, as a process of its own.

``python -m support.fake_cloudflare --token T --zone example.org --challtestsrv http://127.0.0.1:8055`` prints its port.
TXT records go to pebble-challtestsrv, so that an authority that asks DNS finds them there: token, API, DNS, validation
all are real. Errors carry the codes and texts of Cloudflare's own replies. ``PUT /fault`` with a JSON object
(``status``, ``code``, ``message``, ``headers``, ``hang``, ``mute``, ``path``) makes the following requests fail until
``DELETE /fault``; ``GET /requests`` lists the requests so far.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

BASE = "/client/v4"
Reply = tuple[int, dict[str, Any], dict[str, str]]


def success(result: Any) -> Reply:
    return 200, {"success": True, "errors": [], "messages": [], "result": result}, {}


def failure(status: int, code: int, message: str, headers: dict[str, str] | None = None) -> Reply:
    error = {"code": code, "message": message}
    return status, {"success": False, "errors": [error], "messages": [], "result": None}, headers or {}


@dataclass
class Account:
    """Zones and records of one account, and what is to go wrong."""

    token: str
    zones: list[str]
    challtestsrv: str
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    fault: dict[str, Any] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)
    counter: int = 0

    def reply(self, method: str, path: str, query: dict[str, str], authorization: str, body: Any) -> Reply:
        self.requests.append(f"{method} {path}")
        if self.fault and re.search(self.fault.get("path", ""), f"{method} {path}"):
            if self.fault.get("hang"):
                self.released.wait()
            if not self.fault.get("mute"):
                fault = self.fault
                return failure(fault["status"], fault["code"], fault["message"], fault.get("headers"))
        if not authorization.startswith("Bearer "):
            return failure(400, 6003, "Invalid request headers")
        if authorization != f"Bearer {self.token}":
            return failure(403, 9109, "Invalid access token")
        return self._route(method, path, query, body)

    def _route(self, method: str, path: str, query: dict[str, str], body: Any) -> Reply:
        if path == "/zones":
            found = [{"id": f"zone-{name}", "name": name} for name in self.zones if query.get("name") in (None, name)]
            return success(found if query.get("page", "1") == "1" else [])
        match = re.fullmatch(r"/zones/zone-(?P<zone>[^/]+)/dns_records(?:/(?P<record>[^/]+))?", path)
        if match is None or match["zone"] not in self.zones:
            return failure(
                404, 7003, "Could not route to the requested path, perhaps your object identifier is invalid?"
            )
        if method == "POST":
            return self._create(body)
        if method == "DELETE":
            return self._delete(match["record"])
        wanted = {"name": query.get("name.exact"), "content": query.get("content.exact")}
        found = [one for one in self.records.values() if all(one[key] == value for key, value in wanted.items())]
        return success(found if query.get("page", "1") == "1" else [])

    def _create(self, body: dict[str, Any]) -> Reply:
        if any(one["name"] == body["name"] and one["content"] == body["content"] for one in self.records.values()):
            return failure(400, 81058, "An identical record already exists.")
        self.counter += 1
        record = {"id": f"record-{self.counter}", **body}
        self.records[record["id"]] = record
        self._publish(record["name"])
        return success(record)

    def _delete(self, record: str) -> Reply:
        if record not in self.records:
            return failure(404, 81044, "Record does not exist.")
        self._publish(self.records.pop(record)["name"])
        return success({"id": record})

    def _publish(self, name: str) -> None:
        """Make the name server hold exactly our records for ``name``; a muted API says yes and does nothing."""
        if self.fault.get("mute"):
            return
        self._tell("/clear-txt", {"host": f"{name}."})
        for record in self.records.values():
            if record["name"] == name:
                self._tell("/set-txt", {"host": f"{name}.", "value": record["content"]})

    def _tell(self, path: str, body: dict[str, str]) -> None:
        request = urllib.request.Request(self.challtestsrv + path, json.dumps(body).encode())
        urllib.request.urlopen(request, timeout=10).close()


def handler(account: Account) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
            value = json.loads(body) if body else None
            if path.startswith(BASE):
                single = {name: values[0] for name, values in query.items()}
                authorization = self.headers.get("Authorization", "")
                self.answer(*account.reply(self.command, path[len(BASE) :], single, authorization, value))
            else:
                self.control(path, value)

        def control(self, path: str, value: Any) -> None:
            if path == "/fault":
                account.fault = value or {}
                if not value:
                    account.released.set()
                    account.released = threading.Event()
            self.answer(200, {"requests": account.requests, "records": list(account.records.values())}, {})

        def answer(self, status: int, value: Any, headers: dict[str, str]) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            for name, text in {**headers, "Content-Type": "application/json", "Content-Length": str(len(body))}.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = handle_any  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that was ended while it waited


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--token", required=True)
    parser.add_argument("--zone", action="append", default=[])
    parser.add_argument("--challtestsrv", required=True)
    options = parser.parse_args()
    account = Account(options.token, options.zone, options.challtestsrv)
    server = Server(("127.0.0.1", 0), handler(account))
    print(server.server_port, flush=True)
    server.serve_forever()


@dataclass(frozen=True)
class FakeCloudflare:
    """The running process, seen from a test."""

    url: str

    @property
    def base_url(self) -> str:
        """The value for CLOUDFLARE_BASE_URL."""
        return self.url + BASE

    def _ask(self, method: str, path: str, value: Any = None) -> dict[str, Any]:
        body = json.dumps(value).encode() if value is not None else None
        with urllib.request.urlopen(urllib.request.Request(self.url + path, body, method=method), timeout=10) as answer:
            result: dict[str, Any] = json.load(answer)
            return result

    @contextmanager
    def failing(self, **fault: Any) -> Iterator[None]:
        self._ask("PUT", "/fault", fault)
        try:
            yield
        finally:
            self._ask("DELETE", "/fault")

    def requests(self) -> list[str]:
        return list(self._ask("GET", "/requests")["requests"])

    def records(self) -> list[dict[str, Any]]:
        return list(self._ask("GET", "/requests")["records"])


@contextmanager
def fake_cloudflare(*, token: str, zones: list[str], challtestsrv: str) -> Iterator[FakeCloudflare]:
    """Runs the process while the block runs."""
    command = [sys.executable, __file__, "--token", token, "--challtestsrv", challtestsrv]
    command += [argument for zone in zones for argument in ("--zone", zone)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield FakeCloudflare(f"http://127.0.0.1:{int(process.stdout.readline())}")
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
