"""One account's password is of no use for another's name, however it is written.

Whatever gets through for anna is read again by two other parsers and by a careless one: none finds anybody else's
address where a reader looks for the author.
"""

from __future__ import annotations

import email
import email.policy
import re

import pytest

from relay.accounts import Account
from support.bare_session import BareSession
from support.reception import person

ACCOUNTS = [person("anna"), person("boss")]
ANNA, BOSS = b"anna@example.org", b"boss@example.org"
LOGIN = [b"EHLO a\r\n", b"AUTH PLAIN AGFubmEAY29ycmVjdCBob3JzZQ==\r\n"]
OWN = b"From: anna@example.org\r\n"
REFUSED = {
    "plain": b"From: boss@example.org\r\n",
    "with a name": b"From: Anna <boss@example.org>\r\n",
    "own address as the name": b'From: "anna@example.org" <boss@example.org>\r\n',
    "own address in front": b"From: anna@example.org <boss@example.org>\r\n",
    "the other's in front": b"From: boss@example.org <anna@example.org>\r\n",
    "odd case": b"fROM: BOSS@EXAMPLE.ORG\r\n",
    "space before the colon": b"From : boss@example.org\r\n",
    "tab before the colon": b"From\t: boss@example.org\r\n",
    "folded": b"From:\r\n\tboss@example.org\r\n",
    "folded inside": b"From: boss\r\n @example.org\r\n",
    "two fields": OWN + b"From: boss@example.org\r\n",
    "two fields, own last": b"From: boss@example.org\r\n" + OWN,
    "two fields, odd case": OWN + b"FROM : boss@example.org\r\n",
    "two addresses": b"From: anna@example.org, boss@example.org\r\n",
    "three with an empty one": b"From: anna@example.org,, boss@example.org\r\n",
    "group": b"From: Us: anna@example.org, boss@example.org;\r\n",
    "group named after the other": b"From: boss@example.org: anna@example.org;\r\n",
    "empty group": b"From: boss@example.org:;\r\n",
    "two groups": b"From: A: anna@example.org; B: boss@example.org;\r\n",
    "semicolon": b"From: anna@example.org; boss@example.org\r\n",
    "route": b"From: <@example.org:boss@example.org>\r\n",
    "nested brackets": b"From: <anna@example.org<boss@example.org>>\r\n",
    "two brackets": b"From: <anna@example.org> <boss@example.org>\r\n",
    "text behind": b"From: <anna@example.org> boss@example.org\r\n",
    "open bracket": b"From: <boss@example.org\r\n",
    "open comment": b"From: anna@example.org (boss\r\n",
    "open quote": b'From: "anna@example.org\r\n boss@example.org\r\n',
    "comment inside": b"From: boss(x)@(y)example.org\r\n",
    "encoded address": b"From: =?utf-8?q?boss=40example=2Eorg?=\r\n",
    "encoded, base64": b"From: =?utf-8?b?Ym9zc0BleGFtcGxlLm9yZw==?=\r\n",
    "encoded local part": b"From: =?utf-8?q?boss?=@example.org\r\n",
    "encoded in brackets": b"From: Anna <=?utf-8?q?boss=40example.org?=>\r\n",
    "encoded comma": b"From: =?utf-8?q?anna=40example=2Eorg=2C?= boss@example.org\r\n",
    "quoted local part": b'From: "boss"@example.org\r\n',
    "quoted pair": b'From: "b\\oss"@example.org\r\n',
    "trailing dot": b"From: boss@example.org.\r\n",
    "cyrillic a": "From: \u0430nna@example.org\r\n".encode(),
    "fullwidth": "From: \uff41nna@example.org\r\n".encode(),
    "kelvin sign": "From: anna@example.or\u212a\r\n".encode(),
    "zero width space": "From: anna\u200b@example.org\r\n".encode(),
    "soft hyphen": "From: an\u00adna@example.org\r\n".encode(),
    "right to left": "From: \u202egro.elpmaxe@ssob\r\n".encode(),
    "look-alike domain": "From: anna@ex\u0430mple.org\r\n".encode(),
    "punycode domain": b"From: anna@xn--exmple-4nf.org\r\n",
    "latin-1": b"From: \xe4nna@example.org\r\n",
    "nul": b"From: anna@example.org\0boss@example.org\r\n",
    "escape": b"From: \x1b[2Jboss@example.org\r\n",
    "vertical tab": b"From:\x0bboss@example.org\r\n",
    "bare lf": b"Subject: x\nFrom: boss@example.org\r\n" + OWN,
    "bare cr": b"Subject: x\rFrom: boss@example.org\r\n" + OWN,
    "begins with a space": b" From: boss@example.org\r\n" + OWN,
    "mbox line": b"From boss@example.org Tue Nov 24 12:00:00 2026\r\n" + OWN,
    "no colon": b"From boss@example.org\r\n" + OWN,
    "field name beyond ascii": "Fr\u043em: boss@example.org\r\n".encode() + OWN,
    "no from": b"To: bob@example.net\r\n",
    "empty from": b"From:\r\n",
    "blank from": b"From: \r\n \r\n",
    "sender": OWN + b"Sender: boss@example.org\r\n",
    "sender, odd case": OWN + b"sENDER : boss@example.org\r\n",
    "two senders": OWN + b"Sender: anna@example.org\r\nSender: boss@example.org\r\n",
    "two addresses in sender": OWN + b"Sender: anna@example.org, boss@example.org\r\n",
    "resent-from": OWN + b"Resent-From: boss@example.org\r\n",
    "resent-sender": OWN + b"Resent-From: anna@example.org\r\nResent-Sender: boss@example.org\r\n",
    "second resent block": OWN + b"Resent-From: anna@example.org\r\nX: y\r\nResent-From: boss@example.org\r\n",
    "resent, folded": OWN + b"Resent-Sender:\r\n\tboss@example.org\r\n",
}
DISGUISED = {
    "postal-mime": b"From: (boss@example.org),<anna@example.org>\r\n",
    "PHP's mailparse": b'From: "a\\"<boss@example.org>"<anna@example.org>\r\n',
    "Horde": b"From: anna@example.org(<boss@example.org>)\r\n",
    "decoded first": b"From: =?utf-8?q?=3Cboss=40example.org=3E?= <anna@example.org>\r\n",
    "decoded in quotes": b'From: "=?utf-8?b?Ym9zc0BleGFtcGxlLm9yZyw=?=" <anna@example.org>\r\n',
    "a word in a word": b"From: =?a?q? =?utf-8?b?Ym9zc0BleGFtcGxlLm9yZyw=?= <anna@example.org>\r\n",
    "a word on another's end": b"From: =?a?q? ?=?utf-8?b?Ym9zc0BleGFtcGxlLm9yZyw=?= <anna@example.org>\r\n",
    "one letter too many": b"From: =?utf-8?b?Ym9zc0BleGFtcGxlLm9yZyx4A?= <anna@example.org>\r\n",
    "behind the padding": b"From: =?utf-8?b?YQ==Ym9zc0BleGFtcGxlLm9yZyw=?= <anna@example.org>\r\n",
    "a long language": b"From: =?utf-8*%b?q?boss=40example.org=2C?= <anna@example.org>\r\n" % (b"x" * 70),
    "a name that ends early": b"From: =?utf-8?q?boss=40example.org=00?= <anna@example.org>\r\n",
    "Outlook's comma": b"From: =?utf-8?q?boss=40example.org=3B?= <anna@example.org>\r\n",
    "quote in a comment": b'From: (") "<boss@example.org>" <anna@example.org>\r\n',
    "quote that seems to go on": b'From: "a\\\\" <anna@example.org>, "<boss@example.org>" <anna@example.org>\r\n',
    "a name for the local part": b'From: "boss@example.org"@example.org\r\n',
}
REFUSED |= DISGUISED
TAKEN = {
    "own": OWN,
    "own, odd case": b"fRoM: Anna <ANNA@Example.ORG>\r\n",
    "own, in a group": b"From: Us: anna@example.org;\r\n",
    "the other in the quoted name": b'From: "boss@example.org" <anna@example.org>\r\n',
    "the other in an encoded name": b"From: =?utf-8?q?boss=40example=2Eorg?= <anna@example.org>\r\n",
    "a name in base64, folded and without its padding": b"From: =?utf-8?B?QW5u\r\n YQ?= <anna@example.org>\r\n",
    "a name with spaces and a question": b"From: =?utf-8?Q?Who? M=C3=BCller?= <anna@example.org>\r\n",
    "a comment": b"From: anna@example.org (the boss)\r\n",
    "the other in reply-to": OWN + b"Reply-To: boss@example.org\r\n",
    "the other in other fields": OWN + b"X-Sender: boss@example.org\r\nReturn-Path: <boss@example.org>\r\n",
    "own, ideographic full stop": "From: anna@example\u3002org\r\n".encode(),
    "own, fullwidth domain": "From: anna@\uff45xample.org\r\n".encode(),
    "a from in the text": OWN + b"\r\nFrom: boss@example.org\r\n",
    "blank folded line": b"Subject: x\r\n \r\n" + OWN,
}
LOOSE = re.compile(rb"(?im)^(?:from|sender|resent-from|resent-sender)[ \t]*:((?:.|\n[ \t])*)")


