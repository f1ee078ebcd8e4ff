"""A client of blocking sockets that says what it is told, under real TLS, to a relay in a process of its own."""

from __future__ import annotations

import socket
import ssl
from base64 import b64encode
from dataclasses import dataclass

from support.appliance import PASSWORD, Appliance
from support.recorder import Recorder


class Talk:
    """One connection to ``port``; closed by ``with``. The greeting is read at its start."""

    def __init__(self, port: int, ca: str, *, tls: bool) -> None:
        self._context = ssl.create_default_context(cafile=ca)
        self._socket = socket.create_connection(("localhost", port), 20)
        if tls:
            self.secure()

    def secure(self) -> None:
        """Shake hands."""
        self._socket = self._context.wrap_socket(self._socket, server_hostname="localhost")

    def __enter__(self) -> Talk:
        assert self.reply().startswith("220 ")
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def say(self, data: bytes) -> str:
        """Send ``data`` and read one reply."""
        self._socket.sendall(data)
        return self.reply()

    def reply(self) -> str:
        """All lines of the next reply."""
        text = ""
        while not text.endswith("\r\n") or text.splitlines()[-1][3:4] == "-":
            more = self._socket.recv(4096).decode()
            assert more, f"it hung up after {text!r}"
            text += more
        return text


@dataclass
class Target:
    """A relay and the provider that it sends to."""

    relay: Appliance
    provider: Recorder

    def talk(self, *, tls: bool = True) -> Talk:
        """A connection to 465, or to 587 in clear."""
        port = self.relay.submissions if tls else self.relay.submission
        return Talk(port, str(self.relay.ca), tls=tls)

    def submit(self, account: str, message: bytes, *, after: bytes = b"") -> list[str]:
        """Send ``message`` (dots doubled, its end included) as ``account``; the reply to it and to ``after``."""
        with self.talk() as talk:
            talk.say(b"EHLO attacker\r\n")
            login = b64encode(f"\0{account}\0{PASSWORD}".encode())
            assert talk.say(b"AUTH PLAIN " + login + b"\r\n").startswith("235")
            talk.say(b"MAIL FROM:<%b@example.org>\r\n" % account.encode())
            talk.say(b"RCPT TO:<bob@example.net>\r\n")
            assert talk.say(b"DATA\r\n").startswith("354")
            return [talk.say(message), *([talk.say(after)] if after else [])]
