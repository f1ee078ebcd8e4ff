"""Fixtures for tests of the domain tool; a test module imports those it uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import trustme

from support.domain import nameserver
from support.domain.fake import Fake, running
from support.domain.nameserver import NameServer
from support.domain.stage import KEY, Stage, cloudflare_state, zone
from support.domain.world import World


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


@pytest.fixture(scope="session")
def names() -> Iterator[NameServer]:
    with nameserver.running() as server:
        yield server


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def world(
    names: NameServer,
    authority: trustme.CA,
    cloudflare_process: Fake,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[World]:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    cloudflare_process.set({"token": "t", "zones": [], "addresses": {}})
    with ExitStack() as stack:
        yield World(names, authority, cloudflare_process.url, tmp_path, stack)
