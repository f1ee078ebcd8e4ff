"""A client whose 250 was lost sends again, as SMTP tells it to: the mail is kept once and delivered once."""

from __future__ import annotations

import smtplib
import sqlite3
import ssl
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from support.appliance import PASSWORD, ROOT, Appliance, account, eventually
from support.sink import CountingSink
from support.unix_http import get

ACCOUNTS = {"anna": account(["*@example.org"]), "bert": account(["*@example.org"])}
BODY = "hello\r\n" * 50_000  # in several chunks
OTHER_BODY = BODY.replace("hello", "hallo")
DYING = [sys.executable, "-m", "support.killed_after_commit"]


def mail(number: int = 1, body: str = BODY, name: str = "1@client.example") -> str:
    return f"From: anna@example.org\r\nX-Number: {number}\r\nMessage-ID: <{name}>\r\n\r\n{body}"


@pytest.fixture
def relay(tmp_path: Path, sink: CountingSink) -> Iterator[Appliance]:
    relay = Appliance(tmp_path, sink.settings, accounts=ACCOUNTS)
    yield relay
    relay.stop()


def send(relay: Appliance, text: str, to: tuple[str, ...] = ("bob@example.net",), login: str = "anna") -> str:
    """The id in the 250."""
    context = ssl.create_default_context(cafile=str(relay.ca))
    with smtplib.SMTP_SSL("127.0.0.1", relay.submissions, context=context, timeout=20) as smtp:
        smtp.login(login, PASSWORD)
        smtp.mail("anna@example.org")
        for recipient in to:
            smtp.rcpt(recipient)
        code, reply = smtp.data(text)
        assert code == 250, reply
        assert reply.startswith(b"2.0.0 Kept safe as ")
        return reply.decode().rpartition(" ")[2]


def send_to_the_dying(relay: Appliance) -> str:
    """Have the relay take a mail and die before it says so; the id of what it left."""
    relay.settings["PYTHONPATH"] = f"{ROOT / 'services/relay/src'}:{ROOT / 'services/common/src'}:{ROOT / 'tests'}"
    relay.start(*DYING)
    with pytest.raises((OSError, smtplib.SMTPServerDisconnected)):
        send(relay, mail())
    assert relay.process is not None
    assert relay.process.wait(30) == -9
    ((name,),) = left(relay, "SELECT id FROM message")
    return str(name)


def left(relay: Appliance, statement: str) -> list[tuple[object, ...]]:
    """What a statement finds, or does, in the spool of a relay that does not run."""
    with closing(sqlite3.connect(relay.folder / "spool/spool.db")) as connection, connection:
        return connection.execute(statement).fetchall()


def repeats(relay: Appliance) -> float:
    """How many the relay says it has counted."""
    lines = get(relay.socket, "/metrics")[1].decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("ownpost_messages_repeated_total"))


def test_what_was_committed_when_the_relay_died_is_not_kept_again(relay: Appliance, sink: CountingSink) -> None:
    first = send_to_the_dying(relay)
    relay.start()
    assert send(relay, mail()) == first
    assert send(relay, mail()) == first
    eventually(lambda: sink.got[1], "the mail to be at the provider")
    assert send(relay, mail()) == first, "delivered is as good as waiting"
    eventually(lambda: not relay.status("/queue")["deliveries"], "the queue to be empty")
    assert [row["message"] for row in relay.status("/latest")["messages"]] == [first]
    assert sink.got == {1: 1}
    assert repeats(relay) == 3
    assert relay.log.read_text().count("message_repeated") == 3


def test_another_body_recipient_or_account_is_another_mail(relay: Appliance, sink: CountingSink) -> None:
    first = send_to_the_dying(relay)
    relay.start()
    names = [
        send(relay, mail(2, OTHER_BODY)),
        send(relay, mail(3), ("carol@example.net",)),
        send(relay, mail(4), ("bob@example.net", "carol@example.net")),
        send(relay, mail(5), login="bert"),
        send(relay, mail(6, name="2@client.example")),
    ]
    assert len({first, *names}) == 6
    eventually(lambda: len(sink.got) == 6, "all of them to be at the provider")
    assert set(sink.got.values()) == {1}
    assert repeats(relay) == 0


def test_after_the_window_it_is_kept_again(relay: Appliance, sink: CountingSink) -> None:
    first = send_to_the_dying(relay)
    left(relay, "UPDATE message SET received_at = received_at - 601")
    relay.start()
    again = send(relay, mail())
    assert again != first
    assert send(relay, mail()) == again
    eventually(lambda: sink.got[1] == 2, "both to be at the provider")


def test_what_the_operator_dropped_is_kept_when_it_is_sent_again(relay: Appliance, sink: CountingSink) -> None:
    first = send_to_the_dying(relay)
    left(relay, "UPDATE delivery SET state = 'held'")
    relay.start()
    assert send(relay, mail()) == first
    assert relay.operator("queue", "drop", first).returncode == 0
    again = send(relay, mail())
    assert again != first
    eventually(lambda: sink.got[1], "the mail to be at the provider")
    assert send(relay, mail()) == again


def test_the_setting_turns_it_off(relay: Appliance, sink: CountingSink) -> None:
    relay.settings["RELAY_REPEAT_MINUTES"] = "0"
    first = send_to_the_dying(relay)
    relay.start()
    assert send(relay, mail()) != first
    eventually(lambda: sink.got[1] == 2, "both to be at the provider")