async def submit(header: bytes, sender: bytes = ANNA, accounts: list[Account] = ACCOUNTS) -> BareSession:
    bare = BareSession("submissions", accounts=accounts)
    envelope = [b"MAIL FROM:<%b>\r\n" % sender, b"RCPT TO:<bob@example.net>\r\n", b"DATA\r\n"]
    end = b"hello\r\n.\r\n" if b"\r\n\r\n" in header else b"\r\nhello\r\n.\r\n"
    for step in (b"", *LOGIN, *envelope, header + end):
        await bare.send(step)
    await bare.end()
    return bare


@pytest.mark.parametrize("trick", REFUSED)
@pytest.mark.parametrize("sender", [ANNA, b""], ids=["as herself", "null sender"])
async def test_refused(trick: str, sender: bytes) -> None:
    assert (await submit(REFUSED[trick], sender)).spool.kept == []


@pytest.mark.parametrize("trick", TAKEN)
async def test_taken_because_nobody_reads_another_author_there(trick: str) -> None:
    (kept,) = (await submit(TAKEN[trick])).spool.kept
    assert kept.message.sender == ANNA.decode()
    header = kept.data.partition(b"\r\n\r\n")[0]
    for field in LOOSE.findall(header.replace(b"\r\n", b"\n")):
        address = re.sub(rb'"[^"]*"|\([^()]*\)', b"", field)
        assert BOSS not in address.lower(), field
    for policy in (email.policy.compat32, email.policy.default):
        seen = email.message_from_bytes(kept.data, policy=policy)
        assert len(seen.get_all("From", [])) == 1
    author = email.message_from_bytes(kept.data, policy=email.policy.default)["From"]
    assert [one.addr_spec.lower() for one in author.addresses] == [ANNA.decode()]


