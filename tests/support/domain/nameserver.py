"""A recursive name server on loopback, UDP and TCP, as a process of its own: what it says is a table that tests set.

The table maps "name TYPE" to contents as zone files have them. A CNAME is followed. A name with no entry at all does
not exist; the content ``SERVFAIL`` makes the server fail, ``SILENT`` makes it say nothing. Each line of standard
input is a new table as JSON, answered by one line.
"""

from __future__ import annotations

import json
import socketserver
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

Table = dict[str, list[str]]


def answer(table: Table, data: bytes) -> bytes | None:
    """The reply to a query, None for silence."""
    query = dns.message.from_wire(data)
    question = query.question[0]
    response = dns.message.make_response(query, recursion_available=True)
    name, kind = question.name.to_text().rstrip(".").lower(), dns.rdatatype.to_text(question.rdtype)
    for _ in range(8):
        contents = table.get(f"{name} {kind}", [])
        target = table.get(f"{name} CNAME", []) if kind != "CNAME" and not contents else []
        for content in contents or target:
            if content in ("SERVFAIL", "SILENT"):
                response.set_rcode(dns.rcode.SERVFAIL)
                return None if content == "SILENT" else response.to_wire()
        if contents or target:
            shown = "CNAME" if target else kind
            response.answer.append(dns.rrset.from_text_list(name + ".", 60, "IN", shown, contents or target))
        if not target:
            break
        name = target[0].rstrip(".").lower()
    if not response.answer and not any(_below(key.split()[0], name) for key in table):
        response.set_rcode(dns.rcode.NXDOMAIN)
    return response.to_wire()


def _below(name: str, parent: str) -> bool:
    return name == parent or name.endswith("." + parent)


def main() -> None:
    table: Table = {}

    class Udp(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            data, channel = self.request
            if (reply := answer(table, data)) is not None:
                channel.sendto(reply, self.client_address)

    class Tcp(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            length = int.from_bytes(self.rfile.read(2))
            if (reply := answer(table, self.rfile.read(length))) is not None:
                self.wfile.write(len(reply).to_bytes(2) + reply)

    servers = _both(Udp, Tcp)
    for server in servers:
        Thread(target=server.serve_forever, daemon=True).start()
    print(servers[0].server_address[1], flush=True)
    for line in sys.stdin:
        table = json.loads(line)
        print("ok", flush=True)


def _both(udp: Any, tcp: Any) -> tuple[Any, Any]:
    """A UDP and a TCP server on one port of the system's choice."""
    while True:
        first = socketserver.ThreadingUDPServer(("127.0.0.1", 0), udp)
        try:
            return first, socketserver.ThreadingTCPServer(first.server_address, tcp)
        except OSError:
            first.server_close()


@dataclass
class NameServer:
    """A running server, from the test's side."""

    port: int
    process: subprocess.Popen[str]

    def set(self, table: Table) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(table) + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "ok\n"


@contextmanager
def running() -> Iterator[NameServer]:
    process = subprocess.Popen(
        [sys.executable, "-m", "support.domain.nameserver"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert process.stdout is not None
    try:
        yield NameServer(int(process.stdout.readline()), process)
    finally:
        process.communicate()


if __name__ == "__main__":
    main()
