"""One event a line on stdout: what happened, then its fields. Never a password, never a notify URL."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal, TextIO


class Log:
    """Writes events to ``stream`` as ``text`` (``TIME exporter event name=value ...``) or as one JSON object a line."""

    def __init__(self, stream: TextIO, form: Literal["text", "json"], now: Callable[[], float]) -> None:
        self._stream, self._now = stream, now
        self._write = _json if form == "json" else _text

    def event(self, event: str, **fields: str | float) -> None:
        time = datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line = self._write({"time": time, "service": "exporter", "event": event, **fields})
        print(line, file=self._stream, flush=True)


def _json(line: dict[str, str | float]) -> str:
    return json.dumps(line, ensure_ascii=True)


def _text(line: dict[str, str | float]) -> str:
    """Values that hold spaces, quotes or control characters are quoted: nothing that was received can fake a line."""
    words = [str(line.pop("time")), str(line.pop("service")), str(line.pop("event"))]
    return " ".join(words + [f"{name}={_quoted(str(value))}" for name, value in line.items()])


def _quoted(value: str) -> str:
    plain = value.isascii() and value.isprintable() and value and not set(value) & set(' "=\\')
    return value if plain else json.dumps(value, ensure_ascii=True)
