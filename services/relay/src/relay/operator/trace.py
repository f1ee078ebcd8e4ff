"""``trace``: the story of one message, or of the latest messages to one recipient."""

from __future__ import annotations

import argparse
import json
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from relay.operator import show
from relay.operator.client import Client


def register(
    subparsers: argparse._SubParsersAction[Any],
    client: Client,
    console: Console,
) -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser("trace", help="what became of a message: --id ID or --to ADDRESS")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--id", default="", help="the id from the 250 reply, the Received field, the log")
    which.add_argument("--to", default="", help="a recipient: the latest messages to that address")
    parser.add_argument("--json", action="store_true", help="for scripts")

    def run(args: argparse.Namespace) -> int:
        if not (args.id or args.to):
            parser.error("name a message or a recipient: make trace ID=… or make trace TO=…")
        found = client.get("/trace", id=args.id, to=args.to)
        if args.json:
            console.file.write(json.dumps(found, indent=1) + "\n")
        elif not found["messages"]:
            which = show.safe(args.id or args.to)
            console.print(
                f"No message {'to ' * bool(args.to)}{which} is known; it may be older than RELAY_HISTORY_DAYS."
            )
        for message in [] if args.json else found["messages"]:
            console.print(_head(message))
            console.print(_story(message))
        return show.EX_OK if found["messages"] else show.EX_DATAERR

    parser.set_defaults(run=run)


def _head(message: dict[str, Any]) -> Text:
    lines = [
        ("Message", message["message"]),
        ("From", f"{message['sender']}" + (f" (account {message['account']})" if message["account"] else "")),
        ("Received", f"{show.moment(message['received_at'])} UTC, {message['size']:,} bytes, {message['message_id']}"),
    ]
    text = Text("\n".join(f"{name:<9} {show.safe(value)}" for name, value in lines))
    for delivery in message["deliveries"]:
        text.append(f"\nTo        {show.safe(delivery['recipient'])}: ").append_text(show.state(delivery["state"]))
        if delivery.get("waits"):
            text.append(f", {show.safe(delivery['waits'])}")
    return text


def _story(message: dict[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1))
    table.add_column("UTC", width=19)
    table.add_column("Event", no_wrap=True)
    table.add_column("What", overflow="fold", ratio=1)
    for event in message["events"]:
        table.add_row(show.moment(event["at"]), show.state(event["event"]), Text(what(event)))
    return table


def what(event: dict[str, Any]) -> str:
    """One event's recipient, the provider's sentence, and the details, for people."""
    said = show.answer(event.get("provider", ""), event.get("code", ""), event.get("reply", ""))
    detail = dict(event.get("detail", {}))
    if detail.pop("goes_on", False):
        detail["next_attempt"] = "at once, through the next provider"
    elif "next_attempt" in detail:
        detail["next_attempt"] = f"{show.moment(detail['next_attempt'])} UTC"
    rest = ", ".join(f"{show.safe(name).replace('_', ' ')} {show.safe(value)}" for name, value in detail.items())
    return "\n".join(part for part in (show.safe(event.get("recipient", "")), said, rest) if part)
