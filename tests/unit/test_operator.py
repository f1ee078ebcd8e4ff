"""The operators' verbs as a person or a script sees them: text at 80 columns, JSON, exit codes."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from relay.operator import queue, send_test, show
from relay.operator.__main__ import main, parser
from relay.operator.client import Client
from support.appliance import sources
from support.fake_relay import FakeRelay

AT = 1_790_000_000.0
ID = "01M87G15P1F3MBJ0JS4RPWWWQX"
ROW: dict[str, Any] = {
    "message": ID,
    "recipient": "bob@example.net",
    "account": "anna",
    "sender": "anna@example.org",
    "kind": "mail",
    "size": 2048,
    "received_at": AT - 7200,
    "state": "due",
    "changed_at": AT - 60,
    "attempts": 3,
    "doubts": 0,
    "next_attempt": AT + 840,
    "provider": "sendgrid",
    "code": 451,
    "reply": "4.7.1 Too many messages, try again later",
    "acknowledged": False,
}
STORY: dict[str, Any] = {
    "message": ID,
    "message_id": "<1@example.org>",
    "account": "anna",
    "sender": "anna@example.org",
    "kind": "mail",
    "size": 2048,
    "received_at": AT,
    "ended_at": None,
    "deliveries": [ROW],
    "events": [
        {"event": "accepted", "at": AT, "detail": {"size": 2048, "peer": "192.0.2.1"}},
        {
            "event": "deferred",
            "at": AT + 1,
            "recipient": "bob@example.net",
            "provider": "sendgrid",
            "code": 451,
            "reply": "4.7.1 Later",
            "detail": {"next_attempt": AT + 60},
        },
    ],
}
HOSTILE = "\x1b]0;owned\x07\u202eevil[red]\x9b31m\r\n"


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[FakeRelay]:
    relay = FakeRelay(tmp_path)
    yield relay
    relay.close()


def run(relay: FakeRelay, *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    out, err = io.StringIO(), io.StringIO()
    code = main(arguments, {"RELAY_RUN": str(relay.folder)}, out, err)
    return code, out.getvalue(), err.getvalue()


def table(relay: FakeRelay, *rows: dict[str, Any], total: int = 0) -> str:
    relay.answers["GET /queue?limit=1000"] = (200, {"total": total or len(rows), "deliveries": list(rows)})
    out = io.StringIO()
    args = parser({"RELAY_RUN": str(relay.folder)}, out).parse_args(["queue"])
    found = Client(relay.folder / "relay/relay.sock").get("/queue", limit="1000")
    console = show.console(out)
    console.print(queue._table(found["deliveries"], AT))
    console.print(queue._summary(found["deliveries"], found["total"]))
    assert args.run(args) == 0
    return out.getvalue()


# --- queue


def test_an_empty_queue(relay: FakeRelay) -> None:
    relay.answers["GET /queue?limit=1000"] = (200, {"total": 0, "deliveries": []})
    assert run(relay, "queue") == (0, "The queue is empty: nothing waits, and no failure is unacknowledged.\n", "")


def test_the_queue_can_be_read_at_80_columns(relay: FakeRelay) -> None:
    text = table(relay, ROW, {**ROW, "state": "held", "attempts": 1}, {**ROW, "state": "refused"}, total=7)
    assert max(map(len, text.splitlines())) <= 80
    assert "\x1b" not in text  # no colours: it is no terminal
    for word in (ID, "bob@example.net", "due", "3", "2 h", "in 14 min", "held", "refused"):
        assert word in text
    assert "  sendgrid: 451 4.7.1 Too many messages" in text
    words = " ".join(text.split())
    assert '1 waiting, 1 held (make queue ARGS="release ID"), 1 failed (make queue ARGS="retry ID", or ' in words
    assert words.endswith('"acknowledge ID"); 4 more not shown.')


def test_what_a_delivery_waits_for_stands_below_it(relay: FakeRelay) -> None:
    waits = "waits until 2026-09-22 00:00 UTC: Brevo's quota is used up; SendGrid's key was refused"
    text = table(relay, {**ROW, "waits": waits, "next_attempt": AT - 5}, {**ROW, "waits": ""})
    assert f"bob@example.net sendgrid: {ROW['code']} {ROW['reply']} {waits}" in " ".join(text.split())
    assert "waits" not in table(relay, {**ROW, "waits": ""})
    assert queue._next({**ROW, "waits": waits, "next_attempt": AT - 5}, AT) == "waits"
    assert queue._next({**ROW, "waits": waits}, AT) == "in 14 min"  # it would not be tried before that anyway


PAUSED = {"name": "brevo", "state": "paused", "standing": "used up", "reason": "300 of 300 a day", "until": AT + 7200}
REFUSED = {"name": "ses", "state": "paused", "standing": "key dead", "reason": "535 5.7.8 No", "until": AT + 3600}
ON_TRIAL = {"name": "ses", "state": "probing", "standing": "busy", "reason": "421 Later", "until": AT}


@pytest.mark.parametrize(
    ("pauses", "head"),
    [
        (
            [PAUSED, REFUSED],
            """All 2 providers are paused: nothing is sent before 2026-09-21 15:13 UTC (in 60 min).
  brevo: its quota is used up: 300 of 300 a day
  ses: its key was refused: 535 5.7.8 No
