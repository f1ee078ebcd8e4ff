"""One event a line on standard output: ``TIME relay EVENT name=value ...`` for people, one JSON object for machines.

Promises:

- Exactly one line an event, in ASCII, whatever a client or a provider sent: values are capped, and what is not plain
  printable ASCII is written as JSON writes it (control characters, ESC, U+202E, bytes that were no UTF-8).
- Cheap: lines are gathered and written once a turn of the event loop; formatting takes a few microseconds.
- Never in the way of mail: a broken standard output loses lines, a blocked one (nobody reads the pipe) makes us keep
  up to :data:`KEPT` bytes and then lose lines. How many were lost is said as soon as it can be.
- What the standard library's ``logging`` is told (our libraries' warnings, asyncio's complaints) comes out the same
  way.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import select
import threading
import time
from collections.abc import Mapping
from typing import Literal

from relay.clock import Clock

Value = str | int | float | bool

VALUE_LENGTH = 500  # characters of one value; also what is kept of a provider's reply
TRACEBACK_LENGTH = 4_000
KEPT = 1024 * 1024  # bytes that wait for a reader
PIPE_BUF = 4096  # pipe(7): poll's word that a pipe is writable is good for this much and no more
AGAIN = 0.1  # seconds until a blocked output is tried again
LAST_WORDS = 1.0  # seconds that closing waits for a reader
_QUOTE = json.encoder.encode_basestring_ascii


class Output:
    """Bytes to a file descriptor that may block or break. Everything belongs to one thread."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._rest = b""
        self._cut = False  # a line was lost in its middle
        self.lost = 0  # lines, since somebody set it to 0

    @property
    def blocked(self) -> bool:
        """Whether anything waits to be written."""
        return bool(self._rest)

    def write(self, lines: list[str], patience: float = 0.0) -> None:
        """Write all that can be written now (or within ``patience`` seconds); keep or lose the rest."""
        if len(self._rest) > KEPT:
            self.lost += len(lines)
            lines = []
        data = self._rest + "".join(lines).encode("ascii", "backslashreplace")
        self._rest = b""
        if self._cut and data:
            data, self._cut = b"\n" + data, False
        try:
            done = self._write(data, patience)
        except OSError:  # nobody reads any more, or the disk behind it is full
            self.lost += data.count(b"\n")
            self._cut = True
        else:
            self._rest = data[done:]

    def _write(self, data: bytes, patience: float) -> int:
        done, deadline = 0, time.monotonic() + patience
        while done < len(data):
            ready = self._poll.poll(0 if patience <= 0 else max(0, int((deadline - time.monotonic()) * 1000)))
            if not ready:
                break
            done += os.write(self._fd, data[done : done + PIPE_BUF])
        return done


