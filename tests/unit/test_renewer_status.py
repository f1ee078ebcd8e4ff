"""What the renewer says of itself: JSON and metrics from one record, log lines that nothing can fake."""

from __future__ import annotations

import io
import json

import pytest
from prometheus_client.exposition import generate_latest

from renewer.log import Log
from renewer.outcome import Failed, Kept, Kind, Offered
from renewer.pair import facts_of
from renewer.selfsigned import make
from renewer.status import Status, registry_of

NOW = 1_800_000_000.0
PAIR = make(["mail.example.org"], NOW)


def samples(status: Status) -> dict[str, float]:
    lines = generate_latest(registry_of(status)).decode().splitlines()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}


def test_everything_is_there_at_zero_from_the_start() -> None:
    status = Status("files", "mail.example.org", lambda: NOW)
    assert set(samples(status).values()) == {0.0}
    assert {f'ownpost_renewer_attempts_total{{result="{result}"}}' for result in ("published", "kept", "failed")} < set(
        samples(status)
    )
    assert status.as_json() == {
        "mode": "files",
        "hostname": "mail.example.org",
        "last_attempt": None,
        "last_success": None,
        "next_attempt": None,
        "last_error": "",
        "certificate": None,
    }


def test_attempts_move_both_views() -> None:
    time = [NOW]
    status = Status("files", "mail.example.org", lambda: time[0])
    status.certificate(facts_of(PAIR.fullchain))
    status.record(Offered(PAIR, NOW + 60))
    time[0] += 60
    status.record(Kept(NOW + 120))
    time[0] += 60
    status.record(Failed(Kind.FILE, "It rains.", NOW + 180))
    shown, measured = status.as_json(), samples(status)
    assert (shown["last_attempt"], shown["last_success"], shown["next_attempt"]) == (NOW + 120, NOW + 60, NOW + 180)
    assert shown["last_error"] == "It rains."
    kinds = {f'ownpost_renewer_failures_total{{kind="{kind}"}}': float(kind is Kind.FILE) for kind in Kind}
    assert measured == kinds | {
        'ownpost_renewer_attempts_total{result="published"}': 1,
        'ownpost_renewer_attempts_total{result="kept"}': 1,
        'ownpost_renewer_attempts_total{result="failed"}': 1,
        "ownpost_renewer_last_attempt_timestamp_seconds": NOW + 120,
        "ownpost_renewer_last_success_timestamp_seconds": NOW + 60,
        "ownpost_renewer_next_attempt_timestamp_seconds": NOW + 180,
        "ownpost_renewer_last_attempt_failed": 1,
        "ownpost_renewer_certificate_not_after_timestamp_seconds": NOW + 90 * 86400,
    }
    status.record(Kept(NOW + 240))
    assert samples(status)["ownpost_renewer_last_attempt_failed"] == 0
    assert status.as_json()["last_error"] == ""


def line(form: str, **fields: str | float) -> str:
    stream = io.StringIO()
    Log(stream, "json" if form == "json" else "text", lambda: NOW).event("happened", **fields)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain", "plain"),
        (1.5, "1.5"),
        ("two words", '"two words"'),
        ("", '""'),
        ("a\x1bb", '"a\\u001bb"'),
        ('a"b', '"a\\"b"'),
        ("é\n\x1b", '"\\u00e9\\n\\u001b"'),
    ],
)
def test_a_text_line_holds_one_event_whatever_its_values(value: str | float, written: str) -> None:
    assert line("text", field=value) == f"2027-01-15T08:00:00.000Z renewer happened field={written}\n"


def test_a_json_line_is_one_object() -> None:
    text = line("json", field="two\nlines", number=2)
    assert text.count("\n") == 1
    assert json.loads(text) == {
        "time": "2027-01-15T08:00:00.000Z",
        "service": "renewer",
        "event": "happened",
        "field": "two\nlines",
        "number": 2,
    }
