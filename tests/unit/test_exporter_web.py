"""What is answered at which door, with which headers, and what is kept from strangers."""

from __future__ import annotations

import dataclasses
import json
import socket
from collections.abc import Iterator

import pytest

from exporter.chart import FLOOR, TOP, draw
from exporter.history import History, Slot
from exporter.privacy import shorten, shorten_address
from exporter.providers import Pause
from exporter.verdict import judge
from exporter.view import View
from exporter.words import duration, iso, size, stamp
from support.appliance import ROOT
from support.exporter import fetch
from support.shown import NOW, Shown, day, delivery, provider, relay, snapshot, story, summary


@pytest.fixture(scope="module")
def shown() -> Iterator[Shown]:
    with Shown(hosts=["mail.example.org"]) as shown:
        yield shown


def raw(shown: Shown, request: str) -> str:
    port = int(shown.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(request.encode())
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    return answer.decode()


ASKED = " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"


@pytest.mark.parametrize(
    "request_",
    [
        f"GET /{ASKED}\r\n",
        f"GET /style.css{ASKED}\r\n",
        f"GET /nothing{ASKED}\r\n",
        f"GET /message/x{ASKED}\r\n",
        "<script>alert(1)</script>\r\n\r\n",
        f"GET /{ASKED}<b>: 1\r\n\r\n",
        f"GET /{'x' * 100_000}{ASKED}\r\n",
        f"GET /{ASKED}{'X: y' * 9_000}\r\n\r\n",
        f"POST /{ASKED}Content-Length: x\r\n\r\n",
        f"POST /{ASKED}Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["page", "style", "nothing", "message", "no HTTP", "bad name", "long path", "long field", "length", "chunk"],
)
def test_every_answer_keeps_browsers_within_bounds(shown: Shown, request_: str) -> None:
    head, _, body = raw(shown, request_).partition("\r\n\r\n")
    assert "script" not in body, "what is no HTTP is not repeated"
    for field in (
        "Content-Security-Policy: default-src 'none';",
        "X-Content-Type-Options: nosniff",
        "Referrer-Policy: no-referrer",
        "Cache-Control: no-store",
        "Server: ownpost",
    ):
        assert field in head
    assert "unsafe" not in head
    assert "aiohttp" not in head


def test_another_name_gets_nothing(shown: Shown) -> None:
    assert fetch(shown.url + "/", Host="mail.example.org")[0] == 200
    code, text = fetch(shown.url + "/status.json", Host="evil.example")
    assert code == 421
    assert "example.org" not in text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_there_is_nothing_to_change(shown: Shown, method: str) -> None:
    answer = raw(shown, f"{method} / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    assert answer.startswith("HTTP/1.1 405")


def test_status_is_what_the_page_shows_and_is_documented(shown: Shown) -> None:
    shown.stage.snapshot = snapshot(queue=(delivery(),))
    status = json.loads(fetch(shown.url + "/status.json")[1])
    text = (ROOT / "docs/operations.md").read_text().partition("### `/status.json`")[2].partition("\n## ")[0]
    for name in (*status, *status["queue"], *status["queue"]["deliveries"][0], *status["latest"]["messages"][0]):
        assert f"`{name}`" in text, name
    assert status["verdict"] == {"level": "good", "line": "All is well."}


def test_what_nobody_watched_is_not_shown_as_nothing(shown: Shown) -> None:
    shown.stage.snapshot = snapshot(slots=())
    text = fetch(shown.url + "/")[1]
    assert "0 messages accepted" not in text
    assert "Nothing is known of them yet" in text


PAUSES = {
    "one that runs": (NOW + 60, "; asked again <time"),
    "one without an end": (None, "is not set up there</span><br>"),
    "one that is over": (NOW - 60, "; asked again with the next mail"),
}


@pytest.mark.parametrize("name", PAUSES)
def test_the_page_tells_of_a_sender_that_a_provider_does_not_know(shown: Shown, name: str) -> None:
    until, words = PAUSES[name]
    pause = Pause(domain="shop.example.net", reason="550 Not verified", until=until)
    shown.stage.snapshot = snapshot(providers=(provider(domains=(pause,)),))
    code, text = fetch(shown.url + "/")
    assert code == 200
    assert "shop.example.net is not set up there" in text
    assert words in text
    assert "550 Not verified" in text


def test_a_page_that_just_started_does_not_speak_for_a_day(shown: Shown) -> None:
    """Else "0 messages accepted" stood above two messages of ten minutes ago, after each upgrade."""
    assert "The last 24 hours" in fetch(shown.url + "/")[1]
    shown.stage.snapshot = dataclasses.replace(snapshot(), slots=snapshot().slots[-2:])
    text = fetch(shown.url + "/")[1]
    assert "The last 24 hours" not in text
    assert '<h2 id="day">Since <time' in text


def test_mail_of_no_account_names_none(shown: Shown) -> None:
    """A test or a notice comes from ourselves."""
    shown.stage.snapshot = snapshot(latest=(summary(account="", kind="test"),))
    text = fetch(shown.url + "/")[1]
    assert ", a test" in text
    assert ">account " not in text


def test_a_paused_address_is_cut_on_the_page_and_for_machines(shown: Shown) -> None:
    pause = Pause(domain="carol@shop.example.net", reason="550 <carol@shop.example.net> unknown", until=NOW + 60)
    shown.stage.snapshot = snapshot(providers=(provider(domains=(pause,)),))
    for path in ("/", "/status.json"):
        text = fetch(shown.url + path)[1]
        assert "carol" not in text
        assert "@shop.example.net" in text
    status = View.of(show_addresses=False).status(shown.stage.snapshot, judge(shown.stage.snapshot))
    (told,) = status["providers"][0]["domains"]
    assert told == {
        "domain": "c…@shop.example.net",
        "reason": "550 <c…@shop.example.net> unknown",
        "until": NOW + 60,
        "running": True,
    }
    whole = View.of(show_addresses=True).status(shown.stage.snapshot, judge(shown.stage.snapshot))
    assert whole["providers"][0]["domains"][0]["domain"] == "carol@shop.example.net"


def test_addresses_are_cut_wherever_they_stand() -> None:
    bad = '550 5.1.1 <bob@example.net>: no "odd one"@example.net; see srs=x=anna@example.org.'
    row = delivery(reply=bad, code=550, account="anna@example.org", recipient='"odd one"@example.net')
    given = snapshot(
        queue=(row,), failed=(row,), latest=(summary(),), relay=relay(certificate_problem="of anna@example.org")
    )
    cut = View.of(show_addresses=False)
    text = json.dumps([cut.status(given, judge(given)), cut.story(story(deliveries=(row,)))], ensure_ascii=False)
    for whole in ("bob@", "odd one", "anna@", "anna"):
        assert whole not in text
    assert "b…@example.net" in text
    whole_text = json.dumps(View.of(show_addresses=True).status(given, judge(given)))
    assert "bob@example.net" in whole_text


def test_shortening() -> None:
    assert shorten("a@b, <c.d+e@f.g>") == "a…@b, <c…@f.g>"
    assert shorten("nothing @ all") == "nothing @ all"
    assert shorten_address("odd@one@example.org") == "o…@example.org"
    assert shorten_address("thunderbird") == "thunderbird"
    assert shorten_address("shop.example.net") == "shop.example.net"
    assert shorten("x" * 100_000 + "@") == "x" * 100_000 + "@"


def test_words() -> None:
    assert [duration(one) for one in (-5, 90, 600, 7_300, 200_000)] == ["0 s", "90 s", "10 min", "2 h", "2 d"]
    assert [size(one) for one in (0, 1023, 1536, 20 * 1024, 5 * 1024**3, 2**50)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "20 KiB",
        "5.0 GiB",
        "1024.0 TiB",
    ]
    assert (stamp(0), iso(0)) == ("1970-01-01 00:00 UTC", "1970-01-01T00:00:00Z")
    assert (stamp(1e300), iso(float("nan"))) == ("at no time", "")


# --- the day


def test_history_holds_all_that_a_relay_has_counted_that_started_with_it() -> None:
    history = History()
    history.add(900.0, {"accepted": 1, "delivered": 1, "failed": 0}, all_of_it=True)
    history.add(960.0, {"accepted": 3, "delivered": 1, "failed": 0}, all_of_it=True)
    assert history.slots[0].counts == {"accepted": 3, "delivered": 1, "failed": 0}


def test_history_counts_from_one_look_to_the_next() -> None:
    history = History()
    history.add(900.0, {"accepted": 5, "delivered": 5, "failed": 0})
    history.add(960.0, {"accepted": 8, "delivered": 6, "failed": 1})
    history.add(1_810.0, {"accepted": 9, "delivered": 6, "failed": 1})
    assert [slot.counts for slot in history.slots] == [
        {"accepted": 3, "delivered": 1, "failed": 1},
        {"accepted": 1, "delivered": 0, "failed": 0},
    ]


def test_a_relay_that_began_anew_is_noticed() -> None:
    history = History()
    history.add(0.0, {"accepted": 100, "delivered": 90, "failed": 0})
    history.add(60.0, {"accepted": 2, "delivered": 91, "failed": 0})
    assert history.slots[0].counts == {"accepted": 2, "delivered": 91, "failed": 0}


def test_a_day_is_kept_and_no_more() -> None:
    history = History()
    for number in range(200):
        history.add(number * 900.0, {"accepted": number, "delivered": 0, "failed": 0})
    assert len(history.slots) == 96
    assert len(history.since(190 * 900.0)) == 10


def test_bars_stay_within_the_drawing_and_the_words_say_the_same() -> None:
    chart = draw(day(), NOW)
    assert chart.bars
    for bar in chart.bars:
        assert TOP - 0.01 <= bar.y <= FLOOR
        assert bar.x >= 0
        assert bar.x + bar.width <= 720
    one = draw([Slot(NOW, {"accepted": 1, "delivered": 1_200, "failed": 0})], NOW)
    assert one.words == "1 message accepted, 1,200 deliveries taken by a provider, 0 failed"
    assert [(bar.kind, bar.height) for bar in one.bars if bar.kind == "delivered"] == [("delivered", FLOOR - TOP)]


def test_an_empty_day_is_drawn_as_nothing() -> None:
    assert draw([], NOW).bars == ()
    assert draw([Slot(NOW, {"accepted": 0, "delivered": 0, "failed": 0})], NOW).bars == ()
