"""The collectors that there are: what is asked of whom. ``docs/architecture.md`` describes the answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prometheus_client.metrics_core import Metric

from .client import AnswerError, Program
from .collectors import Collector
from .exposition import parse
from .facts import Delivery, DomainCheck, Relay, Renewer, Story, Summary
from .families import OPENMETRICS
from .log import Log

ROWS = 50  # of the queue, the failures and the latest messages: what a person reads
REPORT_SIZE = 1024 * 1024  # bytes of the domain check's report


class Sources:
    """Everything that can be learned of the appliance whose sockets are in ``run``. Made inside an event loop."""

    def __init__(self, run: Path, *, clock: Callable[[], float], log: Log) -> None:
        self._relay = Program("relay", run / "relay/relay.sock")
        self._renewer = Program("renewer", run / "renewer/renewer.sock")
        self._report = run / "domain/check.json"
        self.relay_metrics = Collector("relay_metrics", lambda: _metrics(self._relay), clock=clock, log=log)
        self.renewer_metrics = Collector("renewer_metrics", lambda: _metrics(self._renewer), clock=clock, log=log)
        self.relay_status = Collector("relay_status", self._relay_status, clock=clock, log=log)
        self.renewer_status = Collector("renewer_status", self._renewer_status, clock=clock, log=log)
        self.queue = Collector("relay_queue", lambda: self._deliveries("/queue"), clock=clock, log=log)
        self.failed = Collector("relay_failed", lambda: self._deliveries("/failed"), clock=clock, log=log)
        self.latest = Collector("relay_latest", self._latest, clock=clock, log=log)
        self.domain_check = Collector("domain_check", self._domain_check, clock=clock, log=log)

    @property
    def for_scrapes(self) -> list[Collector[Any]]:
        """What /metrics and the health checks need; cheap for the relay however much mail waits."""
        return [
            self.relay_metrics,
            self.renewer_metrics,
            self.relay_status,
            self.renewer_status,
            self.domain_check,
        ]

    @property
    def all(self) -> list[Collector[Any]]:
        """What the page needs."""
        return [*self.for_scrapes, self.queue, self.failed, self.latest]

    async def story(self, message: str) -> Story | None:
        """The story of one message; ``message`` has the form of an id. Raises what :class:`Program` does."""
        async with asyncio.timeout(5.0):
            found = await self._relay.json(f"/trace?id={message}")
        stories = [Story.from_json(one) for one in found["messages"]]
        return stories[0] if stories else None

    async def close(self) -> None:
        await self._relay.close()
        await self._renewer.close()

    async def _relay_status(self) -> Relay:
        return Relay.from_json(await self._relay.json("/status.json"))

    async def _renewer_status(self) -> Renewer:
        return Renewer.from_json(await self._renewer.json("/status.json"))

    async def _deliveries(self, path: str) -> tuple[Delivery, ...]:
        found = await self._relay.json(f"{path}?limit={ROWS}")
        return tuple(map(Delivery.from_json, found["deliveries"]))

    async def _latest(self) -> tuple[Summary, ...]:
        found = await self._relay.json(f"/latest?limit={ROWS}")
        return tuple(map(Summary.from_json, found["messages"]))

    async def _domain_check(self) -> DomainCheck:
        text = await asyncio.to_thread(_report, self._report)
        return DomainCheck.from_json(json.loads(text)) if text else DomainCheck(checked_at=0.0, findings=())


async def _metrics(program: Program) -> list[Metric]:
    return parse(await program.text("/metrics", OPENMETRICS))


def _report(path: Path) -> str:
    """The report's text; "" while there is none. Whoever may write it could also make it a pipe or endless."""
    if not path.exists():
        return ""
    if not path.is_file() or path.stat().st_size > REPORT_SIZE:
        raise AnswerError("The domain check's report is no file of a sensible size.")
    return path.read_text("utf-8")
