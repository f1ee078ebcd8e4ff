"""``make oauth`` as a person sees it: the verb in a terminal of its own, a token server, and a relay that may run."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import re
import signal
import stat
import sys
import termios
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from support.appliance import sources
from support.fake_relay import FakeRelay
from support.token_server import TokenServer

PROBE = "POST /providers/probe?provider={}"


@pytest.fixture
async def server() -> AsyncIterator[TokenServer]:
    async with TokenServer() as server:
        yield server


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[FakeRelay]:
    """A relay that logs in with whatever it is given."""
    (tmp_path / "run").mkdir()
    relay = FakeRelay(tmp_path / "run")
    for name in ("gmail", "microsoft365", "workspace"):
        row = {"name": name, "look": {"ready": True, "sentence": ""}}
        relay.answers[PROBE.format(name)] = (200, {"providers": [row]})
    yield relay
    relay.close()


class Person:
    """Someone at a terminal. ``shown`` is all that the terminal shows."""

    def __init__(self, terminal: int, process: asyncio.subprocess.Process) -> None:
        self._terminal, self._process = terminal, process
        self.shown = ""
        self._more = asyncio.Event()
        asyncio.get_running_loop().add_reader(terminal, self._read)

    def _read(self) -> None:
        try:
            self.shown += os.read(self._terminal, 65536).decode()
        except OSError:  # the program has ended
            asyncio.get_running_loop().remove_reader(self._terminal)
        self._more.set()

    async def sees(self, pattern: str) -> str:
        """Waits for it. The first group, or all of it."""
        while not (found := re.search(pattern, self.shown)):
            self._more.clear()
            async with asyncio.timeout(20):
                await self._more.wait()
        return found[found.re.groups]

    def types(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    @property
    def echo(self) -> bool:
        """Whether the terminal shows what is typed."""
        return bool(termios.tcgetattr(self._terminal)[3] & termios.ECHO)

    async def left_with(self) -> int:
        """The exit code."""
        async with asyncio.timeout(20):
            return await self._process.wait()


@pytest.fixture
def environ(tmp_path: Path, server: TokenServer) -> dict[str, str]:
    """The settings of the containers, and endpoints that are here."""
    values = {"RELAY_RUN": "run", "RELAY_SPOOL": "spool", "RELAY_CONFIG": "config"}
    values = {name: str(tmp_path / folder) for name, folder in values.items()}
    (tmp_path / "ca.pem").write_text(server.pem())
    for name in ("GMAIL", "MICROSOFT365"):
        values |= {
            f"{name}_USERNAME": "anna@example.org",
            f"{name}_OAUTH_CLIENT_ID": server.client_id,
            f"{name}_OAUTH_CLIENT_SECRET": server.client_secret,
            f"{name}_OAUTH_TOKEN_URL": f"{server.url}/token",
            f"{name}_OAUTH_DEVICE_URL": f"{server.url}/device",
            f"{name}_OAUTH_AUTHORIZE_URL": f"{server.url}/authorize",
            f"{name}_OAUTH_CA_FILE": str(tmp_path / "ca.pem"),
        }
    return values


def at_a_terminal() -> None:
    """Like a login, whatever the tests were started from: what runs in the background ignores Ctrl-C."""
    os.login_tty(0)
    signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.asynccontextmanager
async def person(environ: dict[str, str], *arguments: str) -> AsyncIterator[Person]:
    """Runs ``oauth`` with a terminal."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "relay.operator", "oauth", *arguments,
        stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=at_a_terminal,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": sources("relay"), **environ},
    )  # fmt: skip
    os.close(theirs)
    someone = Person(ours, process)
    try:
        yield someone
    finally:
        asyncio.get_running_loop().remove_reader(ours)
        if process.returncode is None:
            process.kill()
        await process.wait()
        os.close(ours)


def kept(tmp_path: Path, name: str) -> str:
    """The refresh token that the relay will find."""
    file = tmp_path / "spool" / "oauth" / f"{name}.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    token: str = json.loads(file.read_text())["refresh_token"]
    return token


ADDRESS = r"(https://127.0.0.1:\d+/authorize\?\S+)"


async def test_google_on_a_server_without_a_browser(
    server: TokenServer, relay: FakeRelay, environ: dict[str, str], tmp_path: Path
) -> None:
    async with person(environ, "gmail") as anna:
        back = server.browser(await anna.sees(ADDRESS))
        await anna.sees("paste it here")
        assert not anna.echo
        assert "Google ends every grant after 7 days" in anna.shown.replace("\r\n", " ")
        anna.types("something else\n")
        await anna.sees("No: that is not the whole address")
        page, _, query = back.partition("?")
        anna.types(f"{page}?padding={'x' * 6000}&{query}\n")  # longer than a line in canonical mode
        await anna.sees("The relay has logged in with it")
        assert await anna.left_with() == 0
    assert kept(tmp_path, "gmail") in server.refresh_tokens
    assert "SECRET" not in anna.shown
    assert "something else" not in anna.shown
    assert relay.asked == [PROBE.format("gmail")]


async def test_google_with_a_browser_on_the_same_machine(
    server: TokenServer, relay: FakeRelay, environ: dict[str, str], tmp_path: Path
) -> None:
    async with person(environ, "gmail") as anna, httpx.AsyncClient() as browser:
        back = server.browser(await anna.sees(ADDRESS))
        assert back.startswith("http://127.0.0.1:")
        assert (await browser.get(back)).status_code == 200
        await anna.sees("Access is granted")
        assert await anna.left_with() == 0
    assert kept(tmp_path, "gmail") in server.refresh_tokens
    assert "SECRET" not in anna.shown


