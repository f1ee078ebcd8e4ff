"""Our own host from outside in, the providers' ports from inside out, reverse DNS, the clock."""

from __future__ import annotations

import email.utils
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import certifi
import httpx

from common.connect import connect_now
from common.names import printable

from ..dns import Dns
from ..settings import Address
from .model import Finding, Verdict
from .records import APPLY

TIMEOUT = 5.0  # seconds for a connection and for each reply
LINE = 1000  # octets of a reply line; RFC 5321 asks for 512
LINES = 100  # of one reply
SOON = 14.0, 0.2  # the least of (days, part of its life) before its end: by then a certificate has long been renewed
DRIFT = 30.0  # seconds a clock may be off before logins by token and signed requests start to fail
# https://www.cloudflare.com/ips/: who answers with one of these is behind the proxy, which carries no mail.
PROXIES = tuple(
    map(
        ipaddress.ip_network,
        [
            "173.245.48.0/20",
            "103.21.244.0/22",
            "103.22.200.0/22",
            "103.31.4.0/22",
            "141.101.64.0/18",
            "108.162.192.0/18",
            "190.93.240.0/20",
            "188.114.96.0/20",
            "197.234.240.0/22",
            "198.41.128.0/17",
            "162.158.0.0/15",
            "104.16.0.0/13",
            "104.24.0.0/14",
            "172.64.0.0/13",
            "131.0.72.0/22",
            "2400:cb00::/32",
            "2606:4700::/32",
            "2803:f800::/32",
            "2405:b500::/32",
            "2405:8100::/32",
            "2a06:98c0::/29",
            "2c0f:f248::/32",
        ],
    )
)


@dataclass(frozen=True, slots=True)
class Port:
    """One of our ports, as published."""

    number: int
    implicit: bool  # TLS from the first byte, else STARTTLS


class Misbehaved(Exception):
    """The server answered something else than SMTP; the text says what."""


def published(hostname: str, dns: Dns) -> tuple[str, ...] | None:
    """The host's addresses, None if nobody could say."""
    four, six = dns(hostname, "A"), dns(hostname, "AAAA")
    return None if four is None or six is None else (*four, *six)


def host(hostname: str, addresses: tuple[str, ...] | None, own: tuple[Address, ...] | None) -> Finding:
    """Whether the mail host's name leads to this server, and past the proxy."""
    if addresses is None:
        return Finding(
            hostname,
            "address",
            Verdict.UNKNOWN,
            "no resolver answered",
            "Try again; DOMAIN_RESOLVERS names other resolvers.",
        )
    if not addresses:
        return Finding(hostname, "address", Verdict.WRONG, "it has no A or AAAA record", f"{APPLY}; it publishes one.")
    proxied = [one for one in addresses if any(ipaddress.ip_address(one) in net for net in PROXIES)]
    if proxied:
        finding = f"{', '.join(proxied)} is Cloudflare's proxy, which carries no mail"
        return Finding(hostname, "address", Verdict.WRONG, finding, f"{APPLY}; it takes the record off the proxy.")
    if own and not {str(one) for one in own} >= set(addresses):
        finding = f"{', '.join(addresses)} is not this server ({', '.join(map(str, own))})"
        return Finding(
            hostname,
            "address",
            Verdict.WRONG,
            finding,
            f"{APPLY}; set DOMAIN_ADDRESSES if this server's address is another.",
        )
    return Finding(hostname, "address", Verdict.GOOD, ", ".join(addresses))


def listener(hostname: str, address: str, port: Port, name: str, context: ssl.SSLContext) -> Finding:
    """Whether a client that comes to this address gets TLS with a certificate it can trust, and a login."""
    check = f"port {port.number} at {address}"
    try:
        with socket.create_connection((address, port.number), TIMEOUT) as plain:
            left, life = _session(plain, hostname, port, name, context)
    except ssl.SSLCertVerificationError as error:
        return Finding(
            hostname,
            check,
            Verdict.WRONG,
            f"its certificate is not good: {error.verify_message}",
            _certificate_fix(error),
        )
    except (OSError, Misbehaved) as error:
        return Finding(
            hostname, check, Verdict.WRONG, printable(str(error) or type(error).__name__), _connection_fix(error, port)
        )
    if left < min(SOON[0], SOON[1] * life):
        finding = f"its certificate ends in {_time(left)}"
        return Finding(
            hostname, check, Verdict.ADVICE, finding, "See why it was not renewed: docker compose logs renewer."
        )
    return Finding(hostname, check, Verdict.GOOD, f"TLS, certificate good for {_time(left)}, offers a login")


def _time(days: float) -> str:
    return f"{days:.0f} days" if days >= 2 else f"{days * 24:.0f} hours"


def _session(
    plain: socket.socket, hostname: str, port: Port, name: str, context: ssl.SSLContext
) -> tuple[float, float]:
    """Speaks with our server as a client does; the days that its certificate is still good for, and was in all."""
    if not port.implicit:
        _expect(plain, b"", "220")
        if "STARTTLS" not in _expect(plain, b"EHLO %s\r\n" % name.encode(), "250"):
            raise Misbehaved("it does not offer STARTTLS")
        _expect(plain, b"STARTTLS\r\n", "220")
    with context.wrap_socket(plain, server_hostname=hostname) as secure:
        if port.implicit:
            _expect(secure, b"", "220")
        if "AUTH" not in _expect(secure, b"EHLO %s\r\n" % name.encode(), "250"):
            raise Misbehaved("it offers no login (AUTH)")
        certificate = secure.getpeercert() or {}
        _expect(secure, b"QUIT\r\n", "221")
    begin, end = (ssl.cert_time_to_seconds(str(certificate[name])) for name in ("notBefore", "notAfter"))
    return (end - time.time()) / 86400, (end - begin) / 86400


