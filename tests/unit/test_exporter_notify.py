"""When somebody is told: once, and once a day; and what an alarm service is sent."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from exporter import messenger
from exporter.notify import PING_EVERY, REMIND, Changes, Note, Notifier, body
from exporter.verdict import Level, Verdict, judge
from support.shown import paused, provider, relay, snapshot

GOOD = judge(snapshot())
WARNING = judge(snapshot(providers=(provider(**paused()), provider("ses"))))
CRITICAL = judge(snapshot(relay=relay(room=0)))


class Minutes:
    """Looks once a minute and notes what was said."""

    def __init__(self, *, arrives: bool = True) -> None:
        self.changes, self.now, self.arrives = Changes(), 0.0, arrives
        self.said: list[Level] = []

    def look(self, verdict: Verdict, times: int = 1) -> None:
        for _ in range(times):
            self.now += 60.0
            note = self.changes.look(verdict, self.now, "mail.example.org")
            if note:
                self.said.append(note.level)
                if self.arrives:
                    self.changes.told(note, self.now)
                else:
                    self.changes.missed(self.now)


def test_nothing_is_said_while_all_is_well() -> None:
    minutes = Minutes()
    minutes.look(GOOD, 3000)
    assert minutes.said == []


def test_a_change_is_said_once_when_it_has_lasted() -> None:
    minutes = Minutes()
    minutes.look(CRITICAL)
    assert minutes.said == [], "it may be a restart"
    minutes.look(CRITICAL, 60)
    assert minutes.said == [Level.CRITICAL]
    minutes.look(WARNING, 60)
    minutes.look(GOOD, 60)
    assert minutes.said == [Level.CRITICAL, Level.WARNING, Level.GOOD]


def test_a_restart_rings_nobodys_phone() -> None:
    minutes = Minutes()
    for _ in range(20):
        minutes.look(CRITICAL)
        minutes.look(GOOD)
    assert minutes.said == []


def test_it_reminds_once_a_day_of_what_is_not_good() -> None:
    minutes = Minutes()
    minutes.look(CRITICAL, int(3.5 * REMIND / 60))
    assert minutes.said == [Level.CRITICAL] * 4


def test_what_did_not_arrive_is_said_again_ever_more_rarely() -> None:
    minutes = Minutes(arrives=False)
    minutes.look(CRITICAL, 20)
    assert minutes.said == [Level.CRITICAL] * 5  # after 0, 1, 3, 7 and 15 minutes
    minutes.arrives = True
    minutes.look(CRITICAL, 60)
    assert minutes.said == [Level.CRITICAL] * 6
    minutes.look(GOOD, 10)
    assert minutes.said[-1] is Level.GOOD


def test_the_words_name_the_host_and_every_thing_that_is_wrong() -> None:
    changes = Changes()
    changes.look(CRITICAL, 0, "mail.example.org")
    note = changes.look(CRITICAL, 60, "mail.example.org")
    assert note
    assert note.title == "Ownpost mail.example.org: something is wrong"
    assert note.body.splitlines()[0] == CRITICAL.line
    assert "- Disk: The disk has no room for more mail." in note.body
    assert "Relay" not in note.body


class Said:
    def __init__(self) -> None:
        self.sent: list[Note] = []
        self.pinged: list[str] = []
        self.results: list[tuple[str, bool]] = []

    def notifier(self, *pings: str, well: bool = True) -> Notifier:
        async def send(note: Note) -> bool:
            self.sent.append(note)
            return well

        async def ping(url: str) -> bool:
            self.pinged.append(url)
            return well

        def result(what: str, good: bool) -> None:
            self.results.append((what, good))

        return Notifier(services=[send], pings=pings, ping=ping, result=result)


async def test_pings_tell_of_life_and_of_failure_at_once() -> None:
    said = Said()
    notifier = said.notifier("https://hc.example/uuid", "https://hc.example/two?x=1")
    for minute in range(6):
        await notifier.look(WARNING, minute * 60.0, "h")
    assert said.pinged == ["https://hc.example/uuid", "https://hc.example/two?x=1"] * 2, "mail flows: that is life"
    assert PING_EVERY == 300.0
    said.pinged.clear()
    await notifier.look(CRITICAL, 400.0, "h")
    assert said.pinged == ["https://hc.example/uuid/fail", "https://hc.example/two/fail?x=1"]


async def test_results_are_counted() -> None:
    said = Said()
    notifier = said.notifier("https://hc.example/uuid", well=False)
    await notifier.look(CRITICAL, 0.0, "h")
    await notifier.look(CRITICAL, 60.0, "h")
    assert said.results == [("ping", False), ("notify", False)]


async def test_a_place_that_cannot_be_reached_makes_no_other_hear_twice() -> None:
    heard: list[str] = []

    async def broken(_: Note) -> bool:
        heard.append("broken")
        return False

    async def well(_: Note) -> bool:
        heard.append("well")
        return True

    async def ping(_: str) -> bool:
        return True

    notifier = Notifier(services=[broken, well], pings=(), ping=ping, result=lambda *_: None)
    for minute in range(10):
        await notifier.look(CRITICAL, minute * 60.0, "h")
    assert heard.count("well") == 1
    assert heard.count("broken") > 1


def test_strangers_words_stay_on_their_line_and_are_cut() -> None:
    evil = "\x1b[31m\u202e\n- Disk: all is lost, call 555\n" + "x" * 5_000
    text = body(judge(snapshot(relay=relay(reasons=(evil,), state="not ready"))))
    assert not set(text) & set("\x1b\u202e")
    assert "\\u202e" in text
    assert not any(line.startswith("- Disk") for line in text.split("\n"))
    assert "- Relay: It does not accept mail." in text
    assert len(text) <= 1_500


class Hook:
    """A web hook on loopback that keeps what it got."""

    def __init__(self) -> None:
        self.got: list[Any] = []
        hook = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hook.got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Nobody wants to read that."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()
    yield hook
    hook.close()


async def test_a_real_hook_gets_the_words(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "services/exporter/src:services/common/src")
    url = f"json://127.0.0.1:{hook.port}/hook"
    assert await messenger.send(url, "critical", "Ownpost: wrong", "The disk is full.")
    (got,) = hook.got
    assert (got["title"], got["message"], got["type"]) == ("Ownpost: wrong", "The disk is full.", "failure")
    assert not await messenger.send("json://127.0.0.1:1/", "critical", "t", "b"), "nobody listens there"


def test_which_urls_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "services/exporter/src:services/common/src")
    urls = ["ntfys://ntfy.sh/topic", "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"]
    urls += ["https://hc-ping.com/uuid", "gopher://x/"]
    assert messenger.recognised(urls) == [True, True, False, False]
    assert messenger.unknown(urls) == [3]
    assert messenger.pinged(urls) == ["https://hc-ping.com/uuid"]
