"""The page as HTML: templates that escape whatever they are given, and words for numbers.

What is shown may come from strangers: addresses, a provider's reply, a client's name. Jinja2 escapes all of it; control
characters and those that turn the direction of writing are shown as what they are, so that no text can dress up as
another.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from . import words
from .chart import Chart

FOLDER = Path(__file__).parent / "templates"
STYLE = FOLDER / "style.css"
MARKS = {"good": "✔", "warning": "!", "critical": "✘", "unknown": "?"}
MARK_WORDS = {"good": "Good", "warning": "Warning", "critical": "Wrong", "unknown": "Not known"}
STATES = {
    "due": "waits",
    "claimed": "on its way",
    "sending": "on its way",
    "held": "held",
    "delivered": "accepted by the provider",
    "refused": "refused",
    "expired": "given up after five days",
    "unknown": "perhaps delivered",
    "dropped": "dropped by you",
}
BAD = ("refused", "expired", "unknown")
PAUSES = {"used up": "its quota is used up", "key dead": "it refuses our login", "busy": "it fails"}
EVENTS = {
    "accepted": "accepted from the client",
    "delivered": "accepted by the provider",
    "deferred": "put off",
    "refused": "refused",
    "doubtful": "no answer at the end: perhaps taken",
    "unknown": "given up: perhaps delivered",
    "expired": "given up after five days",
    "held": "held",
    "released": "released",
    "retried": "tried again on request",
    "dropped": "dropped",
    "notice_queued": "its sender is told of the failure",
    "delay_notice_queued": "its sender is told of the delay",
    "notice_failed": "its sender could not be told",
    "acknowledged": "seen",
    "recovered": "found again after a restart",
    "unusual": "with it, its account sent ten times its usual mail in an hour",
}


class Pages:
    """Renders the templates."""

    def __init__(self, ports: Mapping[str, int]) -> None:
        environment = Environment(
            loader=FileSystemLoader(FOLDER),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            finalize=visible,
        )
        environment.filters |= {"duration": words.duration, "size": words.size, "when": when, "plural": words.plural}
        environment.filters["span"] = words.span
        environment.globals |= {
            "marks": MARKS,
            "mark_words": MARK_WORDS,
            "state_words": STATES,
            "event_words": EVENTS,
            "bad": BAD,
            "pause_words": PAUSES,
            "ports": ports,
        }
        self._front, self._message = environment.get_template("front.html"), environment.get_template("message.html")
        self._sorry = environment.get_template("sorry.html")
        self.style = STYLE.read_bytes()

    def front(self, status: Mapping[str, Any], chart: Chart) -> str:
        """The page at ``/``, made of what ``/status.json`` says."""
        return self._front.render(status=status, chart=chart, now=status["at"])

    def message(self, story: Mapping[str, Any], now: float) -> str:
        """The page of one message."""
        return self._message.render(story=story, now=now)

    def sorry(self, title: str, sentence: str) -> str:
        """A page that says why there is none."""
        return self._sorry.render(title=title, sentence=sentence)


def when(time: float) -> Markup:
    """A point in time as an element that programs understand too."""
    return Markup('<time datetime="{}">{}</time>').format(words.iso(time), words.stamp(time))


def visible(value: object) -> object:
    """Text with what cannot be seen made visible; everything else, our own markup among it, as it is."""
    if type(value) is not str or value.isprintable():
        return value
    return escape(words.readable(value))
