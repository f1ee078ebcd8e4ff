"""What each key of a provider's table may hold, and what it becomes.

A table is read onto a :class:`Preset`: its ``rules`` and ``strip`` come before those of the preset, everything else
replaces them. Every mistake is one sentence with the key and what is allowed.
"""

from __future__ import annotations

import datetime
import re
import zoneinfo
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, cast, get_args

from common.names import server
from common.providers import REGION
from relay import address
from relay.providers.preset import Preset
from relay.providers.provider import Tls
from relay.providers.rules import Meaning, Rule, Stage
from relay.refusal import shown

ROLLING = "rolling"
MOST = 1_000_000_000  # recipients, bytes: far beyond any provider, and no number of a thousand digits
UNITS = {"": 1, "kib": 1024, "mib": 1024**2, "gib": 1024**3, "kb": 1000, "mb": 1000**2, "gb": 1000**3}
_SIZE = re.compile(r"([0-9]{1,12}) ?(|[KMG]i?B)", re.IGNORECASE)
_PORT = re.compile(r"([0-9]{1,5}) (starttls|tls|none)")
_FIELD = re.compile(r"[!-9;-~]{1,70}")  # RFC 5322, section 3.6.8; without the line's end it cannot break a header
_PREFIX = re.compile(r"[!-)+-9;-~]{1,70}\*?")
_REGION = re.compile(r"[a-z0-9-]{1,40}")
PATTERN_LENGTH = 500  # characters
# A group that is repeated without end can take for ever to fit a reply (ReDoS); what providers say needs none.
_ENDLESS = re.compile(r"(?<!\\)\)(?:[*+]|\{[0-9]*,\})")
# Each gap without end costs a factor of the reply's length; ``.{0,60}`` is what is meant.
_GAP = re.compile(r"(?<!\\)(?:\.|\\[SWDswd]|\[(?:\\.|[^\]\\])+\])(?:[*+]|\{[0-9]*,\})")
MOST_GAPS = 2
RULE_KEYS = frozenset({"stages", "codes", "pattern", "meaning", "guess"})


class Wrong(Exception):
    """The value is not allowed; the text says why where more than that can be said."""


class Key(NamedTuple):
    """How one key is read, and what it may hold, in words."""

    read: Callable[[Any], Any]
    allowed: str


def quoted(value: object) -> str:
    """``value`` as it may stand in a sentence, whatever it is."""
    try:
        return shown(repr(value))
    except ValueError:  # a number of thousands of digits
        return "a number too long to show"


def _fits(good: object) -> None:
    if not good:
        raise Wrong


def _text(value: Any) -> str:
    _fits(isinstance(value, str) and value.isprintable())
    return cast("str", value)


def _flag(value: Any) -> bool:
    _fits(isinstance(value, bool))
    return cast("bool", value)


def _number(low: int, high: int = MOST) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        _fits(isinstance(value, int) and not isinstance(value, bool) and low <= value <= high)
        return cast("int", value)

    return read


def _quota(value: Any) -> int:
    return 0 if value == "none" else _number(1)(value)


def _size(value: Any) -> int:
    if isinstance(value, str):
        found = _SIZE.fullmatch(value)
        _fits(found)
        assert found
        value = int(found[1]) * UNITS[found[2].lower()]
    return _number(1024)(value)


def _share(value: Any) -> float:
    _fits(isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1)
    return float(value)


def _date(value: Any) -> datetime.date:
    _fits(isinstance(value, datetime.date))
    return cast("datetime.date", value)


def _host(value: Any) -> str:
    text = _text(value)
    _fits(text == "" or server(text.replace(REGION, "region")))
    return text


def _regions(value: Any) -> Mapping[str, str]:
    _fits(isinstance(value, dict) and all(map(_REGION.fullmatch, value)))
    return {name: _host(host) for name, host in value.items()}


def _list(value: Any) -> list[Any]:
    _fits(isinstance(value, list))
    return cast("list[Any]", value)


def _port(value: Any) -> tuple[int, Tls]:
    found = _PORT.fullmatch(_text(value))
    _fits(found and 1 <= int(found[1]) <= 65535)
    assert found
    return int(found[1]), next(tls for tls in get_args(Tls) if tls == found[2])


def _ports(value: Any) -> tuple[tuple[int, Tls], ...]:
    _fits(_list(value))
    return tuple(dict.fromkeys(map(_port, value)))


def _clock(value: Any) -> str:
    text = _text(value)
    if text != ROLLING:
        try:
            zoneinfo.ZoneInfo(text)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:  # OSError: the name of a folder
            raise Wrong from error
    return text


def _sender(value: Any) -> str:
    text = _text(value)
    if text == "{username}":
        return text
    parsed = address.parse_entry(text)
    if isinstance(parsed, address.Bad):
        raise Wrong(parsed.why)
    return address.fold(parsed)


def _headers(value: Any) -> Mapping[str, str]:
    _fits(isinstance(value, dict) and all(map(_FIELD.fullmatch, value)))
    texts = {name: _text(text) for name, text in value.items()}
    _fits(all(text.isascii() and 0 < len(text) < 900 for text in texts.values()))
    return texts


