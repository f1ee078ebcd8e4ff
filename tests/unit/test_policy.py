"""Who may send what, and that each refusal names what to change."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.accounts import Account, Accounts
from relay.header import Field, split
from relay.refusal import Reason, Refusal
from relay.submission import policy
from relay.submission.limiter import Exceeded

ANNA = Account(name="anna", password_hash="$old", senders=("anna@example.org", "*@example.com"))
ALLOWED = "use anna@example.org, *@example.com, or have it added to the account's senders."

WRITE = "write one with an address of account anna, such as anna@example.org."
STRANGER = "550 5.7.1 The address <evil@bank.example>"
OWN = b"From: anna@example.org\r\n"


def judged(header: bytes, account: Account = ANNA) -> Refusal | None:
    found: dict[bytes, list[Field]] = {}
    fields = split(header + b"\r\n")
    assert not isinstance(fields, Refusal), fields
    for field in fields:
        found.setdefault(field.name, []).append(field)
    return policy.check_originators(account, header, found)


@pytest.mark.parametrize("excess", [0, 1])
def test_a_from_at_the_limit_of_its_length_and_beyond(excess: int) -> None:
    rest = b"From:  <anna@example.org>\r\n"
    field = rest.replace(b"  ", b" " + b"a" * (policy.ORIGINATOR_BYTES + excess - len(rest)) + b" ")
    assert len(field) == policy.ORIGINATOR_BYTES + excess
    refusal = judged(field)
    assert (refusal and refusal.reason) == (Reason.HEADER_SIZE if excess else None)


@pytest.mark.parametrize(
    "sender", ["anna@example.org", "ANNA@Example.ORG", "any.thing@example.com", "x@EXAMPLE.com", ""]
)
def test_senders_of_the_account(sender: str) -> None:
    assert policy.check_sender(ANNA, sender) is None


@pytest.mark.parametrize(
    "sender",
    [
        "bob@example.org",
        "x@sub.example.com",
        "x@notexample.com",
        "anna@example.org.evil.example",
        "\u0430nna@example.org",
        "*@example.org",
        "x@[192.0.2.1]",
    ],
)
def test_senders_of_somebody_else(sender: str) -> None:
    refusal = policy.check_sender(ANNA, sender)
    assert refusal is not None
    assert refusal.reason is Reason.SENDER
    assert refusal.reply.startswith("550 5.7.1 The sender <")
    assert refusal.reply.endswith(f"is not one of account anna; {ALLOWED}")
    assert policy.check_sender(replace(ANNA, rewrite=True), sender) is None, "it is rewritten"


def test_kelvin_sign_is_not_k() -> None:
    assert policy.check_sender(replace(ANNA, senders=("karl@example.org",)), "\u212aarl@example.org") is not None


def test_an_account_with_many_senders_is_told_some() -> None:
    many = replace(ANNA, senders=tuple(f"{'s' * 50}{n}@example.org" for n in range(40)))
    refusal = policy.check_sender(many, "x@y.example")
    assert refusal is not None
    assert " and 36 more, or have it added" in refusal.reply
    assert len(refusal.reply) <= 510


@pytest.mark.parametrize(
    "header",
    [
        b"From: Anna <anna@example.org>\r\n",
        b'FROM : "x@evil.example" <ANNA@example.ORG>\r\n',
        b"From:\r\n anna@example.org\r\n",
        b"From: A: anna@example.org, x@example.com;\r\nSender: anna@example.org\r\n",
        OWN + b"Resent-From: x@example.com\r\nResent-Sender: anna@example.org\r\nResent-From: y@example.com\r\n",
        b"From: anna@example.org\r\nReply-To: who@ever.example\r\nTo: b@c.example\r\n",
        b'From: "anna"@example.org\r\n',
    ],
)
def test_headers_of_the_account(header: bytes) -> None:
    assert judged(header) is None


@pytest.mark.parametrize(
    ("header", "reply"),
    [
        (b"From: evil@bank.example\r\n", f"{STRANGER} in the field From is not one of account anna; {ALLOWED}"),
        (b"From: Anna <anna@example.org>, evil@bank.example\r\n", STRANGER),
        (b"From: evil@bank.example <anna@example.org>\r\n", STRANGER),
        (b"From: G: anna@example.org, evil@bank.example;\r\n", STRANGER),
        (OWN + b"Sender: evil@bank.example\r\n", f"{STRANGER} in the field Sender"),
        (OWN + b"reSENT-from: evil@bank.example\r\n", f"{STRANGER} in the field Resent-From"),
        (OWN + b"Resent-Sender:\r\n evil@bank.example\r\n", f"{STRANGER} in the field Resent-Sender"),
        (OWN + b"Resent-From: anna@example.org\r\nResent-From: evil@bank.example\r\n", STRANGER),
        (OWN + b"from : anna@example.org\r\n", "550 5.6.0 The header has 2 From fields; send exactly one."),
        (OWN + b"Sender: a@example.com\r\nsender: a@example.com\r\n", "550 5.6.0 The header has 2 Sender fields"),
        (b"To: b@c.example\r\n", f"550 5.6.0 The header has no From field; {WRITE}"),
        (b"From:\r\n", f"550 5.6.0 The field From holds no address; {WRITE}"),
        (b"From: undisclosed:;\r\n", "550 5.6.0 The field From holds no address"),
        (b"From: =?utf-8?Q?anna=40example.org?=\r\n", "550 5.6.0 The field From cannot be read: an address looks"),
        ("From: \u0430nna@example.org\r\n".encode(), "550 5.7.1 The address <?nna@example.org>"),
        ("From: \u212aarl@example.org\r\n".encode(), "550 5.7.1 The address <?arl@example.org>"),
        (b"From: anna@example.org\xff\r\n", "550 5.6.0 The field From cannot be read"),
        (b"From: " + b"a@example.com, " * 300 + b"\r\n", "552 5.3.4"),
    ],
)
def test_headers_of_somebody_else(header: bytes, reply: str) -> None:
    refusal = judged(header)
    assert refusal is not None
    assert refusal.reply.startswith(reply)


@given(st.text(max_size=60))
def test_no_from_gets_through_that_names_only_others(text: str) -> None:
    value = text.replace("anna@example.org", "").replace("\r", "").replace("\n", "")
    if "example.com" not in value.lower() and "anna" not in value.lower():
        assert judged(b"From: %b\r\n" % value.encode("utf-8", "replace")) is not None


def test_a_session_ends_with_what_its_login_rests_on() -> None:
    assert policy.check_session(ANNA, Accounts([ANNA])) is None
    assert policy.check_session(ANNA, Accounts([replace(ANNA, senders=("x@y.example",))])) is None, (
        "only rights changed"
    )
    for now, what in (
        ([], "was removed"),
        ([replace(ANNA, disabled=True)], "is disabled"),
        ([replace(ANNA, password_hash="$new")], "has a new password"),
    ):
        refusal = policy.check_session(ANNA, Accounts(now))
        assert refusal is not None
        assert refusal.reply.startswith(f"421 4.7.0 The account anna {what}")
        assert refusal.reason is Reason.ACCOUNT_CHANGED
    disabled = replace(ANNA, disabled=True)
    assert policy.check_session(disabled, Accounts([disabled])) is not None, "the LAN's account never logged in"


def test_size_at_the_limit_and_beyond() -> None:
    assert policy.check_size(1000, 1000) is None
    refusal = policy.check_size(1001, 1000)
    assert refusal is not None
    assert refusal.reply.startswith("552 5.3.4 The message has 1001 bytes and 1000 are taken")
    assert "RELAY_MESSAGE_SIZE_LIMIT" in refusal.reply


def test_recipients_at_the_limit_and_beyond() -> None:
    assert policy.check_recipient_count(100, 100) is None
    refusal = policy.check_recipient_count(101, 100)
    assert refusal is not None
    assert refusal.reply.startswith("452 4.5.3 A message has at most 100 recipients here")


def test_the_lan_port_sends_to_listed_people() -> None:
    allowed = ("Boss@example.org", "*@example.com")
    for recipient in ("boss@EXAMPLE.org", "x@example.com"):
        assert policy.check_lan_recipient(allowed, recipient) is None
    for recipient in ("x@example.org", "x@sub.example.com", "x@y.example"):
        refusal = policy.check_lan_recipient(allowed, recipient)
        assert refusal is not None
        assert refusal.reply.startswith(f"550 5.7.1 This port does not send to <{recipient}>")
        assert "RELAY_LAN_RECIPIENTS" in refusal.reply
        assert policy.check_lan_recipient(("*",), recipient) is None
    for elsewhere in ("boss%evil.example@example.com", "evil.example!boss@example.com", '"a@evil.example"@example.com'):
        assert policy.check_lan_recipient(allowed, elsewhere) is not None
        assert policy.check_lan_recipient((*allowed, elsewhere), elsewhere) is None


def test_a_reached_limit_says_which_until_when_and_how_to_raise_it() -> None:
    refusal = policy.limit_reached(ANNA, Exceeded("hour", 100, 98, 1_800_000_000.0))
    assert refusal == Refusal(
        "450 4.7.1 Account anna may send to 100 recipients in an hour and 98 are used; send it after "
        "2027-01-15 08:00:00 UTC, or the operator can raise recipients_per_hour of the account.",
        Reason.LIMIT_HOUR,
    )
    lan = policy.limit_reached(ANNA, Exceeded("day", 5, 5, 1_800_000_000.0), policy.LAN_LIMIT)
    assert lan.reason is Reason.LIMIT_DAY
    assert lan.reply.endswith("the operator can raise RELAY_LAN_RECIPIENTS_PER_DAY.")
    never = policy.limit_reached(ANNA, Exceeded("day", 50, 0, inf))
    assert never.reply.startswith(
        "550 5.7.1 Account anna may send to 50 recipients in a day, fewer than this message has"
    )
