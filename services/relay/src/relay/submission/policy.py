"""Who may send what: pure functions from values to a refusal, or to ``None`` when nothing stands in the way.

A refusal's sentence names what to change: the address that is not allowed and those that are; the limit that is
reached, when it ends, where it is set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from math import isinf

from relay import limits
from relay.accounts import Account, Accounts
from relay.address import Bad, fold
from relay.header import Field, sole_address
from relay.providers.reach import Reach
from relay.refusal import Reason, Refusal, refuse, shown
from relay.submission import originators
from relay.submission.limiter import Exceeded

__all__ = [
    "Reason",
    "Refusal",
    "check_lan_recipient",
    "check_originators",
    "check_recipient_count",
    "check_sender",
    "check_senders_kept",
    "check_served",
    "check_session",
    "check_size",
    "limit_reached",
    "plainly_own",
    "refuse",
]

LAN_LIMIT = "RELAY_LAN_RECIPIENTS_PER_DAY"  # the LAN listener's own limit, for ``limit_reached``
SENDERS_SHOWN = 4  # of an account, in a refusal
ORIGINATOR_BYTES = 4 * limits.KIB  # of From, Sender, Resent-From and Resent-Sender together: some eighty addresses

Fields = Mapping[bytes, Sequence[Field]]
_OTHERS = frozenset({b"sender", b"resent-from", b"resent-sender"})
_TITLES = {b"from": "From", b"sender": "Sender", b"resent-from": "Resent-From", b"resent-sender": "Resent-Sender"}


def check_session(account: Account, accounts: Accounts) -> Refusal | None:
    """At MAIL: whether ``account``, who logged in some time ago, could still do so with the same password."""
    now = accounts.find(account.name)
    if now is account:
        return None if not account.disabled else _changed(account, "is disabled; the operator can enable it again")
    if now is None:
        return _changed(account, "was removed; ask the operator for a new one")
    if now.disabled:
        return _changed(account, "is disabled; the operator can enable it again")
    if now.password_hash != account.password_hash:
        return _changed(account, "has a new password; log in again with it")
    return None


def _changed(account: Account, what: str) -> Refusal:
    return refuse(Reason.ACCOUNT_CHANGED, f"421 4.7.0 The account {account.name} {what}.")


def check_sender(account: Account, address: str) -> Refusal | None:
    """At MAIL: whether ``account`` may send as ``address``; empty is the null sender, whose From is judged later."""
    if not address or account.rewrite or account.may_send_as(address):
        return None
    return refuse(
        Reason.SENDER,
        f"550 5.7.1 The sender <{shown(address)}> is not one of account {account.name}; {_remedy(account)}",
    )


def check_senders_kept(before: Account, now: Account) -> Refusal | None:
    """At the end of a message that was judged by ``before``: whether it might have turned out otherwise by ``now``."""
    if all(map(now.may_send_as, before.senders)):
        return None
    why = f"The senders of account {now.name} were changed meanwhile; send the mail again."
    return refuse(Reason.ACCOUNT_CHANGED, f"451 4.7.0 {why}")


def check_served(account: Account, sender: str, reach: Reach) -> Refusal | None:
    """At MAIL: whether any provider takes mail from ``sender``, the address that the message will travel with."""
    if reach.serves(account.name, sender):
        return None
    return refuse(
        Reason.NOT_SERVED,
        f"550 5.7.1 No mail provider is set up for <{shown(sender)}> and account {account.name}; the operator can "
        "change OWNPOST_PROVIDERS, or senders and routes in config/providers.toml.",
    )


def _remedy(account: Account) -> str:
    """What to do about an address that is not among the account's."""
    senders = [shown(sender, 64) for sender in account.senders[:SENDERS_SHOWN]]
    more = len(account.senders) - len(senders)
    allowed = ", ".join(senders) + (f" and {more} more" if more else "")
    return f"use {allowed}, or have it added to the account's senders."


def check_size(size: int, limit: int) -> Refusal | None:
    """At MAIL (the declared size) and at the end of the message; sizes in bytes."""
    if size <= limit:
        return None
    return refuse(
        Reason.SIZE,
        f"552 5.3.4 The message has {size} bytes and {limit} are taken; send less, or have the operator raise "
        "RELAY_MESSAGE_SIZE_LIMIT.",
    )


def check_recipient_count(count: int, limit: int) -> Refusal | None:
    """At RCPT: whether a message may have ``count`` recipients. 4xx: clients send the rest in a second message."""
    if count <= limit:
        return None
    return refuse(
        Reason.RECIPIENTS,
        f"452 4.5.3 A message has at most {limit} recipients here; send to the others in another one "
        "(the operator's setting is RELAY_RECIPIENTS).",
    )


