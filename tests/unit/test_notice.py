"""What a sender is told: read by a person, by a program (Python's own parser), and byte by byte."""

from __future__ import annotations

import email
import email.policy
import time
from base64 import b64encode
from email.message import EmailMessage
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import limits
from relay.delivery.notice import LISTED, Delay, Failure, Fate, Post, digest, failure, field, subject, wanted
from relay.delivery.outcome import clean
from relay.model import Kind, Message, State

NOW = 1_800_000_000.0
POST = Post("mail.example.org", "postmaster@example.org")
HEADER = (
    b"Received: from x\r\n\tby y\r\nFrom: Anna <anna@example.org>\r\nTo: bob@example.net\r\n"
    b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n aus Wien\r\n\r\nSECRET BODY\r\n"
)
REFUSED = Failure("bob@example.net", State.REFUSED, "sendgrid", 550, "5.1.1 No such user here")
EXPIRED = Failure("carl@example.net", State.EXPIRED, "sendgrid", 451, "4.3.0 try later")
UNKNOWN = Failure("dora@example.net", State.UNKNOWN, "sendgrid", 0, "no answer after the final dot")


def message(**more: Any) -> Message:
    known: dict[str, Any] = {
        "id": "01JDA0000000000000000000AA",
        "account": "anna",
        "sender": "anna@example.org",
        "recipients": (),
        "size": 1000,
        "received_at": NOW - 3600,
        "message_id": "<question@example.org>",
        "notify": "anna@example.org",
    }
    return Message(**{**known, **more})


def report(*failures: Failure, header: bytes = HEADER, **more: Any) -> tuple[Message, bytes, EmailMessage]:
    notice, content = failure(message(**more), header, failures, POST, NOW)
    return notice, content, cast("EmailMessage", email.message_from_bytes(content, policy=email.policy.default))


def parts(mail: EmailMessage) -> tuple[str, list[Any], str]:
    human, status, header = mail.iter_parts()
    returned = cast("str", header.get_payload()).replace("\r\n", "\n")
    return human.get_content().replace("\r\n", "\n"), cast("list[Any]", status.get_payload()), returned


def test_it_is_a_report_that_no_machine_answers() -> None:
    _notice, _content, mail = report(REFUSED)
    assert mail.get_content_type() == "multipart/report"
    assert mail["Content-Type"].params["report-type"] == "delivery-status"
    assert [part.get_content_type() for part in mail.iter_parts()] == [
        "text/plain",
        "message/delivery-status",
        "text/rfc822-headers",
    ]
    assert mail["Auto-Submitted"] == "auto-replied"
    assert mail["From"].addresses[0].addr_spec == "postmaster@example.org"
    assert mail["To"].addresses[0].addr_spec == "anna@example.org"
    assert mail["Date"].datetime.timestamp() == NOW
    assert mail["In-Reply-To"] == mail["References"] == "<question@example.org>"
    assert not mail.defects


def test_the_message_for_the_spool_can_never_cause_another_notice() -> None:
    notice, content, mail = report(REFUSED)
    assert notice.kind is Kind.NOTICE
    assert notice.sender == "postmaster@example.org"  # providers refuse the null sender
    assert notice.recipients == ("anna@example.org",)
    assert notice.notify == ""
    assert notice.size == len(content)
    assert notice.message_id == mail["Message-ID"] == f"<{notice.id}@mail.example.org>"
    assert not wanted(notice)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, True),
        ({"kind": Kind.NOTICE}, False),
        ({"null_sender": True}, False),
        ({"notify": ""}, False),
    ],
)
def test_who_is_told(more: dict[str, Any], told: bool) -> None:
    assert wanted(message(**more)) is told


