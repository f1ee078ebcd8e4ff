"""Providers become `capture`, or the other way round, while mail waits: neither takes the mail of the other."""

from __future__ import annotations

import json
import smtplib
import ssl
from pathlib import Path
from typing import Any

from support.appliance import PASSWORD, Appliance, eventually
from support.ports import free_port
from support.sink import CountingSink

CAPTURE = {"OWNPOST_PROVIDERS": "capture"}
MAIL = "From: anna@example.org\r\nMessage-ID: <once@example.org>\r\nX-Number: {}\r\n\r\nHello.\r\n"


def send(relay: Appliance, number: int) -> None:
    context = ssl.create_default_context(cafile=str(relay.ca))
    with smtplib.SMTP_SSL("127.0.0.1", relay.submissions, context=context, timeout=20) as smtp:
        smtp.login("anna", PASSWORD)
        smtp.sendmail("anna@example.org", ["bob@example.net"], MAIL.format(number))


def queue(relay: Appliance) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(relay.operator("queue", "--json").stdout)["deliveries"]
    return rows


def test_mail_that_waits_for_a_provider_is_not_swallowed_by_capture(tmp_path: Path, sink: CountingSink) -> None:
    relay = Appliance(tmp_path, sink.settings | {"GENERIC_PORT": str(free_port())})  # nobody listens there
    relay.start()
    send(relay, 1)
    eventually(lambda: queue(relay)[0]["attempts"], "a try")
    relay.stop()

    relay.provider = CAPTURE
    relay.start()
    (row,) = queue(relay)
    message = row["message"]
    assert (row["state"], "OWNPOST_PROVIDERS is capture now" in row["waits"]) == ("held", True)
    assert "1 held because of OWNPOST_PROVIDERS." in relay.operator("queue").stdout
    assert "is held because OWNPOST_PROVIDERS is capture" in " ".join(
        relay.operator("trace", "--id", message).stdout.split()
    )
    assert "1 delivery accepted to be sent will wait, held" in relay.log.read_text()
    refused = relay.operator("queue", "release", message)
    assert (refused.returncode, refused.stderr.startswith(f"{message} stays held.")) == (65, True)
    assert relay.status()["queue"]["held_by_mode"] == 1
    send(relay, 2)
    (captured,) = eventually(relay.captured, "the mail of the trial")
    assert b"X-Number: 2" in captured
    relay.stop()

    relay.provider = sink.settings
    relay.start()
    eventually(lambda: sink.got[1] == 1, "the mail to be sent")
    assert relay.status()["queue"]["held_by_mode"] == 0
    relay.stop()
    assert sink.got[2] == 0


def test_mail_of_the_trial_is_never_sent(tmp_path: Path, sink: CountingSink) -> None:
    relay = Appliance(tmp_path, CAPTURE)
    (tmp_path / "captured").rmdir()
    (tmp_path / "captured").write_text("no folder, so that mail waits")
    relay.start()
    send(relay, 1)
    eventually(lambda: queue(relay)[0]["attempts"], "a try")
    relay.stop()

    relay.provider = sink.settings
    relay.start()
    (row,) = queue(relay)
    assert (row["state"], row["waits"].startswith("It was accepted in the trial")) == ("held", True)
    send(relay, 1)  # the same mail again, and meant this time: it is no repeat of the one that was tried out
    eventually(lambda: sink.got[1] == 1, "the new mail to be sent")
    assert relay.operator("queue", "retry", row["message"]).returncode == 65
    assert [one["state"] for one in queue(relay)] == ["held"]
    assert relay.operator("queue", "drop", row["message"]).returncode == 0
    relay.stop()
    assert sink.got[1] == 1
