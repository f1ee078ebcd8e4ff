"""The header as it travels: what is added, taken out and rewritten, and that all else stays byte for byte."""

from __future__ import annotations

import time
from dataclasses import replace
from email import message_from_bytes
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import limits
from relay.accounts import Account
from relay.header import mailboxes, split
from relay.refusal import Reason, Refusal
from relay.submission import originators
from relay.submission.prepare import Prepared, Trace, date, needs_utf8, prepare

ID = "01KC6W3V2M7Z9QH8R5T4XY0AB1"
NOW = 1_800_000_000.9
WHEN = b"Fri, 15 Jan 2027 08:00:00 +0000"
ANNA = Account(name="anna", password_hash="", senders=("anna@example.org", "*@example.com"))
NAS = Account(name="nas", password_hash="", senders=("*@example.com", "nas@example.org"), rewrite=True)
TRACE = Trace.make(
    hostname="mail.example.org", domain="example.org", client_name="laptop.lan", client_address="192.0.2.7"
)
RECEIVED = b"Received: from laptop.lan\r\n\tby mail.example.org with ESMTPSA id %b;\r\n\t%b\r\n" % (ID.encode(), WHEN)
WHOLE = (
    b"From: Anna <anna@example.org>\r\nTo: b@c.example\r\nsubject : folded\r\n\tand so on\r\n"
    b"Date: Thu, 14 Jan 2027 10:00:00 +0100\r\nMessage-ID: <abc@example.org>\r\n"
)

OWN = b"From: anna@example.org\r\n"


def prepared(header: bytes, account: Account = ANNA, sender: str = "anna@example.org") -> Prepared:
    lenient = account.rewrite
    result = prepare(header, account=account, sender=sender, trace=TRACE, message_id=ID, now=NOW, lenient=lenient)
    assert isinstance(result, Prepared), result
    return result


def rest(header: bytes, account: Account = ANNA, sender: str = "anna@example.org") -> bytes:
    """What follows our Received field, Date and Message-ID given."""
    known = b"Date: x\r\nMessage-ID: <y>\r\n"
    return (
        prepared(header + known + b"\r\n", account, sender).header.removeprefix(RECEIVED).removesuffix(known + b"\r\n")
    )


def refused(header: bytes, account: Account = ANNA) -> Refusal:
    lenient = account.rewrite
    result = prepare(header, account=account, sender="", trace=TRACE, message_id=ID, now=NOW, lenient=lenient)
    assert isinstance(result, Refusal)
    return result


def test_a_whole_header_gets_received_and_nothing_else() -> None:
    result = prepared(WHOLE + b"\r\n")
    assert result.header == RECEIVED + WHOLE + b"\r\n"
    assert result == Prepared(result.header, "anna@example.org", False, "<abc@example.org>", WHOLE)


def test_what_servers_add_on_the_way_and_dates_of_ours_make_no_other_mail() -> None:
    more = b"DKIM-Signature: t=2\r\nReceived: from here\r\nBcc: c@d.example\r\nX-Queue: 7\r\n"
    assert prepared(more + WHOLE + b"\r\n").seen == WHOLE
    assert prepared(OWN + b"Message-ID: <abc@example.org>\r\n\r\n").seen == OWN + b"Message-ID: <abc@example.org>\r\n"


@pytest.mark.parametrize("own", [b"", b"Message-ID:\r\n", b"Message-ID: \r\n \r\n"])
def test_without_a_message_id_of_its_own_a_mail_is_never_known_again(own: bytes) -> None:
    assert prepared(OWN + own + b"\r\n").seen == b""


def test_a_message_without_body_may_lack_the_blank_line() -> None:
    assert prepared(WHOLE).header == RECEIVED + WHOLE


def test_missing_date_and_message_id_are_added() -> None:
    result = prepared(b"From: anna@example.org\r\n\r\n")
    added = b"Date: %b\r\nMessage-ID: <%b@mail.example.org>\r\n" % (WHEN, ID.encode())
    assert result.header == RECEIVED + added + b"From: anna@example.org\r\n\r\n"
    assert result.message_id == f"<{ID}@mail.example.org>"


def test_empty_date_and_message_id_are_replaced_and_not_doubled() -> None:
    header = prepared(b"Date:\r\nFrom: anna@example.org\r\nMessage-ID: \r\n \r\n\r\n").header
    parsed = message_from_bytes(header)
    assert parsed.get_all("Date") == [WHEN.decode()]
    assert parsed.get_all("Message-ID") == [f"<{ID}@mail.example.org>"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (b"message-id :\r\n <a.b@c>\r\n", "<a.b@c>"),
        (b"Message-ID: (x) <a@b> (y)\r\n", "<a@b>"),
        (b"Message-ID: no brackets\r\n", "no brackets"),
        (b"Message-ID: <\x1b\xff@x\r\n", "<??@x"),
        (b"Message-ID: <" + b"a" * 2000 + b"\r\n", "<" + "a" * 994 + "..."),
    ],
)
def test_a_message_id_stays_as_it_is_and_is_kept_for_notices(field: bytes, value: str) -> None:
    result = prepared(b"From: anna@example.org\r\nDate: x\r\n" + field + b"\r\n")
    assert result.message_id == value
    assert result.header.endswith(field + b"\r\n")


