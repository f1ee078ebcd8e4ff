"""``make account``: who may log in. Edits ``accounts.toml``; the running relay takes the change up within a second.

Works on the file and not through the relay, so that it mends a relay too that refuses to start because of that file.
The new file is checked as the relay will check it, written beside the old one, synced, and put in its place by one
rename: a reader sees the old or the new. A password is generated and shown once, or read from standard input; never
from the command line, which other users of the machine can read.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
from collections.abc import Callable

import argon2
from rich.console import Console
from rich.table import Table

from common.settings import Reader
from relay import limits
from relay.accounts import Account
from relay.address import login_name
from relay.advice import foreign_senders
from relay.operator import accounts_text
from relay.operator.accounts_edit import Refused, accounts_for_editing
from relay.settings_names import PUBLISHED_PORTS

ALPHABET = "abcdefghjkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # without what looks alike: 0 O o, 1 I l i
GENERATED_LENGTH = 20  # 115 bits
PRIORITIES = ("normal", "high")
PRIORITY = "high: its mail may use the last tenth of each provider's quota, which others leave alone"
SHORTEST_PASSWORD = 8  # of one that is given


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb to the operators' command line; sets ``args.run``."""
    verb = subparsers.add_parser(
        "account", help="who may log in: add, list, remove, disable, enable, password, priority"
    )
    actions = verb.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, function: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text)
        if name != "list":
            parser.add_argument("name", metavar="NAME", help="the login name")
        parser.set_defaults(run=lambda args: _run(function, args))
        return parser

    add = action("add", _add, "a new account; prints its password once")
    add.add_argument(
        "--sender", action="append", default=[], metavar="ADDRESS", help="may be repeated; *@domain is all of it"
    )
    new = action("password", _password, "a new password for an account; prints it once")
    for parser in (add, new):
        parser.add_argument("--password-stdin", action="store_true", help="read the password from standard input")
    add.add_argument("--priority", choices=PRIORITIES, default="normal", help=PRIORITY)
    add.add_argument("--no-password", action="store_true", help="nobody logs in with it: for RELAY_LAN_ACCOUNT")
    listing = action("list", _list, "all accounts")
    for parser in (add, new, listing):
        parser.add_argument("--json", action="store_true", help="for scripts")
    action("remove", _remove, "takes an account away; what waits of it is still sent, what is held stays so")
    disable = action("disable", _disable, "no more logins; open sessions end at their next mail")
    disable.add_argument("--hold-queue", action="store_true", help="holds what waits of it, too")
    action("enable", _enable, "undoes disable")
    priority = action("priority", _priority, PRIORITY)
    priority.add_argument("priority", choices=PRIORITIES)


def _run(function: Callable[[argparse.Namespace], None], args: argparse.Namespace) -> int:
    try:
        function(args)
    except Refused as refused:
        print(f"ownpost: {refused}", file=sys.stderr)
        return 1
    return 0


# --- the actions ------------------------------------------------------------------------------------------------------


def _add(args: argparse.Namespace) -> None:
    name, password = login_name(args.name), "" if args.no_password else _new_password(args)
    values: dict[str, accounts_text.Value] = {
        "password_hash": _hash(password) if password else "",
        "senders": args.sender or [_sender_for(name)],
    }
    if args.priority != "normal":
        values["priority"] = args.priority
    with accounts_for_editing() as file:
        existing = file.accounts.find(name)
        if existing:
            raise Refused(f"there is an account {existing.name} already; `password` gives it a new password")
        file.write(accounts_text.added(file.text, name, values))
    account = file.accounts.find(name)
    assert account is not None
    _tell(args, account, password)


def _password(args: argparse.Namespace) -> None:
    password = _new_password(args)
    with accounts_for_editing() as file:
        account = file.account(args.name)
        file.write(accounts_text.changed(file.text, account.name, {"password_hash": _hash(password)}))
    _tell(args, account, password)


def _remove(args: argparse.Namespace) -> None:
    with accounts_for_editing() as file:
        account = file.account(args.name)
        file.write(accounts_text.removed(file.text, account.name))
    waiting = "What is held of it stays held until" if account.hold_queue else "What still waits of it goes on."
    release = f" `queue release --account {account.name}` or `queue drop ID`." if account.hold_queue else ""
    print(f"Removed {account.name}. {waiting}{release}")


def _disable(args: argparse.Namespace) -> None:
    values: dict[str, accounts_text.Value] = {"disabled": True}
    if args.hold_queue:
        values["hold_queue"] = True
    with accounts_for_editing() as file:
        account = file.account(args.name)
        file.write(accounts_text.changed(file.text, account.name, values))
    waiting = (
        "What waits of it is held." if args.hold_queue else "What waits of it goes on; --hold-queue would hold it."
    )
    print(f"Disabled {account.name}. {waiting}")


