"""One relay for all clients, with a provider that records what it gets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.appliance import Appliance, account, eventually
from support.clients import Matrix
from support.letters import LETTERS, Letter
from support.recorder import Recorder

# Mail servers report to their users from an address that they make up: two ways to let that through.
ACCOUNTS = {
    "anna": account(["anna@example.org"]),
    "rewriting": account(["nas@example.org", "anna@example.org"], **{"from": "rewrite"}),
    "listing": account(["anna@example.org", "mailer-daemon@nas.example.org"]),
}


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    provider = Recorder()
    settings = {"RELAY_REPEAT_MINUTES": "0"}  # every client sends the same letters
    relay = Appliance(tmp_path_factory.mktemp("clients"), provider.settings, settings, ACCOUNTS)
    relay.start()
    yield Matrix(relay, provider)
    assert relay.stop() == 0, relay.log.read_text()[-4000:]
    assert [one.mail for one in provider.wait(0)] == [], "it came after the last test"
    provider.close()


@pytest.fixture
def matrix(running: Matrix) -> Iterator[Matrix]:
    """Nothing comes to the provider but what a test has waited for, and once: neither in its time nor between two."""
    assert [one.mail for one in running.provider.wait(0)] == [], "it came after the last test"
    yield running
    eventually(lambda: not running.relay.status("/queue")["deliveries"], "the queue to be empty")
    assert [one.mail for one in running.provider.wait(0)] == [], "it came besides"


@pytest.fixture(params=LETTERS, ids=lambda letter: letter.name)
def letter(request: pytest.FixtureRequest) -> Letter:
    assert isinstance(request.param, Letter)
    return request.param
