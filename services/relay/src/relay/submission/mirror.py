"""What clients are shown: a look at our own ports from outside.

"Renewed on disk, old one still served" is what goes wrong most often with certificates, so the appliance does not
believe its own memory: after each exchange, and once a minute, it connects to each of its TLS ports as a client does,
takes the certificate of the handshake, and compares it with the one that was loaded. The dates shown to people and to
Prometheus are those of that handshake.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from relay.submission.listener import Listener
from relay.submission.tls import Certificates, SystemJournal

LOOK = 0.5  # seconds between two looks at whether the certificate was exchanged
PERIOD = 60.0  # seconds after which the ports are looked at anyway
PATIENCE = 10.0  # seconds for one look


@dataclass(frozen=True, slots=True)
class Shown:
    """What one port showed: the leaf's fingerprint (SHA-256) and end, or why nothing was seen."""

    fingerprint: str = ""
    not_after: float = 0.0
    problem: str = ""


class Mirror:
    """Looks at ``listeners``; ``shown`` holds the latest findings by their names."""

    def __init__(
        self, listeners: Sequence[Listener], certificates: Certificates, hostname: str, journal: SystemJournal
    ) -> None:
        self.shown: dict[str, Shown] = {}
        self._listeners = [one for one in listeners if one.desk.certificate is not None]
        self._certificates, self._hostname, self._journal = certificates, hostname, journal

    async def run(self, stop: asyncio.Event) -> None:
        """Looks until ``stop`` is set."""
        loop, seen, due = asyncio.get_running_loop(), None, 0.0
        while not stop.is_set():
            current = self._certificates.current
            if current is not None and (current is not seen or loop.time() >= due):
                await self.look()
                seen, due = current, loop.time() + PERIOD
            try:
                await asyncio.wait_for(stop.wait(), LOOK)
            except TimeoutError:
                continue

    async def look(self) -> None:
        """Looks at every open port once, and tells the journal what has changed."""
        for listener in self._listeners:
            if listener.open:
                name = listener.desk.listener
                found = await self._shown_by(listener)
                if found != self.shown.get(name):
                    self.shown[name] = found
                    self._tell(name, found)

    def _tell(self, name: str, found: Shown) -> None:
        loaded = self._certificates.current
        if found.problem:
            self._journal.system("certificate_not_seen", listener=name, problem=found.problem)
        elif loaded is not None and found.fingerprint != loaded.fingerprint:
            self._journal.system(
                "certificate_differs", listener=name, shown=found.fingerprint, not_after=found.not_after
            )
        else:
            self._journal.system("certificate_served", listener=name, not_after=found.not_after)

    async def _shown_by(self, listener: Listener) -> Shown:
        try:
            async with asyncio.timeout(PATIENCE):
                leaf = await handshake(listener.address, listener.port, self._hostname, listener.desk.implicit_tls)
        except TimeoutError:
            return Shown(problem=f"Nothing was shown within {PATIENCE:.0f} seconds.")
        except (OSError, ValueError) as error:
            return Shown(problem=f"The handshake failed: {error}.")
        certificate = x509.load_der_x509_certificate(leaf)
        return Shown(certificate.fingerprint(hashes.SHA256()).hex(), certificate.not_valid_after_utc.timestamp())


async def handshake(host: str, port: int, hostname: str, implicit: bool) -> bytes:
    """The certificate (DER) that a client is shown on a port. Raises OSError and ValueError.

    Nothing is verified: the question is what is shown, not whether it is good.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    name: dict[str, Any] = {"ssl": context, "server_hostname": hostname} if implicit else {}
    reader, writer = await asyncio.open_connection(host, port, **name)
    try:
        await _answer(reader, b"220")
        if not implicit:
            writer.write(f"EHLO {hostname}\r\n".encode())
            await _answer(reader, b"250")
            writer.write(b"STARTTLS\r\n")
            await _answer(reader, b"220")
            await writer.start_tls(context, server_hostname=hostname)
        leaf: bytes | None = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.write(b"QUIT\r\n")
    finally:
        writer.close()
    if leaf is None:
        raise ValueError("no certificate was shown")
    return leaf


async def _answer(reader: asyncio.StreamReader, code: bytes) -> None:
    line = await reader.readline()
    while line[3:4] == b"-":
        line = await reader.readline()
    if not line.startswith(code):
        raise ValueError(f"the answer was {line[:80].decode('ascii', 'replace').strip()!r}")