def test_hidden_recipients_are_taken_out() -> None:
    hidden = b"bcc: x@y.example,\r\n z@y.example\r\n", b"Resent-Bcc : w@y.example\r\n", b"BCC:\r\n"
    assert rest(hidden[0] + OWN + hidden[1] + hidden[2] + b"To: a@b.example\r\n") == OWN + b"To: a@b.example\r\n"


def test_bcc_in_other_names_stays() -> None:
    header = b"From: anna@example.org\r\nX-Bcc: x@y.example\r\nSubject: Bcc:\r\n"
    assert rest(header) == header


def test_loop_at_the_limit_and_beyond() -> None:
    hops = b"received : from a by b; x\r\n" * limits.RECEIVED_FIELDS
    assert prepared(hops + WHOLE + b"\r\n").header == RECEIVED + hops + WHOLE + b"\r\n"
    refusal = refused(b"Received: from c by d\r\n" + hops + WHOLE + b"\r\n")
    assert refusal.reason is Reason.LOOP
    assert refusal.reply.startswith("554 5.4.6 The message went through 51 servers")


def test_null_sender_travels_as_postmaster() -> None:
    for account in (ANNA, NAS):
        result = prepared(b"From: x@example.com\r\n\r\n", account, "")
        assert (result.sender, result.null_sender) == ("postmaster@example.org", True)
    assert refused(b"From: evil@bank.example\r\n\r\n").reason is Reason.FROM


def test_what_policy_or_the_splitter_refuses_is_refused() -> None:
    assert refused(b"From: evil@bank.example\r\n\r\n").reason is Reason.FROM
    assert refused(b"nonsense\r\n\r\n").reason is Reason.HEADER
    assert refused(b"\r\n").reason is Reason.FROM_MISSING


# --- Received ---------------------------------------------------------------------------------------------------------


def received(name: str, address: str = "203.0.113.7", *, show: bool = False, protocol: str = "ESMTPSA") -> str:
    trace = Trace.make(
        hostname="h.example",
        domain="example",
        client_name=name,
        client_address=address,
        protocol=protocol,
        show_address=show,
    )
    return trace.received.decode("ascii")


@pytest.mark.parametrize(
    ("name", "clause"),
    [
        ("laptop", "from laptop\r\n\t"),
        ("laptop.lan.", "from laptop.lan\r\n\t"),
        ("Anna's Mac", "from Anna-s-Mac\r\n\t"),
        ("x\r\nEvil: y", "from x-Evil-y\r\n\t"),
        ("\u202e\x1b", ""),
        ("", ""),
        ("[192.168.1.4]", ""),
        ("192.168.1.4", ""),
        ("[IPv6:2001:db8::1]", ""),
        ("2001:db8::1", ""),
        ("203-0-113-7.isp.example", ""),
        ("ip203.0.113.7.isp.example", ""),
        ("7.113.0.203.isp.example", ""),
        ("17-203-0-113-70.isp.example", "from 17-203-0-113-70.isp.example\r\n\t"),
        ("n" * 300, f"from {'n' * 255}\r\n\t"),
    ],
)
def test_received_does_not_give_away_where_the_client_is(name: str, clause: str) -> None:
    assert received(name) == f"Received: {clause}by h.example with ESMTPSA id "


def test_received_shows_the_address_where_a_setting_asks_for_it() -> None:
    assert received("pc", show=True) == "Received: from pc ([203.0.113.7])\r\n\tby h.example with ESMTPSA id "
    assert "from [203.0.113.7] ([203.0.113.7])" in received("[10.0.0.1]", show=True)
    assert "from pc ([IPv6:2001:db8::7])" in received("pc", "2001:db8::7", show=True)


def test_received_hides_an_ipv6_address_in_a_name() -> None:
    assert received("h-2001-db8-7.isp.example", "2001:db8::7") == received("", "2001:db8::7")


def test_received_says_how_the_mail_came() -> None:
    assert received("pc", protocol="ESMTPS") == "Received: from pc\r\n\tby h.example with ESMTPS id "


def test_received_says_that_it_came_with_smtputf8() -> None:
    trace = Trace.make(hostname="h.example", domain="example", client_name="pc", client_address="192.0.2.1")
    assert trace.in_utf8().received == b"Received: from pc\r\n\tby h.example with UTF8SMTPSA id "


