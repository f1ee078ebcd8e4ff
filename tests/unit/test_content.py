"""The content decoder against a slow reference, cut in every way, and against every smuggling sequence."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay import limits
from relay.submission.content import Decoder, Fault

END = b"\r\n.\r\n"
PIECES = [b"\r", b"\n", b".", b"\r\n", b"\r\n.", b"\r\n..", b".\r\n", b"\r\n.\r", b"a", b"bc", b"\0", b"\xff", END]
streams = st.lists(st.sampled_from(PIECES), max_size=14).map(b"".join)


def reference(stream: bytes, limit: int, *, normalize: bool) -> tuple[bytes, Fault | None, bytes | None]:
    """One byte after the other, as the standard reads: (message, fault, what follows the end or None)."""
    end = (b"\r\n" + stream).find(END)
    wire, rest = (stream, None) if end < 0 else (stream[:end], stream[end + 3 :])
    out, faults, at, start = bytearray(), set(), 0, True
    while at < len(wire):
        if start and wire[at : at + 1] == b".":
            at, start = at + 1, False
            continue
        start = wire[at : at + 2] == b"\r\n"
        byte = wire[at : at + 1]
        if start:
            out += b"\r\n"
        elif byte in (b"\r", b"\n"):
            out += b"\r\n" if normalize else byte
            faults |= set() if normalize else {Fault.BARE_CR if byte == b"\r" else Fault.BARE_LF}
        else:
            out += byte
            faults |= {Fault.NUL} if byte == b"\0" else set()
        at += 2 if start else 1
    if len(out) > limit:
        faults.add(Fault.TOO_BIG)
    return bytes(out), max(faults, key=lambda fault: fault.value, default=None), rest


def decode(blocks: list[bytes], limit: int = 1_000, *, normalize: bool = False) -> tuple[bytes, Decoder]:
    decoder, out = Decoder(limit, normalize=normalize), b""
    for number, block in enumerate(blocks):
        out += decoder.feed(block)
        if decoder.done:
            decoder.rest += b"".join(blocks[number + 1 :])
            break
    return out, decoder


def check(stream: bytes, blocks: list[bytes], limit: int, *, normalize: bool) -> None:
    out, decoder = decode([*blocks, END], limit, normalize=normalize)
    expected, fault, rest = reference(stream + END, limit, normalize=normalize)
    assert (decoder.fault, decoder.rest, decoder.size) == (fault, rest, len(expected))
    if fault is None:
        assert out == expected


@given(streams, st.lists(st.integers(1, 12), min_size=1, max_size=5), st.booleans(), st.integers(0, 30))
@example(b"\r\n.\r", [1], False, 30)
@example(b".", [1], True, 30)
@example(b"a.\r\n\r\n.", [1, 9], False, 30)
def test_how_the_stream_is_cut_makes_no_difference(
    stream: bytes, sizes: list[int], normalize: bool, limit: int
) -> None:
    blocks, at = [], 0
    while at < len(stream):
        size = sizes[len(blocks) % len(sizes)]
        blocks.append(stream[at : at + size])
        at += size
    check(stream, blocks, limit, normalize=normalize)


@given(streams, st.booleans())
def test_in_one_block_it_reads_as_the_standard_does(stream: bytes, normalize: bool) -> None:
    check(stream, [stream], 1_000, normalize=normalize)


SMUGGLED = [
    b"\n.\n", b"\n.\r", b"\r.\n", b"\r.\r", b"\n.\r\n", b"\r.\r\n", b"\r\n.\n", b"\r\n.\r", b"\r\n.\r\r\n",
    b"\r\r\n.\r\r\n", b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\n\r\n.\n\r\n",
]  # fmt: skip


@pytest.mark.parametrize("sequence", SMUGGLED, ids=repr)
@pytest.mark.parametrize("oversize", [False, True])
@pytest.mark.parametrize("size", [1, 2, 3, 1_000])
def test_no_smuggling_sequence_ends_a_message_or_gets_in(sequence: bytes, oversize: bool, size: int) -> None:
    stream = b"Subject: x\r\n\r\nhello" + sequence + b"MAIL FROM:<evil@example.org>\r\n" + END
    blocks = [stream[at : at + size] for at in range(0, len(stream), size)]
    _, decoder = decode(blocks, 4 if oversize else 1_000)
    assert decoder.done
    assert decoder.rest == b""
    assert decoder.fault in {Fault.BARE_CR, Fault.BARE_LF, Fault.NUL}


@pytest.mark.parametrize("sequence", [one for one in SMUGGLED if b"\0" not in one], ids=repr)
def test_mended_newlines_end_nothing_and_leave_nothing_bare(sequence: bytes) -> None:
    out, decoder = decode([b"hello" + sequence + b"MAIL FROM:<evil@example.org>" + END], normalize=True)
    assert (decoder.fault, decoder.rest) == (None, b"")
    assert out.endswith(b"MAIL FROM:<evil@example.org>\r\n")
    assert out.count(b"\r\n") == out.count(b"\r") == out.count(b"\n")


def test_an_undoubled_dot_after_a_bare_newline_is_the_clients_own() -> None:
    out, _ = decode([b"first\n.second\r\n..third" + END], normalize=True)
    assert out == b"first\r\n.second\r\n.third\r\n"


def test_a_message_may_be_empty() -> None:
    out, decoder = decode([b".\r\nQUIT\r\n"])
    assert (out, decoder.done, decoder.rest, decoder.size) == (b"", True, b"QUIT\r\n", 0)


@pytest.mark.parametrize(("excess", "fault"), [(0, None), (1, Fault.TOO_BIG)])
def test_the_size_limit_counts_what_is_kept_not_what_was_sent(excess: int, fault: Fault | None) -> None:
    _, decoder = decode([b"..abc" + b"x" * excess + END], limit=len(b".abc\r\n"))
    assert decoder.fault is fault


@pytest.mark.parametrize("block", [7_001, 65_536, 3 * limits.MIB])
@pytest.mark.parametrize(("excess", "fault"), [(0, None), (1, Fault.LONG_LINE)])
@pytest.mark.parametrize("before", [b"", b"short\r\n"])
def test_a_line_may_be_as_long_as_the_limit(block: int, excess: int, fault: Fault | None, before: bytes) -> None:
    stream = before + b"x" * (limits.BODY_LINE + excess) + b"\r\nshort" + END + b"NOOP\r\n"
    out, decoder = decode([stream[at : at + block] for at in range(0, len(stream), block)], 8 * limits.MIB)
    assert (decoder.fault, decoder.rest) == (fault, b"NOOP\r\n")
    assert fault or out == stream[: -len(b".\r\nNOOP\r\n")]


def test_after_a_fault_nothing_is_returned_and_the_end_is_still_found() -> None:
    decoder = Decoder(1_000)
    assert decoder.feed(b"a\nb\r\n") == b""
    assert decoder.feed(b"more\r\n.\n") == b""
    assert not decoder.done
    assert decoder.feed(b"\r\n.\r\nRSET\r\n") == b""
    assert (decoder.done, decoder.rest, decoder.fault) == (True, b"RSET\r\n", Fault.BARE_LF)
