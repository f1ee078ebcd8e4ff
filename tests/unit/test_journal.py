"""The journal: each event is one line and one count, and tells no more than it may."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from relay import ration
from relay.journal import Journal
from relay.log import Log
from relay.metrics import Metrics
from relay.model import Event, EventKind
from relay.refusal import Reason

AT = 1_790_000_000.0
ID = "01M87G15P1F3MBJ0JS4RPWWWQX"


class SetClock:
    passed = 0.0

    def time(self) -> float:
        return AT

    def monotonic(self) -> float:
        return self.passed


class Told:
    """A journal, and what it wrote and counted."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reading, self.writing = os.pipe()
        os.set_blocking(self.reading, False)
        self.clock = SetClock()
        metrics = Metrics(self.registry, ["sendgrid"], "0.1.0")
        self.journal = Journal(Log(self.writing, "json", self.clock), metrics, self.clock)

    def lines(self) -> list[dict[str, Any]]:
        try:
            text = os.read(self.reading, 1 << 20).decode("ascii")
        except BlockingIOError:
            return []
        return [json.loads(line) for line in text.splitlines()]

    def count(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"ownpost_{name}", labels)

    def close(self) -> None:
        os.close(self.reading)
        os.close(self.writing)


@pytest.fixture
def told() -> Iterator[Told]:
    told = Told()
    yield told
    told.close()


@pytest.mark.parametrize("kind", EventKind)
def test_every_event_is_a_line_and_a_count(told: Told, kind: EventKind) -> None:
    told.journal.committed([Event(kind=kind, at=AT, message=ID), Event(kind=kind, at=AT, message=ID)])
    assert [line["event"] for line in told.lines()] == [kind.value] * 2
    assert told.count("mail_events_total", event=kind.value) == 2


def test_a_line_says_what_the_event_holds(told: Told) -> None:
    event = Event(
        kind=EventKind.DEFERRED,
        at=AT + 1,
        message=ID,
        account="anna",
        recipient="bob@example.net",
        provider="sendgrid",
        code=451,
        reply="4.7.1 Try again later",
        detail={"delay": 1.5, "next_attempt": AT + 60},
    )
    told.journal.committed([event])
    (line,) = told.lines()
    assert line == {
        "time": "2026-09-21T14:13:21.000Z",  # when it happened, not when it was written
        "service": "relay",
        "event": "deferred",
        "message": ID,
        "account": "anna",
        "recipient": "bob@example.net",
        "provider": "sendgrid",
        "code": 451,
        "reply": "4.7.1 Try again later",
        "delay": 1.5,
        "next_attempt": AT + 60,
    }


def test_a_delivery_moves_what_operators_watch(told: Told) -> None:
    event = Event(kind=EventKind.DELIVERED, at=AT, message=ID, provider="sendgrid", detail={"delay": 2.0})
    told.journal.committed([event])
    assert told.count("provider_last_success_timestamp_seconds", provider="sendgrid") == AT
    assert told.count("delivery_delay_seconds_sum", provider="sendgrid") == 2.0
    told.journal.committed([Event(kind=EventKind.DELIVERED, at=AT, message=ID, provider="an earlier one")])


def test_connections_are_counted_and_not_written(told: Told) -> None:
    told.journal.connection("submission", "192.0.2.1")
    told.journal.connection("submission", "192.0.2.1")
    told.journal.connection_ended("submission", "192.0.2.1")
    assert told.count("connections_total", listener="submission") == 2
    assert told.count("connections_open", listener="submission") == 1
    assert told.lines() == []


