"""The bytes on the wire and the order they go in: dots, pieces, pipelining, the mark before the dot, replies with
bounds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay import limits
from relay.accounts import Account
from relay.delivery.connection import Offer, Times
from relay.delivery.content import Stuffer, field_pattern, without_fields
from relay.delivery.failures import Garbage, OwnRefusal
from relay.delivery.outcome import Finding, Reply
from relay.delivery.replies import Link
from relay.delivery.transaction import AT_ONCE, Stale, Transaction
from relay.model import Job, Message, Recipient
from relay.providers.provider import Provider
from relay.providers.rules import Stage
from relay.refusal import Refusal
from relay.submission.prepare import Prepared, Trace, prepare

BODY = b"Subject: x\r\n\r\nHello\r\n"
TIMES = Times(connect=1, reply=1, block=1, final=1, quit=1)
OK = b"250 2.0.0 ok\r\n"


# --- dots
@given(st.lists(st.sampled_from([b".", b"\r\n", b"\r", b"\n", b"x", b"..", b"\r\n.\r\n", b"\0", b"\xff"])), st.data())
@example([b"\r\n", b".", b"\r\n"], None)
def test_stuffing_is_undone_by_the_rule_of_the_rfc_however_it_is_cut(parts: list[bytes], data: Any) -> None:
    content = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=5))) if data else [1, 2]
    stuffer, wire, at = Stuffer(), b"", 0
    for cut in [*cuts, len(content)]:
        wire += stuffer.stuff(content[at:cut])
        at = cut
    end = stuffer.end()
    assert end in (b".\r\n", b"\r\n.\r\n")
    received = undot(wire + end)
    assert received == content + (b"" if end == b".\r\n" else b"\r\n")


def undot(wire: bytes) -> bytes:
    """What a receiver makes of it (RFC 5321, 4.5.2): lines end in CRLF, a leading dot goes, a lone dot ends it, and
    nothing may follow.
    """
    lines = wire.split(b"\r\n")
    end = lines.index(b".")
    assert lines[end + 1 :] == [b""], "the data ended before its end"
    return b"".join(line.removeprefix(b".") + b"\r\n" for line in lines[:end])


SMUGGLING = [
    b"\n.\n",
    b"\n.\r",
    b"\r.\n",
    b"\r.\r",
    b"\n.\r\n",
    b"\r.\r\n",
    b"\r\n.\n",
    b"\r\n.\r",
    b"\r\n.\r\r\n",
    b"\r\r\n.\r\r\n",
    b"\r\n\0.\r\n",
    b"\r\n.\r\n",
    b"\r\n.\0\r\n",
]


@pytest.mark.parametrize("sequence", SMUGGLING)
def test_no_end_mark_of_the_scanners_list_ends_the_data(sequence: bytes) -> None:
    content = b"before" + sequence + b"MAIL FROM:<x@example.org>\r\n"
    stuffer = Stuffer()
    wire = stuffer.stuff(content) + stuffer.end()
    assert wire.index(b"\r\n.\r\n") == len(wire) - 5
    assert undot(wire) == content


def test_an_ordinary_message_is_not_copied() -> None:
    content = b"Subject: x\r\n\r\nno dots at line starts. Really\r\n"
    assert Stuffer().stuff(content) is content


# --- control fields
STEER = field_pattern(["X-SMTPAPI", "X-Mailgun-*"])


@pytest.mark.parametrize(
    ("header", "left"),
    [
        (b"A: 1\r\nX-SMTPAPI: {}\r\nB: 2\r\n\r\nbody", b"A: 1\r\nB: 2\r\n\r\nbody"),
        (b"X-SMTPAPI: {}\r\n\r\nbody", b"\r\nbody"),
        (b"A: 1\r\nx-smtpapi : a\r\n b\r\n\tc\r\nB: 2\r\n\r\n", b"A: 1\r\nB: 2\r\n\r\n"),
        (b"X-Mailgun-Tag: a\r\nX-Mailgun-Variables: b\r\nX-Mailgunner: c\r\n\r\n", b"X-Mailgunner: c\r\n\r\n"),
        (b"A: 1\r\n\r\nX-SMTPAPI: {}\r\n", b"A: 1\r\n\r\nX-SMTPAPI: {}\r\n"),
        (b"A: X-SMTPAPI: 1\r\nNotX-SMTPAPI: 2\r\n\r\n", b"A: X-SMTPAPI: 1\r\nNotX-SMTPAPI: 2\r\n\r\n"),
        (b"A: 1\r\nX-SMTPAPI: {}\r\n", b"A: 1\r\n"),
    ],
)
def test_control_fields_go_and_nothing_else(header: bytes, left: bytes) -> None:
    assert without_fields(header, STEER) == left


def test_nothing_to_strip() -> None:
    assert field_pattern([]) is None
    assert without_fields(BODY, None) is BODY
    assert without_fields(BODY, STEER) is BODY


# --- a wire in memory
class Wire(asyncio.Transport):
    """Remembers what was written, and answers by the script when asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = self.aborted = False

    def write(self, data: Any) -> None:
        assert not self.aborted
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


