"""What the control socket answers: health, state, metrics, the queue, one message's story, and the operators' verbs.

``docs/architecture.md`` lists the paths; what stands in these answers is a contract with the exporter and with scripts.
Times are Unix seconds, sizes bytes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from relay.address import as_kept
from relay.clock import Clock
from relay.control import Answer, BadRequest, Handler, Request, Routes, json_answer
from relay.ids import is_id
from relay.metrics import Metrics
from relay.model import Event, Message
from relay.provider_report import ProviderReport
from relay.spool import QueueEntry, Retried, SpoolFull, Stats, Summary, Trace, mode
from relay.testmail import NotQueued

QUEUE_ROWS, MOST_QUEUE_ROWS = 1_000, 10_000
MOST_TRACES = 20
LATEST_ROWS = 50
FULL = "The disk is full and nothing was changed; make room and try again."


class SpoolView(Protocol):
    """What is asked of the spool."""

    async def queue(self, limit: int = ...) -> list[QueueEntry]: ...
    async def failed(self, limit: int = ...) -> list[QueueEntry]: ...
    async def latest(self, limit: int = ...) -> list[Summary]: ...
    async def trace(self, *, message_id: str = "", recipient: str = "", limit: int = ...) -> list[Trace]: ...
    async def stats(self) -> Stats: ...
    async def retry(self, message_id: str, *, anyway: bool = False) -> Retried: ...
    async def hold(self, message_id: str = "", account: str = "") -> int: ...
    async def unhold(self, message_id: str = "", account: str = "") -> int: ...
    async def drop(self, message_id: str) -> int: ...
    async def acknowledge(self, message_id: str) -> int: ...
    async def held_by_mode(self, message_id: str = "", account: str = "") -> int: ...

    @property
    def trial(self) -> bool: ...


def routes(
    *,
    spool: SpoolView,
    metrics: Metrics,
    clock: Clock,
    ready: Callable[[], Sequence[str]],
    status: Callable[[], Mapping[str, object]],
    test: Callable[[str], Awaitable[str]],
    providers: ProviderReport,
    retried: Callable[[Message], None],
) -> Routes:
    """Every path with its handler.

    ``ready`` says why mail cannot be accepted now (nothing: it can); ``status`` gives what else ``/status.json`` shows,
    its ``state`` among it; ``test`` queues a test message and returns its id; ``providers`` knows of the providers;
    ``retried`` hears which message an operator had tried again.
    """
    pages = _Pages(spool, metrics, clock, ready, status, test, providers, retried)
    return {
        ("GET", "/livez"): pages.livez,
        ("GET", "/readyz"): pages.readyz,
        ("GET", "/status.json"): pages.status_json,
        ("GET", "/metrics"): pages.metrics_page,
        ("GET", "/queue"): pages.queue,
        ("GET", "/failed"): pages.failed,
        ("GET", "/latest"): pages.latest,
        ("GET", "/trace"): pages.trace,
        ("GET", "/providers"): pages.providers_known,
        ("POST", "/providers/probe"): pages.providers_probed,
        ("POST", "/queue/retry"): pages.retry,
        ("POST", "/queue/hold"): _verb(lambda message, account: spool.hold(message, account), account=True),
        ("POST", "/queue/unhold"): _verb(pages.unhold, account=True),
        ("POST", "/queue/drop"): _verb(lambda message, _: spool.drop(message)),
        ("POST", "/queue/acknowledge"): _verb(lambda message, _: spool.acknowledge(message)),
        ("POST", "/send-test"): pages.send_test,
    }


@dataclasses.dataclass(frozen=True, slots=True)
class _Pages:
    spool: SpoolView
    metrics: Metrics
    clock: Clock
    ready: Callable[[], Sequence[str]]
    status: Callable[[], Mapping[str, object]]
    test: Callable[[str], Awaitable[str]]
    providers: ProviderReport
    retried: Callable[[Message], None]

    async def livez(self, _: Request) -> Answer:
        return json_answer({"alive": True})

    async def readyz(self, _: Request) -> Answer:
        state, reasons = self._state()
        return json_answer({"state": state, "reasons": reasons}, 503 if reasons else 200)

    async def status_json(self, _: Request) -> Answer:
        state, reasons = self._state()
        stats = await self.spool.stats()
        queue = {
            "deliveries": {one.value: number for one, number in stats.deliveries.items()},
            "held_by_mode": stats.held_by_mode,
            "messages": stats.messages,
            "bytes": stats.bytes,
            "oldest": stats.oldest,
            "failed_notices": stats.failed_notices,
            "put_aside": stats.put_aside,
        }
        found = {
            "state": state,
            "reasons": reasons,
            "queue": queue,
            "spool": {"room": stats.room, "wal_bytes": stats.wal_bytes},
            "providers": await self.providers.facts(),
        }
        return json_answer({**self.status(), **found})

    async def metrics_page(self, request: Request) -> Answer:
        stats = await self.spool.stats()
        age = 0.0 if stats.oldest is None else max(0.0, self.clock.time() - stats.oldest)
        self.metrics.update_queue(
            stats.deliveries,
            stats.messages,
            stats.bytes,
            age,
            stats.failed_notices,
            stats.held_by_mode,
            stats.put_aside,
        )
        self.metrics.update_spool(stats.room, stats.wal_bytes)
        await self.providers.measure(self.metrics)
        return Answer(200, *self.metrics.page(request.accept))

    async def queue(self, request: Request) -> Answer:
        rows = await self.spool.queue(_limit(request))
        stats, waits = await self.spool.stats(), await self.providers.waits(rows)
        found = {
            "total": sum(stats.deliveries.values()),
            "all_paused": await self.providers.all_paused(),
            "deliveries": [{**_row(row), "waits": what} for row, what in zip(rows, waits, strict=True)],
        }
        return json_answer(found)

    async def failed(self, request: Request) -> Answer:
        return json_answer({"deliveries": [_row(row) for row in await self.spool.failed(_limit(request))]})

    async def latest(self, request: Request) -> Answer:
        found = await self.spool.latest(_limit(request, LATEST_ROWS))
        return json_answer({"messages": [_summary(one) for one in found]})

    async def trace(self, request: Request) -> Answer:
        message, recipient = request.query.get("id", ""), request.query.get("to", "")
        if message:
            found = await self.spool.trace(message_id=_id(request), limit=1)
        elif recipient:
            found = await self.spool.trace(recipient=as_kept(recipient), limit=MOST_TRACES)
        else:
            raise BadRequest("Name a message (id=) or a recipient (to=).")
        return json_answer({"messages": [_story(one, await self.providers.waits(one.deliveries)) for one in found]})

    async def providers_known(self, request: Request) -> Answer:
        return json_answer({"providers": await self.providers.facts(self._provider(request))})

    async def providers_probed(self, request: Request) -> Answer:
        return json_answer({"providers": await self.providers.look(self._provider(request))})

    async def retry(self, request: Request) -> Answer:
        message_id, anyway = _id(request), request.query.get("anyway", "") == "yes"
        try:
            found = await self.spool.retry(message_id, anyway=anyway)
        except SpoolFull as error:
            raise BadRequest(FULL) from error
        for story in await self.spool.trace(message_id=message_id, limit=1) if found.changed else ():
            self.retried(story.message)
        if not found.changed:
            await self._held_by_mode(message_id, "")
        return json_answer({"changed": found.changed, "unsure": found.unsure, "gone_since": found.gone_at})

    async def unhold(self, message_id: str, account: str) -> int:
        return await self.spool.unhold(message_id, account) or await self._held_by_mode(message_id, account)

    async def _held_by_mode(self, message_id: str, account: str) -> int:
        """0; raises :class:`BadRequest` if this is what let nothing go."""
        if await self.spool.held_by_mode(message_id, account):
            raise BadRequest(f"{message_id or account} stays held. {mode.reason(not self.spool.trial)}")
        return 0

    async def send_test(self, request: Request) -> Answer:
        try:
            return json_answer({"message": await self.test(request.query.get("to", ""))})
        except NotQueued as error:
            raise BadRequest(str(error)) from error

    def _provider(self, request: Request) -> str:
        name, known = request.query.get("provider", "").lower(), self.providers.names
        if name and name not in known:
            raise BadRequest(f"'{name}' is not among the providers: {', '.join(known)}.")
        return name

    def _state(self) -> tuple[object, list[str]]:
        reasons = list(self.ready())
        return self.status().get("state", "not ready" if reasons else "ready"), reasons


def _verb(change: Callable[[str, str], Awaitable[int]], *, account: bool = False) -> Handler:
    """A handler that changes deliveries of one message, or of one account where that is possible."""

    async def handler(request: Request) -> Answer:
        name = request.query.get("account", "") if account else ""
        message = "" if name and "id" not in request.query else _id(request)
        if name and message:
            raise BadRequest("Name either a message or an account, not both.")
        try:
            return json_answer({"changed": await change(message, name)})
        except SpoolFull as error:
            raise BadRequest(FULL) from error

    return handler


def _id(request: Request) -> str:
    text = request.query.get("id", "").strip().upper()
    if not is_id(text):
        raise BadRequest("A message id has 26 letters and digits, as in the 250 reply and in the queue.")
    return text


def _limit(request: Request, default: int = QUEUE_ROWS) -> int:
    text = request.query.get("limit", str(default))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= MOST_QUEUE_ROWS):
        raise BadRequest(f"limit= is a number from 1 to {MOST_QUEUE_ROWS}.")
    return int(text[:9])


def _message(message: Message) -> dict[str, str | int | float]:
    return {
        "message": message.id,
        "account": message.account,
        "sender": message.sender,
        "kind": message.kind.value,
        "size": message.size,
        "received_at": message.received_at,
    }


def _row(entry: QueueEntry) -> dict[str, Any]:
    return {
        **_message(entry.message),
        "recipient": entry.recipient,
        "state": entry.state.value,
        "changed_at": entry.changed_at,
        "attempts": entry.attempts,
        "doubts": entry.doubts,
        "next_attempt": entry.next_attempt,
        "provider": entry.provider,
        "code": entry.code,
        "reply": entry.reply,
        "acknowledged": entry.acknowledged,
    }


def _summary(summary: Summary) -> dict[str, Any]:
    message = summary.message
    return {
        **_message(message),
        "ended_at": summary.ended_at,
        "recipients": summary.recipients,
        "first_recipients": list(message.recipients),
        "states": {state.value: number for state, number in summary.states.items()},
    }


def _story(trace: Trace, waits: Sequence[str]) -> dict[str, Any]:
    message = trace.message
    return {
        **_message(message),
        "message_id": message.message_id,
        "ended_at": trace.ended_at,
        "deliveries": [{**_row(entry), "waits": what} for entry, what in zip(trace.deliveries, waits, strict=True)],
        "events": [_event(event) for event in trace.events],
    }


def _event(event: Event) -> dict[str, Any]:
    fields = {
        "event": event.kind.value,
        "at": event.at,
        "recipient": event.recipient,
        "provider": event.provider,
        "code": event.code,
        "reply": event.reply,
        "detail": dict(event.detail),
    }
    return {name: value for name, value in fields.items() if value}