REFUSALS: dict[str, tuple[Callable[[Journal], None], dict[str, Any], str, dict[str, str]]] = {
    "connection": (
        lambda journal: journal.connection_refused("lan", "192.0.2.1", Reason.NETWORK),
        {"event": "connection_refused", "peer": "192.0.2.1", "reason": "network"},
        "connections_refused_total",
        {"listener": "lan", "reason": "network"},
    ),
    "tls": (
        lambda journal: journal.tls_handshake("submissions", "192.0.2.1", "", False, "no shared cipher"),
        {"event": "tls_failed", "peer": "192.0.2.1", "reason": "no shared cipher"},
        "tls_handshakes_total",
        {"listener": "submissions", "version": "other", "result": "failed"},
    ),
    "login": (
        lambda journal: journal.login("submission", "192.0.2.1", "anna", "PLAIN", False, Reason.AUTH_FAILED),
        {"event": "login_failed", "peer": "192.0.2.1", "account": "anna", "reason": "auth_failed"},
        "logins_total",
        {"listener": "submission", "mechanism": "PLAIN", "result": "failed"},
    ),
    "login that worked": (
        lambda journal: journal.login("submission", "192.0.2.1", "anna", "LOGIN", True),
        {"event": "login", "account": "anna", "mechanism": "LOGIN"},
        "logins_total",
        {"listener": "submission", "mechanism": "LOGIN", "result": "ok"},
    ),
    "command": (
        lambda journal: journal.refused("submission", "192.0.2.1", "", Reason.SENDER, "550 5.7.1 No."),
        {"event": "command_refused", "reason": "sender", "reply": "550 5.7.1 No."},
        "refused_total",
        {"listener": "submission", "reason": "sender"},
    ),
}


def test_a_repeat_is_a_line_and_a_count_of_its_own(told: Told) -> None:
    told.journal.repeated("submission", "192.0.2.1", "anna", ID)
    (line,) = told.lines()
    expected = {"event": "message_repeated", "message": ID, "peer": "192.0.2.1", "account": "anna"}
    assert expected.items() <= line.items()
    assert told.count("messages_repeated_total", listener="submission") == 1
    assert told.count("messages_accepted_total", listener="submission") == 0


@pytest.mark.parametrize("name", REFUSALS)
def test_what_strangers_do_is_a_line_and_a_count(told: Told, name: str) -> None:
    call, expected, metric, labels = REFUSALS[name]
    call(told.journal)
    (line,) = told.lines()
    assert expected.items() <= line.items()
    assert told.count(metric, **labels) == 1


def told_of(told: Told) -> list[tuple[str, int]]:
    """The lines: whose, and how many more they stand for."""
    return [(line["peer"], line.get("more", 0)) for line in told.lines()]


def test_a_flood_from_one_address_is_some_lines_and_a_number(told: Told) -> None:
    for _ in range(25):
        told.journal.connection_refused("submission", "2001:db8::1", Reason.CONNECTIONS)
        told.journal.connection_refused("lan", "2001:db8::2", Reason.NETWORK)
    told.journal.connection_refused("submission", "192.0.2.1", Reason.CONNECTIONS)
    told.journal.tls_handshake("submission", "192.0.2.1", "", False, "eof")
    lines = told_of(told)
    assert len(lines) == ration.LINES + 2
    assert lines[-2:] == [("192.0.2.1", 0)] * 2
    assert told.count("connections_refused_total", listener="submission", reason="connections") == 26
    told.clock.passed = 59.0
    told.journal.connection("submission", "192.0.2.1")
    assert told_of(told) == []
    told.clock.passed = 60.0
    told.journal.connection("submission", "192.0.2.1")
    assert told_of(told) == [("2001:db8::/64", 40)]
    told.journal.connection_refused("submission", "2001:db8::1", Reason.CONNECTIONS)
    assert told_of(told) == [("2001:db8::1", 0)], "a new minute"


def test_a_flood_from_everywhere_is_bounded_too(told: Told) -> None:
    for number in range(ration.ADDRESSES + 50):
        told.journal.connection_refused("submission", f"10.0.{number // 250}.{number % 250}", Reason.CONNECTIONS)
    assert len(told_of(told)) == ration.ADDRESSES + ration.LINES
    assert len(told.journal._strangers._counts) <= ration.ADDRESSES + 1
    told.clock.passed = 61.0
    told.journal.connection("submission", "192.0.2.1")
    assert told_of(told) == [(ration.OTHERS, 40)]


