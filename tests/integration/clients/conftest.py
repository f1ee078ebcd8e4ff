"""One relay for all clients, with a provider that records what it gets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.appliance import Appliance
from support.clients import Matrix
from support.letters import LETTERS, Letter
from support.recorder import Recorder


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    provider = Recorder()
    settings = {"RELAY_REPEAT_MINUTES": "0"}  # every client sends the same letters
    relay = Appliance(tmp_path_factory.mktemp("clients"), provider.settings, settings)
    relay.start()
    yield Matrix(relay, provider)
    assert relay.stop() == 0, relay.log.read_text()[-4000:]
    provider.close()


@pytest.fixture
def matrix(running: Matrix) -> Matrix:
    running.provider.taken.clear()
    return running


@pytest.fixture(params=LETTERS, ids=lambda letter: letter.name)
def letter(request: pytest.FixtureRequest) -> Letter:
    assert isinstance(request.param, Letter)
    return request.param
