"""What the header's fields are and which addresses stand in them, whatever a client does to hide one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import limits
from relay.address import Bad
from relay.header import address_span, end, mailboxes, names_only, sole_address, split
from relay.refusal import Reason, Refusal

PLAIN = b"From: Anna <anna@example.org>\r\nTo: b@c.example\r\nSubject: x\r\n\ty\r\n z\r\n\r\n"


def fields(header: bytes) -> list[tuple[bytes, bytes]]:
    found = split(header)
    assert not isinstance(found, Refusal), found
    assert b"".join(header[field.start : field.end] for field in found) in (header, header[:-2]), (
        "they touch each other"
    )
    return [(field.name, header[field.colon + 1 : field.end]) for field in found]


def test_fields_with_folded_lines() -> None:
    assert fields(PLAIN) == [
        (b"from", b" Anna <anna@example.org>\r\n"),
        (b"to", b" b@c.example\r\n"),
        (b"subject", b" x\r\n\ty\r\n z\r\n"),
    ]


@pytest.mark.parametrize(
    ("header", "names"),
    [
        (b"FrOm:x\r\n\r\n", [b"from"]),
        (b"From : x\r\n\r\n", [b"from"]),
        (b"From \t :\r\n\r\n", [b"from"]),
        (b"X:\r\n \r\nFrom: x\r\n\r\n", [b"x", b"from"]),
        (b"X: a:b\r\n\r\n", [b"x"]),
        (b"From: x\r\n", [b"from"]),
        (b"\r\n", []),
        (b"", []),
    ],
)
def test_odd_forms_are_the_same_fields(header: bytes, names: list[bytes]) -> None:
    assert [name for name, _ in fields(header)] == names


def test_only_the_fields_that_are_asked_for() -> None:
    found = split(PLAIN, {b"to"})
    assert not isinstance(found, Refusal)
    assert [PLAIN[field.start : field.end] for field in found] == [b"To: b@c.example\r\n"]


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (b"A: b\r\nno colon here\r\n\r\n", "Line 2 of the header has no colon"),
        (b"A: b\r\n c\r\nno colon here\r\n\r\n", "Line 3 of the header has no colon"),
        (b" folded: from the start\r\n\r\n", "Line 1 of the header begins with a space"),
        (b"Fr om: x\r\n\r\n", "Line 1 of the header is no field"),
        (b"From anna 10:00\r\n\r\n", "Line 1 of the header is no field"),
        ("Fr\u043em: x\r\n\r\n".encode(), "Line 1 of the header is no field"),
        (b"\x00From: x\r\n\r\n", "Line 1 of the header is no field"),
        (b": x\r\n\r\n", "Line 1 of the header is no field"),
        (b"A: b\nFrom: x\r\n\r\n", "Line 1 of the header is no field"),
        (b"A: b\rFrom: x\r\n\r\n", "Line 1 of the header is no field"),
        (b"A: b", "Line 1 of the header is no field"),
        (b"A: b\r\n\r\nbody\r\n", "Line 2 of the header has no colon"),
    ],
)
def test_what_other_programs_could_read_differently_is_refused(header: bytes, why: str) -> None:
    refusal = split(header)
    assert isinstance(refusal, Refusal)
    assert refusal.reply.startswith(f"550 5.6.0 {why}")
    assert refusal.reason is Reason.HEADER


def test_size_limit() -> None:
    fits = b"X: " + b"a" * (limits.HEADER_SIZE - 7) + b"\r\n\r\n"
    assert len(fits) == limits.HEADER_SIZE
    assert isinstance(split(fits), list)
    refusal = split(b"Y" + fits)
    assert isinstance(refusal, Refusal)
    assert refusal.reply.startswith(f"552 5.3.4 The header is larger than {limits.HEADER_SIZE} bytes")


def test_line_limit() -> None:
    fits = b"X: y\r\n" + b" z\r\n" * (limits.HEADER_LINES - 1)
    assert isinstance(split(fits + b"\r\n"), list)
    assert isinstance(split(fits), list)
    for header in (fits + b" z\r\n\r\n", fits + b" z\r\n"):
        refusal = split(header)
        assert isinstance(refusal, Refusal)
        assert refusal.reply.startswith(f"552 5.3.4 The header has more than {limits.HEADER_LINES} lines")


def test_end_of_the_header_wherever_the_pieces_are_cut() -> None:
    message = PLAIN + b"body\r\n\r\nmore\r\n"
    assert end(message) == len(PLAIN)
    assert end(b"\r\nbody") == 2
    assert end(b"A: b\r\n") == -1
    for cut in range(1, len(message)):
        first = end(message[:cut])
        assert first in (-1, len(PLAIN))
        if first < 0:
            assert end(bytearray(message), cut) == len(PLAIN)


@pytest.mark.parametrize(
    ("value", "addresses"),
    [
        ("anna@example.org", ["anna@example.org"]),
        ("<anna@example.org>", ["anna@example.org"]),
        ("Anna K. <anna@example.org>", ["anna@example.org"]),
        ('"K, Anna" <anna@example.org>', ["anna@example.org"]),
        ('"Anna \\"K\\"" <anna@example.org>', ["anna@example.org"]),
        ("=?utf-8?Q?J=C3=BCrgen?= <anna@example.org>", ["anna@example.org"]),
        ("Jürgen <anna@example.org>", ["anna@example.org"]),
        ("(a (nested\\)) comment) anna@example.org (x)", ["anna@example.org"]),
        ("anna (x) @ example.org", ["anna@example.org"]),
        ("Anna\r\n <anna@example.org>", ["anna@example.org"]),
        ("a@b.example, Bob <c@d.example>,, e@f.example", ["a@b.example", "c@d.example", "e@f.example"]),
        ("Team: a@b.example, Bob <c@d.example>;", ["a@b.example", "c@d.example"]),
        ("Team: a@b.example;, e@f.example", ["a@b.example", "e@f.example"]),
        ("undisclosed recipients:;", []),
        ("", []),
        (" , ,", []),
        ('"anna"@example.org', ["anna@example.org"]),
        ("root@[192.0.2.1]", ["root@[192.0.2.1]"]),
        ("=?utf-8?Q?evil=40bank.example?= <anna@example.org>", ["anna@example.org"]),
        ("=?utf-8?Q?K=2C_Anna?= <anna@example.org>", ["anna@example.org"]),
        ("=?iso-2022-jp?b?GyRCPjhGMDpZGyhC?= <anna@example.org>", ["anna@example.org"]),
        ('Team: "Anna @ home" <a@b.example>, "<b>" <c@d.example>;', ["a@b.example", "c@d.example"]),
        ('Anna "Nick" K <anna@example.org>', ["anna@example.org"]),
        ('"evil@bank.example" <anna@example.org>', ["anna@example.org"]),
        ('"CORP\\\\anna" <anna@example.org> (at home)', ["anna@example.org"]),
        # two readings are possible: both count
        ("evil@bank.example <anna@example.org>", ["anna@example.org", "evil@bank.example"]),
    ],
)
def test_mailboxes(value: str, addresses: list[str]) -> None:
    boxes = mailboxes(f" {value}\r\n".encode())
    assert not isinstance(boxes, Bad), boxes
    assert [box.address for box in boxes] == addresses


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("=?utf-8?Q?anna=40example.org?=", "an address looks like"),
        ("=?utf-8?Q?anna?=@example.org", "an encoded word"),
        ("<=?utf-8?Q?anna?=@example.org>", "an encoded word"),
        ("<@a.example,@b.example:anna@example.org>", "source routes"),
        ("anna@example.org evil@bank.example", "an address looks like"),
        ("Anna evil@bank.example <anna@example.org>", "an address looks like"),
        ("<anna@example.org> <evil@bank.example>", "angle brackets"),
        ("<anna@example.org> evil", "angle brackets"),
        ("<<anna@example.org>>", "angle brackets"),
        ("<anna@example.org", "no end"),
        ("<anna@example.org, evil@bank.example", "no end"),
        ("anna@example.org>", "an address looks like"),
        ("Team: a@b.example", "no end"),
        ("Team: Inner: a@b.example;;", "a colon"),
        (": a@b.example;", "a colon"),
        ("a@b.example; c@d.example", "not by semicolons"),
        ("(no end anna@example.org", "a comment"),
        ("(bell \x07) anna@example.org", "a comment"),
        ("anna@example.org)", "a quote"),
        ('"no end <anna@example.org>', "a quote"),
        ("Anna\x00 <anna@example.org>", "a quote"),
        ("<anna @example.org\x01>", "a quote"),
        ("<an na@example.org>", "an address looks like"),
        ("<>", "an address looks like"),
        ("<root@nas>", "not a full name"),
        ("<a%b@example.org>", "another host"),
        ("root", "an address looks like"),
        ("=?utf-8?Q?evil=40bank.example=2C?= <anna@example.org>", "an encoded word"),
        ('"=?utf-8?Q?evil=40bank.example=3E?=" <anna@example.org>', "an encoded word"),
        ("=?utf-8?Q?evil=40?= =?utf-8?b?Ijw=?= <anna@example.org>", "an encoded word"),
        ("=?x-none*en?Q?=3Cevil=40bank.example=3E?= <anna@example.org>", "an encoded word"),
        ("=?utf-7?Q?+ADw-evil+AEA-bank.example+AD4-?= <anna@example.org>", "an encoded word"),
        ("anna@example.org (evil@bank.example)", "a comment"),
        ("(((evil\\@bank.example))) <anna@example.org>", "a comment"),
        ('"a\\"<evil@bank.example>" <anna@example.org>', "in quotes"),
        ('"a\\\\" <anna@example.org>, "<evil@bank.example>" <anna@example.org>', "in quotes"),
        ('(") "<evil@bank.example>" <anna@example.org>', "in quotes"),
        ('a"<evil@bank.example>" <anna@example.org>', "in quotes"),
        ('"<evil@bank.example>"a <anna@example.org>', "in quotes"),
        ('"evil@bank.example"@example.org', "in quotes"),
    ],
)
def test_what_is_no_list_of_addresses(value: str, why: str) -> None:
    bad = mailboxes(f" {value}\r\n".encode())
    assert isinstance(bad, Bad), bad
    assert why in bad.why


def test_spans_cut_out_the_address_and_leave_the_rest() -> None:
    for text in (
        b" Anna <a@b.example> (x)\r\n",
        b" <a@b.example>\r\n",
        b" (x) a@b.example (y)\r\n",
        b" a@b.example\r\n",
    ):
        (box,) = mailboxes(text)
        assert not isinstance(box, str)
        assert text[box.start : box.end].strip(b"<>") == b"a@b.example"
        assert b"<" not in text[: box.start] + text[box.end :]


def test_look_alike_letters_make_another_address() -> None:
    boxes = mailboxes(" \u0430nna@example.org\r\n".encode())
    assert not isinstance(boxes, Bad)
    assert boxes[0].address != "anna@example.org"


def test_the_fast_way_sees_what_the_slow_one_sees() -> None:
    for value in (b" Anna <anna@example.org>\r\n", b"anna@example.org\r\n", b' "A, B" <anna@example.org> \r\n'):
        header = b"From:" + value
        found = split(header)
        assert not isinstance(found, Refusal)
        assert sole_address(header, found[0]) == "anna@example.org"
    for value in (
        b" a@b.example, anna@example.org\r\n",
        b" =?x?q?y?=@example.org\r\n",
        b" e@b.example <anna@example.org>\r\n",
    ):
        header = b"From:" + value
        found = split(header)
        assert not isinstance(found, Refusal)
        assert sole_address(header, found[0]) == ""


def test_what_stands_for_an_address_in_a_field_that_has_none() -> None:
    assert names_only(b" Cron Daemon (root)\r\n")
    assert not names_only(b" root@nas\r\n")
    assert not names_only(b" \r\n")
    value = b" Cron <root@nas>\r\n"
    assert address_span(value) == (6, 16)
    assert address_span(b" root@nas (Cron)\r\n") == (1, 9)
    for none in (b" root\r\n", b" a@b, c@d\r\n", b" <a> <b>\r\n", b' "\r\n'):
        assert address_span(none) is None


@pytest.mark.parametrize(
    "piece", [b"(", b"<", b'"', b"\\", b"=?", b",", b"a@b.c,", b"((", b'"a"', b"x:", b"[", b" \r\n\t"]
)
def test_hostile_values_take_no_time(piece: bytes) -> None:
    value = piece * (16 * limits.KIB // len(piece))
    mailboxes(value)
    names_only(value)
    address_span(value)


@given(
    st.lists(
        st.sampled_from([b"a", b"@", b".", b"<", b">", b",", b":", b";", b"(", b")", b'"', b"\\", b" ", b"b.c"]),
        max_size=14,
    )
)
def test_whatever_is_read_holds_only_addresses_that_stand_there(parts: list[bytes]) -> None:
    value = b"".join(parts)
    boxes = mailboxes(value)
    if not isinstance(boxes, Bad):
        for box in boxes:
            assert 0 <= box.start < box.end <= len(value)
            assert b"@" in value[box.start : box.end]


@given(st.binary(max_size=200))
def test_no_header_raises(header: bytes) -> None:
    found = split(header)
    if isinstance(found, list):
        assert all(header[field.start : field.end].endswith(b"\r\n") for field in found)
        assert sum(field.end - field.start for field in found) >= len(header) - 2
