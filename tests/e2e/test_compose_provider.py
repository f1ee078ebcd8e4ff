"""The containers with a provider that mail really goes to: a container of the tests' own network, over verified TLS."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.appliance import eventually
from support.project import Project
from support.traffic import ID

pytestmark = pytest.mark.timeout(400)
PASSWORD = "what the provider wants"
MAIL = b"From: anna@example.org\r\nTo: you@example.net\r\nSubject: It waits\r\n\r\nfor its provider.\r\n"


@pytest.fixture(scope="module")
def up(project: Project) -> Project:
    """Running with the provider `generic`, which is not there yet; the account anna."""
    project.add_provider(Path(__file__).with_name("provider.py"), PASSWORD)
    return project


def test_the_trials_account_is_refused_as_soon_as_mail_would_really_go_out(up: Project) -> None:
    refused = up.run("make", "up")
    assert refused.returncode != 0
    assert "demo" in refused.stderr
    assert "password" in refused.stderr
    assert up.run("make", "account", "ARGS=remove demo").returncode == 0, "the verb must work while the relay does not"


def test_with_an_account_of_its_own_it_starts(up: Project) -> None:
    made = up.run(
        "make", "account", "ARGS=add anna --sender anna@example.org --password-stdin", stdin="a good password\n"
    )
    assert made.returncode == 0, made.stderr
    up.make("up")


def test_mail_waits_for_a_provider_that_is_away_and_survives_a_new_container(up: Project) -> None:
    sent = up.curl(
        f"smtps://127.0.0.1:{up.submissions}",
        MAIL,
        "--verbose",
        "--mail-from",
        "anna@example.org",
        login="anna:a good password",
    )
    assert sent.returncode == 0, sent.stderr
    (message,) = set(ID.findall(sent.stderr.decode()))
    eventually(lambda: message in up.make("queue"), "the mail in the queue")
    before = up.container()
    up.compose("up", "--detach", "--wait", "--force-recreate", "relay")
    assert up.container() != before
    (waiting,) = json.loads(up.make("queue", "ARGS=--json"))["deliveries"]
    assert waiting["message"] == message

    up.compose("up", "--detach", "provider")
    up.make("queue", f"ARGS=retry {message}")
    story = eventually(lambda: delivered(up.make("trace", f"ID={message}")), "the delivery")
    assert "taken as number 1" in story
    mail = (up.folder / "mail/1.eml").read_bytes()
    assert mail.endswith(b"\r\n\r\nfor its provider.\r\n.\r\n")


def delivered(story: str) -> str:
    return story if "handed over" in story else ""


def test_send_test_prints_the_providers_own_answer(up: Project) -> None:
    assert "taken as number 2" in up.make("send-test", "TO=you@example.net")


def test_no_secret_is_in_what_docker_shows(up: Project) -> None:
    for service in ("relay", "renewer"):
        shown = up.run("docker", "inspect", up.container(service)).stdout
        assert PASSWORD not in shown
    assert PASSWORD not in up.compose("logs")
