"""What changes in a header on its way to a provider: a reference to the id that is lost, and the provider's fields."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from email import message_from_bytes
from email.policy import compat32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay import limits
from relay.delivery.content import (
    REFERENCE_ROOM,
    fields,
    header_first,
    idempotency_key,
    with_reference,
    with_short_fields,
    without_fields,
)
from support.presets import provider

OWN = "<own@example.org>"
BODY = b"\r\nReferences: <in-the-text@example.org>\r\n"


@pytest.mark.parametrize(
    ("header", "changed"),
    [
        # absent
        (b"Subject: x\r\n", b"Subject: x\r\nReferences: <own@example.org>\r\n"),
        # absent, but an answer
        (
            b"In-Reply-To: <p@example.net>\r\nSubject: x\r\n",
            b"In-Reply-To: <p@example.net>\r\nSubject: x\r\nReferences: <p@example.net>\r\n <own@example.org>\r\n",
        ),
        (
            b"In-Reply-To: Your message of Monday\r\n",
            b"In-Reply-To: Your message of Monday\r\nReferences: <own@example.org>\r\n",
        ),
        # there
        (
            b"References: <p@example.net>\r\nSubject: x\r\n",
            b"References: <p@example.net>\r\n <own@example.org>\r\nSubject: x\r\n",
        ),
        # folded, odd letters
        (
            b"A: 1\r\nREFERENCES : <a@x>\r\n\t<b@x>  \r\nB: 2\r\n",
            b"A: 1\r\nREFERENCES : <a@x>\r\n\t<b@x>\r\n <own@example.org>\r\nB: 2\r\n",
        ),
        # empty
        (b"References: \r\nA: 1\r\n", b"References:\r\n <own@example.org>\r\nA: 1\r\n"),
        # several: the first is what programs read
        (
            b"References: <a@x>\r\nReferences: <b@x>\r\n",
            b"References: <a@x>\r\n <own@example.org>\r\nReferences: <b@x>\r\n",
        ),
        # the last field
        (b"A: 1\r\nReferences: <a@x>\r\n", b"A: 1\r\nReferences: <a@x>\r\n <own@example.org>\r\n"),
        # only looks like it
        (b"X-References: <a@x>\r\n", b"X-References: <a@x>\r\nReferences: <own@example.org>\r\n"),
        (b"A: x\r\n References: <a@x>\r\n", b"A: x\r\n References: <a@x>\r\nReferences: <own@example.org>\r\n"),
    ],
)
def test_the_id_stands_at_the_end_of_the_references(header: bytes, changed: bytes) -> None:
    assert with_reference(header + BODY, OWN) == changed + BODY


@pytest.mark.parametrize(
    "message_id",
    [
        "",
        "own@example.org",
        "<>",
        "<a b@example.org>",
        "<a@x>\r\nBcc: <b@x>",
        "<a@x> <b@x>",
        "<é@x>",
        "<" + "a" * 401 + ">",
    ],
)
def test_an_id_that_is_none_changes_nothing(message_id: str) -> None:
    mail = b"Subject: x\r\n" + BODY
    assert with_reference(mail, message_id) is mail


def test_an_id_that_is_there_is_not_added_again() -> None:
    mail = b"References: <a@x>\r\n <own@example.org>\r\n <c@x>\r\n" + BODY
    assert with_reference(mail, OWN) is mail


def test_a_header_without_an_end_is_left_alone() -> None:
    assert with_reference(b"Subject: x\r\nA: 1\r\n", OWN) == b"Subject: x\r\nA: 1\r\n"


names = st.sampled_from(["Subject", "To", "In-Reply-To", "References", "references", "X-References", "Received"])
texts = st.text(st.sampled_from("ab<>@. \t:,é"), max_size=30)
folded = st.lists(texts, min_size=1, max_size=3).map(lambda lines: "\r\n ".join(line.strip() or "x" for line in lines))
headers = st.lists(st.tuples(names, folded), min_size=1, max_size=6)
ids = st.text(st.sampled_from("abc.@+-"), min_size=1, max_size=30).map(lambda text: f"<{text}>")


@given(headers, ids, st.binary(max_size=40))
def test_only_the_references_change_and_the_header_stays_well_formed(
    header: list[tuple[str, str]], message_id: str, body: bytes
) -> None:
    mail = "".join(f"{name}: {value}\r\n" for name, value in header).encode() + b"\r\n" + body
    changed = with_reference(mail, message_id)
    before, after = (message_from_bytes(one, policy=compat32) for one in (mail, changed))
    assert not after.defects
    assert changed.endswith(b"\r\n\r\n" + body)
    assert len(changed) <= len(mail) + REFERENCE_ROOM

    def rest(message: object) -> list[tuple[str, object]]:
        return [(name, value) for name, value in message.items() if name.lower() != "references"]  # type: ignore[attr-defined]

    assert rest(after) == rest(before)
    assert message_id in str(after["References"])
    if before["References"] is not None:
        assert str(after["References"]).startswith(str(before["References"]).rstrip())
        assert len(after.get_all("References", [])) == len(before.get_all("References", []))
    assert with_reference(changed, message_id) == changed


@given(ids, ids)
def test_the_longest_identifiers_fit_into_the_room_that_size_declares(own: str, parent: str) -> None:
    longest = f"<{'a' * 400}>"
    for one in (parent, longest):
        mail = f"In-Reply-To: {one}\r\n\r\n".encode()
        assert len(with_reference(mail, longest)) - len(mail) <= REFERENCE_ROOM


# --- what a provider does not take at all
CLOUDFLARE = provider("cloudflare")


def test_cloudflare_gets_no_field_that_it_refuses() -> None:
    """Its page "Email headers": a list of names, and X- fields with a value of up to 2,048 bytes."""
    goes = (
        b"Message-ID: <1@printer>\r\nUser-Agent: Thunderbird\r\nAutocrypt: addr=a;\r\n keydata=x\r\n\tyz\r\n"
        b"Sender: b@example.org\r\nDisposition-Notification-To: a@example.org\r\nResent-From: c@example.org\r\n"
        b"DKIM-Signature: v=1\r\nList-Odd: x\r\nFromage: brie\r\nX-Empty:\r\nX-Blank: \r\n \t\r\nX-Long: %s\r\n %s\r\n"
    ) % (b"a" * 1_000, b"b" * 1_047)
    stays = (
        b"Received: from here\r\nFROM: a@example.org\r\nTo: b@example.net,\r\n c@example.net\r\nSubject:\r\n"
        b"Mime-Version : 1.0\r\nContent-Type: text/plain\r\nThread-Index: A\r\nList-Id: <x>\r\nX-Long: %s\r\n"
    ) % (b"a" * 2_048)
    for mail in (goes + stays + BODY, stays + goes + BODY, stays + BODY):
        assert with_short_fields(without_fields(mail, CLOUDFLARE.strip), CLOUDFLARE.field_size) == stays + BODY
    assert with_short_fields(stays + BODY, 5_000) == stays + BODY
    assert with_short_fields(stays, CLOUDFLARE.field_size) == stays


def test_a_long_thread_keeps_its_first_and_its_last_messages() -> None:
    ids = [b"<%03d@example.net>" % number for number in range(300)]
    mail = b"A: 1\r\nReferences: " + b"\r\n\t".join(ids) + b"\r\nB: 2\r\n" + BODY
    changed = with_short_fields(with_reference(mail, OWN), 2_048)
    assert changed.startswith(b"A: 1\r\nReferences: ")
    assert changed.endswith(b"\r\nB: 2\r\n" + BODY)
    value = str(message_from_bytes(changed)["References"]).encode()
    assert value.split() == [ids[0], *ids[-(len(value.split()) - 2) :], OWN.encode()]
    assert 2_000 < len(value) <= 2_048
    assert with_short_fields(b"References: %s\r\n" % (b"no id " * 400) + BODY, 2_048) == BODY


def test_the_worst_header_is_looked_through_in_linear_time() -> None:
    for line in (
        b"X-" + b"a" * 998 + b"\r\n",
        b"X-A:" + b" \r\n" * 100,
        b"X-A: b\r\n" + b" c\r\n" * 100,
        b"<" * 998 + b"\r\n",
    ):
        header = line * (limits.HEADER_KEPT // len(line))
        for mail in (header + BODY, b"References: " + header + BODY, header.replace(b"\r\n", b"") + BODY):
            began = time.process_time()
            with_short_fields(without_fields(mail, CLOUDFLARE.strip), CLOUDFLARE.field_size)
            assert time.process_time() - began < 1.0


# --- the whole header, however the spool has cut it
def cut(mail: bytes, sizes: Sequence[int]) -> list[bytes]:
    """``mail`` in pieces of these sizes, over and over."""
    pieces = []
    while mail:
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(mail[:size])
        mail = mail[size:]
    return pieces


async def gathered(pieces: list[bytes]) -> list[bytes]:
    async def read() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    return [piece async for piece in header_first(read())]


@given(
    st.sampled_from([b"A: 1\r\n", b"A: 1\r\n b\r\nB: 2\r\n"]),
    st.sampled_from([b"", b"\r\n", b"\r\nbody\r\n\r\nmore\r\n"]),
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
)
async def test_the_first_piece_holds_the_whole_header_and_nothing_is_lost(
    header: bytes, rest: bytes, sizes: list[int]
) -> None:
    first, *others = await gathered(cut(header + rest, sizes))
    assert first.startswith(header + rest[:2])
    assert first + b"".join(others) == header + rest
    assert len(first) < len(header + rest[:2]) + max(sizes), "more was held than had to be"


@pytest.mark.parametrize("over", [0, 1])
async def test_no_more_is_held_than_a_header_may_have(over: int) -> None:
    header = b"A: " + b"a" * (limits.HEADER_KEPT + over - 3)
    first, *others = await gathered([header, b"b", b"c"])
    assert [first, *others] == ([header + b"b", b"c"] if not over else [header, b"b", b"c"])


# --- the provider's own fields
def test_fields_of_the_provider_name_this_sending() -> None:
    assert fields((("X-Track", "no"), ("Key", "a/{id}")), "01JD-ff") == b"X-Track: no\r\nKey: a/01JD-ff\r\n"
    assert fields((("X-SMTPAPI", '{"filters":{}}'),), "x") == b'X-SMTPAPI: {"filters":{}}\r\n'


def test_a_repetition_has_the_same_key_and_another_part_another() -> None:
    key = idempotency_key("01JD", ["b@x", "a@x"])
    assert key == idempotency_key("01JD", ["a@x", "b@x"])
    assert key != idempotency_key("01JD", ["a@x"])
    assert key != idempotency_key("01JE", ["a@x", "b@x"])
    assert len(key) < 256  # Resend takes no more