def test_a_person_reads_who_why_in_the_providers_words_and_our_id() -> None:
    human = parts(report(REFUSED, EXPIRED, UNKNOWN)[2])[0]
    assert "bob@example.net\n    It was refused for good.\n    sendgrid says: 550 5.1.1 No such user here" in human
    assert "carl@example.net\n    It was tried for five days and then given up.\n" in human
    assert "The last answer (sendgrid): 451 4.3.0 try later" in human
    assert "dora@example.net\n    It may have been delivered, perhaps more than once" in human
    assert "Ask the recipient before you send it again." in human
    assert "01JDA0000000000000000000AA" in human
    assert 'subject "Grüße aus Wien"' in human


def test_what_the_relay_itself_refused_is_not_put_into_the_providers_mouth() -> None:
    own = Failure("bob@example.net", State.REFUSED, "sendgrid", 0, "the message has 9 bytes and the provider takes 8")
    human = parts(report(own)[2])[0]
    assert "The reason: the message has 9 bytes" in human
    assert "says" not in human


def test_a_program_reads_one_group_per_recipient() -> None:
    status = parts(report(REFUSED, EXPIRED, UNKNOWN)[2])[1]
    assert status[0]["Reporting-MTA"] == "dns; mail.example.org"
    assert [group["Final-Recipient"] for group in status[1:]] == [
        "rfc822; bob@example.net",
        "rfc822; carl@example.net",
        "rfc822; dora@example.net",
    ]
    assert [group["Action"] for group in status[1:]] == ["failed"] * 3
    assert [group["Status"] for group in status[1:]] == ["5.1.1", "4.4.7", "4.4.2"]
    assert status[1]["Diagnostic-Code"] == "smtp; 550 5.1.1 No such user here"
    assert status[3]["Diagnostic-Code"] is None


@pytest.mark.parametrize(("reply", "status"), [("no", "5.0.0"), ("4.2.0 contradictory", "5.0.0"), ("5.7.1 x", "5.7.1")])
def test_the_status_code_is_the_providers_if_it_gave_a_fitting_one(reply: str, status: str) -> None:
    one = Failure("bob@example.net", State.REFUSED, "p", 550, reply)
    assert parts(report(one)[2])[1][1]["Status"] == status


def test_the_header_goes_back_and_the_content_does_not() -> None:
    _notice, content, mail = report(REFUSED)
    assert parts(mail)[2].strip() == HEADER.decode().partition("\r\n\r\n")[0].replace("\r\n", "\n")
    assert b"SECRET" not in content


def test_a_very_long_header_is_cut_at_a_line_end() -> None:
    header = b"".join(b"X-Line-%05d: %s\r\n" % (n, b"x" * 80) for n in range(2000)) + b"\r\nSECRET"
    _notice, content, mail = report(REFUSED, header=header)
    kept = parts(mail)[2]
    assert limits.NOTICE_HEADER - 200 < len(kept.replace("\n", "\r\n")) <= limits.NOTICE_HEADER
    assert kept.rstrip("\n").endswith("x" * 80)
    assert b"SECRET" not in content


def test_the_subject_says_when_it_is_not_certain() -> None:
    assert report(UNKNOWN)[2]["Subject"] == "Your message may not have been delivered"
    assert report(UNKNOWN, REFUSED)[2]["Subject"] == "Your message could not be delivered"


