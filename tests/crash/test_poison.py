"""A mail that ends the relay whenever it is sent: it is found out and held, and all other mail arrives."""

from __future__ import annotations

import smtplib
import sqlite3
import ssl
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from support.appliance import PASSWORD, ROOT, Appliance, eventually
from support.judge import drain
from support.traffic import KIB, ExactSink, Mix, Traffic

POISONED = [sys.executable, "-m", "support.poisoned"]
ENDS = {"kill": -9, "raise": 1}


@pytest.fixture
def sink() -> Iterator[ExactSink]:
    sink = ExactSink()
    yield sink
    sink.close()


@pytest.fixture
def relay(tmp_path: Path, sink: ExactSink) -> Iterator[Appliance]:
    relay = Appliance(tmp_path, sink.settings)
    relay.settings["PYTHONPATH"] = f"{ROOT / 'services/relay/src'}:{ROOT / 'services/common/src'}:{ROOT / 'tests'}"
    yield relay
    relay.stop()


def send_poison(relay: Appliance, how: str) -> str:
    """Its id, which is not asked of the 250: that may not come any more."""
    context = ssl.create_default_context(cafile=str(relay.ca))
    with (
        suppress(OSError, smtplib.SMTPException),
        smtplib.SMTP_SSL("127.0.0.1", relay.submissions, context=context, timeout=20) as smtp,
    ):
        smtp.login("anna", PASSWORD)
        smtp.sendmail("anna@example.org", "poison@example.net", f"From: anna@example.org\r\nX-Poison: {how}\r\n\r\n")
    of_it = "SELECT id FROM message WHERE key = (SELECT id >> 16 FROM delivery WHERE recipient = 'poison@example.net')"
    with closing(sqlite3.connect(relay.folder / "spool/spool.db")) as connection:
        return str(connection.execute(of_it).fetchone()[0])


def ends(relay: Appliance, how: str) -> bool:
    """Whether the relay has ended, as it must; it is started again then."""
    assert relay.process is not None
    if relay.process.poll() is None:
        return False
    assert relay.process.returncode == ENDS[how]
    with suppress(AssertionError):  # it may end before it was seen to be ready
        relay.start(*POISONED)
    return True


def row(relay: Appliance, name: str) -> dict[str, object]:
    (found,) = [one for one in relay.status("/queue?limit=10000")["deliveries"] if one["message"] == name]
    return dict(found)


@pytest.mark.parametrize("how", list(ENDS))
def test_it_is_held_at_the_third_end_and_everything_else_arrives_once(
    relay: Appliance, sink: ExactSink, how: str
) -> None:
    relay.start(*POISONED)
    sink.traffic = traffic = Traffic(relay, clients=3, mix=Mix(sizes=(KIB,), recipients=(1,)), secure=True)
    try:
        traffic.wait_for(20)
        name = send_poison(relay, how)
        for end in range(3):
            eventually(lambda: ends(relay, how), f"the {end + 1}. end")
        traffic.wait_for(20)
        assert row(relay, name)["state"] == "held"
        assert str(row(relay, name)["reply"]).startswith("The relay stopped each time it was sending this message")
        assert relay.status()["queue"]["put_aside"] == 1
        assert relay.operator("queue", "release", name).returncode == 0
        eventually(lambda: ends(relay, how), "the end that it brings about once more")
        traffic.wait_for(20)
    finally:
        traffic.close()
    assert row(relay, name)["state"] == "held"
    log = relay.log.read_text()
    assert log.count(f" held message={name} ") == 2
    assert f" tried_alone message={name} " in log
    assert relay.operator("queue", "drop", name).returncode == 0
    drain(relay)
    assert relay.stop() == 0
    assert sink.problems == []
    assert set(traffic.acknowledged) <= set(sink.got)


def test_a_relay_that_is_stopped_again_and_again_suspects_nobody(relay: Appliance, sink: ExactSink) -> None:
    relay.start(*POISONED)
    sink.traffic = traffic = Traffic(relay, clients=1, mix=Mix(sizes=(KIB,), recipients=(1,)), secure=True)
    try:
        for _ in range(4):
            sink.shut()
            traffic.wait_for(5)
            eventually(lambda: relay.status()["queue"]["deliveries"]["claimed"] > 1, "some mail to be in hand")
            assert relay.process is not None
            relay.process.terminate()
            sink.open()  # what is under way is waited for
            assert relay.process.wait(60) == 0
            relay.start(*POISONED)
    finally:
        traffic.close()
    assert relay.status()["queue"]["deliveries"]["held"] == 0
    assert "tried_alone" not in relay.log.read_text()