def test_only_what_is_beyond_ascii_needs_smtputf8() -> None:
    plain, wide = prepared(WHOLE + b"\r\n"), prepared(OWN + "Subject: \u00fc\r\n\r\n".encode())
    assert not needs_utf8(plain, ["bob@example.net"])
    assert needs_utf8(wide, ["bob@example.net"])
    assert needs_utf8(plain, ["bob@example.net", "j\u00fcrgen@example.net"])


def test_dates_are_those_of_rfc_5322_in_utc() -> None:
    assert date(0) == b"Thu, 01 Jan 1970 00:00:00 +0000"
    assert date(1_709_164_799.99) == b"Wed, 28 Feb 2024 23:59:59 +0000"
    assert parsedate_to_datetime(date(NOW).decode()).timestamp() == int(NOW)


# --- from = "rewrite" -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"From: root\r\n", b"From: root <nas@example.org>\r\n"),
        (b"From: Cron Daemon\r\n", b"From: Cron Daemon <nas@example.org>\r\n"),
        (b"From: root (Cron)\r\n", b"From: root (Cron) <nas@example.org>\r\n"),
        (b"From: root@nas\r\n", b"From: <nas@example.org>\r\n"),
        (b"From: root@nas (Cron)\r\n", b"From: <nas@example.org> (Cron)\r\n"),
        (b'fRom:"C, D"\r\n <root@nas>\r\n', b'fRom:"C, D"\r\n <nas@example.org>\r\n'),
        (b"From: =?utf-8?q?D=C3=BC?= <@x>\r\n", b"From: =?utf-8?q?D=C3=BC?= <nas@example.org>\r\n"),
        (b"From: <>\r\n", b"From: <nas@example.org>\r\n"),
        (b"From:\r\n", b"From: nas@example.org\r\n"),
        (b"From: \"no end\r\n", b"From: nas@example.org\r\n"),
        (b"From: a@b.example <root@nas>\r\n", b"From: nas@example.org\r\n"),
        (b"From: root@nas, x@nas\r\n", b"From: nas@example.org\r\n"),
        (b"From: Me <x@example.com>\r\n", b"From: Me <x@example.com>\r\n"),
        (b"To: a@b.example\r\n", b"From: nas@example.org\r\nTo: a@b.example\r\n"),
        (b"", b"From: nas@example.org\r\n"),
        (b"From: x@example.com\r\nSender: root@nas\r\n", b"From: x@example.com\r\n"),
        (b"From: root\r\nSender: y@example.com\r\n", b"From: root <nas@example.org>\r\nSender: y@example.com\r\n"),
        (b"From: x@example.com\r\nSender: y@example.com\r\n", b"From: x@example.com\r\nSender: y@example.com\r\n"),
        (b"From: x@example.com\r\nResent-From: R <r@nas>\r\nResent-Sender: r@nas\r\n",
         b"From: x@example.com\r\nResent-From: R <nas@example.org>\r\n"),
        (b"From: root\r\nFrom: b@c.example\r\n", b"From: root <nas@example.org>\r\n"),
        (b"From: x@example.com\r\nSender: y@example.com\r\nSender: r@nas\r\n",
         b"From: x@example.com\r\nSender: y@example.com\r\n"),
        (b"From: " + b"root@nas, " * 900 + b"x\r\nSender: r@nas\r\n", b"From: nas@example.org\r\n"),
    ],
)  # fmt: skip
def test_rewriting_accounts_send_as_themselves(before: bytes, after: bytes) -> None:
    assert rest(before, NAS, "root@nas") == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"From: Cron <root@server.example>\r\n",
         b"Reply-To: root@server.example\r\nFrom: Cron <nas@example.org>\r\n"),
        (b"From: root@server.example\r\nReply-To: x@y.example\r\n",
         b"From: <nas@example.org>\r\nReply-To: x@y.example\r\n"),
        (b"From: a@b.example, x@example.com, c@d.example\r\n",
         b"Reply-To: a@b.example,\r\n c@d.example\r\nFrom: nas@example.org\r\n"),
    ],
)  # fmt: skip
def test_answers_still_find_the_original_sender(before: bytes, after: bytes) -> None:
    assert rest(before, NAS, "root@nas") == after


def test_rewriting_the_envelope() -> None:
    header = b"From: x@example.com\r\n\r\n"
    assert prepared(header, NAS, "root@nas").sender == "nas@example.org", "the first that is no wildcard"
    assert prepared(header, NAS, "x@example.com").sender == "x@example.com"


# --- domains in other scripts -----------------------------------------------------------------------------------------

