"""What each key of an account in ``accounts.toml`` may hold, and what to say when it holds something else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from relay import address, limits
from relay.refusal import shown

RECIPIENTS_CEILING = 1_000_000
HASH_MEMORY_KIB, HASH_TIME, HASH_LANES = 128 * limits.KIB, 10, 8  # at most about half a second and 128 MiB a login

_BASE64 = r"([A-Za-z0-9+/]{%s})"
_HASH = re.compile(
    r"\$argon2id\$v=19\$m=([0-9]{1,9}),t=([0-9]{1,9}),p=([0-9]{1,9})\$" + _BASE64 % "11,86" + r"\$" + _BASE64 % "22,86"
)
RULES = {
    "password_hash": 'what `make account` writes, "$argon2id$v=19$...", or "" when nobody may log in with it',
    "senders": 'a list of addresses or "*@domain", at least one',
    "from": '"refuse" or "rewrite"',
    "recipients_per_day": f'a number from 1 to {RECIPIENTS_CEILING}, or "unlimited"',
    "recipients_per_hour": f'a number from 1 to {RECIPIENTS_CEILING}, or "unlimited"',
    "priority": '"normal" or "high"',
    "unusual_volume": '"report" or "pause"',
    "notify": 'an address, or "" for the sender of each message',
    "newlines": '"refuse" or "normalize"',
    "disabled": "true or false",
    "hold_queue": "true or false",
}
HOUSE_COST = f"m={limits.ARGON2_MEMORY_KIB},t={limits.ARGON2_TIME},p={limits.ARGON2_LANES}"  # what `make account` uses


def cost(password_hash: str) -> str:
    """What a look at ``password_hash`` costs, in its own words ``m=...,t=...,p=...``; nothing if it is no hash."""
    return password_hash.split("$")[3] if _HASH.fullmatch(password_hash) else ""


def work(cost: str) -> int:
    """How long that takes, to compare it: memory times passes."""
    memory, passes, _ = (int(part[2:]) for part in cost.split(","))
    return memory * passes


def wrong_values(table: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(key, sentence) for each key that is unknown, missing or holds what is not allowed; empty when all is well."""
    found = [(key, f"missing; allowed: {RULES[key]}") for key in ("password_hash", "senders") if key not in table]
    for key, value in table.items():
        if key not in RULES:
            found.append((key, f"unknown; allowed: {', '.join(RULES)}"))
            continue
        why = _wrong_value(key, value)
        if why:
            found.append((key, f"{why}; allowed: {RULES[key]}"))
    rewrite = table.get("from") == "rewrite" and all(key != "senders" for key, _ in found)
    if rewrite and not any(_can_be_written(sender) for sender in table["senders"]):
        why = 'from = "rewrite" needs an ASCII address that is not "*@domain", to write into the mail'
        found.append(("senders", why))
    return found


def _wrong_value(key: str, value: Any) -> str:
    if key == "password_hash":
        return _wrong_hash(value)
    if key == "senders":
        return _wrong_senders(value)
    if key in {"recipients_per_day", "recipients_per_hour"}:
        number = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= RECIPIENTS_CEILING
        return "" if number or value == "unlimited" else f"{_say(value)} is not allowed"
    if key == "notify":
        why = "" if value == "" else _wrong_entry(value, wildcard=False)
        return f"{_say(value)}: {why}" if why else ""
    if key in {"disabled", "hold_queue"}:
        return "" if isinstance(value, bool) else f"{_say(value)} is not allowed"
    allowed = {
        "from": ("refuse", "rewrite"),
        "newlines": ("refuse", "normalize"),
        "priority": ("normal", "high"),
        "unusual_volume": ("report", "pause"),
    }[key]
    return "" if value in allowed else f"{_say(value)} is not allowed"


def _say(value: Any) -> str:
    return shown(repr(value))


def _wrong_hash(value: Any) -> str:
    if value == "":
        return ""
    match = _HASH.fullmatch(value) if isinstance(value, str) else None
    if not match:
        return "this is not an Argon2id hash"
    memory, passes, lanes = int(match[1]), int(match[2]), int(match[3])
    if not (8 * lanes <= memory <= HASH_MEMORY_KIB and 1 <= passes <= HASH_TIME and 1 <= lanes <= HASH_LANES):
        return f"its cost is out of range (m at most {HASH_MEMORY_KIB}, t at most {HASH_TIME}, p at most {HASH_LANES})"
    if any(len(text) % 4 == 1 for text in match.group(4, 5)):
        return "this Argon2id hash is cut short"
    return ""


def _wrong_senders(value: Any) -> str:
    if not isinstance(value, list) or not value:
        return f"{_say(value)} is not allowed"
    whys = [_wrong_entry(sender) for sender in value]
    return "; ".join(f"{_say(sender)}: {why}" for sender, why in zip(value, whys, strict=True) if why)


def is_wildcard(sender: Any) -> bool:
    """Whether an entry of ``senders`` stands for every address of a domain."""
    return isinstance(sender, str) and sender.startswith("*@")


def _can_be_written(sender: str) -> bool:
    """Whether ``from = "rewrite"`` can put it into a header."""
    parsed = address.parse_entry(sender)
    return isinstance(parsed, str) and parsed.isascii() and not is_wildcard(parsed)


def _wrong_entry(text: Any, *, wildcard: bool = True) -> str:
    if not isinstance(text, str) or (is_wildcard(text) and not wildcard):
        return "this is not an address"
    parsed = address.parse_entry(text)
    return f"this is not an address, {parsed.why}" if isinstance(parsed, address.Bad) else ""
