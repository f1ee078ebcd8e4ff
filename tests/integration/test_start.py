"""The relay's start and end as an operator meets them: every problem at once and exit code 78, drained by SIGTERM."""

from __future__ import annotations

import base64
import contextlib
import smtplib
import socket
import ssl
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.appliance import HASHER, PASSWORD, ROOT, Appliance, account, eventually, toml
from support.sink import CountingSink


def ended(relay: Appliance) -> tuple[int, list[str]]:
    """Exit code and the lines that the relay said before it gave up."""
    code = relay.spawn().wait(30)
    return code, relay.log.read_text().splitlines()


@contextlib.contextmanager
def smtp(relay: Appliance, password: str = PASSWORD) -> Iterator[smtplib.SMTP_SSL]:
    """A client that has logged in as anna."""
    context = ssl.create_default_context(cafile=str(relay.ca))
    client = smtplib.SMTP_SSL("localhost", relay.submissions, context=context, timeout=20)
    try:
        client.login("anna", password)
        yield client
    finally:
        client.close()


def test_wrong_settings_are_told_all_at_once(tmp_path: Path) -> None:
    settings = {"RELAY_LOG_FORMAT": "xml", "RELAY_CONNECTION": "5", "SENDGRID_PASSWORD_FILE": "/nonexistent"}
    code, lines = ended(Appliance(tmp_path, {"OWNPOST_PROVIDERS": "sendgrid"}, settings))
    assert code == 78
    for name in ("RELAY_LOG_FORMAT", "RELAY_CONNECTION:", "RELAY_CONNECTIONS", "SENDGRID_PASSWORD_FILE"):
        assert any(name in line for line in lines), lines
    assert all(line.startswith("relay: ") for line in lines)


def test_broken_accounts_a_taken_port_and_an_unusable_spool_are_told_together(tmp_path: Path) -> None:
    relay = Appliance(tmp_path)
    (tmp_path / "config/accounts.toml").write_text('[accounts.anna]\nsenders = "anna"\nsurprise = 1\n')
    (tmp_path / "spool").rmdir()
    (tmp_path / "spool").write_text("a file where the folder should be")
    with socket.create_server(("127.0.0.1", relay.submission)):
        code, lines = ended(relay)
    assert code == 78
    for what in ("senders", "surprise", f"port {relay.submission}", str(tmp_path / "spool")):
        assert any(what in line for line in lines), (what, lines)


def test_what_the_domain_tool_reads_in_config_is_no_hindrance(tmp_path: Path) -> None:
    """It mounts the same folder; the tables are those of the example, in use."""
    lines = (ROOT / "config/providers.toml.example").read_text().splitlines()
    begins = next(n for n, line in enumerate(lines) if line.startswith("#[smtp2go.dns]"))
    tables = "\n".join(line.removeprefix("#") for line in lines[begins:])
    assert {"dns"} == set(tomllib.loads(tables)["smtp2go"])
    relay = Appliance(tmp_path)
    (tmp_path / "config/providers.toml").write_text(tables)
    (tmp_path / "config/aliases.toml").write_text('hello = "me@example.net"\n')
    relay.start()
    with smtp(relay) as client:
        client.sendmail("anna@example.org", ["you@example.net"], "From: anna@example.org\r\n\r\nHello.\r\n")
    assert relay.stop() == 0


