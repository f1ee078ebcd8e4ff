"""Builds the exporter from its settings and runs it until SIGTERM or SIGINT: only this place knows all its parts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from functools import partial

import aiohttp

from . import __version__, messenger
from .appliance import Appliance
from .door import Door
from .guard import Guard, Names
from .log import Log
from .notify import Note, Notifier
from .own import Own
from .page import Pages
from .settings import Settings
from .sources import Sources
from .view import View
from .web import Site

EX_TEMPFAIL = 75  # sysexits.h: nothing is wrong with the settings; starting again may help
MINUTE = 60.0  # seconds between two looks
PING_TIME = 20.0
INSIDE = "exporter"  # the name by which Prometheus calls us


async def run(settings: Settings) -> int:
    """The whole life of the exporter; returns the process's exit code."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    log = Log(sys.stdout, settings.log_format, time.time)
    for warning in settings.warnings:
        log.event("warning", text=warning)
    async with contextlib.AsyncExitStack() as stack:
        own = Own()
        sources = Sources(settings.run, clock=time.monotonic, log=log)
        stack.push_async_callback(sources.close)
        appliance = Appliance(sources, own, time.time)
        await appliance.look()  # before anybody asks: every metric is there from the first scrape
        try:
            await _open(settings, appliance, stack)
        except OSError as error:
            log.event("start_failed", error=error.strerror or str(error))
            return EX_TEMPFAIL
        notifier = await _notifier(settings, own, log, stack)
        log.event("started", version=__version__, address=settings.listen, port=settings.port)
        watch = asyncio.create_task(_watch(appliance, notifier, log))
        await stop.wait()
        watch.cancel()  # someone may be being told just now, and take a minute to listen
        await asyncio.wait([watch])
    log.event("stopped")
    return 0


async def _open(settings: Settings, appliance: Appliance, stack: contextlib.AsyncExitStack) -> None:
    """All doors. Raises OSError when one cannot be had."""
    ports = {"submission": settings.submission_port, "submissions": settings.submissions_port, "lan": settings.lan_port}
    site = Site(appliance, Pages(ports), View.of(show_addresses=settings.show_addresses))
    names = Names(settings.hosts)
    guard = Guard(settings.password, time.monotonic)
    for application, port in (
        (site.published(guard, names), settings.port),
        (site.inside(Names([INSIDE])), settings.inside_port),
    ):
        if port:
            door = Door(application)
            stack.push_async_callback(door.close)
            await door.open(settings.listen, port)
    # Only now, for who has the ports is no second exporter that would take the first one's socket away.
    private = Door(site.private())
    stack.push_async_callback(private.close)
    settings.socket.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    settings.socket.unlink(missing_ok=True)
    await private.open_socket(str(settings.socket))
    os.chmod(settings.socket, 0o660)
    stack.callback(settings.socket.unlink, missing_ok=True)


async def _notifier(settings: Settings, own: Own, log: Log, stack: contextlib.AsyncExitStack) -> Notifier:
    pings = tuple(await asyncio.to_thread(messenger.pinged, settings.notify)) if settings.notify else ()
    timeout = aiohttp.ClientTimeout(total=PING_TIME)  # aiohttp tries both families at once, as RFC 8305 says
    client = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout, trust_env=True))

    async def send(url: str, note: Note) -> bool:
        return await messenger.send(url, note.level.name.lower(), note.title, note.body)

    async def ping(url: str) -> bool:
        try:
            async with client.get(url) as answer:
                return answer.ok
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return False

    def result(what: str, well: bool) -> None:
        own.notified(well=well)
        if not well:
            log.event("notify_failed", kind=what)
        elif what == "notify":
            log.event("notified")

    services = [partial(send, url) for url in settings.notify if url not in pings]
    return Notifier(services=services, pings=pings, ping=ping, result=result)


async def _watch(appliance: Appliance, notifier: Notifier, log: Log) -> None:
    """Look once a minute, asked or not. A look that fails is a line in the log; the next one follows."""
    while True:
        try:
            snapshot, verdict = await appliance.look()
            host = snapshot.relay.hostname if snapshot.relay else ""
            await notifier.look(verdict, appliance.now(), host)
        except Exception as error:
            log.event("look_failed", error=f"{type(error).__name__}: {error}")
        await asyncio.sleep(MINUTE)