def test_letters_beyond_ascii_travel_safely() -> None:
    one = Failure("jürgen@example.net", State.REFUSED, "p", 550, "5.1.1 Empfänger unbekannt")
    _notice, content, mail = report(one, header="Subject: Grüße\r\nX: ü\r\n\r\n".encode())
    assert content.isascii()
    human, status, header = parts(mail)
    assert "jürgen@example.net" in human
    assert "Empfänger unbekannt" in human
    assert status[1]["Final-Recipient"] == r"utf-8; j\x{FC}rgen@example.net"
    assert "=C3=BC" in header


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (f"reply+{'01J9ZQ7M4T' * 20}@reply.example.net", f"rfc822; reply+{'01J9ZQ7M4T' * 20}@reply.example.net"),
        ("da.me..@docomo.example", "rfc822; da.me..@docomo.example"),
        ("a%b!c@branch_7.example", "rfc822; a%b!c@branch_7.example"),
        ('"two words"@example.net', 'rfc822; "two words"@example.net'),
        ("b\u00f6b+x=y@example.net", r"utf-8; b\x{F6}b\x{2B}x\x{3D}y@example.net"),
        ('"\u00f6 \\"o"@example.net', r'utf-8; "\x{F6}\x{20}\x{5C}"o"@example.net'),
    ],
)
def test_an_odd_recipient_is_named_as_it_is_written(address: str, shown: str) -> None:
    _, content, mail = report(Failure(address, State.REFUSED, "p", 550, "5.1.1 no such user"))
    human, status, _ = parts(mail)
    assert status[1]["Final-Recipient"] == shown
    assert address in human
    assert content.isascii()


def test_only_a_recipient_that_needs_it_makes_it_smtputf8() -> None:
    assert not report(REFUSED)[0].smtputf8
    assert report(REFUSED, notify="jürgen@example.org")[0].smtputf8


@given(st.binary(max_size=300), st.text(max_size=100))
def test_no_header_and_no_reply_breaks_out_of_its_part(header: bytes, reply: str) -> None:
    one = Failure("bob@example.net", State.REFUSED, "p", 550, clean(reply))
    header = header.replace(b"\r", b"").replace(b"\n", b"\r\n")
    _notice, content, mail = report(one, header=header + b"\r\n\r\n")
    assert len(list(mail.iter_parts())) == 3
    assert len(mail["Auto-Submitted"]) > 0
    assert content.replace(b"\r\n", b"").count(b"\n") == 0
    assert max(map(len, content.split(b"\r\n"))) <= 998


@pytest.mark.parametrize("value", ["", "<a b\r\nBcc: x>", "<" + "x" * 950 + ">", "<ü@example.org>"])
def test_a_message_id_that_cannot_be_quoted_is_left_out(value: str) -> None:
    mail = report(REFUSED, message_id=value)[2]
    assert mail["In-Reply-To"] is None
    assert mail["Bcc"] is None


@pytest.mark.parametrize(
    ("header", "value"),
    [
        (b"Subject: plain\r\n", "plain"),
        (b"SUBJECT:  folded\r\n  twice\r\n here\r\nX: y\r\n", "folded twice here"),
        (b"X-Subject: no\r\n", ""),
        (b"Subject: =?utf-8?b?4oK9?=\r\n", "₽"),
        (
            b"Subject: Re: =?ISO-8859-1*de?Q?W=FCnsche?=\r\n =?utf-8?q?_=E2=82=AC?=, =?x?q?y\r\n",
            "Re: Wünsche €, =?x?q?y",
        ),
        (b"Subject: =?utf-8?b?4oI=?=\r\n =?UTF-8?b?vQ?=\r\n", "₽"),
        (b"Subject: =?utf-8?q?Why_not=3F?=?=\r\n", "Why not??="),
        (b"Subject: =?nonsense?q?abc?=\r\n", "=?nonsense?q?abc?="),
        (b"Subject: =?punycode?q?abc-def?= =?hex?q?00?=\r\n", "=?punycode?q?abc-def?= =?hex?q?00?="),
        (b"Subject: =?utf-8?b?!!!?=\r\n", "=?utf-8?b?!!!?="),
        (b"Subject: \xff raw\r\n", "\ufffd raw"),
        (b"Subject: " + b"x" * 500 + b"\r\n", "x" * 200),
        (b"", ""),
    ],
)
def test_subjects_are_read_kindly(header: bytes, value: str) -> None:
    assert subject(header) == value


