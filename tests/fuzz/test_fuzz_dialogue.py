"""Any commands in any order, cut anywhere: the server answers as a small model of SMTP says, and keeps what it kept.

A message, a login or an error that the model does not know of is a bug, whichever of the two is right.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from typing import TypeVar

import pytest
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from relay.clock import SystemClock
from relay.model import State
from relay.submission.repeats import Recent, Repeats
from support.bare_session import BareSession
from support.fakes import FakeSpool
from support.fuzzing import keep_at_it, pieces
from support.smtp_model import AHEAD, Model

T = TypeVar("T")
RECIPIENTS, SIZE = 3, 2_000
GOOD_WORD, WRONG_WORD = b"Y29ycmVjdCBob3JzZQ==", b"d3Jvbmc="
GOOD, WRONG = b"AGFubmEAY29ycmVjdCBob3JzZQ==", b"AGFubmEAd3Jvbmc="
COMMANDS = {
    "ehlo": [b"EHLO client", b"ehlo [192.0.2.1]", b"EHLO \xff\x1b[2J", b"EHLO", b"ehlo  "],
    "helo": [b"HELO client", b"HELO "],
    "rset": [b"RSET", b"rset now"],
    "noop": [b"NOOP", b"NoOp \x80\xff"],
    "vrfy": [b"VRFY anna"],
    "help": [b"HELP"],
    "expn": [b"EXPN all"],
    "unknown": [b"BDAT 12 LAST", b"XCLIENT ADDR=1.2.3.4", b"", b"\t ", b"\xff" * 40, b"TURN"],
    "http": [b"GET / HTTP/1.1"],
    "quit": [b"QUIT"],
    "starttls": [b"STARTTLS", b"starttls"],
    "starttls with argument": [b"STARTTLS now"],
    "auth good": [b"AUTH PLAIN " + GOOD, b"auth plain " + GOOD],
    "auth wrong": [b"AUTH PLAIN " + WRONG],
    "auth bad": [b"AUTH PLAIN !!!", b"AUTH LOGIN =", b"AUTH PLAIN *"],
    "auth unknown": [b"AUTH XOAUTH2 x", b"AUTH"],
    "mail": [
        b"MAIL FROM:<anna@example.org>",
        b"mail from: <ANNA@example.org> BODY=8BITMIME SIZE=7",
        b"MAIL FROM:<>",
        b" MAIL\tFROM:<>",
    ],
    "mail of a stranger": [b"MAIL FROM:<boss@example.org>", b"MAIL FROM:<anna@example.com>"],
    "mail too big": [b"MAIL FROM:<anna@example.org> SIZE=2001"],
    "mail wrong": [b"MAIL anna@example.org", b"MAIL FROM:<anna%x@example.org>", b"MAIL FROM:<anna@example.org> SIZE=x"],
    "rcpt wrong": [b"RCPT TO:bob", b"RCPT TO:<@a.b:bob@example.net>", b"RCPT TO:<>"],
    "data with argument": [b"DATA now"],
    "bare lf": [],
    "too long": [b"NOOP " + b"x" * 13_000],
}
WITH_ID = b"From: anna@example.org\r\nMessage-ID: <1@x>\r\nDate: Tue, 24 Nov 2026 12:00:00 +0000\r\n\r\nhello\r\n.\r\n"
MESSAGES = {
    "with an id": WITH_ID,
    "with an id, later": WITH_ID.replace(b"12:00", b"12:05"),
    "good": b"From: anna@example.org\r\n\r\nhello\r\n.\r\n",
    "forged": b"From: boss@example.org\r\n\r\nhello\r\n.\r\n",
    "bare lf inside": b"From: anna@example.org\r\n\r\nx\n.\nMAIL FROM:<boss@example.org>\r\n.\r\n",
    "too big": b"From: anna@example.org\r\n\r\n" + b"x\r\n" * 800 + b".\r\n",
    "nul": b"From: anna@example.org\r\n\r\nx\0\r\n.\r\n",
}
WORDS = st.sampled_from([(kind, line + b"\r\n") for kind, lines in COMMANDS.items() for line in lines])
WORDS |= st.sampled_from([("bare lf", b"NOOP\n"), ("bare lf", b"\n"), ("bare lf", b"MAIL FROM:<a@b.c>\rX\r\n")])
AUTH = WORDS.filter(lambda word: word[0].startswith("auth"))
PORTS = st.sampled_from(["submission", "submissions", "lan"])
PEOPLE = st.sampled_from(["bob@example.net", "carol@example.net", "dora@example.net", "emil@example.net"])


class DialogueMachine(RuleBasedStateMachine):
    """The real session beside the model."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.spool, self.kept, self.known = FakeSpool(), list[tuple[str, ...]](), set[object]()
        self.repeats = Repeats(Recent(SystemClock(), 600.0), self.spool.states_of)

    def run(self, what: Awaitable[T]) -> T:
        return self.loop.run_until_complete(what)

    def teardown(self) -> None:
        if hasattr(self, "bare"):
            self.check_and_end()
        self.loop.close()

    def check_and_end(self) -> None:
        self.run(self.bare.end())
        assert [kept.message.recipients for kept in self.spool.kept] == self.kept
        assert len(self.bare.journal.told("repeated")) == self.model.repeated
        assert not self.bare.journal.told("system"), "an exception inside"
        assert self.spool.reserved == 0

    @precondition(lambda self: not self.model.open)
    @rule(name=PORTS)
    def connect_again(self, name: str) -> None:
        self.check_and_end()
        self.connect(name)

    @initialize(name=PORTS)
    def connect(self, name: str) -> None:
        async def make() -> BareSession:
            more = {"recipients_limit": RECIPIENTS, "size_limit": SIZE, "repeats": self.repeats}
            return BareSession(name, spool=self.spool, **more)

        self.bare = self.run(make())
        self.model = Model(name == "submissions", name == "lan", RECIPIENTS, SIZE, kept=self.kept, known=self.known)
        assert self.run(self.bare.codes(b"")) == [220]

    def tell(self, data: bytes, wanted: list[int], cuts: list[int]) -> None:
        parts = pieces(data, cuts)
        got = self.run(self.bare.codes(*parts))
        note(f"{data[:80]!r} in {len(parts)} pieces: {got}, wanted {wanted}")
        assert got == wanted
        assert self.bare.closed is not self.model.open

    @precondition(lambda self: self.model.open and not self.model.in_data)
    @rule(word=WORDS, cuts=st.lists(st.integers(0, 10_000), max_size=3))
    def command(self, word: tuple[str, bytes], cuts: list[int]) -> None:
        kind, line = word
        self.tell(line, self.model.answer(kind, line.decode("latin-1")), cuts)

    @precondition(lambda self: self.model.open and not self.model.in_data)
    @rule(address=PEOPLE, again=st.booleans())
    def recipient(self, address: str, again: bool) -> None:
        line = f"RCPT TO:<{address}>\r\n".encode()
        wanted = [code for _ in range(1 + again) for code in self.model.answer("rcpt", address)]
        self.tell(line * (1 + again), wanted, [])

    @precondition(lambda self: self.model.open and not self.model.in_data)
    @rule(
        words=st.lists(WORDS.filter(lambda word: word[0] in AHEAD), min_size=2, max_size=8),
        last=st.lists(AUTH, max_size=1),
    )
    def pipelined(self, words: list[tuple[str, bytes]], last: list[tuple[str, bytes]]) -> None:
        words = words + last
        wanted = [code for kind, line in words for code in self.model.answer(kind, line.decode("latin-1"))]
        self.tell(b"".join(line for _, line in words), wanted, [])

    @precondition(lambda self: self.model.open and not self.model.in_data)
    @rule()
    def straight_to_a_message(self) -> None:
        """What a client does, so that the machine gets far often enough."""
        steps = ["ehlo"] if self.model.secure or self.model.lan else ["ehlo", "starttls", "ehlo"]
        for kind in (*steps, *([] if self.model.logged_in or self.model.lan else ["auth good"]), "mail"):
            line = COMMANDS[kind][0]
            self.tell(line + b"\r\n", self.model.answer(kind, line.decode()), [])
        if self.model.open:
            self.recipient("bob@example.net", False)

    @precondition(lambda self: self.model.open and not self.model.in_data)
    @rule(last=st.sampled_from([GOOD_WORD, WRONG_WORD, b"*", b"?"]), cuts=st.lists(st.integers(0, 100), max_size=2))
    def login_in_steps(self, last: bytes, cuts: list[int]) -> None:
        """AUTH LOGIN, whose answers are no commands."""
        model = self.model
        kind = {GOOD_WORD: "auth good", WRONG_WORD: "auth wrong"}.get(last, "auth bad")
        if not model.may_log_in:
            self.tell(b"AUTH LOGIN\r\n", model.answer(kind), cuts)
            return
        self.tell(b"AUTH LOGIN\r\n", [334], cuts)
        self.tell(b"YW5uYQ==\r\n", [334], cuts)
        self.tell(last + b"\r\n", model.answer(kind), cuts)

    @precondition(lambda self: self.model.open and not self.model.in_data)
    @rule()
    def data(self) -> None:
        self.tell(b"DATA\r\n", self.model.answer("data"), [])

    @precondition(lambda self: self.model.open and self.model.in_data)
    @rule(kind=st.sampled_from(sorted(MESSAGES)), cuts=st.lists(st.integers(0, 10_000), max_size=4))
    def message(self, kind: str, cuts: list[int]) -> None:
        self.tell(MESSAGES[kind], self.model.answer(kind), cuts)

    @precondition(lambda self: self.model.open and not self.model.in_data)
    @rule(kinds=st.lists(st.sampled_from(sorted(MESSAGES)), min_size=1, max_size=2))
    def whole_messages(self, kinds: list[str]) -> None:
        """One after the other; the same again is what a client does that missed our answer."""
        for kind in kinds:
            self.straight_to_a_message()
            if self.model.open:
                self.data()
            if self.model.in_data:
                self.message(kind, [])

    @precondition(lambda self: self.known)
    @rule()
    def all_that_was_kept_comes_to_nothing(self) -> None:
        """So that whoever sends it again means it."""
        self.spool.states = {kept.message.id: {State.REFUSED} for kept in self.spool.kept}
        self.known.clear()

    @precondition(lambda self: self.model.open and not self.model.in_data)
    @rule(early=st.sampled_from([b"NOOP\r\n", b"MAIL FROM:<anna@example.org>\r\n", b"x"]))
    def too_early(self, early: bytes) -> None:
        """Commands behind DATA or STARTTLS in one piece: what would be answered with 354 or 220 is hung up on."""
        kind = "data" if self.model.greeted and self.model.secure else "starttls"
        wanted = self.model.answer(kind)
        if wanted in ([354], [220]):
            self.model.open, wanted = False, [554]
            self.model.secure = kind == "data"
            self.tell(kind.upper().encode() + b"\r\n" + early, wanted, [])
        else:
            self.tell(kind.upper().encode() + b"\r\n", wanted, [])

    @precondition(lambda self: self.model.open and self.model.may_log_in)
    @rule(word=AUTH, early=st.sampled_from([b"NOOP\r\n", b"MAIL FROM:<anna@example.org>\r\n", b"x"]))
    def too_early_for_a_login(self, word: tuple[str, bytes], early: bytes) -> None:
        self.model.open = False
        self.tell(word[1] + early, [554], [])


@pytest.mark.timeout(0 if os.environ.get("HYPOTHESIS_PROFILE") == "long" else 600)  # 300 dialogues take a minute or two
def test_dialogues(request: pytest.FixtureRequest) -> None:
    keep_at_it(lambda: run_state_machine_as_test(DialogueMachine), request)  # type: ignore[no-untyped-call]
