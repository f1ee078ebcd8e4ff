"""Answers of a hostile or broken service: one sentence, without the key, without what steers a terminal."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from domain import api, commands
from domain.authentication.model import gather
from domain.cloudflare import PAGE, Cloudflare, Zone
from domain.settings import Key

TOKEN = "cfut_0123456789abcdef"
ZONE = Zone("z", "example.org", "a")
Handler = Callable[[httpx.Request], httpx.Response]


def cloudflare(handler: Handler, slept: list[float] | None = None) -> Cloudflare:
    client = httpx.Client(transport=httpx.MockTransport(handler))
    key = Key("https://api.example", (TOKEN,))
    return Cloudflare(key, client, (slept if slept is not None else []).append)


def refusal(message: str) -> dict[str, object]:
    return {"success": False, "errors": [{"code": 1, "message": message}]}


def test_a_service_that_repeats_the_key_does_not_show_it() -> None:
    def repeats(request: httpx.Request) -> httpx.Response:
        return httpx.Response(400, json=refusal(f"bad request: {request.headers['authorization']}"))

    with pytest.raises(api.ApiError, match=r"Bearer \[key\]") as caught:
        cloudflare(repeats).records(ZONE)
    assert TOKEN not in str(caught.value)


def test_what_goes_wrong_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A token's status is a service's word too."""
    colours = httpx.Response(200, json={"success": True, "result": {"status": "\x1b[2Jgone\u202e"}})
    assert commands.outcome(lambda: cloudflare(lambda _: colours).verify() or 0) == commands.EX_NOPERM
    told = capsys.readouterr().err
    assert "\\x1b[2Jgone\\u202e" in told
    assert "\x1b" not in told


@pytest.mark.parametrize(
    "answer",
    [
        lambda: httpx.Response(200, headers={"content-encoding": "gzip"}, content=b"not gzip"),
        lambda: httpx.Response(200, headers={"content-type": "application/json"}, content=b"[" * 100_000),
        lambda: httpx.Response(200, json={"success": True, "result": [{"type": "A", "name": "x", "ttl": "\u00b2"}]}),
        lambda: httpx.Response(
            200,
            headers={"content-type": "application/json"},
            content=b'{"result": [{"type":"A","name":"x","ttl":1e999}]}',
        ),
    ],
    ids=["encoding", "nesting", "number", "infinity"],
)
def test_an_answer_that_cannot_be_read_is_one_sentence(answer: Callable[[], httpx.Response]) -> None:
    with pytest.raises(api.Unreachable):
        cloudflare(lambda _: answer()).records(ZONE)


@pytest.mark.parametrize(
    "value", [b"\xb2", b"Mon, 01 Jan 99999999999 00:00:00 +0000", b"1 Jan 2026 0:0:0 +" + b"9" * 20]
)
def test_a_wait_that_is_no_number_is_none(value: bytes) -> None:
    slept: list[float] = []
    busy = httpx.Response(429, headers={"retry-after": value}, json=refusal("slow down"))
    with pytest.raises(api.Unreachable, match="fewer requests"):
        cloudflare(lambda _: busy, slept).records(ZONE)
    assert slept == [0.5, 1.0, 2.0]


def test_a_list_whose_pages_are_not_announced_is_read_to_its_end() -> None:
    """Records that were not seen would be made a second time."""

    def pages(request: httpx.Request) -> httpx.Response:
        first = int(request.url.params["page"]) == 1
        rows = [{"type": "A", "name": f"n{n}.example.org", "content": "192.0.2.1"} for n in range(PAGE if first else 3)]
        return httpx.Response(200, json={"success": True, "result": rows})

    assert len(cloudflare(pages).records(ZONE)) == PAGE + 3


def test_an_address_record_is_nothing_that_a_provider_may_ask_for() -> None:
    """Published, it would send clients of the mail host to somebody else."""
    with pytest.raises(ValueError, match="A records"):
        gather("example.org", "1", True, [("a", "mail.example.org", "192.0.2.66", None)])
