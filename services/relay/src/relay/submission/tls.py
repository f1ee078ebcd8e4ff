"""The certificate that is served, and its exchange for a new one while mail flows.

A certificate is taken up as a whole or not at all: a *new* context is built from ``certs/current``, checked (key and
leaf belong together, dates, names), and only then handed to new handshakes; sessions that are open keep the one they
have. Loading into the live context would break every later handshake when key and chain do not match, so that is never
done. On any failure the certificate in force stays, and the journal says why.

Offered: TLS 1.2 and 1.3 with Mozilla's "intermediate" ciphers (those with forward secrecy; no DHE, which costs and
needs parameters). Never: a request for the client's certificate (Gmail offers one and then fails), compression,
renegotiation, session tickets.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from relay.clock import Clock

POLL = 1.0  # seconds between two looks at certs/current
RETRY = 60.0  # seconds until what was refused is judged again: a certificate may become valid, a file readable
CIPHERS = ":".join(
    f"ECDHE-{key}-{cipher}"
    for cipher in ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
    for key in ("ECDSA", "RSA")
)


class CertificateProblem(Exception):
    """The published certificate cannot be served; the text is a sentence that says why."""


class SystemJournal(Protocol):
    """What this module needs of the journal."""

    def system(self, event: str, **fields: str | int | float | bool) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A certificate that passed every check, ready for handshakes."""

    context: ssl.SSLContext
    folder: Path
    names: tuple[str, ...]
    issuer: str
    not_before: float
    not_after: float
    fingerprint: str  # SHA-256 of the leaf, to compare with what a client is shown


def load(certs: Path, hostname: str, now: float) -> Served:
    """A new context from ``certs/current``. Raises :class:`CertificateProblem`."""
    folder = _folder(certs)
    chain, key = _read(folder / "fullchain.pem"), _read(folder / "privkey.pem")
    leaf = _leaf(folder, chain)
    _check_pair(folder, leaf, key)
    not_before, not_after = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    if now < not_before.timestamp():
        raise CertificateProblem(f"The certificate in {folder} is valid only from {not_before:%Y-%m-%d %H:%M} UTC.")
    if now >= not_after.timestamp():
        raise CertificateProblem(f"The certificate in {folder} expired on {not_after:%Y-%m-%d %H:%M} UTC.")
    names = _names(leaf)
    if not any(_covers(name, hostname) for name in names):
        raise CertificateProblem(
            f"The certificate in {folder} is for {', '.join(names) or 'no name'}, but OWNPOST_HOSTNAME is {hostname}."
        )
    return Served(
        context=_context(folder),
        folder=folder,
        names=names,
        issuer=leaf.issuer.rfc4514_string(),
        not_before=not_before.timestamp(),
        not_after=not_after.timestamp(),
        fingerprint=leaf.fingerprint(hashes.SHA256()).hex(),
    )


def _folder(certs: Path) -> Path:
    """Where ``current`` points, once for both files; it must stay inside ``certs``."""
    try:
        folder = (certs / "current").resolve(strict=True)
        if not folder.is_relative_to(certs.resolve()):
            raise CertificateProblem(f"{certs / 'current'} points to {folder}, which is outside of {certs}.")
    except (OSError, RuntimeError) as error:
        raise CertificateProblem(f"{certs / 'current'} does not lead to a certificate yet.") from error
    return folder


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateProblem(f"{path} cannot be read: {error.strerror}.") from error


def _leaf(folder: Path, chain: bytes) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificates(chain)[0]
    except (ValueError, IndexError) as error:
        raise CertificateProblem(f"{folder / 'fullchain.pem'} holds no certificate in PEM format.") from error


def _check_pair(folder: Path, leaf: x509.Certificate, key: bytes) -> None:
    try:
        private = load_pem_private_key(key, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: it is encrypted
        raise CertificateProblem(f"{folder / 'privkey.pem'} holds no unencrypted private key in PEM format.") from error
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*form) != leaf.public_key().public_bytes(*form):
        raise CertificateProblem(f"The private key in {folder} does not belong to the certificate beside it.")


def _names(leaf: x509.Certificate) -> tuple[str, ...]:
    try:
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(extension.value.get_values_for_type(x509.DNSName))


def _covers(name: str, hostname: str) -> bool:
    name, hostname = name.lower(), hostname.lower().rstrip(".")
    return name == hostname or (name.startswith("*.") and name[2:] == hostname.partition(".")[2])


def _context(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.verify_mode = ssl.CERT_NONE
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    context.num_tickets = 0
    try:
        context.load_cert_chain(folder / "fullchain.pem", folder / "privkey.pem")
    except (ssl.SSLError, OSError) as error:
        raise CertificateProblem(f"The certificate in {folder} cannot be loaded: {error}.") from error
    return context


class Certificates:
    """The certificate in force, exchanged when ``certs/current`` changes.

    ``current`` is ``None`` until there has been a good one. ``on_change`` is called, in the event loop, after each
    exchange.
    """

    def __init__(
        self,
        certs: Path,
        hostname: str,
        *,
        clock: Clock,
        journal: SystemJournal,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.current: Served | None = None
        self.problem = ""  # why the latest publication is not served; empty when it is
        self.on_change = on_change
        self._certs, self._hostname, self._clock, self._journal = certs, hostname, clock, journal
        self._seen: object = ()
        self._judged_at = 0.0

    @property
    def context(self) -> ssl.SSLContext | None:
        """For the next handshake; ``None`` while there is no certificate."""
        return None if self.current is None else self.current.context

    def refresh(self) -> bool:
        """Take up what is published, if it has changed and is good; whether it was taken up."""
        seen, now = self._look(), self._clock.monotonic()
        if seen == self._seen and not (self.problem and now >= self._judged_at + RETRY):
            return False
        self._seen, self._judged_at = seen, now
        try:
            served = load(self._certs, self._hostname, self._clock.time())
        except CertificateProblem as problem:
            self._refused(str(problem))
            return False
        self.current, self.problem = served, ""
        self._journal.system(
            "certificate_loaded", folder=served.folder.name, names=" ".join(served.names), not_after=served.not_after
        )
        self.on_change()
        return True

    async def watch(self, stop: asyncio.Event, *, interval: float = POLL) -> None:
        """Refresh every ``interval`` seconds until ``stop`` is set."""
        while not stop.is_set():
            self.refresh()
            try:
                await asyncio.wait_for(stop.wait(), interval)
            except TimeoutError:
                continue

    def _refused(self, problem: str) -> None:
        if problem != self.problem:
            self._journal.system("certificate_refused", problem=problem, kept=self.current is not None)
        self.problem = problem

    def _look(self) -> object:
        """What changes when something is published; cheap enough to be asked every second."""
        try:
            folder = (self._certs / "current").resolve(strict=True)
            stats = [(folder / name).stat() for name in ("fullchain.pem", "privkey.pem")]
        except (OSError, RuntimeError) as error:
            return type(error)
        return folder, [(stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in stats]
