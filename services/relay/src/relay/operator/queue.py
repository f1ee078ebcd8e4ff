"""``queue``: what waits or failed, since when, what it waits for, when it is tried next, and the provider's last
sentence; and what to do about it: ``retry``, ``hold``, ``release``, ``drop``, ``acknowledge``.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from relay.operator import show
from relay.operator.client import Client

FAILED = ("refused", "expired", "unknown")
# verb: (path, what was done, what it can be done to)
VERBS = {
    "retry": ("/queue/retry", "made due now", "waits, is held or has failed"),
    "hold": ("/queue/hold", "held", "waits for its next try"),
    "release": ("/queue/unhold", "released", "is held"),
    "unhold": ("/queue/unhold", "released", "is held"),
    "drop": ("/queue/drop", "dropped", "waits or is held"),
    "acknowledge": ("/queue/acknowledge", "acknowledged", "failed and is not acknowledged yet"),
}
OF_ACCOUNTS = ("hold", "release", "unhold")


def register(
    subparsers: argparse._SubParsersAction[Any],
    client: Client,
    console: Console,
    now: Callable[[], float],
) -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser("queue", help="what waits or failed; retry, hold, release, drop, acknowledge")
    parser.add_argument("verb", nargs="?", choices=VERBS, help="what to do; without it the queue is shown")
    parser.add_argument("id", nargs="?", default="", help="a message's id")
    parser.add_argument(
        "--account", default="", help="instead of an id, for hold and release: all mail of this account"
    )
    parser.add_argument(
        "--anyway", action="store_true", help="with retry: send again what may have been delivered; it may arrive twice"
    )
    parser.add_argument("--json", action="store_true", help="for scripts")
    parser.add_argument("--limit", type=int, default=1000, help="rows at most (1000)")

    def run(args: argparse.Namespace) -> int:
        if not args.verb:
            return _list(client, console, now(), args)
        if bool(args.id) == bool(args.account) or (args.account and args.verb not in OF_ACCOUNTS):
            parser.error(f"{args.verb} needs a message's id" + (" or --account" * (args.verb in OF_ACCOUNTS)))
        if args.anyway and args.verb != "retry":
            parser.error("--anyway belongs to retry")
        return _change(client, console, args)

    parser.set_defaults(run=run)


def _change(client: Client, console: Console, args: argparse.Namespace) -> int:
    path, done, fit = VERBS[args.verb]
    found = client.post(path, id=args.id, account=args.account, anyway="yes" if args.anyway else "")
    changed, name = found["changed"], show.safe(args.id or args.account)
    if args.json:
        console.file.write(json.dumps(found) + "\n")
        return show.EX_OK if changed else show.EX_DATAERR
    said = [f"{changed} {'delivery' if changed == 1 else 'deliveries'} {done}."] if changed else ["Nothing changed:"]
    if found.get("unsure"):
        said.append(_unsure(found["unsure"], name))
    elif found.get("gone_since"):
        gone = f"its text is gone since {show.moment(found['gone_since'])} UTC"
        said.append(f"{gone}; send it again from the mail program.")
    elif not changed:
        said.append(f"no delivery of {name} {fit}.")
    console.print(" ".join(said))
    return show.EX_OK if changed else show.EX_DATAERR


def _unsure(number: int, name: str) -> str:
    """The warning of a duplicate, before one is risked."""
    what = "1 delivery may have arrived" if number == 1 else f"{number} deliveries may have arrived"
    again = f'make queue ARGS="retry {name} --anyway"'
    return f"{what} already. Ask the recipient first; {again} sends it again, and then it may arrive twice."


def _list(client: Client, console: Console, now: float, args: argparse.Namespace) -> int:
    found = client.get("/queue", limit=str(args.limit))
    rows = found["deliveries"]
    if args.json:
        console.file.write(json.dumps(found, indent=1) + "\n")
    elif not rows:
        console.print("The queue is empty: nothing waits, and no failure is unacknowledged.")
    else:
        if found.get("all_paused"):
            console.print(_all_paused(found["all_paused"], now), end="\n\n")
        console.print(_table(rows, now, reasons=not found.get("all_paused")))
        console.print(_summary(rows, found["total"]))
    return show.EX_OK


def _all_paused(pauses: list[dict[str, Any]], now: float) -> Text:
    """The head line: nothing leaves, until when, and whose fault that is."""
    ends = [one["until"] or math.inf for one in pauses if one["state"] == "paused"]
    first = min(ends, default=math.inf)
    until = f" before {show.minute(first)} (in {show.span(first - now)})" if math.isfinite(first) else ""
    trying = [one["name"] for one in pauses if one["state"] == "probing"]
    sentence = f"one message is tried at {', '.join(trying)}" if trying else f"nothing is sent{until}"
    whys = [(show.WHY_PAUSED.get(one["standing"], one["standing"]), one["reason"]) for one in pauses]
    lines = [f"{one['name']}: {': '.join(filter(None, why))}" for one, why in zip(pauses, whys, strict=True)]
    whose = "The provider is" if len(pauses) == 1 else f"All {len(pauses)} providers are"
    text = Text(show.safe(f"{whose} paused: {sentence}."), "bold")
    text.append("".join(f"\n  {show.safe(line)}" for line in lines), "not bold")
    return text.append(
        "\nMail is safe here, and goes out once one takes it. make providers says what to do.", "not bold"
    )


def _table(rows: list[dict[str, Any]], now: float, *, reasons: bool = True) -> Table:
    """``reasons``: whether each row says what it waits for; above it, it is said for all."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), expand=True)
    table.add_column("Message, recipient, last answer", overflow="fold", ratio=1)
    for name in ("State", "Tries", "Age", "Next try"):
        table.add_column(name, no_wrap=True)
    for row in rows:
        table.add_row(
            Group(Text(show.safe(row["message"]), "bold"), Padding(Text(_under(row, reasons=reasons)), (0, 0, 0, 2))),
            show.state(row["state"]),
            str(row["attempts"]),
            show.span(now - row["received_at"]),
            _next(row, now),
        )
    return table


def _under(row: dict[str, Any], *, reasons: bool) -> str:
    said = show.answer(row["provider"], row["code"], row["reply"])
    waits = show.safe(row.get("waits", "")) if reasons else ""
    return "\n".join(filter(None, (f"{show.safe(row['sender'])} to {show.safe(row['recipient'])}", said, waits)))


def _next(row: dict[str, Any], now: float) -> str:
    if row["state"] in ("claimed", "sending"):
        return "now"
    if row["state"] != "due":
        return "-"
    left = row["next_attempt"] - now
    if row.get("waits") and left < 1:  # its own time has come; what it waits for stands below it
        return "waits"
    return f"in {show.span(left)}" if left >= 1 else "now"


def _summary(rows: list[dict[str, Any]], total: int) -> str:
    failed = sum(row["state"] in FAILED for row in rows)
    held = [bool(row.get("waits")) for row in rows if row["state"] == "held"]  # what waits for settings, and what not
    parts = [f"{len(rows) - failed - len(held)} waiting"]
    parts += [f'{held.count(False)} held (make queue ARGS="release ID")'] if False in held else []
    parts += [f"{held.count(True)} held because of OWNPOST_PROVIDERS"] if True in held else []
    parts += [f'{failed} failed (make queue ARGS="retry ID", or "acknowledge ID")'] if failed else []
    more = f"; {total - len(rows)} more not shown" if total > len(rows) else ""
    return ", ".join(parts) + more + "."