class Log:
    """Formats events and hands them to ``fd``; each at once before :meth:`attach` and after :meth:`close`."""

    def __init__(self, fd: int, form: Literal["text", "json"], clock: Clock) -> None:
        self._output = Output(fd)
        self._format = _json if form == "json" else _text
        self._clock = clock
        self._second, self._stamp = -1, ""
        self._lines: list[str] = []
        self._waiting = False  # for a blocked output: a timer runs
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.get_ident()

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on lines are gathered and written once a turn of ``loop``, which runs in this thread."""
        self._loop, self._thread = loop, threading.get_ident()

    def close(self) -> None:
        """Write what waits, for :data:`LAST_WORDS` seconds at most."""
        self._loop = None
        lines, self._lines = self._lines, []
        self._output.write(lines, LAST_WORDS)
        self._tell_lost()

    def event(self, event: str, fields: Mapping[str, Value], at: float | None = None) -> None:
        """One line. ``event`` and the names in ``fields`` are ours, values anyone's. Only in the loop's thread."""
        line = self._format(self._time(self._clock.time() if at is None else at), event, fields)
        lines = self._lines
        lines.append(line)
        if len(lines) > 1:
            return
        if self._loop is None:
            self._flush()
        else:
            self._loop.call_soon(self._flush)

    def event_from_any_thread(self, event: str, fields: Mapping[str, Value]) -> None:
        """As :meth:`event`, from wherever it is called."""
        loop = self._loop
        if loop is not None and threading.get_ident() != self._thread:
            with contextlib.suppress(RuntimeError):  # the loop is closed: too late for everything
                loop.call_soon_threadsafe(self.event, event, fields)
            return
        self.event(event, fields)

    def _flush(self) -> None:
        lines, self._lines = self._lines, []
        self._output.write(lines)
        if self._output.blocked and self._loop is not None:
            if not self._waiting:
                self._waiting = True
                self._loop.call_later(AGAIN, self._again)
        elif self._output.lost:
            self._tell_lost()

    def _again(self) -> None:
        self._waiting = False
        self._flush()

    def _tell_lost(self) -> None:
        lost = self._output.lost
        if lost:
            self._output.write([self._format(self._time(self._clock.time()), "log_lines_lost", {"lines": lost})])
            self._output.lost = lost if self._output.lost > lost else 0  # if it could not be told, it is told later

    def _time(self, at: float) -> str:
        """ISO 8601 in UTC with milliseconds; the part down to the second is kept from one line to the next."""
        second = int(at)
        if second != self._second:
            self._second, self._stamp = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._stamp}.{int((at - second) * 1000):03d}Z"


def _text(stamp: str, event: str, fields: Mapping[str, Value]) -> str:
    line = f"{stamp} relay {event}"
    plain = _plain("".join([value for value in fields.values() if type(value) is str]))
    for name, value in fields.items():
        if type(value) is str:
            if plain or _plain(value):
                line += f' {name}="{value}"' if " " in value or "=" in value or not value else f" {name}={value}"
            else:
                line += f" {name}={_quoted(name, value)}"
        else:
            line += f" {name}={value if type(value) is int else _number(value)}"
    return line + "\n"


def _json(stamp: str, event: str, fields: Mapping[str, Value]) -> str:
    line = f'{{"time":"{stamp}","service":"relay","event":"{event}"'
    plain = _plain("".join([value for value in fields.values() if type(value) is str]))
    for name, value in fields.items():
        if type(value) is str:
            line += f',"{name}":"{value}"' if plain or _plain(value) else f',"{name}":{_quoted(name, value)}'
        else:
            line += f',"{name}":{value if type(value) is int else _number(value)}'
    return line + "}\n"


def _plain(text: str) -> bool:
    """Whether ``text`` needs neither escapes nor a cut; asked of all values of a line at once first."""
    return len(text) <= VALUE_LENGTH and text.isascii() and text.isprintable() and '"' not in text and "\\" not in text


def _number(value: Value) -> str:
    if isinstance(value, str):  # a StrEnum
        return _quoted("", str(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:.3f}" if -1e15 < value < 1e15 else "null"  # JSON knows no nan and no infinity
    return str(value)


def _quoted(name: str, value: str) -> str:
    """``value`` as a JSON string in ASCII, capped."""
    length = TRACEBACK_LENGTH if name == "traceback" else VALUE_LENGTH
    if len(value) > length:
        value = value[: length - 3] + "..."
    if not value.isascii():
        value = value.encode("utf-8", "backslashreplace").decode("utf-8")  # surrogates: bytes that were no UTF-8
    return _QUOTE(value)


class LogHandler(logging.Handler):
    """Brings the standard library's log records into ours: one line each, a traceback as one quoted value."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields: dict[str, Value] = {"logger": record.name, "text": record.getMessage()}
        except Exception:  # arguments that do not fit the text: somebody's bug, not a reason to fail
            fields = {"logger": record.name, "text": str(record.msg)}
        if record.exc_info:
            fields["traceback"] = logging.Formatter().formatException(record.exc_info)[-TRACEBACK_LENGTH:]
        self._log.event_from_any_thread("error" if record.levelno >= logging.ERROR else "warning", fields)


def take_over_logging(log: Log) -> None:
    """Send every warning of the standard library's ``logging`` and ``warnings`` to ``log``, and nothing below.

    aiosmtpd's own logger is switched off: it writes passwords after a refused AUTH LOGIN, and bodies at DEBUG.
    """
    logging.captureWarnings(True)
    root = logging.getLogger()
    root.handlers = [LogHandler(log)]
    root.setLevel(logging.WARNING)
    for name in ("mail", "mail.log", "mail.debug"):
        logging.getLogger(name).disabled = True
