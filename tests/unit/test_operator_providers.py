"""``make providers`` as a person or a script sees it: the table, a sentence for each trouble, JSON, exit codes.

The golden text is what a person reads at 80 columns; after a change that is meant, write it anew with GOLDEN=write.
"""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from relay.operator import providers
from relay.operator.__main__ import main
from support.fake_relay import FakeRelay

AT = 1_790_000_000.0
HOUR = 3_600.0
GOLDEN = Path(__file__).parent / "golden/providers.txt"
SILENT = "the provider did not answer in time"
REVOKED = "535 5.7.8 The provided authorization grant is invalid, expired, or revoked"
HOSTILE = "\x1b]0;owned\x07\u202eevil[red]\r\n"


def port(number: int, *, is_open: bool = True, login: bool | None = True, sentence: str = "") -> dict[str, Any]:
    return {"port": number, "tls": "starttls", "open": is_open, "login": login, "sentence": sentence}


def shut(number: int) -> dict[str, Any]:
    return port(number, is_open=False, login=None, sentence=SILENT)


def look(*ports: dict[str, Any], ready: bool = True, key: bool | None = True, sentence: str = "") -> dict[str, Any]:
    return {"at": AT, "ready": ready, "key": key, "sentence": sentence, "ports": list(ports)}


def quota(used: int, limit: int, period: str = "day", **changes: Any) -> dict[str, Any]:
    usual = {"zone": "UTC", "hours": 24, "in_hand": 0, "reserve": 0, "since": AT - 14 * HOUR}
    return {"limit": limit, "period": period, "used": used, **usual, "resets_at": AT + 9.8 * HOUR, **changes}


def route(place: int, account: str = "", domain: str = "", weight: int = 0) -> dict[str, Any]:
    return {"account": account, "domain": domain, "place": place, "weight": weight}


def row(name: str, **changes: Any) -> dict[str, Any]:
    usual = {
        "name": name,
        "title": name.title(),
        "host": f"smtp.{name}.example",
        "login": "password",
        "state": "open",
        "standing": "",
        "reason": "",
        "until": None,
        "port": 587,
        "in_hand": 0,
        "domains": [],
        "quotas": [],
        "routes": [route(1)],
        "senders": [],
        "look": look(port(587), port(465)),
    }
    return {**usual, **changes}


def stranger(sender: str, until: float | None) -> dict[str, Any]:
    return {"domain": sender, "standing": "not set up", "reason": "550 no", "until": until}


def paused(standing: str, reason: str, until: float | None = AT + HOUR) -> dict[str, Any]:
    return {"state": "paused", "standing": standing, "reason": reason, "until": until}


EVERYTHING = [
    row(
        "brevo",
        quotas=[quota(250, 300, in_hand=2), quota(3_000, 9_000, "month", resets_at=AT + 9.5 * 24 * HOUR)],
        look=look(port(587), port(465), shut(2525)),
        routes=[route(1, "shop", "example.com", 3), route(1)],
        domains=[
            {
                "domain": "shop.example.net",
                "standing": "not set up",
                "reason": "550 The from address does not match a verified Sender Identity",
                "until": AT + HOUR / 2,
            }
        ],
    ),
    row(
        "sendgrid",
        **paused("key dead", REVOKED, AT + HOUR),
        look=look(port(587, login=False, sentence=REVOKED), ready=False, key=False, sentence=REVOKED),
        routes=[route(2)],
    ),
    row(
        "ses",
        **paused("used up", "454 Throttling failure: Daily message quota exceeded", AT + 3 * HOUR),
        quotas=[quota(200, 200, "rolling", resets_at=AT + 3 * HOUR)],
        routes=[route(3)],
    ),
    row(
        "mailgun",
        **{**paused("busy", SILENT), "state": "probing"},
        look=look(shut(587), shut(465), ready=False, key=None, sentence=SILENT),
        routes=[],
    ),
    row("gmail", login="xoauth2", look=None, routes=[route(4)]),
    row("capture", login="none", look=look(key=None), routes=[route(5)]),
]


def shown(*rows: dict[str, Any]) -> str:
    out = io.StringIO()
    console = Console(file=out, width=80, highlight=False, markup=False, emoji=False)
    providers.print_all(console, list(rows), AT)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def words(*rows: dict[str, Any]) -> str:
    return " ".join(shown(*rows).split())


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[FakeRelay]:
    relay = FakeRelay(tmp_path)
    yield relay
    relay.close()