def test_a_second_relay_on_the_same_spool_is_refused(tmp_path: Path) -> None:
    first = Appliance(tmp_path)
    first.start()
    second = Appliance(tmp_path)
    second.settings["RELAY_RUN"] = str(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").mkdir()
    second.log = tmp_path / "second.log"
    code, lines = ended(second)
    assert code == 78
    assert any("spool" in line for line in lines), lines
    assert first.stop() == 0


def test_the_spool_of_another_installation_is_refused(tmp_path: Path, sink: CountingSink) -> None:
    ours = {"RELAY_INSTALLATION": "0123456789abcdef", "RELAY_INSTALLATION_FOLDER": "/srv/ownpost"}
    relay = Appliance(tmp_path, sink.settings | {"GENERIC_PORT": "9"}, ours)  # nobody listens there: mail waits
    relay.start()
    with smtp(relay) as client:
        client.sendmail("anna@example.org", ["bob@example.net"], "From: anna@example.org\r\nX-Number: 3\r\n\r\nhello")
    assert relay.stop() == 0
    clone = Appliance(tmp_path, settings={"RELAY_INSTALLATION": "fedcba9876543210"})
    clone.log = tmp_path / "clone.log"
    code, lines = ended(clone)
    assert code == 78
    assert any("(mail.example.org, /srv/ownpost); 1 message waits in it. Nothing was changed" in line for line in lines)
    assert clone.operator("take-over").stdout.startswith("The spool of mail.example.org, /srv/ownpost belongs to this")
    clone.start()
    assert [row["state"] for row in queue(clone)] == ["held"], "capture does not get it all the same"
    assert clone.stop() == 0


def test_the_trial_s_account_is_refused_where_mail_really_goes_out(tmp_path: Path, sink: CountingSink) -> None:
    relay = Appliance(tmp_path, sink.settings)
    demo = account(["*@example.org"]) | {"password_hash": HASHER.hash("demo-password")}
    (tmp_path / "config/accounts.toml").write_text(toml({"demo": demo}))
    code, lines = ended(relay)
    assert code == 78
    assert any("demo" in line for line in lines), lines


def test_check_reads_the_accounts_too(tmp_path: Path, sink: CountingSink) -> None:
    relay = Appliance(tmp_path, sink.settings)
    (tmp_path / "config/accounts.toml").write_text("[accounts.anna]\nsenders = 7\n")
    command = [sys.executable, "-m", "relay", "--check"]
    done = subprocess.run(command, env=relay.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 78
    assert "accounts.toml: [accounts.anna]" in done.stderr


def test_check_says_whose_spool_it_is_whatever_else_is_wrong(tmp_path: Path) -> None:
    """Compose in a second clone that never ran: it has no accounts, and must not hear of those alone."""
    first = Appliance(tmp_path, settings={"RELAY_INSTALLATION": "0123456789abcdef"})
    first.start()
    assert first.stop() == 0
    clone = Appliance(tmp_path, settings={"RELAY_INSTALLATION": "fedcba9876543210"})
    (tmp_path / "config/accounts.toml").unlink()
    command = [sys.executable, "-m", "relay", "--check"]
    done = subprocess.run(command, env=clone.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 78
    assert "belongs to another installation" in done.stderr.splitlines()[0]


def test_check_says_nothing_when_all_is_well(tmp_path: Path) -> None:
    relay = Appliance(tmp_path)
    command = [sys.executable, "-m", "relay", "--check"]
    done = subprocess.run(command, env=relay.environ, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_sigterm_lets_an_open_message_finish_and_sends_the_idle_away(tmp_path: Path, sink: CountingSink) -> None:
    relay = Appliance(tmp_path, sink.settings)
    relay.start()
    with smtp(relay) as busy, smtp(relay) as idle:
        busy.mail("anna@example.org")
        busy.rcpt("bob@example.net")
        assert busy.docmd("DATA")[0] == 354
        busy.send("From: anna@example.org\r\nX-Number: 1\r\n\r\nhalf")
        ending = threading.Thread(target=relay.stop)
        ending.start()
        assert idle.getreply()[0] == 421
        busy.send(" and half\r\n.\r\n")
        assert busy.getreply()[0] == 250
        ending.join(30)
    assert relay.process is not None
    assert relay.process.returncode == 0
    relay.start()  # what was accepted at the last moment is delivered now, if not before
    eventually(lambda: sink.got[1] == 1, "the message accepted during the drain to be delivered")
    relay.stop()


def test_accounts_are_reread_and_a_broken_file_keeps_the_old_ones(tmp_path: Path) -> None:
    relay = Appliance(tmp_path)
    relay.start()
    file = tmp_path / "config/accounts.toml"
    good = file.read_text()
    file.write_text("this is not TOML")
    eventually(lambda: "accounts_broken" in relay.log.read_text(), "the broken file to be told")
    with smtp(relay):
        pass
    file.write_text(good + toml({"bob": account(["bob@example.org"])}))
    eventually(lambda: "accounts_reloaded" in relay.log.read_text(), "the mended file to be taken up")
    with smtp(relay):
        pass
    assert relay.stop() == 0


def test_a_disabled_account_ends_at_once_and_its_queue_can_be_held(tmp_path: Path, sink: CountingSink) -> None:
    relay = Appliance(tmp_path, sink.settings | {"GENERIC_PORT": "9"})  # nobody listens there: mail waits
    relay.start()
    with smtp(relay) as client:
        client.sendmail("anna@example.org", ["bob@example.net"], "From: anna@example.org\r\nX-Number: 2\r\n\r\nhello")
        done = relay.operator("account", "disable", "anna", "--hold-queue")
        assert done.returncode == 0, done.stderr
        code, reply = client.getreply()  # to no question
        assert (code, reply[:44]) == (421, b"4.7.0 The account anna is disabled; the oper")
    eventually(lambda: [row["state"] for row in queue(relay)] == ["held"], "the waiting message to be held")
    assert relay.operator("account", "enable", "anna").returncode == 0
    eventually(lambda: [row["state"] for row in queue(relay)] != ["held"], "it to be let go")
    assert relay.stop() == 0


def test_a_paused_account_stays_so_until_it_has_a_new_password(tmp_path: Path) -> None:
    relay = Appliance(tmp_path, accounts={"anna": account(["anna@example.org"], unusual_volume="pause")})
    relay.start()
    file, people = tmp_path / "config/accounts.toml", [f"person{number}@example.net" for number in range(51)]
    with smtp(relay) as client:
        client.sendmail("anna@example.org", people, "From: anna@example.org\r\n\r\nhello")
        file.write_text(file.read_text() + 'notify = "boss@example.org"\n')
        eventually(lambda: "accounts_reloaded" in relay.log.read_text(), "the change to be taken up")
        assert client.mail("anna@example.org")[0] == 250
        code, reply = client.rcpt("bob@example.net")
        assert (code, reply[:13]) == (450, b"4.7.1 Account")
        assert "account_resumed" not in relay.log.read_text()
        assert relay.operator("account", "password", "anna", "--password-stdin", stdin="another horse").returncode == 0
        eventually(
            lambda: 'account_resumed account=anna why="new password"' in relay.log.read_text(), "the pause's end"
        )
        code, reply = client.getreply()
        assert (code, reply[:32]) == (421, b"4.7.0 The account anna has a new")
    with smtp(relay, "another horse") as client:
        client.sendmail("anna@example.org", ["bob@example.net"], "From: anna@example.org\r\n\r\nhello")
    assert relay.stop() == 0


def queue(relay: Appliance) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = relay.status("/queue")["deliveries"]
    return rows


def test_no_secret_is_ever_printed(tmp_path: Path, sink: CountingSink) -> None:

    relay = Appliance(tmp_path, sink.settings)
    relay.start()
    with smtp(relay) as client:
        client.sendmail("anna@example.org", ["bob@example.net"], "From: anna@example.org\r\n\r\nbody-text-4711")
    with pytest.raises(smtplib.SMTPAuthenticationError), smtp(relay, "guess-0815"):
        pass
    eventually(lambda: "delivered" in relay.log.read_text(), "the delivery to be told")
    relay.stop()
    printed = relay.log.read_text()
    for secret in (PASSWORD, "guess-0815", "body-text-4711"):
        assert secret not in printed
        assert base64.b64encode(secret.encode()).decode().rstrip("=") not in printed
