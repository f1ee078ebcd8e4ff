"""Plays every dialogue in this folder; README.md says how to read one."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from relay import limits
from support.fakes import FakeSpool
from support.reception import Reception, person, reception
from support.smtp_client import RawClient

FOLDER = Path(__file__).parent
FILES = sorted(FOLDER.glob("*.txt"))
ESCAPES = {"r": b"\r", "n": b"\n", "t": b"\t", "0": b"\0", "\\": b"\\"}
SETTINGS: dict[str, tuple[str, str, Callable[[str], Any]]] = {  # name in README.md: what it is of, its name there
    "size": ("provider", "size_limit", lambda value: int(value) + limits.SIZE_RESERVE),
    "recipients": ("settings", "RELAY_RECIPIENTS", str),
    "served": ("provider", "senders", lambda value: value.split(",")),
    "carried": ("provider", "size_limit", int),
    "smtputf8": ("greeting", "smtputf8", "yes".__eq__),
    "hour": ("account", "recipients_per_hour", int),
    "day": ("account", "recipients_per_day", int),
    "rewrite": ("account", "rewrite", "yes".__eq__),
    "disabled": ("account", "disabled", "yes".__eq__),
    "normalize": ("account", "normalize_newlines", "yes".__eq__),
    "full": ("spool", "full", str),
    "failing": ("spool", "failing", str),
    "connections": ("limits", "connections", int),
    "connections_per_address": ("limits", "connections_per_address", int),
    "tls": ("reception", "tls", "yes".__eq__),
    "lan_recipients": ("settings", "RELAY_LAN_RECIPIENTS", str),
    "lan_day": ("settings", "RELAY_LAN_RECIPIENTS_PER_DAY", str),
    "networks": ("reception", "networks", lambda value: tuple(map(ipaddress.ip_network, value.split(",")))),
}


def expand(text: str) -> str:
    """``<<x*3>>`` becomes ``xxx``."""
    return re.sub(r"<<(.*?)\*(\d+)>>", lambda found: found[1] * int(found[2]), text)


def raw(text: str) -> bytes:
    """The bytes of a ``C|`` line."""
    parts = re.split(r"\\(x[0-9A-Fa-f]{2}|.)", text)
    out = parts[0].encode()
    for escape, plain in zip(parts[1::2], parts[2::2], strict=True):
        out += (bytes.fromhex(escape[1:]) if escape[0] == "x" else ESCAPES[escape]) + plain.encode()
    return out


def matches(pattern: str, line: bytes) -> bool:
    """Whether a line is what the dialogue says, ``...`` standing for anything."""
    parts = [re.escape(part) for part in pattern.split("...")]
    return re.fullmatch(".*".join(parts).encode(), line, re.DOTALL) is not None


@asynccontextmanager
async def scenario(folder: Path, name: str, settings: dict[str, str]) -> AsyncIterator[Reception]:
    """A reception as the dialogue's head describes it. Unknown settings are an error."""
    names = ("settings", "provider", "greeting", "account", "limits", "spool", "reception")
    groups: dict[str, dict[str, Any]] = {name: {} for name in names}
    for key, value in settings.items():
        group, field, convert = SETTINGS[key]
        groups[group][field] = convert(value)
    more = groups["reception"] | {name: groups[name] for name in ("settings", "provider", "limits")}
    more |= {"accounts": [person(**groups["account"])], "spool": FakeSpool(**groups["spool"])}
    async with reception(folder, name, **more) as host:
        if groups["greeting"]:
            host.offers.greeted("generic", **groups["greeting"])
        yield host


class Player:
    """Carries out one dialogue after its head."""

    def __init__(self, host: Reception) -> None:
        self.host = host
        self.client: RawClient
        self.pending = b""  # what consecutive C lines have gathered

    async def play(self, lines: list[str]) -> None:
        login = lines[:1] == ["LOGIN"]
        self.client = await (self.host.logged_in() if login else self.host.connect())
        try:
            for line in lines[1:] if login else lines:
                await self.step(line)
            await self.flush()
        finally:
            self.client.abort()

    async def flush(self) -> None:
        if self.pending:
            data, self.pending = self.pending, b""
            await self.client.send(data)

    async def step(self, line: str) -> None:
        mark, text = line[:3], line[3:]
        if mark in ("C: ", "C:"):
            self.pending += expand(text).encode() + b"\r\n"
        elif mark == "C| ":
            self.pending += raw(expand(text))
        else:
            await self.flush()
            await self.expect(line)

    async def expect(self, line: str) -> None:
        word, _, text = line.partition(" ")
        match word:
            case "S:":
                got = await self.client.line()
                assert matches(text, got), f"expected {line!r}, got {got!r}"
            case "TLS":
                await self.client.start_tls(self.host.client_context)
            case "HANGS":
                assert await self.client.line() == b""
            case "GOES":
                await self.client.close()
            case "KEPT":
                assert len(self.host.spool.kept) == int(text)
            case "LAST":
                wanted = text.removeprefix("NOT ")
                found = any(matches(wanted, one) for one in self.host.spool.kept[-1].data.split(b"\r\n"))
                assert found is not text.startswith("NOT "), self.host.spool.kept[-1].data
            case "JOURNAL":
                assert text in repr(self.host.journal.calls)
            case _:
                raise ValueError(f"README.md knows no line {line!r}")


async def play(text: str, folder: Path) -> None:
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    name, settings = "submission", {}
    while lines[0].startswith(("LISTENER ", "SETTING ")):
        word, _, value = lines.pop(0).partition(" ")
        if word == "LISTENER":
            name = value
        else:
            key, _, settings[key] = value.partition("=")
    async with scenario(folder, name, settings) as host:
        await Player(host).play(lines)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_dialogue(file: Path, tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # the loop that the service runs on
        runner.run(play(file.read_text(), tmp_path))


def test_there_are_dialogues() -> None:
    assert len(FILES) >= 40
