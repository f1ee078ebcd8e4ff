"""``make oauth PROVIDER=…``: walks a person through granting us access to a mailbox, and keeps the grant for the relay.

Microsoft by a code that is typed in on its page (and by browser where that is not allowed, or with --browser); Google
by browser, since its device codes are not good for mail. The browser may be on another machine: then the address it
ends at is pasted here. A service account needs no person: it is tried out. The refresh token goes to where the relay
looks for it; only ``--print`` shows it. Nothing secret is echoed, logged or passed as an argument.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from common.settings import Reader
from relay.clock import SystemClock
from relay.oauth import loopback, settings
from relay.oauth.endpoint import Endpoint, Granted, Refusal
from relay.oauth.errors import GrantDead, TokenUnavailable
from relay.oauth.grants import CodeRequest, NotGranted, device_code, wait_for_device
from relay.oauth.settings import OAuthSettings
from relay.oauth.store import Store
from relay.oauth.tokens import Tokens
from relay.operator import paste, show
from relay.operator.client import Client, NoAnswer, Rejected
from relay.providers import file
from relay.providers.provider import client_context
from relay.settings import CONFIG, SPOOL
from relay.settings_provider import prefix

EX_CONFIG = 78
PATIENCE = 900.0  # seconds for a person and a browser
PASTES = 5  # wrong addresses that are forgiven
_NAME = re.compile(r"[a-z][a-z0-9-]{0,60}")  # it becomes the name of a file


class Misconfigured(Exception):
    """The settings do not do; the text has a line for each problem."""


def register(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    environ: Mapping[str, str],
    client: Client,
    console: Console,
    stdin: Callable[[], int],
) -> None:
    """Add the verb to the command line. ``stdin`` gives the descriptor that a pasted address is read from."""
    text = "lets us into a mailbox of Google's or Microsoft's without its password"
    parser = subparsers.add_parser("oauth", help=text, description=text)
    parser.add_argument("provider", metavar="PROVIDER", help="its name in OWNPOST_PROVIDERS, such as gmail")
    parser.add_argument("--browser", action="store_true", help="Microsoft: sign in by browser instead of a code")
    parser.add_argument("--print", action="store_true", help="show the line for .env instead of keeping the grant")
    parser.add_argument("--port", type=int, default=0, help="the port that the browser comes back to (any free one)")
    parser.add_argument("--listen", default="127.0.0.1", help="the address of that port (%(default)s)")

    def run(args: argparse.Namespace) -> int:
        try:
            walk = Walk(mailbox(args.provider, environ), args, client, console, stdin)
            asyncio.run(walk.go())
        except Misconfigured as problem:
            return _say(console, problem, EX_CONFIG)
        except (NotGranted, GrantDead) as problem:
            return _say(console, f"No access: {problem}.", show.EX_DATAERR)
        except TokenUnavailable as problem:
            return _say(console, f"Try again later: {problem}.", show.EX_TEMPFAIL)
        except OSError as problem:
            return _say(console, f"It did not work: {problem}.", show.EX_TEMPFAIL)
        return show.EX_OK

    parser.set_defaults(run=run)


def _say(console: Console, text: object, code: int) -> int:
    console.print(show.safe_lines(text), soft_wrap=True)
    return code


@dataclass(frozen=True, slots=True)
class Mailbox:
    """The provider that is granted access to, as the settings have it."""

    name: str
    username: str
    oauth: OAuthSettings
    spool: Path


def mailbox(name: str, environ: Mapping[str, str]) -> Mailbox:
    """What the settings say of the provider ``name``. Raises :class:`Misconfigured`."""
    name = name.lower()
    if not _NAME.fullmatch(name):
        raise Misconfigured(f"{name!r} is not a provider's name, such as gmail or microsoft365.")
    reader, start = Reader(environ), prefix(name)
    known = file.load(Path(environ.get("RELAY_CONFIG") or CONFIG) / file.NAME).of(name)
    oauth = settings.read(reader, start, known.facts.oauth)
    username = reader.text(f"{start}USERNAME")
    if reader.problems:
        raise Misconfigured("\n".join(reader.problems))
    if oauth is None:
        raise Misconfigured(
            f"Nothing asks for OAuth with {name}: set {start}OAUTH_CLIENT_ID in .env (and {start}OAUTH, if {name} is a"
            " provider of your own). docs/oauth.md says where to get it."
        )
    return Mailbox(name, username, oauth, Path(environ.get("RELAY_SPOOL") or SPOOL))


class Walk:
    """One walk through a grant."""

    def __init__(
        self, box: Mailbox, args: argparse.Namespace, client: Client, console: Console, stdin: Callable[[], int]
    ) -> None:
        self._box, self._args, self._client, self._console, self._stdin = box, args, client, console, stdin
        self._endpoint = Endpoint(client_context(box.oauth.ca))

    async def go(self) -> None:
        """Raises :class:`NotGranted`, GrantDead, TokenUnavailable, OSError."""
        box = self._box
        if box.oauth.kind == "service-account":
            tokens = Tokens(box.name, box.username, box.oauth, box.spool, clock=SystemClock(), trouble=self._say)
            await tokens.access_token()
            self._say(f"The service account may send as {box.username}.")
        else:
            by_device = box.oauth.kind == "microsoft" and not self._args.browser
            granted = (await self._by_device() if by_device else None) or await self._by_browser()
            if self._args.print:
                self._say(f"{prefix(box.name)}OAUTH_REFRESH_TOKEN={granted.refresh_token}")
                return
            Store(box.spool, box.name, box.username, box.oauth).keep(granted.refresh_token)
            self._say(f"Access is granted, and kept for the relay in {box.spool / 'oauth'}.")
        self._tell_relay()

    # --- RFC 8628
    async def _by_device(self) -> Granted | None:
        """None where the provider gives no code: then the browser is the way."""
        code = await device_code(self._endpoint, self._box.oauth)
        if isinstance(code, Refusal):
            self._say(f"There is no code to be had: {code}. So it goes by browser:")
            return None
        self._say(f"Open {code.url} in any browser, enter the code {code.user_code}")
        self._say(f"and sign in as {self._box.username}. (It is good for {show.span(code.seconds)}.)")
        return await wait_for_device(self._endpoint, self._box.oauth, code, sleep=asyncio.sleep, now=time.monotonic)

    # --- RFC 8252
    async def _by_browser(self) -> Granted:
        box, args = self._box, self._args
        arrived: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def take(target: str) -> bool:
            if arrived.done() or not request.awaits(target):
                return False
            arrived.set_result(target)
            return True

        async with loopback.listening(args.listen, args.port, take) as port:
            # Microsoft knows apps of this kind by "localhost" with any port, Google by the address.
            host = "localhost" if box.oauth.kind == "microsoft" else "127.0.0.1"
            request = CodeRequest(box.oauth, f"http://{host}:{port}", box.username)
            with paste.hidden(self._stdin()):
                self._explain(request.url, host)
                code = await self._code(request, arrived)
        return await request.exchange(self._endpoint, code)

    def _explain(self, url: str, host: str) -> None:
        if self._box.oauth.kind == "google":
            self._say(
                'First publish your project (Google Auth Platform, Audience: "In production"): while it is'
                ' "in testing", Google ends every grant after 7 days.'
            )
        self._say(f"Open this address in a browser and sign in as {self._box.username}:\n\n{url}\n")
        self._say(
            f"If that browser runs on another machine, it ends at a page of {host} that it cannot show. Then copy the"
            " whole address from its address bar, paste it here (it stays hidden) and press Enter."
        )

    async def _code(self, request: CodeRequest, arrived: asyncio.Future[str]) -> str:
        """The code, from the browser itself or as the person pastes it."""
        for _ in range(PASTES):
            pasted = asyncio.ensure_future(paste.line(self._stdin()))
            try:
                done, _ = await asyncio.wait({arrived, pasted}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    raise NotGranted(f"no answer came within {show.span(PATIENCE)}; run it again")
                answer = done.pop().result()
                if request.awaits(answer):
                    return request.code(answer)
                self._say(f"No: {request.why_not(answer)}.")
            finally:
                pasted.cancel()
        raise NotGranted("none of what was pasted was the address")

    # --- afterwards
    def _tell_relay(self) -> None:
        """A relay that had given the provider up tries it again at once, and says what came of it."""
        try:
            found = self._client.post("/providers/probe", provider=self._box.name)
        except (NoAnswer, Rejected):
            self._say("The relay takes it up when it starts the next time (make up).")
            return
        looks = [row["look"] for row in found["providers"] if row["name"] == self._box.name and row["look"]]
        if looks and not looks[0]["ready"]:
            raise NotGranted(f"the relay tried the grant, and its login fails: {looks[0]['sentence']}")
        self._say("The relay has logged in with it.")

    def _say(self, text: str) -> None:
        self._console.print(show.safe_lines(text), soft_wrap=True)
