"""Fixtures for tests of the domain tool; a test module imports those it uses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.domain.fake import Fake, running
from support.domain.stage import KEY, Stage, cloudflare_state, zone


@pytest.fixture(scope="session")
def cloudflare_process() -> Iterator[Fake]:
    with running("cloudflare") as fake:
        yield fake


@pytest.fixture(scope="session")
def sendgrid_process() -> Iterator[Fake]:
    with running("sendgrid") as fake:
        yield fake


@pytest.fixture(scope="session")
def web() -> Iterator[httpx.Client]:
    with httpx.Client() as client:
        yield client


@pytest.fixture
def stage(cloudflare_process: Fake, sendgrid_process: Fake, web: httpx.Client, tmp_path: Path) -> Stage:
    """An empty zone example.org, and SendGrid that does not know it."""
    cloudflare_process.set(cloudflare_state(zone("example.org"), verified=("me@gmail.com",)))
    sendgrid_process.set({"key": KEY, "domains": []})
    return Stage(cloudflare_process, sendgrid_process, web, tmp_path)
