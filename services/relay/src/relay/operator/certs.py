"""``certs``: the certificate that was loaded, and what each port really shows to clients."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from relay import limits
from relay.operator import show
from relay.operator.client import Client, NoAnswer, Rejected
from relay.settings_names import PUBLISHED_PORTS

SOCKET: Final = Path("renewer", "renewer.sock")  # below RELAY_RUN
SOURCES: Final = {
    "self-signed": "this server itself: no client trusts it until it is told to trust certs/ca.pem",
    "acme": "an authority, by ACME",
    "files": "you: OWNPOST_TLS=files",
}


def register(
    subparsers: argparse._SubParsersAction[Any],
    client: Client,
    renewer: Client,
    environ: Mapping[str, str],
    console: Console,
    now: Callable[[], float],
) -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser("certs", help="the certificate: names, issuer, dates, and what each port shows")
    parser.add_argument("--json", action="store_true", help="for scripts")

    def run(args: argparse.Namespace) -> int:
        status = client.get("/status.json")
        facts = {name: status[name] for name in ("certificate", "certificate_problem", "listeners")}
        if args.json:
            console.file.write(json.dumps(facts, indent=1) + "\n")
        else:
            console.print(_certificate(status, now()))
            console.print(_renewal(renewer))
            console.print(_ports(status, environ))
        return show.EX_OK if good(status, now()) else show.EX_DATAERR

    parser.set_defaults(run=run)


def good(status: dict[str, Any], now: float) -> bool:
    """Whether every open port shows the certificate that is in force, and that is valid and the latest published."""
    certificate = status["certificate"]
    if certificate is None or status["certificate_problem"] or certificate["not_after"] <= now:
        return False
    shown = [one["shown"] for one in status["listeners"] if one["open"] and one["shown"]]
    return bool(shown) and all(one["fingerprint"] == certificate["fingerprint"] for one in shown)


def _certificate(status: dict[str, Any], now: float) -> Text:
    certificate, problem = status["certificate"], status["certificate_problem"]
    if certificate is None:
        return Text(f"There is no certificate yet. {show.safe(problem)}".strip())
    left = (certificate["not_after"] - now) / limits.DAY
    lines = [
        ("Names", ", ".join(certificate["names"])),
        ("Issuer", certificate["issuer"]),
        ("From", f"{show.moment(certificate['not_before'])} UTC"),
        ("Until", f"{show.moment(certificate['not_after'])} UTC ({left:.1f} days left)"),
    ]
    if problem:
        lines.append(("Problem", f"a newer one was published and refused: {problem}"))
    return Text("\n".join(f"{name:<9} {show.safe(value)}" for name, value in lines))


def _renewal(renewer: Client) -> Text:
    """Who makes the certificate, and whether that works. It is asked here, for the relay knows only the result."""
    try:
        told = renewer.get("/status.json")
    except (NoAnswer, Rejected):
        return Text("Renewal   not known: the renewer does not answer", "yellow")
    lines = [
        ("Made by", SOURCES.get(told["mode"], told["mode"])),
        ("Renewal", f"failed: {told['last_error']}" if told["last_error"] else _next(told)),
    ]
    return Text("\n".join(f"{name:<9} {show.safe(value)}" for name, value in lines))


def _next(told: dict[str, Any]) -> str:
    at = told["next_attempt"]
    return f"next looked at {show.moment(at)} UTC" if at else "the first attempt is under way"


def _published(listener: dict[str, Any], environ: Mapping[str, str]) -> str:
    """The port that clients type in. In a container the relay's own port is fixed, and another one is published."""
    name = str(listener["name"]).upper()
    if not environ.get("RELAY_SUBMISSIONS_PORT"):
        return str(listener["port"])
    return environ.get(f"OWNPOST_{name}_PORT") or PUBLISHED_PORTS.get(name, str(listener["port"]))


def _ports(status: dict[str, Any], environ: Mapping[str, str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1))
    table.add_column("Listener", no_wrap=True)
    table.add_column("Port", justify="right")
    table.add_column("Shows clients", overflow="fold", ratio=1)
    for listener in status["listeners"]:
        table.add_row(listener["name"], _published(listener, environ), Text(_shown(listener, status["certificate"])))
    return table


def _shown(listener: dict[str, Any], certificate: dict[str, Any] | None) -> str:
    shown = listener["shown"]
    if not listener["open"]:
        return "nothing: the port is not open"
    if shown is None:
        return "no TLS, or not looked at yet"
    if shown["problem"]:
        return show.safe(shown["problem"])
    if certificate and shown["fingerprint"] == certificate["fingerprint"]:
        return f"this certificate, until {show.moment(shown['not_after'])} UTC"
    return f"ANOTHER certificate, until {show.moment(shown['not_after'])} UTC; restart the relay and report this"
