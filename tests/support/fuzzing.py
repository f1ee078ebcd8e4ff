"""Fuzz entry points: short in normal runs; for ``FUZZ_MINUTES`` in all under ``make fuzz MINUTES=...``.

A target promises: a value that is right or a documented refusal, for every input, in bounded time. Its corpus,
``tests/fuzz/corpus/TARGET/``, holds real inputs and those that once broke something; each is tried as it is in every
run, and :func:`mutated` bends them. What hypothesis finds it keeps in ``.hypothesis/`` and tries first the next time;
what is worth keeping becomes a file of the corpus.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import strategies as st

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"
LONGEST = 4_000  # bytes of a corpus file as it is bent: longer ones only make hypothesis slow
SPLICES = [b"", b"\r\n", b"\n", b"\r", b"\0", b" ", b"\xff", b"\xe2\x80\xae", b"\x1b[2J", b'"', b"\\", b"<", b">", b"@"]
SPLICES += [b":", b",", b";", b"=", b"[", b"]", b"{", b".", b"%", b"A" * 300, b"\r\n ", b"9" * 5_000]


def corpus(target: str) -> list[bytes]:
    """The files of ``target``'s corpus, in the order of their names."""
    files = sorted(path for path in (CORPUS / target).iterdir() if path.is_file())
    assert files, f"{target} has no corpus"
    return [file.read_bytes() for file in files]


def mutated(target: str) -> st.SearchStrategy[bytes]:
    """Files of the corpus with up to four places cut out, doubled, or overwritten by something awkward."""
    places = st.tuples(st.integers(0, LONGEST), st.integers(0, 40), st.sampled_from(SPLICES), st.booleans())
    files = [file[:LONGEST] for file in corpus(target)]
    return st.builds(_bend, st.sampled_from(files), st.lists(places, max_size=4))


def _bend(data: bytes, places: list[tuple[int, int, bytes, bool]]) -> bytes:
    for at, length, splice, double in places:
        at %= len(data) + 1
        data = data[:at] + splice + data[at if double else at + length :]
    return data


def texts(target: str) -> st.SearchStrategy[str]:
    """As :func:`mutated`, for targets that read text."""
    return mutated(target).map(lambda data: data.decode("utf-8", "replace"))


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """``data`` cut at those places (taken modulo its length)."""
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(edges)]


def keep_at_it(run: Callable[[], None], request: pytest.FixtureRequest) -> None:
    """Run a hypothesis test once, and again until this target's share of ``FUZZ_MINUTES`` is over."""
    items = (item for item in request.session.items if "/fuzz/" in item.path.as_posix())
    targets = [item for item in items if not hasattr(item, "callspec")]  # without tests over a table
    share = float(os.environ.get("FUZZ_MINUTES") or 0) * 60 / len(targets)
    end = time.monotonic() + share
    run()
    while time.monotonic() < end:
        run()