def _strip(value: Any) -> tuple[str, ...]:
    names = tuple(_text(name) for name in _list(value))
    _fits(all(map(_PREFIX.fullmatch, names)))
    return names


def _pattern(text: str) -> re.Pattern[str]:
    if not 0 < len(text) <= PATTERN_LENGTH:
        raise Wrong(f"a pattern has 1 to {PATTERN_LENGTH} characters")
    if _ENDLESS.search(text):
        raise Wrong("a group in a pattern may not be repeated without end")
    if len(_GAP.findall(text)) > MOST_GAPS:
        raise Wrong(
            f"a pattern has at most {MOST_GAPS} gaps without end, such as .* or \\w+; write .{{0,60}}, \\w{{1,60}}"
        )
    try:
        return re.compile(text, re.IGNORECASE)
    except (re.error, OverflowError, RecursionError) as error:
        raise Wrong(str(error)) from error


def _accepted(value: Any) -> re.Pattern[str] | None:
    return _pattern(_text(value)) if value != "" else None


def _rule(value: Any) -> Rule:
    _fits(isinstance(value, dict) and value.keys() <= RULE_KEYS and {"stages", "pattern", "meaning"} <= value.keys())
    codes = [_number(400, 599)(code) for code in _list(value.get("codes", []))]
    try:
        stages = frozenset(Stage(stage) for stage in _list(value["stages"]))
        pattern = _pattern(_text(value["pattern"]))
        meaning = Meaning(value["meaning"])
    except ValueError as error:
        raise Wrong(str(error)) from error
    _fits(stages)
    return Rule(stages, frozenset(codes), pattern, meaning, _flag(value.get("guess", False)))


TEXT = "text on one line"
COUNT = "a number from 1 on"
QUOTA = 'a number of recipients, or "none"'
KEYS: dict[str, Key] = {
    "title": Key(_text, TEXT),
    "source": Key(_text, TEXT),
    "checked": Key(_date, "a day such as 2026-11-24"),
    "host": Key(_host, "a host name or an IP address"),
    "regions": Key(_regions, 'a table such as { eu = "smtp.eu.example.net" }'),
    "ports": Key(_ports, 'a list such as ["587 starttls", "465 tls"] in the order of trial'),
    "username": Key(_text, TEXT),
    "login": Key(_text, TEXT),
    "key": Key(_text, TEXT),
    "login_optional": Key(_flag, "true or false"),
    "oauth": Key(lambda value: {"google": value, "microsoft": value, "": value}[_text(value)], '"google", "microsoft"'),
    "size_limit": Key(_size, 'bytes, or text such as "25MB" or "30MiB"'),
    "recipients": Key(_number(1), COUNT),
    "connections": Key(_number(1, 100), "a number from 1 to 100"),
    "messages_per_connection": Key(_number(1), COUNT),
    "seconds_per_connection": Key(_number(1), COUNT),
    "hourly_quota": Key(_quota, QUOTA),
    "daily_quota": Key(_quota, QUOTA),
    "monthly_quota": Key(_quota, QUOTA),
    "clock": Key(
        _clock, 'a time zone such as "UTC" or "Europe/Paris", or "rolling" for the last 24 hours (a month: 30 days)'
    ),
    "reserve": Key(_share, "a share from 0 to below 1, such as 0.1"),
    "senders": Key(lambda value: tuple(map(_sender, _list(value))), 'a list of addresses or "*@domain"'),
    "strip": Key(_strip, 'a list of field names, with * at the end for all that begin so, such as ["X-Foo-*"]'),
    "keep": Key(_strip, 'a list of field names as in strip: every other field is taken out, such as ["From", "X-*"]'),
    "field_size": Key(_number(100), "a number from 100 on"),
    "headers": Key(_headers, 'a table of field names and ASCII values, such as { X-Track = "no" }'),
    "replaces_message_id": Key(_flag, "true or false"),
    "accepted": Key(_accepted, "a regular expression; empty: every 250 means that it sent the message"),
    "rules": Key(
        lambda value: tuple(map(_rule, _list(value))),
        f'a list of {{ stages = [{", ".join(repr(str(s)) for s in Stage)}], codes = [550], pattern = "...", meaning ='
        f" {' | '.join(repr(str(m)) for m in Meaning)}, guess = true }}; codes and guess may be left out".replace(
            "'", '"'
        ),
    ),
    "dns": Key(_text, TEXT),
}


def read(table: Mapping[str, Any], base: Preset) -> tuple[Preset, list[str]]:
    """``table`` on top of ``base``, and a sentence for each mistake in it."""
    values: dict[str, Any] = {}
    problems = []
    for name, value in table.items():
        if name not in KEYS:
            problems.append(f"{shown(name)} is unknown; allowed: {', '.join(KEYS)}.")
            continue
        try:
            values[name] = KEYS[name].read(value)
        except (Wrong, KeyError) as error:
            why = f" ({error})" if isinstance(error, Wrong) and str(error) else ""
            problems.append(f"{name} = {quoted(value)} is not allowed{why}; allowed: {KEYS[name].allowed}.")
    for name in ("rules", "strip"):
        if name in values:
            values[name] = values[name] + getattr(base, name)
    return replace(base, **values), problems
