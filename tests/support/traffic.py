"""Numbered mail whose every copy can be told whole or not: clients that send it, and a provider that takes it.

Each message carries its number and the digest of its body, so that wherever it turns up (at the provider, in the
spool, in what a power cut left) it proves by itself that nothing is missing. A number is tried once: what is there
twice was made twice by the relay.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import smtplib
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from support.appliance import PASSWORD, Appliance
from support.sink import CountingSink, Taken

ID = re.compile(r"\b[0-7][0-9A-Z]{25}\b")
FIELDS = re.compile(rb"^X-Number: (\d+)\r\nX-Digest: ([0-9a-f]{64})\r$", re.MULTILINE)
KIB, MIB = 1024, 1024 * 1024
LAN = {
    "RELAY_LAN_BIND": "127.0.0.1",
    "RELAY_LAN_NETWORKS": "127.0.0.0/16",
    "RELAY_LAN_ACCOUNT": "anna",
    "RELAY_LAN_RECIPIENTS": "*",
    "RELAY_LAN_RECIPIENTS_PER_DAY": "unlimited",
}  # the port that asks for no login and no TLS: mail by the thousand, and neither is what is tested here


class Torn(AssertionError):
    """A message that is not as it was sent."""


def whole(content: bytes) -> int:
    """The number of a message of ours; raises :class:`Torn` if a byte of its body is missing or wrong."""
    found = FIELDS.search(content)
    if found is None:
        raise Torn(f"not a message of ours, or half its header: {content[:300]!r}")
    body = content.partition(b"\r\n\r\n")[2]
    if hashlib.sha256(body).hexdigest().encode() != found[2]:
        raise Torn(f"number {found[1].decode()}: {len(body)} bytes that are not what was sent")
    return int(found[1])


@dataclass(frozen=True, slots=True)
class Sent:
    """One message that was tried."""

    number: int
    recipients: tuple[str, ...]
    size: int


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What its 250 said, and how many operations the disk had counted when the client read it."""

    id: str
    steps: int


@dataclass(frozen=True, slots=True)
class Mix:
    """What is sent: sizes of bodies and numbers of recipients, drawn with equal chances."""

    sizes: tuple[int, ...] = (KIB, KIB, 3 * KIB, 20 * KIB, 300 * KIB)
    recipients: tuple[int, ...] = (1, 1, 1, 2, 7)