""",
        ),
        ([PAUSED, ON_TRIAL], "All 2 providers are paused: one message is tried at ses.\n"),
        ([{**PAUSED, "until": None}], "The provider is paused: nothing is sent.\n"),
    ],
)
def test_a_head_line_when_all_providers_are_paused(pauses: list[dict[str, Any]], head: str) -> None:
    out = io.StringIO()
    Console(file=out, width=200).print(queue._all_paused(pauses, AT))
    assert out.getvalue().startswith(head)


def test_the_head_line_stands_above_the_queue(relay: FakeRelay) -> None:
    answer = {"total": 1, "all_paused": [PAUSED], "deliveries": [ROW]}
    relay.answers["GET /queue?limit=1000"] = (200, answer)
    assert run(relay, "queue")[1].startswith("The provider is paused: nothing is sent before 2026-09-21 16:13 UTC")
    relay.answers["GET /queue?limit=1000"] = (200, {**answer, "all_paused": []})
    assert "paused" not in run(relay, "queue")[1]


@pytest.mark.parametrize(
    ("state", "left", "word"),
    [("due", 0.5, "now"), ("due", -5, "now"), ("claimed", 840, "now"), ("sending", 840, "now"), ("held", 840, "-")],
)
def test_when_it_is_tried_next(state: str, left: float, word: str) -> None:
    assert queue._next({**ROW, "state": state, "next_attempt": AT + left}, AT) == word


def test_the_queue_for_scripts(relay: FakeRelay) -> None:
    answer = {"total": 1, "deliveries": [ROW]}
    relay.answers["GET /queue?limit=5"] = (200, answer)
    code, out, _ = run(relay, "queue", "--json", "--limit", "5")
    assert (code, json.loads(out)) == (0, answer)


VERBS = [
    (["retry", ID], f"POST /queue/retry?id={ID}", "2 deliveries made due now."),
    (["hold", ID], f"POST /queue/hold?id={ID}", "2 deliveries held."),
    (["hold", "--account", "anna"], "POST /queue/hold?account=anna", "2 deliveries held."),
    (["release", ID], f"POST /queue/unhold?id={ID}", "2 deliveries released."),
    (["unhold", "--account", "a b"], "POST /queue/unhold?account=a+b", "2 deliveries released."),
    (["drop", ID], f"POST /queue/drop?id={ID}", "2 deliveries dropped."),
    (["acknowledge", ID], f"POST /queue/acknowledge?id={ID}", "2 deliveries acknowledged."),
]


@pytest.mark.parametrize(("arguments", "request_line", "sentence"), VERBS)
def test_what_can_be_done_about_it(relay: FakeRelay, arguments: list[str], request_line: str, sentence: str) -> None:
    relay.answers[request_line] = (200, {"changed": 2})
    assert run(relay, "queue", *arguments) == (0, sentence + "\n", "")
    code, out, _ = run(relay, "queue", *arguments, "--json")
    assert (code, json.loads(out)) == (0, {"changed": 2})


AGAIN = f'make queue ARGS="retry {ID} --anyway" sends it again, and then it may arrive twice.'
NOT_ALL = [
    (
        {"changed": 1, "unsure": 2},
        f"1 delivery made due now. 2 deliveries may have arrived already. Ask the recipient first; {AGAIN}",
    ),
    (
        {"changed": 0, "unsure": 1},
        f"Nothing changed: 1 delivery may have arrived already. Ask the recipient first; {AGAIN}",
    ),
    (
        {"changed": 0, "unsure": 0, "gone_since": AT},
        f"Nothing changed: its text is gone since {show.moment(AT)} UTC; send it again from the mail program.",
    ),
    (
        {"changed": 0, "unsure": 0, "gone_since": None},
        f"Nothing changed: no delivery of {ID} waits, is held or has failed.",
    ),
]


@pytest.mark.parametrize(("answer", "said"), NOT_ALL)
def test_why_a_retry_did_not_do_all_and_what_to_do(relay: FakeRelay, answer: dict[str, Any], said: str) -> None:
    relay.answers[f"POST /queue/retry?id={ID}"] = (200, answer)
    code, out, _ = run(relay, "queue", "retry", ID)
    assert (code, " ".join(out.split())) == (0 if answer["changed"] else 65, said)


def test_a_duplicate_is_risked_only_when_asked_for(relay: FakeRelay) -> None:
    relay.answers[f"POST /queue/retry?id={ID}&anyway=yes"] = (200, {"changed": 1, "unsure": 0, "gone_since": None})
    assert run(relay, "queue", "retry", ID, "--anyway") == (0, "1 delivery made due now.\n", "")


def test_nothing_to_be_done_is_said(relay: FakeRelay) -> None:
    relay.answers[f"POST /queue/drop?id={ID}"] = (200, {"changed": 0})
    code, out, _ = run(relay, "queue", "drop", ID)
    assert code == 65
    assert " ".join(out.split()) == f"Nothing changed: no delivery of {ID} waits or is held."


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["queue", "explode", ID],
        ["queue", "retry"],
        ["queue", "retry", "--account", "anna"],
        ["queue", "hold", ID, "--account", "anna"],
        ["queue", "drop", ID, "--anyway"],
        ["trace"],
        ["trace", "--id", ID, "--to", "a@example.net"],
        ["send-test"],
        ["send-test", "a@example.net", "--to", "b@example.net"],
    ],
)
def test_wrong_usage_is_64(relay: FakeRelay, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(relay, *arguments)
    assert ended.value.code == 64
    assert "usage: ownpost" in capsys.readouterr().err
    assert relay.asked == []


def test_what_the_relay_refuses_is_its_sentence(relay: FakeRelay) -> None:
    relay.answers["POST /queue/drop?id=x"] = (400, {"error": "A message id has 26\x1b letters."})
    assert run(relay, "queue", "drop", "x") == (65, "", "A message id has 26\\x1b letters.\n")


def test_nobody_answers(tmp_path: Path) -> None:
    out, err = io.StringIO(), io.StringIO()
    assert main(["queue"], {"RELAY_RUN": str(tmp_path)}, out, err) == 69
    assert (
        err.getvalue() == f"No relay answers on {tmp_path}/relay/relay.sock (No such file or directory). Does it run?\n"
    )


def test_something_else_answers(relay: FakeRelay) -> None:
    relay.answers["GET /queue?limit=1000"] = (200, b"<html>")
    code, _, err = run(relay, "queue")
    assert code == 69
    assert "is not the relay" in err


# --- trace


def test_a_story(relay: FakeRelay) -> None:
    relay.answers[f"GET /trace?id={ID}"] = (200, {"messages": [STORY]})
    code, out, _ = run(relay, "trace", "--id", ID)
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    words = " ".join(out.split())
    assert f"Message {ID} From anna@example.org (account anna)" in words
    assert "To bob@example.net: due" in words
    assert "2026-09-21 14:13:20 accepted size 2048, peer 192.0.2.1" in words
    assert "sendgrid: 451 4.7.1 Later next attempt 2026-09-21 14:14:20 UTC" in words


def test_a_story_says_that_the_next_provider_was_tried(relay: FakeRelay) -> None:
    accepted, deferred = STORY["events"]
    story = {**STORY, "events": [accepted, {**deferred, "detail": {"next_attempt": AT + 1, "goes_on": True}}]}
    relay.answers[f"GET /trace?id={ID}"] = (200, {"messages": [story]})
    _, out, _ = run(relay, "trace", "--id", ID)
    assert "sendgrid: 451 4.7.1 Later next attempt at once, through the next provider" in " ".join(out.split())


def test_stories_of_a_recipient_for_scripts(relay: FakeRelay) -> None:
    relay.answers["GET /trace?to=bob%40example.net"] = (200, {"messages": [STORY, STORY]})
    code, out, _ = run(relay, "trace", "--to", "bob@example.net", "--json")
    assert (code, len(json.loads(out)["messages"])) == (0, 2)


def test_an_unknown_message(relay: FakeRelay) -> None:
    relay.answers["GET /trace?to=x%40example.net"] = (200, {"messages": []})
    code, out, _ = run(relay, "trace", "--to", "x@example.net")
    assert code == 65
    assert "No message to x@example.net is known" in out


# --- send-test


def follow(relay: FakeRelay, *stages: list[dict[str, Any]], waits: Iterable[str] = ()) -> tuple[int, str]:
    """Runs the verb while the message's story grows by one stage at each look, and what it waits for changes."""
    looks, ways = iter([*stages, *[stages[-1]] * 1000]), itertools.chain(waits, itertools.repeat(""))
    relay.answers["POST /send-test?to=me%40example.net"] = (200, {"message": ID})
    relay.answers[f"GET /trace?id={ID}"] = lambda: (
        200,
        {"messages": [{**STORY, "events": next(looks), "deliveries": [{**ROW, "waits": next(ways)}]}]},
    )
    out = io.StringIO()
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    top = parser({"RELAY_RUN": str(relay.folder)}, out)
    verbs = next(action for action in top._actions if hasattr(action, "add_parser"))
    verbs._name_parser_map.clear()  # type: ignore[attr-defined]  # the same verb with a clock of ours
    client = Client(relay.folder / "relay/relay.sock")
    send_test.register(verbs, client, Console(file=out, width=200), lambda: now[0], sleep)  # type: ignore[arg-type]
    args = top.parse_args(["send-test", "--to", "me@example.net"])
    return args.run(args), out.getvalue()