def _expect(connection: socket.socket, command: bytes, code: str) -> str:
    """Sends a command and returns the words of the reply's lines. Raises Misbehaved for any other code."""
    connection.sendall(command)
    text = b""
    while not _complete(text):
        piece = connection.recv(4096)
        if not piece or len(text) > LINE * LINES:
            raise Misbehaved("it hung up" if not piece else "it talks without end")
        text += piece
    reply = text.decode(errors="replace")
    if not reply.startswith(code):
        raise Misbehaved(f"it answered {reply.splitlines()[0][:200]!r}")
    return " ".join(line[4:] for line in reply.upper().splitlines())


def _complete(text: bytes) -> bool:
    """Whether the last line is not one that announces another (RFC 5321, section 4.2.1)."""
    *lines, rest = text.split(b"\r\n")
    return bool(lines) and not rest and not (lines[-1][:3].isdigit() and lines[-1][3:4] == b"-")


def _certificate_fix(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code in (62, 64):  # hostname, address mismatch
        return "See that OWNPOST_HOSTNAME is the name that clients use, and `make certs` for the names it covers."
    if error.verify_code == 10:
        return "It has run out: see why it was not renewed, docker compose logs renewer."
    return "Set OWNPOST_TLS=acme for a certificate that clients trust; with your own, give the whole chain."


def _connection_fix(error: Exception, port: Port) -> str:
    if isinstance(error, Misbehaved):
        return "See that nothing but Ownpost has this port."
    if isinstance(error, ssl.SSLError):
        return "See docker compose logs relay; nothing between here and it may change TLS."
    return f"Open TCP port {port.number} in the firewall and at the host, and set OWNPOST_BIND to publish it."


def provider(title: str, hostname: str, ports: Sequence[int]) -> Finding:
    """Whether one of a provider's ports can be reached from here; many hosts block some of them."""
    check = "ports outward"
    if not hostname:
        fix = "`make providers` asks the relay, which knows it, and tries its ports."
        return Finding(title, check, Verdict.UNKNOWN, "its host is not known here", fix)
    try:
        socket.getaddrinfo(hostname, ports[0])
    except (OSError, UnicodeError):
        fix = "See that this server can look up names, and that the provider's HOST is right."
        return Finding(title, check, Verdict.WRONG, f"the name {hostname} cannot be looked up from here", fix)
    opened = [port for port in ports if _opens(hostname, port)]
    blocked = [port for port in ports if port not in opened]
    if not opened:
        finding = f"{hostname} cannot be reached on {_listed(ports)}"
        return Finding(
            title, check, Verdict.WRONG, finding, "Ask the server's host to open one of these ports outward."
        )
    if blocked:
        fix = f"Set the provider's PORT to {opened[0]}." if ports[0] in blocked else ""
        verdict = Verdict.ADVICE if ports[0] in blocked else Verdict.GOOD
        return Finding(title, check, verdict, f"{hostname}: open {_listed(opened)}, blocked {_listed(blocked)}", fix)
    return Finding(title, check, Verdict.GOOD, f"{hostname}: open {_listed(opened)}")


def _opens(hostname: str, port: int) -> bool:
    try:
        with connect_now(hostname, port, TIMEOUT):
            return True
    except OSError:
        return False


def _listed(ports: Iterable[int]) -> str:
    return ", ".join(map(str, ports))


def reverse(hostname: str, address: str, dns: Dns) -> Finding:
    """Whether the address has a name that leads back to it. Providers send our mail, so it is good style only."""
    check = f"reverse DNS of {address}"
    names = dns(ipaddress.ip_address(address).reverse_pointer, "PTR")
    if names is None:
        return Finding(
            hostname,
            check,
            Verdict.UNKNOWN,
            "no resolver answered",
            "Try again; DOMAIN_RESOLVERS names other resolvers.",
        )
    if any(address in (published(name, dns) or ()) for name in names):
        return Finding(hostname, check, Verdict.GOOD, ", ".join(names))
    finding = f"{', '.join(names)} does not lead back to it" if names else "it has no name"
    return Finding(
        hostname, check, Verdict.ADVICE, finding, f"Set its reverse DNS to {hostname} where you rent the server."
    )


def clock(url: str, client: httpx.Client, now: Callable[[], float]) -> Finding:
    """This machine's time against the Date of an answer from the net."""
    try:
        before = now()
        date = client.get(url, timeout=TIMEOUT).headers["date"]
        told, here = email.utils.parsedate_to_datetime(date).timestamp(), (before + now()) / 2
    except (httpx.HTTPError, KeyError, ValueError, OverflowError):
        return Finding("this server", "clock", Verdict.UNKNOWN, "no time could be had to compare with")
    drift = here - told
    if abs(drift) > DRIFT:
        word = "ahead" if drift > 0 else "behind"
        return Finding(
            "this server",
            "clock",
            Verdict.WRONG,
            f"it is {abs(drift):.0f} s {word}",
            "Switch on NTP: timedatectl set-ntp true.",
        )
    return Finding("this server", "clock", Verdict.GOOD, "right to a few seconds")


def trust() -> ssl.SSLContext:
    """What clients trust: the system's authorities and Mozilla's."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context