def message(number: int, size: int) -> bytes:
    """The message ``number``, with a body of about ``size`` bytes that no other number has."""
    block = random.Random(number).randbytes(1_536).hex()
    lines = "\r\n".join(block[at : at + 76] for at in range(0, len(block), 76)) + f"\r\n{number}\r\n"
    body = (lines * (size // len(lines) + 1))[: max(size, 2) - 2].encode().rstrip(b"\r\n") + b"\r\n"
    digest = hashlib.sha256(body).hexdigest()
    head = f"From: anna@example.org\r\nSubject: {number}\r\nX-Number: {number}\r\nX-Digest: {digest}\r\n\r\n"
    return head.encode() + body


class Traffic:
    """``clients`` threads that send through the relay's LAN port until :meth:`close`, whatever happens to it; with
    ``secure`` through its TLS port, as anna.

    ``steps`` is asked right after each 250."""

    def __init__(
        self,
        relay: Appliance,
        *,
        clients: int = 4,
        mix: Mix | None = None,
        steps: Callable[[], int] = lambda: 0,
        secure: bool = False,
    ) -> None:
        self.relay, self.mix, self.steps = relay, mix or Mix(), steps
        self._context = ssl.create_default_context(cafile=str(relay.ca)) if secure else None
        self.sent: dict[int, Sent] = {}
        self.acknowledged: dict[int, Acknowledged] = {}
        self.refused: Counter[int] = Counter()  # replies to MAIL, RCPT and DATA that were no success
        self.changed = threading.Condition()
        self._stop = threading.Event()
        self._next = 0
        self._threads = [threading.Thread(target=self._work, args=(seed,), daemon=True) for seed in range(clients)]
        for thread in self._threads:
            thread.start()

    def _work(self, seed: int) -> None:
        dice = random.Random(seed)
        while not self._stop.is_set():
            try:
                with self._connect() as smtp:
                    while not self._stop.is_set():
                        self._send(smtp, dice)
            except (OSError, smtplib.SMTPException):
                self._stop.wait(0.02)  # the relay is down: that is the test

    def _connect(self) -> smtplib.SMTP:
        if self._context is None:
            smtp = smtplib.SMTP("127.0.0.1", self.relay.lan, timeout=60)
            smtp.ehlo()
            return smtp
        smtp = smtplib.SMTP_SSL("127.0.0.1", self.relay.submissions, context=self._context, timeout=60)
        smtp.login("anna", PASSWORD)
        return smtp

    def _send(self, smtp: smtplib.SMTP, dice: random.Random) -> None:
        """Try the next number."""
        count, size = dice.choice(self.mix.recipients), dice.choice(self.mix.sizes)
        with self.changed:
            number, self._next = self._next, self._next + 1
            sent = Sent(number, tuple(f"r{n}.{number}@example.net" for n in range(count)), size)
            self.sent[number] = sent
        content = message(number, size)
        commands = [
            f"MAIL FROM:<anna@example.org> SIZE={len(content)}",
            *(f"RCPT TO:<{one}>" for one in sent.recipients),
        ]
        for command in [*commands, "DATA"]:
            code = smtp.docmd(command)[0]
            if code >= 400:
                self.refused[code] += 1
                smtp.docmd("RSET")
                return
        smtp.send(content + b".\r\n")
        code, reply = smtp.getreply()
        found = ID.search(reply.decode())
        if code == 250 and found:
            with self.changed:
                self.acknowledged[number] = Acknowledged(found[0], self.steps())
                self.changed.notify_all()
        else:
            self.refused[code] += 1

    def wait_for(self, more: int, seconds: float = 60.0) -> None:
        """Return when ``more`` messages have been acknowledged from now on."""
        with self.changed:
            goal = len(self.acknowledged) + more
            enough = self.changed.wait_for(lambda: len(self.acknowledged) >= goal, seconds)
        assert enough, f"{len(self.acknowledged)} messages acknowledged, {goal} expected; refused: {self.refused}"

    def go_on(self, seconds: float) -> None:
        """Let the traffic go on for so long: where the moment is the point, there is nothing to wait for."""
        self._stop.wait(seconds)

    def close(self) -> None:
        """Stop, and wait for what is under way."""
        self._stop.set()
        for thread in self._threads:
            thread.join(90)


@dataclass(slots=True)
class Copies:
    """What the provider got of one number."""

    id: str  # as the relay's Received field has it
    steps: list[int] = field(default_factory=list)  # the disk's count at each final dot


class ExactSink(CountingSink):
    """Takes everything, and holds against each message what its sender knew: it is whole, and for its recipients.

    While :meth:`shut` it greets and then lets the relay wait. ``steps`` is asked at each final dot.
    """

    def __init__(self, steps: Callable[[], int] = lambda: 0) -> None:
        self.taken: dict[int, Copies] = {}
        self.problems: list[str] = []
        self.steps = steps
        self.traffic: Traffic | None = None
        super().__init__()

    async def _run(self) -> None:
        self._gate = asyncio.Event()
        self._gate.set()
        await super()._run()

    def shut(self) -> None:
        """Answer no MAIL from now on."""
        self._loop.call_soon_threadsafe(self._gate.clear)

    def open(self) -> None:
        """Answer again, those who wait too."""
        self._loop.call_soon_threadsafe(self._gate.set)

    async def _admit(self) -> None:
        await self._gate.wait()

    def _take(self, taken: Taken) -> None:
        try:
            number = whole(taken.wire)
        except Torn as error:
            self.problems.append(str(error))
            return
        found = ID.search(taken.wire.partition(b"\r\n\r\n")[0].decode(errors="replace"))
        copies = self.taken.setdefault(number, Copies(found[0] if found else ""))
        copies.steps.append(self.steps())
        self.got[number] += 1
        sent = self.traffic.sent.get(number) if self.traffic else None
        if sent is not None and sorted(taken.recipients) != sorted(sent.recipients):
            self.problems.append(
                f"number {number} came for {len(taken.recipients)} of {len(sent.recipients)} recipients"
            )
