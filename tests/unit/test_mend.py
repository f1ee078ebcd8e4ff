"""What becomes of the header that a device got wrong: nothing of an alarm is lost, and what travels is well formed."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import limits
from relay.header import split
from relay.refusal import Refusal
from relay.submission.mend import mended, suspect


@pytest.mark.parametrize(
    ("head", "header", "text"),
    [
        # no header at all
        (b"Alarm on line 3\r\n", b"\r\n", b"Alarm on line 3\r\n"),
        (b"Alarm\r\nline 3\r\n\r\n", b"\r\n", b"Alarm\r\nline 3\r\n\r\n"),
        (b"ALARM: line 3\r\nTime: 12:00\r\n", b"\r\n", b"ALARM: line 3\r\nTime: 12:00\r\n"),
        (b"Alarm: line 3\r\n\r\n", b"\r\n", b"Alarm: line 3\r\n\r\n"),
        (b"Alarm on line 3\r\nDate: today\r\n\r\n", b"\r\n", b"Alarm on line 3\r\nDate: today\r\n\r\n"),
        (b"\xc4larm\r\n", b"\r\n", b"\xc4larm\r\n"),
        (b"", b"\r\n", b""),
        (b"\r\n", b"\r\n", b""),
        # text behind the last field
        (b"Subject: Alarm\r\nLine 3 is down\r\n", b"Subject: Alarm\r\n\r\n", b"Line 3 is down\r\n"),
        (b"Subject: a\r\n b\r\nText\r\nmore: x\r\n\r\n", b"Subject: a\r\n b\r\n\r\n", b"Text\r\nmore: x\r\n\r\n"),
        (b"Subject: Alarm\r\nTime: 12:00\r\n", b"Subject: Alarm\r\n\r\n", b"Time: 12:00\r\n"),
        (b"Subject: a\r\nTime: 12:00\r\nLine 3\r\n\r\n", b"Subject: a\r\n\r\n", b"Time: 12:00\r\nLine 3\r\n\r\n"),
        (b"Subject: a\r\nX-Level: 3\r\n", b"Subject: a\r\nX-Level: 3\r\n\r\n", b""),
        # a line that is no field, in the midst
        (b"To: a@b.c\r\nSubject Alarm\r\nDate: x\r\n\r\n", b"To: a@b.c\r\nSubject: Alarm\r\nDate: x\r\n\r\n", b""),
        (b"Subject: a long\r\none\r\nTo: a@b.c\r\n\r\n", b"Subject: a long\r\n one\r\nTo: a@b.c\r\n\r\n", b""),
        (
            b"From: r@n.e\r\nContent-Type: multipart/mixed; boundary=x\r\nParts:\r\n--x\r\nContent-ID: y\r\n\r\n",
            b"From: r@n.e\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n",
            b"Parts:\r\n--x\r\nContent-ID: y\r\n\r\n",
        ),
        (b"To: a@b.c\r\n-- x --\r\nFrom: r@n.e\r\n\r\n", b"To: a@b.c\r\n -- x --\r\nFrom: r@n.e\r\n\r\n", b""),
        # a line of spaces alone
        (b"Subject: a\r\nb c\r\n \t\r\nFrom: r@n.e\r\n\r\n", b"Subject: a\r\n b c\r\nFrom: r@n.e\r\n\r\n", b""),
        (b" \r\nSubject: x\r\nFrom: r@n.e\r\n\r\n", b"Subject: x\r\nFrom: r@n.e\r\n\r\n", b""),
        # all header, or nearly: an author is not left in the text
        (b"Mailer: m\r\nFrom: r@n.e\r\nLine 3\r\n", b"Mailer: m\r\nFrom: r@n.e\r\n\r\n", b"Line 3\r\n"),
        (b"Subject: a\r\nErrors-To: x\r\nFrom: r@n.e\r\n", b"Subject: a\r\nErrors-To: x\r\nFrom: r@n.e\r\n\r\n", b""),
        (b"Subject: a\r\nDoor: 3\r\nFrom: 12:00\r\n", b"Subject: a\r\n\r\n", b"Door: 3\r\nFrom: 12:00\r\n"),
        (b"From: r@n.e\r\nDoor: 3\r\nFrom: b@n.e\r\n", b"From: r@n.e\r\n\r\n", b"Door: 3\r\nFrom: b@n.e\r\n"),
        # odd forms
        (b"Subject : x\r\nTo\t: y\r\n\r\n", b"Subject: x\r\nTo: y\r\n\r\n", b""),
        (b"From r@nas Tue Nov 24 12:00:00 2026\r\nSubject: x\r\n\r\n", b"Subject: x\r\n\r\n", b""),
        (b"From the pump: Tuesday\r\n", b"\r\n", b"From the pump: Tuesday\r\n"),
        (b"Subject: a\r\nSo much\r\nBcc: x@y.z\r\nfor that\r\n", b"Subject: a\r\n\r\n", b"So much\r\nfor that\r\n"),
    ],
)
def test_what_is_header_and_what_is_text(head: bytes, header: bytes, text: bytes) -> None:
    assert mended(head) == (header, text)


@pytest.mark.parametrize(
    "header",
    [
        b"From: a@b.c\r\nSubject: x: y\r\n\ty\r\nX-Odd!Name: z\r\nMy-Own: 1\r\n\r\n",
        b"Organisation-Unit: x\r\nSubject: x\r\n\r\n",
    ],
)
def test_what_is_right_stays_as_it_is(header: bytes) -> None:
    assert not suspect(header)
    assert mended(header) == (header, b"")


def test_a_header_without_its_end_is_only_text_where_something_is_no_field() -> None:
    text = b"Subject: log\r\n" + b"12:00:01 door opened\r\n" * 20_000
    assert mended(text[: limits.HEADER_SIZE + 1]) == (b"Subject: log\r\n\r\n", text[14 : limits.HEADER_SIZE + 1])
    long = (b"To: " + b"a@b.c, " * 40_000)[: limits.HEADER_SIZE + 1]
    for head in (b"Subject: x\r\n" + long, b"X-A: b\r\n" * (limits.HEADER_LINES + 5)):
        found = split(mended(head)[0])
        assert isinstance(found, Refusal), "too large for a header, and no text"


@pytest.mark.parametrize(
    "piece", [b"a", b"a ", b"a: b\r\n", b"a b\r\n", b"To x\r\n", b"To : x\r\n", b" \r\n", b":", b"From a Mon "]
)
def test_hostile_headers_take_no_time(piece: bytes) -> None:
    began = time.process_time()
    for head in (piece * (limits.HEADER_SIZE // len(piece)), b"Subject: x\r\n" + piece * 50_000 + b"\r\n\r\n"):
        suspect(head)
        mended(head)
    assert time.process_time() - began < 1


LINES = [
    "Subject: s",
    "From: r@n.e",
    " ",
    "Time: 12:00",
    "a b",
    " c",
    "To x",
    "X-A : b",
    "Date: d",
    "\xe4",
    ":",
    "e:f",
    "From: r",
]


@given(st.lists(st.sampled_from(LINES), max_size=7), st.booleans())
def test_nothing_is_lost_and_the_header_can_be_read(lines: list[str], blank: bool) -> None:
    head = "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n" * blank
    header, text = mended(head)
    assert not isinstance(split(header), Refusal)
    assert header.endswith(b"\r\n\r\n") or header == b"\r\n"
    word = re.compile(rb"[^\s:]+")
    assert word.findall(header + text) == word.findall(head)
