"""What the relay warns of though it is legal: an appliance that sends nothing, or mail that nobody will take."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.accounts import Account, Accounts
from relay.advice import advice
from relay.settings import read
from support.presets import environ

WORLD = {"OWNPOST_BIND": "0.0.0.0"}
OURS = {"OWNPOST_DOMAINS": "shop.nl"}


def accounts(*senders: str, **more: bool) -> Accounts:
    return Accounts([Account(name="anna", password_hash="", senders=senders, **more)])


def told(settings: dict[str, str], *senders: str, **more: bool) -> list[str]:
    return advice(read(settings), accounts(*senders, **more))


def test_nothing_is_said_of_the_trial_or_of_what_is_well() -> None:
    assert told(environ("capture"), "*@example.org") == []
    assert told(environ("brevo") | WORLD | OURS, "*@shop.nl", "printer@office.shop.nl") == []


@pytest.mark.parametrize(
    ("settings", "sender", "words"),
    [
        (environ("capture") | WORLD, "*@example.org", ["OWNPOST_PROVIDERS", "sends nothing", "0.0.0.0"]),
        (environ("brevo") | WORLD, "*@example.org", ["OWNPOST_DOMAINS", "example.org is reserved"]),
        (environ("brevo") | WORLD | OURS, "y@gmail.com", ["accounts.toml", "anna as y@gmail.com", "OWNPOST_DOMAINS"]),
        (environ("brevo") | WORLD | {"OWNPOST_DOMAINS": "shopp.nl"}, "*@shop.nl", ["anna as *@shop.nl", "shopp.nl"]),
        (environ("brevo") | OURS, "*@shop.nl", ["OWNPOST_BIND", "only this machine"]),
    ],
)
def test_what_was_most_likely_not_meant_has_a_sentence(settings: dict[str, str], sender: str, words: list[str]) -> None:
    [sentence] = told(settings, sender)
    for word in words:
        assert word in sentence


def test_a_disabled_account_sends_from_nowhere() -> None:
    assert told(environ("brevo") | WORLD | OURS, "y@gmail.com", disabled=True) == []


def test_many_foreign_senders_are_one_sentence() -> None:
    [sentence] = told(environ("brevo") | WORLD | OURS, *(f"{n}@gmail.com" for n in range(9)))
    assert "anna as 2@gmail.com and 6 more." in sentence


def test_a_plan_that_is_assumed_is_told_in_the_log_only() -> None:
    settings = read(environ("brevo") | WORLD | OURS)
    assert [note.partition(":")[0] for note in settings.notes] == ["BREVO_DAILY_QUOTA"]


def test_a_route_for_an_account_that_does_not_exist(tmp_path: Path) -> None:
    (tmp_path / "providers.toml").write_text('[[route]]\naccount = "Anna"\nproviders = ["brevo"]\n')
    [sentence] = told(environ("brevo") | WORLD | OURS | {"RELAY_CONFIG": str(tmp_path)}, "*@shop.nl")
    assert "names the account Anna, which is not in accounts.toml" in sentence