def test_what_a_flood_can_write_in_a_minute(told: Told) -> None:
    def flood() -> int:
        lines = 0
        for number in range(ration.ADDRESSES + 1):
            for _ in range(ration.LINES + 1):
                told.journal.connection_refused("submission", f"10.0.0.{number}", Reason.CONNECTIONS)
            lines += len(told_of(told))  # before the pipe is full
        return lines

    flood()
    told.clock.passed = 60.0
    assert flood() == 1_111, "the numbers of the minute before among them"


def test_what_was_not_told_before_the_end_is_told_at_the_end(told: Told) -> None:
    for _ in range(25):
        told.journal.connection_refused("submission", "192.0.2.1", Reason.CONNECTIONS)
    told_of(told)
    told.journal.system("stopping")
    told.journal.tls_handshake("submission", "192.0.2.2", "", False, "eof")  # that was under way
    told.lines()
    told.journal.system("stopped")
    assert [(line["event"], line.get("more")) for line in told.lines()] == [
        ("connection_refused", 25 - ration.LINES),
        ("stopped", None),
    ]


def test_a_handshake_that_worked_is_counted(told: Told) -> None:
    told.journal.tls_handshake("submission", "192.0.2.1", "TLSv1.3", True)
    assert told.lines() == []
    assert told.count("tls_handshakes_total", listener="submission", version="TLSv1.3", result="ok") == 1


def test_timings(told: Told) -> None:
    told.journal.accepted_timing("lan", 0.02, 2048, "01J00000000000000000000000")
    told.journal.attempt("sendgrid", "deferred", 3.0)
    told.journal.attempt("unheard of", "new", 3.0)
    told.journal.commit_group(7, 0.004)
    assert told.count("messages_accepted_total", listener="lan") == 1
    assert told.count("accept_duration_seconds_sum") == 0.02
    assert told.count("message_size_bytes_sum") == 2048
    assert told.count("delivery_attempts_total", provider="sendgrid", outcome="deferred") == 1
    assert told.count("delivery_attempts_total", provider="other", outcome="other") == 1
    assert told.count("delivery_duration_seconds_sum", provider="sendgrid") == 3.0
    assert told.count("spool_commit_changes_sum") == 7
    assert told.count("spool_commit_duration_seconds_sum") == 0.004
    assert told.lines() == []


def test_what_the_probe_found_moves_a_gauge(told: Told) -> None:
    told.journal.system("provider_ready", provider="sendgrid")
    told.journal.system("provider_ready", provider="unheard of")
    assert told.count("provider_ready", provider="sendgrid") == 1
    told.journal.system("provider_not_ready", provider="sendgrid", reason="535 5.7.8 revoked")
    assert told.count("provider_ready", provider="sendgrid") == 0
    assert told.lines()[-1]["reason"] == "535 5.7.8 revoked"


def test_certificate_and_accounts(told: Told) -> None:
    told.journal.system("certificate_loaded", folder="1", not_after=AT + 5)
    told.journal.system("certificate_served", listener="submission", not_after=AT + 5)
    told.journal.system("certificate_refused", problem="wrong key", kept=True)
    assert told.count("tls_certificate_not_after_timestamp_seconds", listener="submission") == AT + 5
    assert told.count("tls_reload_failures_total") == 1
    told.journal.system("certificate_differs", listener="submissions", shown="00", not_after=AT + 1)
    assert told.count("tls_certificate_not_after_timestamp_seconds", listener="submissions") == AT + 1
    assert told.count("tls_reload_failures_total") == 2
    assert told.count("accounts_last_reload_successful") == 1
    told.journal.system("accounts_broken", problem="line 3")
    assert told.count("accounts_last_reload_successful") == 0
    told.journal.system("accounts_reloaded", accounts=2)
    assert told.count("accounts_last_reload_successful") == 1
    assert [line["event"] for line in told.lines()] == [
        "certificate_loaded",
        "certificate_served",
        "certificate_refused",
        "certificate_differs",
        "accounts_broken",
        "accounts_reloaded",
    ]
