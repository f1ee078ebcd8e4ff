"""The Compose project that the tests of one module share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.peers import need
from support.project import Project, need_engine


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    need_engine()
    need("curl")
    project = Project(tmp_path_factory.mktemp("compose"))
    yield project
    project.run("docker", "compose", "--profile", "*", "down", "--volumes", "--rmi", "local", "--timeout", "5")