ACCEPTED = {"event": "accepted", "at": AT}


def event(kind: str, code: int, reply: str) -> dict[str, Any]:
    detail = {"delay": 1.0}
    return {"event": kind, "at": AT, "provider": "sendgrid", "code": code, "reply": reply, "detail": detail}


def test_a_test_message_is_followed_to_the_provider(relay: FakeRelay) -> None:
    code, out = follow(relay, [ACCEPTED], [ACCEPTED], [ACCEPTED, event("delivered", 250, "2.0.0 Ok")])
    assert code == 0
    assert f"Message {ID} is queued.\nAccepted by sendgrid: 250 2.0.0 Ok\n" in out


@pytest.mark.parametrize(
    ("kind", "code"), [("deferred", 75), ("doubtful", 75), ("refused", 65), ("expired", 65), ("unknown", 65)]
)
def test_only_acceptance_is_success(relay: FakeRelay, kind: str, code: int) -> None:
    found, out = follow(relay, [ACCEPTED, event(kind, 550, "5.1.1 No")])
    assert found == code
    assert "sendgrid: 550 5.1.1 No" in out
    assert ('make queue ARGS="retry' in out) is (kind in ("refused", "expired")), (
        "what may have arrived is not sent twice"
    )


def test_a_provider_that_passes_it_on_is_told_and_the_next_one_waited_for(relay: FakeRelay) -> None:
    passed = {**event("deferred", 451, "Maximum credits exceeded"), "detail": {"goes_on": True, "next_attempt": AT}}
    taken = {**event("delivered", 250, "2.0.0 Ok"), "provider": "brevo"}
    code, out = follow(relay, [ACCEPTED, passed], [ACCEPTED, passed, taken])
    assert code == 0
    assert out.count("sendgrid: 451 Maximum credits exceeded; the next provider is tried.\n") == 1
    assert "Accepted by brevo: 250 2.0.0 Ok\n" in out
    assert "Not yet" not in out


