"""Builds the renewer from its settings and runs it until SIGTERM or SIGINT: the only place that knows all its parts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
import time

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from .acme import Acme
from .certbot import Certbot
from .files import Files
from .http import Answer, Pages, json_answer, serving
from .log import Log
from .loop import Loop
from .outcome import Source
from .publish import BusyError, Publisher
from .selfsigned import SelfSigned
from .settings import Settings
from .status import Status, registry_of

# Seconds. A slow name server and three time-outs of Cloudflare's library fit in, and IPv6 that leads nowhere: certbot
# tries the addresses of a host one after the other, each for 45 seconds, and keeps the connection that it gets.
CERTBOT_TIME = 900.0
EX_TEMPFAIL = 75  # sysexits.h: nothing is wrong with the settings; starting again may help


async def run(settings: Settings) -> int:
    """The whole life of the renewer; returns the process's exit code."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    log = Log(sys.stdout, settings.log_format, time.time)
    for warning in settings.warnings:
        log.event("warning", text=warning)
    try:
        publisher = Publisher(settings.certs)
    except (BusyError, OSError) as error:
        log.event("start_failed", error=str(error))
        return EX_TEMPFAIL
    try:
        return await _serve(settings, publisher, log, stop)
    finally:
        publisher.close()


async def _serve(settings: Settings, publisher: Publisher, log: Log, stop: asyncio.Event) -> int:
    status = Status(settings.mode, settings.names[0], time.time)
    loop = Loop(source=_source(settings), publisher=publisher, status=status, log=log, now=time.time)
    async with contextlib.AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(serving(settings.socket, _pages(status)))
        except OSError as error:
            log.event("start_failed", error=f"{settings.socket} cannot be opened: {error.strerror}.")
            return EX_TEMPFAIL
        log.event("started", mode=settings.mode, names=",".join(settings.names))
        await loop.run(stop)
    log.event("stopped")
    return 0


def _source(settings: Settings) -> Source:
    if settings.acme is not None:
        certbot = Certbot(settings=settings.acme, names=settings.names, environ=os.environ, timeout=CERTBOT_TIME)
        return Acme(certbot, now=time.time, chance=random.random)
    if settings.mode == "files":
        return Files(settings.files_cert, settings.files_key, names=settings.names, now=time.time)
    return SelfSigned(settings.names, time.time)


def _pages(status: Status) -> Pages:
    registry = registry_of(status)
    return {
        "/livez": lambda: json_answer({"alive": True}),
        "/status.json": lambda: json_answer(status.as_json()),
        "/metrics": lambda: Answer(200, CONTENT_TYPE_PLAIN_0_0_4, generate_latest(registry)),
    }
