"""SIGKILL at random moments under load: whatever got a 250 is at the provider or in the spool."""

from __future__ import annotations

import os
import random
import re
import smtplib
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.appliance import PASSWORD, Appliance, eventually
from support.sink import CountingSink

KILLS = int(os.environ.get("CRASH_KILLS", "50"))
CLIENTS = 6
ID = re.compile(r"\b[0-7][0-9A-Z]{25}\b")


class Clients:
    """Threads that send numbered messages for as long as they may, and remember which ones got a 250."""

    def __init__(self, relay: Appliance) -> None:
        self.relay, self.numbers, self.lock = relay, iter(range(10**9)), threading.Lock()
        self.acknowledged: dict[int, str] = {}  # number -> the id in the 250 reply
        self.tried: set[int] = set()
        self.stop = threading.Event()
        self.context = ssl.create_default_context(cafile=str(relay.ca))
        self.threads = [threading.Thread(target=self.work, args=(seed,)) for seed in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def work(self, seed: int) -> None:
        dice = random.Random(seed)
        while not self.stop.is_set():
            try:
                with smtplib.SMTP_SSL("127.0.0.1", self.relay.submissions, context=self.context, timeout=20) as smtp:
                    smtp.login("anna", PASSWORD)
                    while not self.stop.is_set():
                        self.send(smtp, dice)
            except (OSError, smtplib.SMTPException):
                self.stop.wait(0.02)  # the relay is down: that is the test

    def send(self, smtp: smtplib.SMTP_SSL, dice: random.Random) -> None:
        with self.lock:
            number = next(self.numbers)
            self.tried.add(number)
        recipients = [f"r{index}@example.net" for index in range(dice.choice([1, 1, 1, 3, 20]))]
        body = "x" * 70 + "\r\n"
        text = f"From: anna@example.org\r\nX-Number: {number}\r\n\r\n{body * dice.choice([1, 10, 400, 9000])}"
        smtp.mail("anna@example.org")
        for recipient in recipients:
            smtp.rcpt(recipient)
        code, reply = smtp.data(text)
        found = ID.search(reply.decode())
        if code == 250 and found:
            self.acknowledged[number] = found[0]

    def close(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join(60)


@pytest.fixture
def sink() -> Iterator[CountingSink]:
    sink = CountingSink()
    yield sink
    sink.close()


@pytest.mark.timeout(1800)
def test_what_was_acknowledged_survives_sigkill(tmp_path: Path, sink: CountingSink) -> None:
    relay = Appliance(tmp_path, sink.settings)
    dice = random.Random(7)
    relay.start()
    clients = Clients(relay)
    try:
        for _ in range(KILLS):
            before = len(clients.acknowledged)
            eventually(lambda before=before: len(clients.acknowledged) > before, "mail to be accepted after a restart")
            clients.stop.wait(dice.uniform(0.0, 0.4))  # the moment of the kill is what varies
            relay.kill()
            relay.start()
    finally:
        clients.close()

    eventually(lambda: not queued_now(relay), "the queue to hold only what is in doubt", seconds=120)
    waiting = {row["message"] for row in relay.status("/queue")["deliveries"]}
    missing = {number: message for number, message in clients.acknowledged.items() if number not in sink.got}
    lost = {number for number, message in missing.items() if message not in waiting}
    twice = sum(count - 1 for count in sink.got.values() if count > 1)
    print(
        f"\nkills {KILLS}, acknowledged {len(clients.acknowledged)}, delivered {len(sink.got)}, "
        f"in doubt {len(waiting)}, lost {len(lost)}, twice {twice}"
    )
    assert not lost
    assert set(sink.got) <= clients.tried
    relay.stop()


def queued_now(relay: Appliance) -> bool:
    """Whether anything waits that is not in doubt; what is in doubt is tried again only after 15 minutes."""
    return any(row["doubts"] == 0 for row in relay.status("/queue")["deliveries"])