def _enable(args: argparse.Namespace) -> None:
    with accounts_for_editing() as file:
        account = file.account(args.name)
        changes: dict[str, accounts_text.Value] = {}
        if account.disabled:
            changes["disabled"] = False
        if account.hold_queue:
            changes["hold_queue"] = False
        file.write(accounts_text.changed(file.text, account.name, changes))
    print(f"Enabled {account.name}.")


def _priority(args: argparse.Namespace) -> None:
    with accounts_for_editing() as file:
        account = file.account(args.name)
        file.write(accounts_text.changed(file.text, account.name, {"priority": args.priority}))
    may = "may use" if args.priority == "high" else "leaves alone"
    print(f"{account.name} {may} what is kept of each provider's quota for accounts of high priority.")


def _list(args: argparse.Namespace) -> None:
    with accounts_for_editing() as file:
        accounts = list(file.accounts)
    if args.json:
        print(json.dumps([_described(account) for account in accounts], indent=2))
        return
    table = Table()
    for heading in ("account", "may send as", "an hour / a day", "failures go to", "state"):
        table.add_column(heading, overflow="fold")
    for account in accounts:
        rates = (account.recipients_per_hour, account.recipients_per_day)
        limit = " / ".join("unlimited" if rate is None else str(rate) for rate in rates)
        table.add_row(account.name, "\n".join(account.senders), limit, account.notify or "its sender", _state(account))
    Console().print(table if accounts else "No accounts yet; `add NAME --sender ADDRESS` makes one.")


def _state(account: Account) -> str:
    words = ["disabled" if account.disabled else "on" if account.password_hash else "no login"]
    words += ["high priority"] * account.high_priority
    words += ["queue held"] * account.hold_queue + ["From is rewritten"] * account.rewrite
    return ", ".join(words)


def _described(account: Account) -> dict[str, object]:
    return {
        "name": account.name,
        "senders": list(account.senders),
        "from": "rewrite" if account.rewrite else "refuse",
        "recipients_per_hour": account.recipients_per_hour,
        "recipients_per_day": account.recipients_per_day,
        "priority": "high" if account.high_priority else "normal",
        "notify": account.notify,
        "newlines": "normalize" if account.normalize_newlines else "refuse",
        "login": bool(account.password_hash),
        "disabled": account.disabled,
        "hold_queue": account.hold_queue,
    }


# --- passwords --------------------------------------------------------------------------------------------------------


def _new_password(args: argparse.Namespace) -> str:
    if not args.password_stdin:
        return "".join(secrets.choice(ALPHABET) for _ in range(GENERATED_LENGTH))
    password = sys.stdin.readline().rstrip("\r\n")
    if not SHORTEST_PASSWORD <= len(password) <= limits.PASSWORD_BYTES // 4 or "\0" in password:
        raise Refused(
            f"the password on standard input must have {SHORTEST_PASSWORD} to {limits.PASSWORD_BYTES // 4} characters"
        )
    return password


def _hash(password: str) -> str:
    hasher = argon2.PasswordHasher(limits.ARGON2_TIME, limits.ARGON2_MEMORY_KIB, limits.ARGON2_LANES)
    return hasher.hash(password)


def _sender_for(name: str) -> str:
    """The sender of an account that was made without one: its name, if it is an address, or NAME@main domain."""
    domain = Reader(os.environ).domains()
    if "@" in name:
        return name
    if domain:
        return f"{name}@{domain[0]}"
    raise Refused(
        f"say whom {name} may send as: --sender {name}@example.org, or --sender '*@example.org' for the whole domain"
    )


def _tell(args: argparse.Namespace, account: Account, password: str) -> None:
    if args.json:
        print(json.dumps({**_described(account), "password": password}))
        return
    reader = Reader(os.environ)
    domains = reader.domains()
    host = reader.hostname(domains) or "the name of your server"
    starttls, tls = (
        reader.text(f"OWNPOST_{name}_PORT", PUBLISHED_PORTS[name]) for name in ("SUBMISSION", "SUBMISSIONS")
    )
    print(f"Account {account.name} may send as {', '.join(account.senders)}.")
    for warning in foreign_senders(domains, [account]) if domains else []:
        print(f"Warning: {warning}")
    if not password:
        print("Nobody can log in with it; RELAY_LAN_ACCOUNT can name it.")
        return
    print("Type this into the mail program:")
    for label, value in (
        ("outgoing server (SMTP)", host),
        ("port and security", f"{starttls} with STARTTLS, or {tls} with SSL/TLS"),
        ("user name", account.name),
        ("password", "the one you gave" if args.password_stdin else password),
    ):
        print(f"  {label:<24}{value}")
    if not args.password_stdin:
        print("The password is shown this once; it is kept as a hash only.")