@pytest.mark.parametrize(("charset", "encoding"), [("utf-8", "b"), ("gb18030", "q"), ("gb18030", "b")])
def test_a_long_foreign_subject_is_shown_up_to_its_200th_character(charset: str, encoding: str) -> None:
    text = "关于您订单的重要通知" * 400
    one = "=%02x" if encoding == "q" else "%c"
    words = []
    for start in range(0, len(text), 5):
        octets = text[start : start + 5].encode(charset)
        octets = octets if encoding == "q" else b64encode(octets)
        words.append(f"=?{charset}?{encoding}?{''.join(one % octet for octet in octets)}?=")
    assert subject(("Subject: " + "\r\n ".join(words) + "\r\n").encode()) == text[:200]


@pytest.mark.parametrize(
    "piece", [b"=?a?q?x ", b"=?", b"=?utf-8?q??= ", b"=?utf-8?b?4oK9", b"=?punycode?q?" + b"a" * 4000]
)
def test_no_subject_keeps_the_relay_from_other_mail(piece: bytes) -> None:
    header = b"Subject: " + piece * (limits.HEADER_SIZE // len(piece)) + b"\r\n"
    began = time.process_time()
    for _ in range(10):
        subject(header)
        report(REFUSED, header=header)
    assert time.process_time() - began < 5, "some milliseconds each; by the square it was a minute"


def test_a_field_is_unfolded() -> None:
    assert field(HEADER, b"received") == b"from x by y"


# --- delays
def test_delays_come_as_one_plain_letter() -> None:
    late = [
        Delay("01JDA0000000000000000000AA", "bob@example.net", NOW - 5 * 3600, "451 4.3.0 later", NOW + 600),
        Delay("01JDA0000000000000000000BB", "carl@example.net", NOW - 6 * 3600, "", NOW + 900),
    ]
    notice, content = digest("anna", "anna@example.org", late, POST, NOW)
    mail = cast("EmailMessage", email.message_from_bytes(content, policy=email.policy.default))
    text = mail.get_content()
    assert mail.get_content_type() == "text/plain"
    assert mail["Auto-Submitted"] == "auto-replied"
    assert notice.kind is Kind.NOTICE
    assert "you need not send them again" in text
    for one in late:
        assert one.recipient in text
        assert one.message_id in text
    assert "the last answer: 451 4.3.0 later" in text
    assert text.count("the last answer") == 1


def test_what_may_have_arrived_is_not_promised_to_be_tried_nor_called_undelivered() -> None:
    def of(number: int, fate: Fate) -> Delay:
        return Delay(f"id{number}", f"r{number}@example.net", NOW - 5 * 3600, "later", NOW + 600, fate=fate)

    late = [of(1, Fate.ASIDE), of(2, Fate.WAITS), of(3, Fate.UNSURE), of(4, Fate.WAITS)]
    _, content = digest("anna", "anna@example.org", late, POST, NOW)
    text = content.decode().replace("=\r\n", "")
    waits, unsure, aside = text.index("not been delivered yet"), text.index("did not confirm"), text.index("decides")
    assert waits < text.index("r2@") < text.index("r4@") < unsure < text.index("r3@") < aside < text.index("r1@")
    _, content = digest("anna", "anna@example.org", late[:1], POST, NOW)
    assert b"need not send" not in content
    assert b"goes on trying" not in content
    assert b"Ask the recipient before you send one again" in content


@pytest.mark.parametrize(("late", "more"), [(LISTED, None), (LISTED + 1, b"and 1 more."), (20_000, b"and 19900 more.")])
def test_a_letter_on_very_many_delays_stays_a_letter(late: int, more: bytes | None) -> None:
    delays = [Delay(f"id{n}", f"r{n}@example.net", NOW - 20_000, "451 later", NOW + 60) for n in range(late)]
    _, content = digest("anna", "anna@example.org", delays, POST, NOW)
    assert content.count(b"@example.net") == LISTED
    assert (b"more." in content) == (more is not None)
    assert more is None or more in content
    assert len(content) < 64 * limits.KIB
