"""A relay whose provider records every byte, and clients that say what no mail program says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.appliance import Appliance, account
from support.recorder import Recorder
from support.talk import Target

ACCOUNTS = {
    "anna": account(["anna@example.org"]),
    "old": account(["old@example.org"], newlines="normalize"),
}


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    provider = Recorder()
    settings = {"RELAY_LOG_FORMAT": "json", "RELAY_REPEAT_MINUTES": "0"}  # the innocent mail is always the same one
    relay = Appliance(tmp_path_factory.mktemp("attacks"), provider.settings, settings, accounts=ACCOUNTS)
    relay.start()
    yield Target(relay, provider)
    assert relay.stop() == 0, relay.log.read_text()[-4000:]
    provider.close()


@pytest.fixture
def target(running: Target) -> Target:
    running.provider.taken.clear()
    running.provider.commands.clear()
    return running
