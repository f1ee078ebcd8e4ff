"""The control socket: who may open it, what it survives, and that it never stands in its own way."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from relay import control
from relay.control import Answer, BadRequest, Control, ControlError, Request, json_answer


class Server:
    """A control socket with a few handlers."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "relay" / "relay.sock"
        self.failures: list[Exception] = []
        self.seen: list[Request] = []
        self.gate = asyncio.Event()
        routes = {
            ("GET", "/good"): self.good,
            ("POST", "/good"): self.good,
            ("GET", "/odd"): self.odd,
            ("GET", "/bug"): self.bug,
            ("GET", "/slow"): self.slow,
        }
        self.control = Control(self.path, routes, self.failures.append)

    async def good(self, request: Request) -> Answer:
        self.seen.append(request)
        return json_answer({"good": True})

    async def odd(self, _: Request) -> Answer:
        raise BadRequest("Name a message.")

    async def bug(self, _: Request) -> Answer:
        raise ZeroDivisionError("secret detail")

    async def slow(self, _: Request) -> Answer:
        await self.gate.wait()
        return Answer(200, "text/plain", b"done")

    async def raw(self, data: bytes) -> bytes:
        """What is answered to ``data`` until the connection is closed."""
        reader, writer = await asyncio.open_unix_connection(self.path)
        try:
            writer.write(data)
            return await reader.read()
        finally:
            writer.close()

    async def ask(self, target: str, method: str = "GET", headers: str = "") -> tuple[int, Any]:
        answer = await self.raw(f"{method} {target} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body) if body else None


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    server = Server(tmp_path)
    await server.control.start()
    yield server
    server.gate.set()
    await server.control.close()


async def test_only_the_operator_may_open_it(server: Server) -> None:
    assert stat.S_IMODE(server.path.stat().st_mode) == 0o660
    assert stat.S_IMODE(server.path.parent.stat().st_mode) & 0o027 == 0


async def test_requests_reach_their_handler(server: Server) -> None:
    assert await server.ask("/good?id=A%20b&to=%C3%BC", headers="Accept: a/b\r\nAccept: c/d\r\n") == (
        200,
        {"good": True},
    )
    assert server.seen == [Request({"id": "A b", "to": "ü"}, "a/b,c/d")]
    assert (await server.ask("/good", "POST"))[0] == 200


async def test_head_has_no_body(server: Server) -> None:
    answer = await server.raw(b"HEAD /good HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("target", "method", "status"),
    [
        ("/nothing", "GET", 404),
        ("/good/", "GET", 404),
        ("/good", "DELETE", 405),
        ("/odd", "GET", 400),
        ("/good?%ff=1", "GET", 400),
        ("/good?" + "&".join(f"a{n}=1" for n in range(17)), "GET", 400),
    ],
)
async def test_what_cannot_be_answered_has_a_sentence(server: Server, target: str, method: str, status: int) -> None:
    found, body = await server.ask(target, method)
    assert found == status
    assert body["error"].endswith(".")


async def test_a_bug_is_told_to_the_log_and_not_to_the_client(server: Server) -> None:
    status, body = await server.ask("/bug")
    assert status == 500
    assert "secret" not in str(body)
    assert [type(error) for error in server.failures] == [ZeroDivisionError]
    assert (await server.ask("/good"))[0] == 200


@pytest.mark.parametrize(
    "data", [b"EHLO there\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET /good HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 40_000]
)
async def test_what_is_no_request_is_refused(server: Server, data: bytes) -> None:
    try:
        answer = await server.raw(data)
    except ConnectionError:
        answer = b""
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    assert (await server.ask("/good"))[0] == 200


async def test_a_body_is_taken_and_a_large_one_ends_the_connection(server: Server) -> None:
    def request(size: int) -> bytes:
        return b"POST /good HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size

    assert b" 200 " in await server.raw(request(control.BODY_SIZE))
    try:
        assert await server.raw(request(control.BODY_SIZE + 1)) == b""
    except ConnectionError:
        pass  # it was closed before all of it was read


async def test_a_silent_client_is_let_go(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "REQUEST_TIME", 0.05)
    assert await server.raw(b"GET /go") == b""


async def test_a_crowd_does_not_lock_the_others_out_for_good(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "CONNECTIONS", 1)
    first = asyncio.create_task(server.raw(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"))
    await wait_for(lambda: len(server.control._open) == 1)
    try:
        assert await server.raw(b"GET /good HTTP/1.1\r\nHost: x\r\n\r\n") == b""
    except ConnectionError:
        pass
    server.gate.set()
    assert (await first).endswith(b"done")
    assert (await server.ask("/good"))[0] == 200


async def test_closing_lets_answers_finish(server: Server) -> None:
    asked = asyncio.create_task(server.raw(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"))
    await wait_for(lambda: len(server.control._open) == 1)
    closing = asyncio.create_task(server.control.close())
    await wait_for(lambda: not server.path.exists())
    server.gate.set()
    await closing
    assert (await asked).endswith(b"done")


async def test_closing_does_not_wait_for_ever(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = asyncio.create_task(server.raw(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"))
    await wait_for(lambda: len(server.control._open) == 1)
    (task,) = server.control._open
    monkeypatch.setattr(control, "REQUEST_TIME", 0.01)
    await server.control.close()
    await wait_for(task.done)
    assert await asked == b""


async def test_a_dead_socket_is_replaced(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(server.path))
    await server.control.start()
    assert (await server.ask("/good"))[0] == 200
    await server.control.close()
    assert not server.path.exists()


async def test_a_living_one_is_left_alone(server: Server, tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="answered by another relay"):
        await Server(tmp_path).control.start()
    assert (await server.ask("/good"))[0] == 200


async def test_a_file_in_the_way_is_left_alone(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.path.parent.mkdir()
    server.path.write_text("mine")
    with pytest.raises(ControlError, match="it is not a socket"):
        await server.control.start()
    assert server.path.read_text() == "mine"


async def test_a_folder_that_cannot_be_made_has_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(ControlError, match="cannot be opened: "):
        await Server(tmp_path / "run").control.start()


async def wait_for(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.002)