class Source:
    """The spool's part; notes when the mark came."""

    def __init__(self, wire: Wire, body: bytes = b"", piece: int = 10) -> None:
        self.wire, self.body, self.piece = wire, body, piece
        self.marked: list[tuple[list[int], str]] = []
        self.written_before_mark = b""
        self.gate = asyncio.Event()
        self.gate.set()

    async def mark(self, deliveries: Sequence[int], provider: str = "") -> None:
        await self.gate.wait()
        self.marked.append((list(deliveries), provider))
        self.written_before_mark = b"".join(self.wire.written)

    async def read(self, message_id: str) -> AsyncIterator[bytes]:
        for start in range(0, len(self.body), self.piece):
            yield self.body[start : start + self.piece]


def job(body: bytes | None, *recipients: str, sender: str = "anna@example.org", **more: Any) -> Job:
    message = Message(
        id="01JDA0000000000000000000AA",
        account="anna",
        sender=sender,
        recipients=(),
        received_at=0.0,
        message_id="<x@example.org>",
        **{"size": len(body or b""), **more},
    )
    to = recipients or ("bob@example.net",)
    return Job(
        message=message,
        recipients=tuple(Recipient(delivery=n, address=one, attempts=0, doubts=0) for n, one in enumerate(to, 1)),
        body=body,
        chunks=1,
    )


OFFER = Offer(pipelining=True, size=True, size_limit=0, eightbit=True, smtputf8=False)
PROVIDER = Provider(name="p", host="h", ports=((1, "none"),), strip=STEER)


