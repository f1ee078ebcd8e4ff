"""Hostile environments: settings whose every value is allowed, or all that is wrong, one printable line for each."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.settings import SettingsError
from relay.settings import Settings, read
from support.fuzzing import corpus, keep_at_it, mutated

NAMES = [
    "OWNPOST_DOMAINS",
    "OWNPOST_HOSTNAME",
    "OWNPOST_BIND",
    "OWNPOST_PROVIDERS",
    "RELAY_SUBMISSION_PORT",
    "RELAY_MESSAGE_SIZE_LIMIT",
    "RELAY_RECIPIENTS",
    "RELAY_LAN_BIND",
    "RELAY_LAN_NETWORKS",
    "RELAY_LAN_ACCOUNT",
    "RELAY_LAN_RECIPIENTS",
    "RELAY_SPOOL",
    "RELAY_LOG_FORMAT",
    "RELAY_HISTORY_DAYS",
    "GENERIC_HOST",
    "GENERIC_TLS",
    "GENERIC_PORT",
    "GENERIC_CA",
    "OWNPOST_",
    "RELAY_X_FILE",
]
VALUES = ["example.org", "127.0.0.1", "0.0.0.0", "::1", "10.0.0.0/8", "0", "-1", "65536", "١٢", "1e3", "50 MiB", "none"]
VALUES += [
    "*@example.org",
    "/",
    "..",
    "a" * 300,
    "xn--",
    "\u202e",
    "\x1b[2J",
    '"x"',
    "'",
    "generic,capture",
    "9" * 5000,
]
SECRET = "hunter2-secret-4711"


def environment(data: bytes) -> dict[str, str]:
    """``NAME=value`` lines as a mapping, as Compose would pass them."""
    pairs = (line.partition("=") for line in data.decode("utf-8", "replace").replace("\0", "").split("\n"))
    return {name: value for name, equals, value in pairs if equals and name}


made = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES) | st.text(max_size=20), max_size=8)


@given(mutated("settings").map(environment) | made.map(lambda given: {"OWNPOST_DOMAINS": "example.org"} | given))
def check(environ: dict[str, str]) -> None:
    environ = environ | {"GENERIC_PASSWORD": SECRET, "GENERIC_USERNAME": "me"}
    try:
        settings = read(environ)
    except SettingsError as error:
        told = list(error.problems)
        assert told
        assert len(told) == len(set(told))
    else:
        assert isinstance(settings, Settings)
        assert settings.domains
        assert "." in settings.hostname
        assert settings.providers
        assert settings.message_size_limit > 0
        told = list(settings.warnings)
        told.append(repr(settings))
    for line in told:
        assert SECRET not in line
        assert line.isprintable(), line


@pytest.mark.parametrize("data", corpus("settings"))
def test_corpus(data: bytes) -> None:
    check.hypothesis.inner_test(environment(data))  # type: ignore[attr-defined]


def test_environments(request: pytest.FixtureRequest) -> None:
    keep_at_it(check, request)