def run(relay: FakeRelay, *arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    code = main(["providers", *arguments], {"RELAY_RUN": str(relay.folder)}, out, err)
    return code, out.getvalue(), err.getvalue()


def test_the_golden_text() -> None:
    text = shown(*EVERYTHING)
    if os.environ.get("GOLDEN") == "write":
        GOLDEN.write_text(text, "utf-8")
    assert text == GOLDEN.read_text("utf-8")
    assert max(map(len, text.splitlines())) <= 80


def test_all_is_well() -> None:
    assert words(row("brevo"), row("ses")).endswith("All is well.")


def test_a_wrong_key_is_told_before_any_mail_met_it() -> None:
    wrong = look(port(587, login=False, sentence=REVOKED), ready=False, key=False, sentence=REVOKED)
    text = words(row("own-relay", look=wrong))
    assert f"It refuses our login: {REVOKED}. Make a new key there, put it into .env as OWN_RELAY_PASSWORD" in text
    assert text.endswith("Not all is well.")
    text = words(row("gmail", login="xoauth2", look=wrong))
    assert "`make oauth PROVIDER=gmail` asks for a new grant." in text
    missing = "nobody has granted access yet: run make oauth PROVIDER=gmail"
    text = words(row("gmail", login="xoauth2", look=look(port(587), ready=False, key=False, sentence=missing)))
    assert "It takes no login: nobody has granted access yet: run make oauth PROVIDER=gmail. " in text
    assert text.count("make oauth") == 1


def test_a_wrong_key_is_told_once() -> None:
    wrong = look(port(587, login=False, sentence=REVOKED), ready=False, key=False, sentence=REVOKED)
    assert words(row("brevo", **paused("key dead", REVOKED), look=wrong)).count(REVOKED) == 1


def test_a_blocked_port_has_a_sentence_and_its_setting() -> None:
    text = words(row("brevo", look=look(shut(587), ready=False, key=None, sentence=SILENT)))
    assert "smtp.brevo.example cannot be reached (port 587): the provider did not answer in time." in text
    assert "BREVO_PORT names another, such as 2525 or 465." in text


def test_a_name_that_nobody_resolves_is_no_blocked_port() -> None:
    sentence = "the provider's host name could not be resolved: Name or service not known"
    text = words(row("brevo", look=look(shut(587), ready=False, key=None, sentence=sentence)))
    assert "has this server a network, and a name server that answers?" in text
    assert "block" not in text


def test_a_certificate_that_is_not_valid_is_no_blocked_port() -> None:
    sentence = "the provider's certificate is not valid: unable to get local issuer certificate"
    one = {**shut(587), "sentence": sentence}
    text = words(row("brevo", look=look(one, ready=False, key=None, sentence=sentence)))
    assert f"smtp.brevo.example is not trusted (port 587): {sentence}. Is BREVO_HOST right?" in text
    assert "BREVO_CA_FILE" in text
    assert "block" not in text


def test_a_port_that_is_shut_beside_an_open_one_is_no_failure() -> None:
    one = row("brevo", look=look(port(587), shut(2525)))
    assert "Port 2525 is shut: the provider did not answer in time. Another port is open. All is well." in words(one)
    assert providers.well(one, AT)


def test_what_is_kept_for_priority_is_told_when_others_wait_for_it() -> None:
    assert "kept" not in words(row("brevo", quotas=[quota(269, 300, reserve=30)]))
    text = words(row("brevo", quotas=[quota(265, 300, in_hand=5, reserve=30)]))
    assert "270 of 300 recipients a day are used. The last 30 are kept for accounts with priority" in text


def test_what_to_do_about_a_sender_that_is_not_known_there() -> None:
    running, over = stranger("example.org", AT + HOUR), stranger("bob@example.org", AT - HOUR)
    text = words(row("brevo", domains=[running, over]))
    assert "It does not take example.org as a sender until 2026-09-21 15:13 UTC (in 60 min): 550 no." in text
    assert "Set example.org up there (`make plan` has the records), then" in text
    assert "It did not take bob@example.org as a sender, and is asked again with the next mail from there: 550" in text
    assert "Have bob@example.org accepted as a sender there. Not all is" in text


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"look": None}, 0),
        ({"quotas": [quota(299, 300)]}, 0),
        (paused("busy", SILENT), 1),
        ({**paused("busy", SILENT), "state": "probing"}, 1),
        ({"look": look(shut(587), ready=False, key=None, sentence=SILENT)}, 1),
        ({"domains": [stranger("d", None)]}, 1),
        ({"domains": [stranger("d", time.time() + HOUR)]}, 1),
        ({"domains": [stranger("d", time.time() - HOUR)]}, 0),  # nothing keeps mail from it, if there was any
    ],
)
def test_the_exit_code(relay: FakeRelay, changes: dict[str, Any], code: int) -> None:
    answer = {"providers": [row("ses"), row("brevo", **changes)]}
    relay.answers["POST /providers/probe"] = (200, answer)
    relay.answers["GET /providers?provider=brevo"] = (200, answer)
    assert run(relay)[0] == code
    found, out, _ = run(relay, "brevo", "--last", "--json")
    assert (found, json.loads(out)) == (code, answer)


def test_an_unreachable_relay_is_one_sentence(tmp_path: Path) -> None:
    out, err = io.StringIO(), io.StringIO()
    assert main(["providers"], {"RELAY_RUN": str(tmp_path)}, out, err) == 1
    assert err.getvalue().startswith("No relay answers on ")


def test_hostile_strings_are_harmless() -> None:
    evil = row(
        HOSTILE,
        host=HOSTILE,
        **paused(HOSTILE, HOSTILE),
        domains=[{"domain": HOSTILE, "standing": "not set up", "reason": HOSTILE, "until": None}],
        routes=[route(1, HOSTILE, HOSTILE)],
        look=look({**shut(587), "sentence": HOSTILE}, ready=False, key=None, sentence=HOSTILE),
    )
    text = shown(evil)
    assert all(char == "\n" or char.isprintable() for char in text)
    assert "\\x1b" in text