async def until(condition: Callable[[], bool]) -> None:
    """Lets the other tasks run until ``condition`` holds."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 (a wire in memory has no event to wait on)
            await asyncio.sleep(0)


class Play:
    """A transaction and the other side of its wire."""

    def __init__(
        self, one: Job, *, offer: Offer = OFFER, body: bytes = b"", messages: int = 0, provider: Provider = PROVIDER
    ) -> None:
        self.wire = Wire()
        self.link = Link(asyncio.get_running_loop(), self.wire)
        self.link.messages = messages
        self.source = Source(self.wire, body)
        self.running = asyncio.ensure_future(Transaction(self.link, offer, provider, self.source, TIMES, one).run())

    async def said(self, count: int) -> bytes:
        """What was written in the first ``count`` writes, once there are so many."""
        await until(lambda: len(self.wire.written) >= count)
        assert len(self.wire.written) == count, self.wire.written
        return self.wire.written[-1]

    def answer(self, data: bytes) -> None:
        self.link.data_received(data)

    async def findings(self) -> list[Finding]:
        async with asyncio.timeout(5):
            return await self.running


# --- the envelope
async def test_with_pipelining_the_envelope_is_one_write() -> None:
    play = Play(job(BODY, "a@example.net", "b@example.net"))
    assert await play.said(1) == (
        b"MAIL FROM:<anna@example.org> SIZE=21 BODY=8BITMIME\r\n"
        b"RCPT TO:<a@example.net>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n"
    )
    play.answer(OK * 3 + b"354 go\r\n")
    assert await play.said(2) == BODY + b".\r\n"
    play.answer(b"250 2.0.0 queued\r\n")
    assert await play.findings() == [Finding(Stage.FINAL, Reply(250, "2.0.0 queued"))] * 2
    assert play.source.marked == [([1, 2], "p")]
    assert play.link.usable


async def test_without_pipelining_each_command_waits_for_its_answer() -> None:
    offer = Offer(pipelining=False, size=False, size_limit=0, eightbit=False, smtputf8=False)
    play = Play(job(BODY), offer=offer)
    for count, (command, answer) in enumerate(
        [
            (b"MAIL FROM:<anna@example.org>\r\n", OK),
            (b"RCPT TO:<bob@example.net>\r\n", OK),
            (b"DATA\r\n", b"354 go\r\n"),
            (BODY + b".\r\n", OK),
        ],
        1,
    ):
        assert await play.said(count) == command
        play.answer(answer)
    assert [finding.stage for finding in await play.findings()] == [Stage.FINAL]


async def test_smtputf8_is_asked_for_only_where_it_is_offered_and_needed() -> None:
    offer = Offer(pipelining=True, size=False, size_limit=0, eightbit=False, smtputf8=True)
    play = Play(job(BODY, "jürgen@example.net", smtputf8=True), offer=offer)
    assert (
        await play.said(1)
        == "MAIL FROM:<anna@example.org> SMTPUTF8\r\nRCPT TO:<jürgen@example.net>\r\nDATA\r\n".encode()
    )
    play.running.cancel()


@pytest.mark.parametrize(
    ("one", "offer", "words"),
    [
        (job(BODY, "jürgen@example.net"), OFFER, "no addresses with letters beyond ASCII"),
        (job(BODY, smtputf8=True), OFFER, "no headers with letters beyond ASCII"),
        (job(BODY, sender="jürgen@example.org"), OFFER, "beyond ASCII"),
        (job(BODY, "a@example.net>\r\nRCPT TO:<b@example.net"), OFFER, "control character"),
        (job(BODY), Offer(True, True, 20, True, False), "at most 20"),
    ],
)
async def test_what_the_provider_cannot_carry_is_refused_before_a_byte_is_sent(
    one: Job, offer: Offer, words: str
) -> None:
    play = Play(one, offer=offer)
    (finding,) = await play.findings()
    assert isinstance(finding.answer, OwnRefusal)
    assert words in str(finding.answer)
    assert play.wire.written == []


async def test_a_message_of_exactly_the_providers_limit_is_sent() -> None:
    play = Play(job(BODY), offer=Offer(True, True, len(BODY), True, False))
    assert b"SIZE=21" in await play.said(1)
    play.running.cancel()


# --- what the provider wants otherwise
KEEPER = replace(PROVIDER, replaces_message_id=True, headers=(("X-Track", "no"), ("Key", "{id}")))


def declared(mail: bytes) -> int:
    """The size that MAIL promised."""
    return int(mail.partition(b"SIZE=")[2].split()[0])


@pytest.mark.parametrize("inline", [True, False])
async def test_the_providers_fields_and_the_lost_id_go_with_the_content(inline: bool) -> None:
    play = Play(job(BODY if inline else None, size=len(BODY)), body=BODY, provider=KEEPER)
    play.source.piece = len(BODY)
    envelope = await play.said(1)
    play.answer(OK * 2 + b"354 go\r\n")
    await until(lambda: play.wire.written[-1].endswith(b".\r\n"))
    play.answer(OK)
    await play.findings()
    sent = b"".join(play.wire.written[1:])
    assert sent.startswith(b"X-Track: no\r\nKey: 01JDA0000000000000000000AA-")
    assert sent.endswith(b"\r\nSubject: x\r\nReferences: <x@example.org>\r\n\r\nHello\r\n.\r\n")
    assert declared(envelope) >= len(sent) - len(b".\r\n")


async def test_a_field_that_is_too_long_for_the_provider_is_left_out() -> None:
    body = b"X-Long: " + b"a" * 3_000 + b"\r\n" + BODY
    play = Play(job(body), provider=replace(PROVIDER, field_size=2_048))
    await play.said(1)
    play.answer(OK * 2 + b"354 go\r\n")
    assert await play.said(2) == BODY + b".\r\n"
    play.answer(OK)
    await play.findings()


async def test_size_covers_the_providers_fields_alone_and_is_exact_then() -> None:
    play = Play(job(BODY), provider=replace(KEEPER, replaces_message_id=False))
    envelope = await play.said(1)
    play.answer(OK * 2 + b"354 go\r\n")
    sent = await play.said(2)
    play.answer(OK)
    await play.findings()
    assert declared(envelope) == len(sent) - len(b".\r\n")


async def test_what_the_provider_adds_counts_against_its_limit() -> None:
    play = Play(job(BODY), offer=Offer(True, True, len(BODY) + 10, True, False), provider=KEEPER)
    (finding,) = await play.findings()
    assert isinstance(finding.answer, OwnRefusal)


async def test_the_key_names_the_recipients_that_were_taken() -> None:
    async def key(*answers: bytes) -> bytes:
        play = Play(job(BODY, "a@example.net", "b@example.net"), provider=KEEPER)
        await play.said(1)
        play.answer(OK + b"".join(answers) + b"354 go\r\n")
        await play.said(2)
        play.answer(OK)
        await play.findings()
        return play.wire.written[-1].partition(b"Key: ")[2].partition(b"\r\n")[0]

    refused = b"550 5.1.1 no\r\n"
    assert await key(OK, OK) == await key(OK, OK)
    assert len({await key(OK, OK), await key(OK, refused), await key(refused, OK)}) == 3


# --- the mark
async def test_a_small_message_and_its_dot_wait_for_the_mark() -> None:
    play = Play(job(BODY))
    play.source.gate.clear()
    await play.said(1)
    play.answer(OK * 2 + b"354 go\r\n")
    for _ in range(20):
        await asyncio.sleep(0)
    await play.said(1)
    play.source.gate.set()
    assert await play.said(2) == BODY + b".\r\n"
    assert b".\r\n" not in play.source.written_before_mark
    play.answer(OK)
    await play.findings()


def as_accepted(header: int, last: bytes) -> Prepared | Refusal:
    """What submission makes of a header of so many bytes whose last field is ``last``."""
    start = b"From: anna@example.org\r\nDate: x\r\nMessage-ID: <x@example.org>\r\n"
    room = header - len(start) - len(last) - 2
    pads = [b"X-Pad: %b\r\n" % (b"a" * (1000 - 9)) for _ in range(room // 1000 - 1)]
    pads.append(b"X-Pad: %b\r\n" % (b"a" * (room - 1000 * len(pads) - 9)))
    written = start + b"".join(pads) + last + b"\r\n"
    assert len(written) == header
    account = Account(name="anna", password_hash="", senders=("anna@example.org",))
    trace = Trace.make(hostname="mail.example.org", domain="example.org", client_name="x", client_address="192.0.2.7")
    return prepare(written, account=account, sender="", trace=trace, message_id="0" * 26, now=0.0, lenient=False)


@pytest.mark.parametrize("size", [limits.HEADER_SIZE - 600, limits.HEADER_SIZE - 1, limits.HEADER_SIZE])
async def test_a_field_that_steers_is_found_in_the_largest_header_too(size: int) -> None:
    """We add a Received field, so that the header may end in another chunk than it begins in."""
    prepared = as_accepted(size, b'X-SMTPAPI: {"to":["more@example.net"]}\r\n')
    assert isinstance(prepared, Prepared)
    mail = prepared.header + b"Hello\r\n"
    play = Play(job(None, size=len(mail)), body=mail, provider=KEEPER)
    play.source.piece = limits.CHUNK
    await play.said(1)
    play.answer(OK * 2 + b"354 go\r\n")
    await until(lambda: play.wire.written[-1].endswith(b".\r\n"))
    play.answer(OK)
    await play.findings()
    header, _, body = b"".join(play.wire.written[1:]).partition(b"\r\n\r\n")
    assert b"X-SMTPAPI" not in header
    assert header.endswith(b"References: <x@example.org>")
    assert body == b"Hello\r\n.\r\n"


def test_a_larger_header_does_not_get_that_far() -> None:
    assert isinstance(as_accepted(limits.HEADER_SIZE + 1, b"X-SMTPAPI: {}\r\n"), Refusal)


@pytest.mark.parametrize("inline", [True, False])
async def test_a_large_message_travels_while_the_mark_is_committed_but_its_dot_waits(inline: bool) -> None:
    body = b"Subject: x\r\n\r\n" + b".line\r\n" * (AT_ONCE // 5)
    play = Play(job(body if inline else None, size=len(body)), body=body)
    play.source.piece = 8000
    play.source.gate.clear()
    await play.said(1)
    play.answer(OK * 2 + b"354 go\r\n")
    wanted = Stuffer().stuff(body)
    await until(lambda: b"".join(play.wire.written[1:]) == wanted)
    for _ in range(20):
        await asyncio.sleep(0)
    assert b"".join(play.wire.written[1:]) == wanted, "the dot came before the mark"
    play.source.gate.set()
    await until(lambda: play.wire.written[-1] == b".\r\n")
    play.answer(OK)
    assert [finding.stage for finding in await play.findings()] == [Stage.FINAL]


async def test_only_accepted_recipients_are_marked() -> None:
    play = Play(job(BODY, "a@example.net", "b@example.net", "c@example.net"))
    await play.said(1)
    play.answer(OK + OK + b"550 5.1.1 no\r\n" + OK + b"354 go\r\n")
    await play.said(2)
    play.answer(OK)
    findings = await play.findings()
    assert [finding.stage for finding in findings] == [Stage.FINAL, Stage.RCPT, Stage.FINAL]
    assert play.source.marked == [([1, 3], "p")]


async def test_a_provider_that_says_go_without_a_recipient_gets_a_lone_dot() -> None:
    play = Play(job(BODY))
    await play.said(1)
    play.answer(OK + b"550 5.1.1 no\r\n354 go\r\n")
    assert await play.said(2) == b".\r\n"
    play.answer(b"554 5.5.1 no valid recipients\r\n")
    assert await play.findings() == [Finding(Stage.RCPT, Reply(550, "5.1.1 no"))]
    assert play.source.marked == []
    assert play.link.usable


async def test_without_a_recipient_the_envelope_is_taken_back() -> None:
    play = Play(job(BODY))
    await play.said(1)
    play.answer(OK + b"550 5.1.1 no\r\n503 5.5.1 no recipients\r\n")
    assert await play.said(2) == b"RSET\r\n"
    play.answer(OK)
    assert [finding.stage for finding in await play.findings()] == [Stage.RCPT]


async def test_backpressure_stops_the_reading_of_the_spool() -> None:
    body = b"Subject: x\r\n\r\n" + b"x" * 98 + b"\r\n"
    play = Play(job(None, size=len(body)), body=body)
    await play.said(1)
    play.link.pause_writing()
    play.answer(OK * 2 + b"354 go\r\n")
    await play.said(2)  # one piece, then it waits
    for _ in range(20):
        await asyncio.sleep(0)
    await play.said(2)
    play.link.resume_writing()
    await until(lambda: play.wire.written[-1].endswith(b".\r\n"))
    play.answer(OK)
    await play.findings()
    assert undot(b"".join(play.wire.written[1:])) == body


async def test_an_early_answer_in_the_middle_of_the_content_stops_it() -> None:
    body = b"Subject: x\r\n\r\n" + b"x" * 98 + b"\r\n"
    play = Play(job(None, size=len(body)), body=body)
    await play.said(1)
    play.link.pause_writing()
    play.answer(OK * 2 + b"354 go\r\n")
    await play.said(2)
    play.answer(b"552 5.3.4 too much already\r\n")
    assert await play.findings() == [Finding(Stage.BODY, Reply(552, "5.3.4 too much already"))]
    assert not play.link.usable
    await play.said(2)


# --- a link that was used before
@pytest.mark.parametrize("said", [b"", OK, OK * 2])
@pytest.mark.parametrize("end", [b"", b"421 4.4.2 idle too long\r\n"])
async def test_a_kept_connection_that_dies_before_the_content_is_stale(said: bytes, end: bytes) -> None:
    play = Play(job(BODY), messages=1)
    await play.said(1)
    play.answer(said + end)
    if not end:
        play.link.connection_lost(None)
    with pytest.raises(Stale):
        await play.findings()


async def test_a_fresh_connection_that_dies_is_a_failed_attempt() -> None:
    play = Play(job(BODY), messages=0)
    await play.said(1)
    play.link.connection_lost(None)
    (finding,) = await play.findings()
    assert finding.stage is Stage.MAIL


@pytest.mark.parametrize("marked", [True, False])
async def test_a_kept_connection_that_dies_in_the_content_is_a_failed_attempt(marked: bool) -> None:
    play = Play(job(BODY), messages=1)
    await play.said(1)
    if not marked:
        play.source.gate.clear()
    play.answer(OK * 2 + b"354 go\r\n")
    if marked:
        await play.said(2)
    play.link.connection_lost(None)
    play.source.gate.set()
    (finding,) = await play.findings()
    assert finding.stage is (Stage.FINAL if marked else Stage.BODY)


async def test_a_spent_connection_is_not_left_in_the_middle_of_a_content() -> None:
    play = Play(job(BODY), messages=1)
    await play.said(1)
    play.answer(b"451 4.7.0 enough\r\n" + OK + b"354 go\r\n")
    with pytest.raises(Stale):
        await play.findings()
    await play.link.quit(1.0)
    assert play.wire.closed
    assert len(play.wire.written) == 1, "QUIT would be a line of the content"


# --- replies
async def replies(*data: bytes, wanted: int = 1) -> tuple[list[Reply], BaseException | None]:
    link = Link(asyncio.get_running_loop(), Wire())
    asking = asyncio.ensure_future(link.ask(b"X\r\n", wanted, 0.2))
    await asyncio.sleep(0)
    for piece in data:
        link.data_received(piece)
    async with asyncio.timeout(5):
        return await asking, link.failure


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        ([b"250 ok\r\n"], Reply(250, "ok")),
        ([b"250\r\n"], Reply(250, "")),
        ([b"250 ok\n"], Reply(250, "ok")),
        ([b"2", b"50", b" o", b"k\r", b"\n"], Reply(250, "ok")),
        ([b"250-2.0.0 one\r\n250-two\r\n250 three\r\n"], Reply(250, "2.0.0 one two three")),
        ([b"250-one\r", b"\n250 two\r\n"], Reply(250, "one two")),
        (["550 Empfänger\r\n".encode()], Reply(550, "Empfänger")),
        ([b"550 \xff\xfe\r\n"], Reply(550, "\ufffd\ufffd")),
    ],
)
async def test_replies_are_read_however_they_are_cut(data: list[bytes], reply: Reply) -> None:
    assert await replies(*data) == ([reply], None)


@pytest.mark.parametrize(
    "data",
    [
        b"hello\r\n",
        b"\r\n",
        b"25\r\n",
        b"2500 ok\r\n",
        b"150 early\r\n",
        b"650 late\r\n",
        b"25x ok\r\n",
        b"250_ok\r\n",
        "２５０ ok\r\n".encode(),
        b"250-one\r\n550 two\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\x16\x03\x01\x02\x00\r\n",
        b"250 " + b"x" * limits.REPLY_LINE + b"\r\n",
        b"x" * (limits.REPLY_LINE + 1),
        b"250-x\r\n" * (limits.REPLY_LINES + 1),
    ],
)
async def test_garbage_is_never_an_answer(data: bytes) -> None:
    got, failure = await replies(data)
    assert got == []
    assert isinstance(failure, Garbage)


async def test_a_line_and_a_reply_may_be_as_long_as_the_limits() -> None:
    line = b"250 " + b"x" * (limits.REPLY_LINE - 4)
    assert (await replies(line + b"\r\n"))[0] == [Reply(250, "x" * (limits.REPLY_LINE - 4))]
    assert len((await replies(b"250-x\r\n" * (limits.REPLY_LINES - 1) + b"250 x\r\n"))[0]) == 1


async def test_an_answer_too_many_ends_the_connection_but_not_the_answer() -> None:
    got, failure = await replies(b"250 ok\r\n250 injected\r\n")
    assert got == [Reply(250, "ok")]
    assert failure is not None


async def test_an_answer_that_nobody_asked_for_ends_the_connection() -> None:
    link = Link(asyncio.get_running_loop(), Wire())
    link.data_received(b"250 ok\r\n")
    assert not link.usable
    assert await link.ask(b"MAIL\r\n", 1, 1.0) == []


async def test_421_is_handed_out_at_once_and_nothing_more_is_waited_for() -> None:
    got, failure = await replies(b"250 ok\r\n421 closing\r\n", wanted=4)
    assert [reply.code for reply in got] == [250, 421]
    assert failure is not None


async def test_what_came_before_a_hang_up_is_handed_out() -> None:
    link = Link(asyncio.get_running_loop(), Wire())
    asking = asyncio.ensure_future(link.ask(b"X\r\n", 3, 1.0))
    await asyncio.sleep(0)
    link.data_received(b"250 one\r\n")
    link.connection_lost(ConnectionResetError("x"))
    assert await asking == [Reply(250, "one")]
    assert isinstance(link.failure, ConnectionResetError)


async def test_silence_ends_in_a_time_limit() -> None:
    got, failure = await replies()
    assert got == []
    assert isinstance(failure, TimeoutError)


async def test_every_answer_starts_the_time_limit_anew() -> None:
    loop = asyncio.get_running_loop()
    link = Link(loop, Wire())
    started = loop.time()
    asking = asyncio.ensure_future(link.ask(b"X\r\n", 3, 0.2))
    loop.call_later(0.15, link.data_received, b"250 one\r\n")
    assert await asking == [Reply(250, "one")]
    assert loop.time() - started >= 0.34


async def test_leaving_is_polite_only_while_the_other_side_listens() -> None:
    wire = Wire()
    link = Link(asyncio.get_running_loop(), wire)
    leaving = asyncio.ensure_future(link.quit(1.0))
    await asyncio.sleep(0)
    assert wire.written == [b"QUIT\r\n"]
    link.data_received(b"221 bye\r\n")
    await leaving
    assert wire.closed
    await link.quit(1.0)
    assert wire.written == [b"QUIT\r\n"]