MUC = Account(name="m", password_hash="", senders=("a@xn--mnchen-3ya.example", "j\u00fcrgen@xn--mnchen-3ya.example"))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("From: A <a@m\u00fcnchen.example>", "From: A <a@xn--mnchen-3ya.example>"),
        ("From: a@M\u00dcNCHEN.example (A)", "From: a@xn--mnchen-3ya.example (A)"),
        ("From: \u00c4 <a@m\u00fcnchen.example>", "From: \u00c4 <a@xn--mnchen-3ya.example>"),
        ("From: A <a@=?utf-8?q?m=C3=BCnchen?=.example>", "From: A <a@xn--mnchen-3ya.example>"),
        ("From: a@=?ISO-8859-1?Q?m=FCnchen.example?=", "From: a@xn--mnchen-3ya.example"),
        ("From: =?utf-8?b?QSA8YUBtw7xuY2hlbi5leGFtcGxlPg==?=", "From: A <a@xn--mnchen-3ya.example>"),
        ("From: =?utf-8?q?=C3=84_=3Ca=40m=C3=BCnchen=2Eexample=3E?=", "From: a@xn--mnchen-3ya.example"),
        ("From: j\u00fcrgen@m\u00fcnchen.example", "From: j\u00fcrgen@xn--mnchen-3ya.example"),
        ("From: a@xn--mnchen-3ya.example\r\nSender: a@m\u00fcnchen.example",
         "From: a@xn--mnchen-3ya.example\r\nSender: a@xn--mnchen-3ya.example"),
        ("From: =?utf-8?q?=C3=84?= <a@xn--mnchen-3ya.example>", "From: =?utf-8?q?=C3=84?= <a@xn--mnchen-3ya.example>"),
        ("From: a@xn--mnchen-3ya.example\r\nTo: b@m\u00fcnchen.example",
         "From: a@xn--mnchen-3ya.example\r\nTo: b@m\u00fcnchen.example"),
    ],
)  # fmt: skip
def test_the_senders_domain_travels_in_ascii_however_it_was_written(before: str, after: str) -> None:
    for account in (MUC, replace(MUC, rewrite=True)):
        assert rest(before.encode() + b"\r\n", account, "") == after.encode() + b"\r\n"


@pytest.mark.parametrize(
    "value",
    [
        "=?utf-8?q?a=40m=C3=BCnchen=2Eexample?= <boss@bank.example>",
        "boss@=?utf-8?q?m=C3=BCnchen?=.example",
        "a@=?utf-8?q?m=C3=BCnchen=2Eexample=2C_boss=40bank=2Eexample?=",
        "a@=?utf-8?q?m=C3=BCnchen=2Eexample=0D=0ABcc:_x=40y=2Ez?=",
        "=?utf-8?q?a=40xn--mnchen-3ya=2Eexample?=",
        "=?utf-8?q?=61?=@m\u00fcnchen.example",
        "=?utf-16?b?bQ==?=@m\u00fcnchen.example",
    ],
)
def test_what_is_encoded_hides_nobody_else(value: str) -> None:
    assert refused(f"From: {value}\r\n\r\n".encode(), MUC).reason is Reason.FROM


def test_encoded_originators_take_no_time() -> None:
    began = time.process_time()
    for piece in (b"=?", b"@=?", b"=?utf-8?q?", b"a@=?utf-8?q?=C3=BC?=,", b"=?utf-8?b?w7w=?= ", b"=?utf-8?q?=C3=BC?=@"):
        originators.in_ascii(b" " + piece * (4_000 // len(piece)) + b"\r\n")
    assert time.process_time() - began < 0.5


@given(st.binary(max_size=80), st.sampled_from([b"From", b"Resent-From", b"Sender"]))
def test_after_rewriting_every_originator_is_the_accounts(value: bytes, name: bytes) -> None:
    if b"\r" in value or b"\n" in value:
        return
    sent = prepared(b"%b: %b\r\n\r\n" % (name, value), NAS, "root").header
    prepared(sent, replace(NAS, rewrite=False), "")


_FIELD = st.tuples(
    st.sampled_from([b"Subject", b"X-A", b"To", b"Comments", b"X-Bcc", b"Received"]),
    st.from_regex(rb"\A[ -~]{0,20}(\r\n[ \t][ -~]{1,20}){0,2}\Z"),
)


@given(st.lists(_FIELD, max_size=8))
def test_everything_else_stays_byte_for_byte(parts: list[tuple[bytes, bytes]]) -> None:
    header = b"From: anna@example.org\r\n" + b"".join(b"%b:%b\r\n" % part for part in parts)
    assert rest(header) == header


def test_what_is_added_is_valid() -> None:
    fields = split(prepared(b"From: anna@example.org\r\n\r\n").header)
    assert not isinstance(fields, Refusal)
    assert [field.name for field in fields] == [b"received", b"date", b"message-id", b"from"]
    assert mailboxes(b" <nas@example.org> (Cron)\r\n")
