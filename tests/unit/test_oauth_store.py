"""The file of a refresh token on a disk that fails: the old token or the new one, and nothing beside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from relay.oauth.settings import OAuthSettings
from relay.oauth.store import Store
from support.disk_trouble import FAULTS, failing

SETTINGS = OAuthSettings(
    kind="google", token_url="https://token.example", scope="mail", client_id="id", refresh_token="given"
)


def store(spool: Path) -> Store:
    return Store(spool, "gmail", "anna@gmail.example", SETTINGS)


@pytest.mark.parametrize("before", ["given", "kept"])
@pytest.mark.parametrize(("call", "error"), FAULTS)
def test_when_the_new_token_cannot_be_put_in_its_place_the_old_one_holds(
    tmp_path: Path, call: str, error: int, before: str
) -> None:
    if before == "kept":
        store(tmp_path).keep(before)
    with failing(call, error), pytest.raises(OSError, match=os.strerror(error)):
        store(tmp_path).replace(before, "new")
    assert store(tmp_path).newest() == before
    assert os.listdir(tmp_path / "oauth") == (["gmail.json"] if before == "kept" else [])
    assert store(tmp_path).replace(before, "new")
    assert store(tmp_path).newest() == "new"


def test_when_its_name_cannot_be_synced_that_is_told_though_the_new_one_may_hold(tmp_path: Path) -> None:
    store(tmp_path).keep("kept")
    call, error = FAULTS[-1]
    with failing(call, error, 2), pytest.raises(OSError, match=os.strerror(error)):
        store(tmp_path).keep("new")
    assert store(tmp_path).newest() == "new"
    assert os.listdir(tmp_path / "oauth") == ["gmail.json"]