def check_lan_recipient(allowed: Iterable[str], address: str) -> Refusal | None:
    """At RCPT on the LAN listener: ``allowed`` holds addresses, ``*@domain`` or ``*``.

    What names another host before its @ (``a%b@c``) is everybody's at that domain only where it is listed itself.
    """
    folded = fold(address)
    local, _, domain = folded.rpartition("@")
    wanted = {folded, "*"} if set("%!@") & set(local) else {folded, "*", f"*@{domain}"}
    if any(fold(entry) in wanted for entry in allowed):
        return None
    return refuse(
        Reason.RECIPIENT,
        f"550 5.7.1 This port does not send to <{shown(address)}>; the operator can add it to RELAY_LAN_RECIPIENTS.",
    )


def limit_reached(account: Account, exceeded: Exceeded, setting: str = "") -> Refusal:
    """The refusal for what :class:`relay.submission.limiter.Limiter` found. 4xx: what fits later is to be sent later.

    ``setting`` names what the operator can raise, when it is not the account's own limit.
    """
    if exceeded.window == "pause":
        why = f"Account {account.name} sends far more than usual and is paused until {_stamp(exceeded.until)}"
        return refuse(Reason.PAUSED, f"450 4.7.1 {why}; if it is yours, ask the operator for a new password.")
    reason = Reason.LIMIT_HOUR if exceeded.window == "hour" else Reason.LIMIT_DAY
    who = "This port" if setting else f"Account {account.name}"
    start = f"{who} may send to {exceeded.limit} recipients in {_SPAN[exceeded.window]}"
    raise_it = f"the operator can raise {setting or f'recipients_per_{exceeded.window} of the account'}"
    if isinf(exceeded.until):
        return refuse(reason, f"550 5.7.1 {start}, fewer than this message has; send it in parts, or {raise_it}.")
    used = f"{start} and {exceeded.used} are used"
    return refuse(reason, f"450 4.7.1 {used}; send it after {_stamp(exceeded.until)}, or {raise_it}.")


def _stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


_SPAN = {"hour": "an hour", "day": "a day"}


def plainly_own(account: Account, header: bytes, fields: Fields) -> bool:
    """Whether all that says who it is from is one From with one address of the account's: nearly always, and quick."""
    froms = fields.get(b"from", ())
    short = len(froms) == 1 and froms[0].end - froms[0].start <= ORIGINATOR_BYTES  # reading 255 KiB takes 0.1 s
    return short and _OTHERS.isdisjoint(fields) and account.may_send_as(sole_address(header, froms[0]))


def check_originators(account: Account, header: bytes, fields: Fields) -> Refusal | None:
    """After the header: one From, and all mailboxes in it, Sender, Resent-From and Resent-Sender are the account's."""
    problem = _check_counts(fields)
    if problem:
        return problem
    if not fields.get(b"from"):
        return refuse(Reason.FROM_MISSING, f"550 5.6.0 The header has no From field; {_write(account)}")
    for name, title in _TITLES.items():
        for field in fields.get(name, ()):
            problem = _check_field(account, title, header[field.colon + 1 : field.end])
            if problem:
                return problem
    return None


def _check_counts(fields: Fields) -> Refusal | None:
    """One From at most, one Sender at most, nothing absurdly long."""
    for name, title in _TITLES.items():
        those = fields.get(name, ())
        if len(those) > 1 and name in {b"from", b"sender"}:
            why = f"The header has {len(those)} {title} fields; send exactly one."
            return refuse(Reason.FROM_SEVERAL, f"550 5.6.0 {why}")
    if too_long(fields):
        why = f"The fields From, Sender and Resent-* have more than {ORIGINATOR_BYTES} bytes; name fewer people there."
        return refuse(Reason.HEADER_SIZE, f"552 5.3.4 {why}")
    return None


def too_long(fields: Fields) -> bool:
    """Whether the fields that say who a message is from are longer than anybody's are: they are not read then."""
    return sum(field.end - field.start for name in _TITLES for field in fields.get(name, ())) > ORIGINATOR_BYTES


def _write(account: Account) -> str:
    return f"write one with an address of account {account.name}, such as {shown(account.senders[0], 64)}."


def _check_field(account: Account, title: str, value: bytes) -> Refusal | None:
    boxes = originators.read(value)
    if isinstance(boxes, Bad):
        return refuse(Reason.FROM, f"550 5.6.0 The field {title} cannot be read: {boxes.why}.")
    if not boxes:
        return refuse(Reason.FROM_MISSING, f"550 5.6.0 The field {title} holds no address; {_write(account)}")
    for box in boxes:
        if not account.may_send_as(box.address):
            text = f"The address <{shown(box.address)}> in the field {title} is not one of account {account.name}"
            return refuse(Reason.FROM, f"550 5.7.1 {text}; {_remedy(account)}")
    return None
