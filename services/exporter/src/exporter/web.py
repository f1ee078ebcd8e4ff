"""What is answered over HTTP: to people, to Prometheus, to health checks. It only looks; there is nothing to change.

Three doors lead here. The published port asks for the password, if there is one, and for one of our names. The inside
port, which no one publishes, gives metrics to Prometheus without either. The Unix socket is the operator's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from .appliance import Appliance
from .chart import draw
from .door import HEADERS
from .guard import Answer, Guard, Names
from .page import FOLDER, Pages
from .view import View

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")


class Site:
    """The answers."""

    def __init__(self, appliance: Appliance, pages: Pages, view: View) -> None:
        self._appliance, self._pages, self._view = appliance, pages, view
        self._icon = (FOLDER / "icon.svg").read_bytes()

    def published(self, guard: Guard, names: Names) -> web.Application:
        """Everything, behind the password and for our own names."""
        doors = [_polite, _only_for(names), _behind(guard)]
        application = web.Application(middlewares=doors, client_max_size=1)
        application.add_routes(
            [
                web.get("/", self.front),
                web.get("/message/{id}", self.message),
                web.get("/style.css", self.style),
                web.get("/icon.svg", self.icon),
                *self._machines(),
            ]
        )
        return application

    def inside(self, names: Names) -> web.Application:
        """For Prometheus on a network that nothing is published from."""
        application = web.Application(middlewares=[_polite, _only_for(names)], client_max_size=1)
        application.add_routes([web.get("/metrics", self.metrics), web.get("/livez", self.livez)])
        return application

    def private(self) -> web.Application:
        """For whoever may open the Unix socket."""
        application = web.Application(middlewares=[_polite], client_max_size=1)
        application.add_routes(self._machines())
        return application

    def _machines(self) -> list[web.RouteDef]:
        return [
            web.get("/metrics", self.metrics),
            web.get("/livez", self.livez),
            web.get("/readyz", self.readyz),
            web.get("/status.json", self.status),
        ]

    async def livez(self, _: web.Request) -> web.Response:
        return _json({"alive": True})

    async def readyz(self, _: web.Request) -> web.Response:
        reasons = await self._appliance.unready()
        return _json({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)

    async def metrics(self, request: web.Request) -> web.Response:
        kind, text = await self._appliance.metrics(request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": kind})

    async def status(self, _: web.Request) -> web.Response:
        return _json(self._view.status(*await self._appliance.look()))

    async def front(self, _: web.Request) -> web.Response:
        snapshot, verdict = await self._appliance.look()
        chart = draw(snapshot.slots, snapshot.now)
        return _html(self._pages.front(self._view.status(snapshot, verdict), chart))

    async def message(self, request: web.Request) -> web.Response:
        name = request.match_info["id"].upper()
        if not ID.fullmatch(name):
            return _html(self._pages.sorry("No such message", "A message id has 26 letters and digits."), 404)
        try:
            story = await self._appliance.story(name)
        except Exception as error:  # fenced like a collector
            reason = self._appliance.sentence(error)
            return _html(self._pages.sorry("The relay cannot be asked", reason), 503)
        if story is None:
            sentence = f"The relay knows no message {name}; stories are kept for RELAY_HISTORY_DAYS."
            return _html(self._pages.sorry("No such message", sentence), 404)
        return _html(self._pages.message(self._view.story(story), self._appliance.now()))

    async def style(self, _: web.Request) -> web.Response:
        return web.Response(body=self._pages.style, content_type="text/css", charset="utf-8")

    async def icon(self, _: web.Request) -> web.Response:
        return web.Response(body=self._icon, content_type="image/svg+xml")


def _html(text: str, status: int = 200) -> web.Response:
    body = text.encode("utf-8", "backslashreplace")  # half a surrogate pair is shown as what it is
    return web.Response(body=body, status=status, content_type="text/html", charset="utf-8")


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=json.dumps(value).encode() + b"\n", status=status, content_type="application/json")


@web.middleware
async def _polite(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every answer, a refusal too, carries the headers that keep a browser within bounds."""
    try:
        answer = await handler(request)
    except web.HTTPException as refusal:
        answer = web.Response(status=refusal.status, text=f"{refusal.status}: {refusal.reason}\n")
        if "Allow" in refusal.headers:
            answer.headers["Allow"] = refusal.headers["Allow"]
    answer.headers.update({name: value for name, value in HEADERS.items() if name not in answer.headers})
    return answer


def _only_for(names: Names) -> Any:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if names.are_ours(request.headers.get("Host", "")):
            return await handler(request)
        text = "421: This is not a name of ours. EXPORTER_HOSTS lists the names by which this page may be called.\n"
        return web.Response(status=421, text=text)

    return check


def _behind(guard: Guard) -> Any:
    """/livez tells nothing, and is open."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == "/livez":
            return await handler(request)
        answer = await guard.check(request.headers.get("Authorization", ""), request.remote or "")
        if answer is Answer.WELCOME:
            return await handler(request)
        if answer is Answer.TOO_MANY:
            return web.Response(status=429, text="429: Too many wrong passwords.\n", headers={"Retry-After": "20"})
        asked = {"WWW-Authenticate": 'Basic realm="Ownpost", charset="UTF-8"'}
        return web.Response(status=401, text="401: EXPORTER_PASSWORD is asked for; any user name.\n", headers=asked)

    return check
