"""The operators' verbs against a running relay: a message's life from a dead provider to its end."""

from __future__ import annotations

import json
import smtplib
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.appliance import PASSWORD, Appliance, eventually
from support.ports import free_port


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Appliance]:
    """A relay whose provider does not answer."""
    dead = {"OWNPOST_PROVIDERS": "generic", "GENERIC_HOST": "127.0.0.1", "GENERIC_PORT": str(free_port())}
    relay = Appliance(tmp_path, dead | {"GENERIC_TLS": "none"}, {"RELAY_LOG_FORMAT": "json"})
    relay.start()
    yield relay
    relay.stop()


def send(relay: Appliance, recipient: str) -> None:
    context = ssl.create_default_context(cafile=str(relay.ca))
    with smtplib.SMTP_SSL("127.0.0.1", relay.submissions, context=context, timeout=20) as smtp:
        smtp.login("anna", PASSWORD)
        smtp.sendmail("anna@example.org", [recipient], "From: anna@example.org\r\n\r\nHello.\r\n")


def rows(relay: Appliance) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(relay.operator("queue", "--json").stdout)["deliveries"]
    return found


def test_a_message_that_waits_can_be_seen_held_released_and_dropped(relay: Appliance) -> None:
    send(relay, "bob@example.net")
    eventually(lambda: rows(relay)[0]["attempts"] >= 1, "the first attempt")
    (row,) = rows(relay)
    assert (row["state"], row["recipient"], row["provider"]) == ("due", "bob@example.net", "generic")
    assert row["reply"]
    message = row["message"]
    table = relay.operator("queue").stdout
    assert message in table
    assert "1 waiting." in table

    assert relay.operator("queue", "hold", "--account", "anna").stdout == "1 delivery held.\n"
    assert rows(relay)[0]["state"] == "held"
    assert relay.operator("queue", "release", message).stdout == "1 delivery released.\n"
    assert relay.operator("queue", "hold", message).returncode in (0, 65)  # it may be in hand just now
    eventually(lambda: relay.operator("queue", "drop", message).returncode == 0, "the message to be out of hand")
    assert rows(relay) == []

    story = relay.operator("trace", "--to", "bob@example.net").stdout
    for word in ("accepted", "deferred", "held", "released", "dropped"):
        assert word in story
    events = [json.loads(line)["event"] for line in relay.log.read_text().splitlines()]
    assert {"started", "login", "accepted", "deferred", "provider_paused", "held", "released", "dropped"} <= set(events)
    assert PASSWORD not in relay.log.read_text()


def test_a_test_message_that_did_not_get_through_is_no_success(relay: Appliance) -> None:
    done = relay.operator("send-test", "--to", "me@example.net", "--seconds", "20")
    assert done.returncode == 75
    assert "  make trace ID=" in done.stdout


def test_without_a_relay_there_is_one_sentence(relay: Appliance) -> None:
    relay.stop()
    done = relay.operator("queue")
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr.startswith("No relay answers on ")
    assert done.stderr.count("\n") == 1