@pytest.mark.parametrize("trick", DISGUISED)
@pytest.mark.parametrize("name", [b"From", b"Sender", b"Resent-From"])
async def test_rewriting_strips_it(trick: str, name: bytes) -> None:
    field = name + DISGUISED[trick][4:]
    rewriting = [person("anna", rewrite=True), person("boss")]
    bare = await submit(field if name == b"From" else OWN + field, accounts=rewriting)
    (kept,) = bare.spool.kept
    header = kept.data.partition(b"\r\n\r\n")[0]
    for left in LOOSE.findall(header.replace(b"\r\n", b"\n")):
        assert b"boss" not in left.lower()
        assert b"=?" not in left


@pytest.mark.parametrize("local", ["boss\uff20bank.example", "boss\ufe6bbank.example", "boss\ufe64", '"boss\uff1cx"'])
async def test_the_whole_domain_is_not_another_one(local: str) -> None:
    """Who may send as ``*@example.org`` writes what some mail programs show as an address at the bank."""
    bare = BareSession("submissions", accounts=[person("anna", senders=("*@example.org",))])
    envelope = [b"MAIL FROM:<>\r\n", b"RCPT TO:<bob@example.net>\r\n", b"DATA\r\n"]
    for step in (b"", *LOGIN, *envelope, f"From: {local}@example.org\r\n\r\nhello\r\n.\r\n".encode()):
        await bare.send(step)
    await bare.end()
    assert bare.spool.kept == []


@pytest.mark.parametrize(
    "sender",
    [
        b"boss@example.org",
        b"BOSS@EXAMPLE.ORG",
        b'"boss"@example.org',
        b'"b\\oss"@example.org',
        b"@example.org:boss@example.org",
        b"anna%boss@example.org",
        b"boss@example.org> <anna@example.org",
        b"anna@example.org> AUTH=<boss@example.org",
        "\u0430nna@example.org".encode(),
        b"=?utf-8?q?boss?=@example.org",
        b"anna@example.org.",
        b"anna@example.org\t",
        b"anna",
    ],
)
async def test_the_envelope_is_the_accounts_own(sender: bytes) -> None:
    bare = BareSession("submissions", accounts=ACCOUNTS)
    for step in (b"", *LOGIN):
        await bare.send(step)
    codes = await bare.codes(b"MAIL FROM:<%b>\r\n" % sender)
    if codes == [250]:
        assert sender.startswith(b"anna@example.org> AUTH="), "a parameter that is read and ignored"
        assert bare.session.envelope.mail_from == "anna@example.org"


async def test_two_accounts_on_one_connection_are_not_possible() -> None:
    bare = BareSession("submissions", accounts=ACCOUNTS)
    for step in (b"", *LOGIN):
        await bare.send(step)
    assert await bare.codes(b"AUTH PLAIN AGJvc3MAY29ycmVjdCBob3JzZQ==\r\n") == [503]
    assert await bare.codes(b"MAIL FROM:<boss@example.org>\r\n") == [550]
