"""No way through without a login: every listener, under TLS and not, every failed login, every trick with addresses.

Each combination ends without a single message kept. The LAN listener asks for no login by design; what takes its place
there (networks, the account's senders, listed recipients) is tried in the same way.
"""

from __future__ import annotations

import ipaddress
from base64 import b64encode
from pathlib import Path

import pytest

from support.bare_session import BareSession
from support.reception import person, reception, until

ACCOUNTS = [person(), person("gone", disabled=True), person("keyless", password_hash="")]
MESSAGE = b"From: anna@example.org\r\nTo: victim@example.com\r\n\r\nhello\r\n.\r\n"


def plain(*parts: str) -> bytes:
    return b"AUTH PLAIN " + b64encode("\0".join(parts).encode()) + b"\r\n"


LOGINS: dict[str, list[bytes]] = {
    "none": [],
    "wrong password": [plain("", "anna", "wrong")],
    "unknown account": [plain("", "nobody", "correct horse")],
    "disabled account": [plain("", "gone", "wrong")],
    "account without a password": [plain("", "keyless", "")],
    "empty": [plain("", "", "")],
    "anonymous": [b"AUTH ANONYMOUS " + b64encode(b"me") + b"\r\n"],
    "external": [b"AUTH EXTERNAL =\r\n"],
    "given up": [b"AUTH LOGIN\r\n", b"*\r\n"],
    "half": [b"AUTH LOGIN\r\n", b64encode(b"anna") + b"\r\n", b"\r\n"],
    "acting for another": [plain("anna", "nobody", "correct horse")],
    "xclient": [b"XCLIENT ADDR=127.0.0.1 LOGIN=anna\r\n", b"XFORWARD ADDR=127.0.0.1\r\n"],
    "proxy": [b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n"],
    "auth as a parameter": [b"MAIL FROM:<anna@example.org> AUTH=anna@example.org\r\n"],
}
SENDERS = [b"<anna@example.org>", b"<>", b"<postmaster@example.org>", b"<root@localhost>", b"<root@[127.0.0.1]>"]
RECIPIENTS = [
    b"<victim@example.com>",
    b"<anna@example.org>",
    b"<victim%example.com@example.org>",
    b"<example.com!victim@example.org>",
    b'<"victim@example.com"@example.org>',
    b"<@example.org:victim@example.com>",
    b"<@example.org,@mail.example.org:victim@example.com>",
    b"<victim@[::ffff:192.0.2.1]>",
    b"<victim@[IPv6:::1]>",
    b"<victim@localhost>",
    b"<postmaster>",
    b"victim@example.com",
]


async def attempt(bare: BareSession, steps: list[bytes]) -> list[int]:
    codes = await bare.codes(b"")
    for step in steps:
        codes += await bare.codes(step)
    await bare.end()
    assert bare.spool.kept == []
    assert not bare.journal.told("system"), "an exception inside"
    return codes


@pytest.mark.parametrize("login", LOGINS)
@pytest.mark.parametrize("tls", ["plain", "starttls", "starttls without a new greeting", "tls"])
async def test_no_login_no_mail(tls: str, login: str) -> None:
    start = [b"EHLO client\r\n", b"STARTTLS\r\n", b"EHLO client\r\n"]
    start = start[: {"plain": 1, "tls": 1, "starttls without a new greeting": 2}.get(tls, 3)]
    for sender in SENDERS:
        for recipient in RECIPIENTS:
            envelope = [b"MAIL FROM:" + sender + b"\r\n", b"RCPT TO:" + recipient + b"\r\n", b"DATA\r\n", MESSAGE]
            bare = BareSession("submissions" if tls == "tls" else "submission", accounts=ACCOUNTS)
            codes = await attempt(bare, [*start, *LOGINS[login], *envelope])
            assert 235 not in codes
            assert 354 not in codes


@pytest.mark.parametrize("tls", ["starttls", "tls"])
async def test_a_login_is_for_its_own_connection_and_ends_with_starttls(tls: str) -> None:
    """What was said before the handshake counts for nothing after it (RFC 3207, 4.2)."""
    first = BareSession("submission" if tls == "starttls" else "submissions")
    await attempt(first, [b"EHLO a\r\n", plain("", "anna", "wrong")])
    second = BareSession("submission")
    codes = await attempt(second, [b"EHLO a\r\n", b"MAIL FROM:<anna@example.org>\r\n", b"STARTTLS\r\n", b"DATA\r\n"])
    assert codes == [220, 250, 530, 220, 503]


# --- the LAN listener ---


@pytest.mark.parametrize("recipient", RECIPIENTS)
async def test_the_lan_port_sends_to_listed_people_only(recipient: bytes) -> None:
    bare = BareSession("lan", accounts=ACCOUNTS)
    object.__setattr__(bare.session.desk.lan, "recipients", ("*@example.org",))
    steps = [b"EHLO a\r\n", b"MAIL FROM:<anna@example.org>\r\n", b"RCPT TO:" + recipient + b"\r\n", b"DATA\r\n"]
    if recipient == b"<anna@example.org>":
        assert (await bare.codes(b"", *steps))[-1] == 354
        return
    assert (await attempt(bare, [*steps, MESSAGE]))[3] in (501, 550)


@pytest.mark.parametrize("sender", [b"<boss@example.org>", b"<victim@example.com>", b"<root@localhost>"])
async def test_the_lan_port_sends_as_its_account_only(sender: bytes) -> None:
    steps = [b"EHLO a\r\n", b"MAIL FROM:" + sender + b"\r\n", b"RCPT TO:<victim@example.com>\r\n", b"DATA\r\n", MESSAGE]
    assert 354 not in await attempt(BareSession("lan"), steps)


async def test_the_lan_port_knows_its_networks_by_the_connection_and_nothing_else(tmp_path: Path) -> None:
    network = (ipaddress.ip_network("192.168.77.0/24"),)
    async with reception(tmp_path, "lan", networks=network) as host:
        client = await host.connect()
        assert (await client.line()).startswith(b"554 5.7.1 ")
        assert await client.line() == b""
        await until(lambda: host.limiter.connections == 0, "nobody to be counted")
