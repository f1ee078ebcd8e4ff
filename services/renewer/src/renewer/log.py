"""One event a line on stdout: what happened, then its fields. Never a key, never a token."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal, TextIO


class Log:
    """Writes events to ``stream`` as ``text`` (``TIME event name=value ...``) or as one JSON object a line."""

    def __init__(self, stream: TextIO, form: Literal["text", "json"], now: Callable[[], float]) -> None:
        self._stream = stream
        self._write = _json if form == "json" else _text
        self._now = now

    def event(self, event: str, **fields: str | float) -> None:
        time = iso(self._now(), "milliseconds")
        print(
            self._write({"time": time, "service": "renewer", "event": event, **fields}), file=self._stream, flush=True
        )


def iso(time: float, precision: str = "seconds") -> str:
    """A Unix time as people read it, UTC."""
    return datetime.fromtimestamp(time, UTC).isoformat(timespec=precision).replace("+00:00", "Z")


def _json(line: dict[str, str | float]) -> str:
    return json.dumps(line, ensure_ascii=True)


def _text(line: dict[str, str | float]) -> str:
    """Values that hold spaces, quotes or control characters are quoted: no file name or reply can fake a line."""
    words = [str(line.pop("time")), str(line.pop("service")), str(line.pop("event"))]
    return " ".join(words + [f"{name}={_quoted(str(value))}" for name, value in line.items()])


def _quoted(value: str) -> str:
    plain = value.isascii() and value.isprintable() and value and not set(value) & set(' "=\\')
    return value if plain else json.dumps(value, ensure_ascii=True)
