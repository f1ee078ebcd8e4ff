"""``providers``: would each provider take mail now? Its login, its ports, its pauses, its quotas, its routes.

Logs in at every provider without sending anything; with ``--last`` it shows what the relay's last look found. Exit code
0 when all is well, 1 otherwise. A port that is shut beside one that is open is told and is no failure.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from relay.operator import show
from relay.operator.client import Client

EX_NOT_WELL = 1
UNRESOLVED = "could not be resolved"  # as delivery/failures.py has it
HIGH = 0.8  # of a quota: worth a line
STATES = {"open": "in use", "paused": "paused", "probing": "probing"}
STYLES = {"in use": "green", "paused": "red", "probing": "yellow", "works": "green", "refused": "red"}
PERIODS = {"day": "a day", "month": "a month"}
Row = dict[str, Any]


def register(
    subparsers: argparse._SubParsersAction[Any], client: Client, console: Console, now: Callable[[], float]
) -> None:
    """Add the verb to the command line."""
    parser = subparsers.add_parser("providers", help="keys, ports, pauses and quotas of the providers; logs in to look")
    parser.add_argument("name", nargs="?", default="", help="only this one")
    parser.add_argument("--last", action="store_true", help="what the last look found, without a new one")
    parser.add_argument("--json", action="store_true", help="for scripts")

    def run(args: argparse.Namespace) -> int:
        ask, path = (client.get, "/providers") if args.last else (client.post, "/providers/probe")
        found = ask(path, provider=args.name)
        if args.json:
            console.file.write(json.dumps(found, indent=1) + "\n")
        else:
            print_all(console, found["providers"], now())
        return show.EX_OK if all(well(row, now()) for row in found["providers"]) else EX_NOT_WELL

    parser.set_defaults(run=run, without_relay=EX_NOT_WELL)


def print_all(console: Console, rows: list[Row], now: float) -> None:
    """The table, and below it a sentence about everything that is not as it should be."""
    console.print(_table(rows, now))
    remarks = Table.grid(padding=(0, 2, 0, 0))
    remarks.add_column(no_wrap=True)
    remarks.add_column(overflow="fold", ratio=1)
    for row in rows:
        for sentence, advice in _remarks(row, now):
            remarks.add_row(Text(show.safe(row["name"]), "bold"), Text(show.safe(f"{sentence} {advice}".strip())))
    for part in (Text(), remarks) if remarks.row_count else ():
        console.print(part)
    console.print(Text(f"\n{_summary(rows, now)}"))


def well(row: Row, now: float) -> bool:
    """Whether nothing keeps mail from this provider."""
    look = row["look"]
    strange = any(_running(one, now) for one in row["domains"])
    return row["state"] == "open" and not strange and (look is None or bool(look["ready"]))


def _running(pause: Row, now: float) -> bool:
    return pause["until"] is None or pause["until"] > now


# --- the table
def _table(rows: list[Row], now: float) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("Provider", "State", "Key", "Ports"):
        table.add_column(heading, no_wrap=True)
    table.add_column("Quota used", overflow="fold")
    table.add_column("Routes", overflow="fold")
    for row in rows:
        table.add_row(
            Text(show.safe(row["name"]), "bold"),
            _word(STATES.get(row["state"], str(row["state"]))),
            _word(_key(row)),
            _ports(row),
            "\n".join(_quota(one, now) for one in row["quotas"]) or "none known",
            "\n".join(show.safe(_route(one)) for one in row["routes"]) or "none",
        )
    return table


def _word(word: str) -> Text:
    return Text(show.safe(word), STYLES.get(word, ""))


def _key(row: Row) -> str:
    if row["login"] == "none":
        return "none"
    known = row["look"]["key"] if row["look"] else None
    return "not known" if known is None else "works" if known else "refused"


def _ports(row: Row) -> str:
    if row["look"] is None:
        return "not looked"
    return "\n".join(f"{one['port']} {'open' if one['open'] else 'shut'}" for one in row["look"]["ports"]) or "files"


def _quota(quota: Row, now: float) -> str:
    text = f"{_taken(quota):,} of {quota['limit']:,} {_period(quota)}"
    if quota["period"] == "rolling" and _taken(quota) < quota["limit"]:
        return text  # what was used leaves the window bit by bit: there is no one moment
    return f"{text}\n  anew in {show.span(quota['resets_at'] - now)}"


def _period(quota: Row) -> str:
    hours = int(quota["hours"])
    return PERIODS.get(quota["period"], f"in {hours} h" if hours <= 24 else f"in {hours // 24} days")


def _taken(quota: Row) -> int:
    number: int = quota["used"] + quota["in_hand"]
    return number


def _route(route: Row) -> str:
    whose = ", ".join(filter(None, (route["domain"], f"account {route['account']}" if route["account"] else "")))
    share = f", weight {route['weight']}" if route["weight"] else ""
    return f"{whose or 'default'}: {_ordinal(route['place'])}{share}"


def _ordinal(number: int) -> str:
    return str(number) + {1: "st", 2: "nd", 3: "rd"}.get(number, "th")


# --- the sentences
def _remarks(row: Row, now: float) -> Iterator[tuple[str, str]]:
    """What is to be said of a provider, each with what to do about it."""
    if row["state"] != "open":
        yield _pause(row, now), _advice(row, row["standing"], row["reason"])
    yield from _looked(row)
    for one in row["domains"]:
        yield _stranger(one, now)
    for quota in row["quotas"]:
        if _taken(quota) >= HIGH * quota["limit"] and row["standing"] != "used up":
            yield f"{_taken(quota):,} of {quota['limit']:,} recipients {_period(quota)} are used.", _kept(quota)
    if not row["routes"]:
        yield "No route leads to it, so nothing is sent through it.", ""


def _stranger(pause: Row, now: float) -> tuple[str, str]:
    who, why = pause["domain"], _ended(pause["reason"])
    address, then = "@" in who, "then `make queue ARGS='retry ID'` tries it."
    advice = (
        f"Have {who} accepted as a sender there" if address else f"Set {who} up there (`make plan` has the records)"
    )
    if _running(pause, now):
        return f"It does not take {who} as a sender{_until(pause, now)}: {why}", f"{advice}, {then}"
    return f"It did not take {who} as a sender, and is asked again with the next mail from there: {why}", f"{advice}."


def _kept(quota: Row) -> str:
    if not quota["reserve"] or _taken(quota) < quota["limit"] - quota["reserve"]:
        return ""
    return f"The last {quota['reserve']:,} are kept for accounts with priority: other mail waits or goes elsewhere."


def _pause(row: Row, now: float) -> str:
    why = ": ".join(filter(None, (show.WHY_PAUSED.get(row["standing"], ""), row["reason"])))
    if row["state"] == "probing":
        return f"One message tries it, after a pause: {_ended(why)}"
    return f"Paused{_until(row, now)}: {_ended(why)}"


def _until(pause: Row, now: float) -> str:
    if pause["until"] is None:
        return ""
    return f" until {show.minute(pause['until'])} (in {show.span(pause['until'] - now)})"


def _looked(row: Row) -> Iterator[tuple[str, str]]:
    look = row["look"]
    if look is None:
        return
    shut = [one for one in look["ports"] if not one["open"]]
    if look["key"] is False:
        if row["standing"] != "key dead":
            what = "It takes no login" if row["login"] == "xoauth2" else "It refuses our login"
            yield f"{what}: {_ended(look['sentence'])}", _advice(row, "key dead", look["sentence"])
    elif not look["ready"] and len(shut) == len(look["ports"]):
        ports = ", ".join(str(one["port"]) for one in shut)
        sentence = _ended(look["sentence"])
        if "certificate" in sentence:  # it is reached, and may be somebody else
            yield f"{row['host']} is not trusted (port {ports}): {sentence}", _untrusted(row)
        else:
            advice = _unresolved(row) if UNRESOLVED in sentence else _blocked(row)
            yield f"{row['host']} cannot be reached (port {ports}): {sentence}", advice
    elif not look["ready"]:
        yield f"It takes no login now: {_ended(look['sentence'])}", ""
    if len(shut) < len(look["ports"]):
        for one in shut:
            yield f"Port {one['port']} is shut: {_ended(one['sentence'])} Another port is open.", ""


def _advice(row: Row, standing: str, said: str) -> str:
    """What to do, unless what was ``said`` tells that already."""
    if standing == "key dead" and row["login"] == "xoauth2":
        return "" if "make oauth" in said else f"`make oauth PROVIDER={row['name']}` asks for a new grant."
    if standing == "key dead":
        return f"Make a new key there, put it into .env as {_setting(row, 'PASSWORD')}, and `make up`."
    if standing == "used up":
        return "Its mail waits or takes another provider; nothing is lost."
    return ""


def _blocked(row: Row) -> str:
    return (
        f"Is {_setting(row, 'HOST')} right? Many networks block ports outward: "
        f"{_setting(row, 'PORT')} names another, such as 2525 or 465."
    )


def _unresolved(row: Row) -> str:
    return f"Is {_setting(row, 'HOST')} right? If so, has this server a network, and a name server that answers?"


def _untrusted(row: Row) -> str:
    return f"Is {_setting(row, 'HOST')} right? An authority of your own is named by {_setting(row, 'CA_FILE')}."


def _setting(row: Row, what: str) -> str:
    return f"{row['name'].upper().replace('-', '_')}_{what}"


def _ended(sentence: str) -> str:
    """With a full stop, whoever wrote it."""
    return sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."


def _summary(rows: list[Row], now: float) -> str:
    good = sum(well(row, now) for row in rows)
    if good == len(rows):
        return "All is well." if rows else "There is no provider."
    return "Not all is well." if len(rows) == 1 else f"{good} of {len(rows)} providers are well."
