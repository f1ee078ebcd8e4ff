"""``send-test``: queues a test message and follows it until the provider has answered.

Exit code 0 only if the provider accepted it; 75 while the outcome is open (it stays in the queue and is tried again);
65 if it failed for good.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from rich.console import Console

from relay.operator import show
from relay.operator.client import Client
from relay.operator.trace import what

POLL = 0.25  # seconds between two looks
PATIENCE = 120.0  # seconds; a provider that needs longer is a finding of its own
PASSING = 5.0  # seconds; what is in the way for longer is told as the result, instead of silence until the end
OPEN = ("deferred", "doubtful", "held")
FAILED = ("refused", "expired", "unknown", "dropped")


def register(
    subparsers: argparse._SubParsersAction[Any],
    client: Client,
    console: Console,
    now: Callable[[], float],
    sleep: Callable[[float], None],
) -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser("send-test", help="sends a test message and prints the provider's answer")
    parser.add_argument("address", nargs="?", default="", help="whom to send it to")
    parser.add_argument("--to", default="", help="the same")
    parser.add_argument("--seconds", type=float, default=PATIENCE, help=f"how long to wait ({PATIENCE:g})")

    def run(args: argparse.Namespace) -> int:
        if bool(args.address) == bool(args.to):
            parser.error("name one address: make send-test TO=ADDRESS")
        message = client.post("/send-test", to=args.address or args.to)["message"]
        console.print(f"Message {show.safe(message)} is queued.")
        return _follow(client, console, message, until=now() + args.seconds, now=now, sleep=sleep)

    parser.set_defaults(run=run)


def _follow(
    client: Client,
    console: Console,
    message: str,
    *,
    until: float,
    now: Callable[[], float],
    sleep: Callable[[float], None],
) -> int:
    seen, waits, since = 0, "", now()
    while True:
        events, found = _story(client, message)
        for event in events[seen:]:
            word = event["event"]
            if event.get("detail", {}).get("goes_on"):
                console.print(f"{what({**event, 'detail': {}, 'recipient': ''})}; the next provider is tried.")
                continue
            if word == "delivered":
                console.print(f"Accepted by {what({**event, 'detail': {}, 'recipient': ''})}")
                if event.get("provider") != "capture":
                    console.print("The rest is the provider's part: look into the mailbox, and into its spam folder.")
                return show.EX_OK
            if word in FAILED:
                console.print(_failed(event, message))
                return show.EX_DATAERR
            if word in OPEN:
                console.print(f"Not yet ({word}): {what(event)}")
                console.print("It is safe in the queue and is tried again. What becomes of it:")
                console.print(f"  make trace ID={message}")
                return show.EX_TEMPFAIL
        if found != waits:
            waits, since = found, now()
            console.print(f"It {show.safe(waits)}." if waits else "Nothing is in its way any more.")
        seen = len(events)
        if waits and now() >= since + PASSING:
            console.print(
                "It is safe in the queue, and goes out once the provider takes it. make providers says what to do."
            )
            console.print(f"What becomes of it:\n  make trace ID={message}")
            return show.EX_TEMPFAIL
        if now() >= until:
            console.print(f"The provider has not answered yet. What becomes of it:\n  make trace ID={message}")
            return show.EX_TEMPFAIL
        sleep(POLL)


def _failed(event: dict[str, Any], message: str) -> str:
    """How it failed, and what to do next."""
    then = {
        "unknown": "It may have arrived all the same: look into the mailbox.",
        "dropped": "",
    }.get(event["event"], f'Once the cause is mended: make queue ARGS="retry {show.safe(message)}"')
    return f"Failed ({event['event']}): {what(event)}\n{then}".rstrip()


def _story(client: Client, message: str) -> tuple[list[dict[str, Any]], str]:
    """The message's events so far, and what it waits for now (empty: nothing but its turn)."""
    found: list[dict[str, Any]] = client.get("/trace", id=message)["messages"]
    waits = [row.get("waits", "") for one in found for row in one["deliveries"]]
    return [event for one in found for event in one["events"]], next(filter(None, waits), "")
