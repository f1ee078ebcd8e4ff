"""Two clones of the project on one machine: the second takes neither the containers nor the mail of the first, unless
it is told to; under another name, and on other ports, both run. In their order."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.appliance import eventually
from support.project import Project
from support.traffic import ID

pytestmark = pytest.mark.timeout(500)
MAIL = b"From: anna@example.org\r\nTo: you@example.net\r\nSubject: Precious\r\n\r\nIt waits.\r\n"


@pytest.fixture(scope="module")
def first(project: Project) -> Project:
    """The one that has run here for long, with a provider that is away."""
    project.add_provider(Path(__file__).with_name("provider.py"), "what the provider wants")
    project.run("make", "up")  # refused, for the trial's account is still there
    assert project.run("make", "account", "ARGS=remove demo").returncode == 0
    account = "ARGS=add anna --sender anna@example.org --password-stdin"
    assert project.run("make", "account", account, stdin="a good password\n").returncode == 0
    project.make("up")
    return project


@pytest.fixture(scope="module")
def precious(first: Project) -> str:
    """The id of a mail that waits there."""
    sender = ("--mail-from", "anna@example.org", "--verbose")
    sent = first.curl(f"smtps://127.0.0.1:{first.submissions}", MAIL, *sender, login="anna:a good password")
    assert sent.returncode == 0, sent.stderr
    (message,) = set(ID.findall(sent.stderr.decode()))
    eventually(lambda: first.waiting() == {message}, "the mail in the queue")
    return message


@pytest.fixture(scope="module")
def second(first: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A clone "to look at the new version": the trial, under the name that all clones have."""
    second = Project(tmp_path_factory.mktemp("second"))
    own, second.name = second.name, first.name
    second.environ["COMPOSE_PROJECT_NAME"] = first.name
    yield second
    second.environ["COMPOSE_PROJECT_NAME"] = own
    second.run("docker", "compose", "--profile", "*", "down", "--volumes", "--rmi", "local", "--timeout", "5")


def told(second: Project, first: Project, *words: str) -> str:
    """What a verb said that refused for there is another one."""
    done = second.run("make", *words)
    assert done.returncode != 0, done.stdout
    assert str(first.folder) in done.stderr
    assert "Nothing was changed." in done.stderr
    assert done.stdout == ""
    return done.stderr


def test_make_up_in_a_second_clone_says_what_runs_and_touches_nothing(
    first: Project, precious: str, second: Project
) -> None:
    before = first.container()
    said = told(second, first, "up")
    for words in ("mail.example.org; 1 message waits", f"cd {first.folder} && make up", "COMPOSE_PROJECT_NAME"):
        assert words in said
    assert not (second.folder / "var").exists()
    assert "is that" not in said
    for verb in ("down", "queue", "logs", "plan"):
        told(second, first, verb)
    assert first.container() == before
    assert first.waiting() == {precious}


def test_plain_compose_from_there_gets_a_relay_that_leaves_the_mail_alone(
    first: Project, precious: str, second: Project
) -> None:
    second.run("docker", "compose", "up", "--detach")
    said = eventually(lambda: refusal(second), "the relay to refuse")
    assert f"(mail.example.org, {first.folder}); 1 message waits in it. Nothing was changed" in said
    assert list((second.folder / "var/captured").glob("*.eml")) == []

    first.make("up")  # its own id is the spool's: these containers are not asked
    assert first.waiting() == {precious}
    (row,) = json.loads(first.make("queue", "ARGS=--json"))["deliveries"]
    assert row["state"] == "due"


def refusal(project: Project) -> str:
    """The line of the relay that refuses its spool."""
    lines = project.run("docker", "compose", "logs", "--no-log-prefix", "relay")
    return next((one for one in (lines.stdout + lines.stderr).splitlines() if "another installation" in one), "")


def test_what_was_stopped_is_not_taken_over_either(first: Project, precious: str, second: Project) -> None:
    first.make("down")
    said = told(second, first, "up")
    assert "mail.example.org" in said
    first.make("up")
    assert first.waiting() == {precious}


def test_under_a_name_and_ports_of_its_own_both_run(first: Project, precious: str, second: Project) -> None:
    del second.environ["COMPOSE_PROJECT_NAME"]  # it stands in .env, as docs/operations.md has it
    second.configure(COMPOSE_PROJECT_NAME=f"{first.name}-2")
    try:
        second.make("up")
        sent = second.curl(f"smtps://127.0.0.1:{second.submissions}", MAIL.replace(b"anna@", b"demo@"))
        assert sent.returncode == 0, sent.stderr
        eventually(lambda: bool(second.captured()), "the mail of the second one")
        assert first.reachable()
        assert first.waiting() == {precious}
        assert second.waiting() == set()
        second.make("down")
    finally:
        second.run("docker", "compose", "--profile", "*", "down", "--volumes", "--rmi", "local", "--timeout", "5")
        second.environ["COMPOSE_PROJECT_NAME"] = first.name


def test_it_takes_over_when_it_is_told_to_and_holds_what_its_providers_must_not_have(
    first: Project, precious: str, second: Project
) -> None:
    said = second.make("up", "ARGS=--take-over")
    assert f"The spool of mail.example.org, {first.folder} belongs to this folder now. 1 message waits in it." in said
    (row,) = json.loads(second.make("queue", "ARGS=--json"))["deliveries"]
    assert (row["message"], row["state"]) == (precious, "held")
    told(first, second, "up")

    first.make("up", "ARGS=--take-over")
    first.compose("up", "--detach", "provider")
    first.make("queue", f"ARGS=retry {precious}")
    eventually(lambda: first.waiting() == set(), "the mail to be sent at last")
    assert b"It waits." in (first.folder / "mail/1.eml").read_bytes()