def test_a_silent_provider_is_not_waited_for_for_ever(relay: FakeRelay) -> None:
    code, out = follow(relay, [ACCEPTED])
    assert code == 75
    assert "The provider has not answered yet" in out


def test_what_is_in_the_way_of_a_test_message_is_told_at_once(relay: FakeRelay) -> None:
    way = "waits: SendGrid refuses our login (535 Authentication failed)"
    code, out = follow(relay, [ACCEPTED], waits=["", *[way] * 1000])
    assert code == 75
    assert out.count(f"It {way}.\n") == 1
    assert "safe in the queue" in out
    assert f"make trace ID={ID}" in out
    assert len(relay.asked) < 40, "it does not wait for two minutes where waiting does not help"


def test_what_passes_in_seconds_is_waited_for(relay: FakeRelay) -> None:
    story = [*[[ACCEPTED]] * 4, [ACCEPTED, event("delivered", 250, "2.0.0 Ok")]]
    code, out = follow(relay, *story, waits=["waits: SendGrid is busy"] * 3)
    assert code == 0
    assert "It waits: SendGrid is busy.\nNothing is in its way any more.\nAccepted by sendgrid" in out


# --- certs


def shown_certificate(relay: FakeRelay, tmp_path: Path, told: dict[str, Any] | None, **environ: str) -> str:
    served = {"names": ["mail.example.org"], "issuer": "CN=R11", "not_before": AT, "not_after": AT + 9e6}
    served["fingerprint"] = "ab"
    ports = [
        {"name": name, "port": port, "open": True, "shown": {"fingerprint": "ab", "not_after": AT + 9e6, "problem": ""}}
        for name, port in (("submission", 2587), ("submissions", 2465))
    ]
    status = {"certificate": served, "certificate_problem": "", "listeners": ports}
    relay.answers["GET /status.json"] = (200, status)
    out = io.StringIO()
    if told is None:
        main(["certs"], {"RELAY_RUN": str(relay.folder), **environ}, out, out)
        return out.getvalue()
    (tmp_path / "other").mkdir()
    with contextlib.closing(FakeRelay(tmp_path / "other")) as renewer:
        renewer.answers["GET /status.json"] = (200, told)
        (relay.folder / "renewer").mkdir()
        (relay.folder / "renewer/renewer.sock").symlink_to(tmp_path / "other/relay/relay.sock")
        main(["certs"], {"RELAY_RUN": str(relay.folder), **environ}, out, out)
    return out.getvalue()