async def test_a_denial_in_the_browser_keeps_nothing(
    server: TokenServer, environ: dict[str, str], tmp_path: Path
) -> None:
    async with person(environ, "gmail") as anna:
        back = server.browser(await anna.sees(ADDRESS), consent=False)
        await anna.sees("paste it here")
        anna.types(f"{back}\n")
        await anna.sees(r"No access: access was denied in the browser\.")
        assert await anna.left_with() == 65
    assert not (tmp_path / "spool").exists()


async def test_microsoft_by_device_code(
    server: TokenServer, relay: FakeRelay, environ: dict[str, str], tmp_path: Path
) -> None:
    async with person(environ, "microsoft365") as anna:
        await anna.sees(r"Open https://127.0.0.1:\d+/link in any browser, enter the code WDJB-MJHT")
        server.device = "granted"
        await anna.sees("The relay has logged in with it")
        assert await anna.left_with() == 0
    assert kept(tmp_path, "microsoft365") in server.refresh_tokens
    assert "SECRET" not in anna.shown


async def test_microsoft_goes_by_browser_where_codes_are_not_allowed(
    server: TokenServer, relay: FakeRelay, environ: dict[str, str], tmp_path: Path
) -> None:
    server.once((400, {"error": "unauthorized_client", "error_description": "AADSTS700016: not for this app"}))
    async with person(environ, "microsoft365") as anna:
        await anna.sees(r"There is no code to be had: AADSTS700016: not for this app \(unauthorized_client\)")
        back = server.browser(await anna.sees(ADDRESS))
        assert back.startswith("http://localhost:")
        await anna.sees("paste it here")
        anna.types(f"{back}\n")
        assert await anna.left_with() == 0
    assert kept(tmp_path, "microsoft365") in server.refresh_tokens


async def test_the_token_is_shown_only_on_request(server: TokenServer, environ: dict[str, str], tmp_path: Path) -> None:
    server.device = "granted"
    async with person(environ, "microsoft365", "--print") as anna:
        token = await anna.sees(r"MICROSOFT365_OAUTH_REFRESH_TOKEN=(\S+)")
        assert await anna.left_with() == 0
    assert token in server.refresh_tokens
    assert not (tmp_path / "spool").exists()


async def test_without_a_relay_the_grant_waits_for_it(
    server: TokenServer, environ: dict[str, str], tmp_path: Path
) -> None:
    server.device = "granted"
    async with person(environ, "microsoft365") as anna:
        await anna.sees("The relay takes it up when it starts the next time")
        assert await anna.left_with() == 0
    assert kept(tmp_path, "microsoft365") in server.refresh_tokens


async def test_a_grant_that_the_provider_does_not_take_is_told_at_once(
    server: TokenServer, relay: FakeRelay, environ: dict[str, str]
) -> None:
    server.device = "granted"
    row = {"name": "microsoft365", "look": {"ready": False, "sentence": "SmtpClientAuthentication is disabled"}}
    relay.answers[PROBE.format("microsoft365")] = (200, {"providers": [row]})
    async with person(environ, "microsoft365") as anna:
        await anna.sees("its login fails: SmtpClientAuthentication is disabled")
        assert await anna.left_with() == 65


async def test_a_service_account_is_tried_out(
    server: TokenServer, relay: FakeRelay, environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "key.json").write_text(server.account_file())
    environ |= {
        "WORKSPACE_USERNAME": "robot@example.org",
        "WORKSPACE_OAUTH_KEY_FILE": str(tmp_path / "key.json"),
        "WORKSPACE_OAUTH_CA_FILE": environ["GMAIL_OAUTH_CA_FILE"],
    }
    async with person(environ, "workspace") as anna:
        await anna.sees("The service account may send as robot@example.org")
        assert await anna.left_with() == 0
    assert server.claims["sub"] == "robot@example.org"


@pytest.mark.parametrize(
    ("change", "name", "code", "sentence"),
    [
        ({}, "fastmail", 78, "Nothing asks for OAuth with fastmail: set FASTMAIL_OAUTH_CLIENT_ID in .env"),
        ({}, "../../etc", 78, "is not a provider's name"),
        ({"GMAIL_USERNAME": ""}, "gmail", 78, "GMAIL_USERNAME: missing; allowed: the address of the mailbox"),
        ({"GMAIL_OAUTH_CLIENT_SECRET": ""}, "gmail", 78, "GMAIL_OAUTH_CLIENT_SECRET: missing"),
        ({"MICROSOFT365_OAUTH_DEVICE_URL": "https://127.0.0.1:1/x"}, "microsoft365", 75, "Try again later: there is"),
    ],
)
async def test_what_cannot_begin_says_why(
    environ: dict[str, str], change: dict[str, str], name: str, code: int, sentence: str
) -> None:
    async with person({**environ, **change}, name) as anna:
        await anna.sees(re.escape(sentence))
        assert await anna.left_with() == code


async def test_ctrl_c_gives_the_terminal_back(server: TokenServer, environ: dict[str, str]) -> None:
    async with person(environ, "gmail") as anna:
        await anna.sees("paste it here")
        anna.types("\x03")
        assert await anna.left_with() == 130
        assert "Traceback" not in anna.shown
        assert anna.echo