def test_certs_shows_the_ports_that_clients_type_in(relay: FakeRelay, tmp_path: Path) -> None:
    inside = {"RELAY_SUBMISSIONS_PORT": "2465", "OWNPOST_SUBMISSION_PORT": "35587"}
    said = shown_certificate(relay, tmp_path, None, **inside)
    assert "35587" in said
    assert "465" in said
    assert "2465" not in said
    assert "2587" in shown_certificate(relay, tmp_path, None), "without containers they are the relay's own"
    assert "the renewer does not answer" in said


def test_certs_says_who_made_it_and_that_renewal_fails(relay: FakeRelay, tmp_path: Path) -> None:
    told = {"mode": "self-signed", "last_error": "The disk is full.", "next_attempt": AT}
    said = shown_certificate(relay, tmp_path, told)
    assert "no client trusts it" in said
    assert "failed: The disk is full." in said


# --- what strangers wrote


def test_hostile_strings_are_harmless(relay: FakeRelay) -> None:
    row = {**ROW, "recipient": HOSTILE, "reply": HOSTILE, "provider": HOSTILE}
    text = table(relay, row)
    story = {
        **STORY,
        "sender": HOSTILE,
        "message_id": HOSTILE,
        "events": [{"event": "accepted", "at": AT, "reply": HOSTILE}],
    }
    relay.answers[f"GET /trace?id={ID}"] = (200, {"messages": [story]})
    text += run(relay, "trace", "--id", ID)[1]
    text += follow(relay, [event("refused", 550, HOSTILE)])[1]
    assert all(char == "\n" or char.isprintable() for char in text)
    assert "[red]" in text  # markup is text
    assert "\\x1b" in text


def test_a_terminal_gets_colours_and_no_more() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system="standard", width=80, highlight=False, markup=False)
    console.print(queue._table([{**ROW, "state": "refused", "reply": HOSTILE}], AT))
    assert "\x1b[31mrefused" in out.getvalue()
    assert "\x1b]0" not in out.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (172800, "2 d")],
)
def test_spans_of_time(seconds: float, words: str) -> None:
    assert show.span(seconds) == words


# --- as a process


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_as_make_calls_it(relay: FakeRelay, form: list[str]) -> None:
    relay.answers["GET /queue?limit=1000"] = (200, {"total": 1, "deliveries": [ROW] * 1000})
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": sources("relay"), "RELAY_RUN": str(relay.folder)}
    command = [sys.executable, "-m", "relay.operator", "queue", *form]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()  # `| head -1`
        assert process.stderr.read() == b""
        assert process.wait(30) == 1
