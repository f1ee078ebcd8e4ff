"""Sends a few words to the places in EXPORTER_NOTIFY_URL, in a process of its own.

apprise knows a hundred services and takes 20 MiB and half a second to load, for a word that is sent once in months; and
what it calls may hang. So ``python -m exporter.messenger`` reads one request from standard input, does it, and ends.
The URLs hold tokens: they go through that pipe, never onto a command line.

An http(s) URL that apprise does not recognise is pinged in the way of healthchecks.io instead: :mod:`exporter.notify`.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

TIME = 60.0  # seconds for one request; apprise gives each address of a host four to connect, one after the other
COMMAND = (sys.executable, "-m", "exporter.messenger")
KINDS = {"good": "success", "warning": "warning", "critical": "failure"}


def unknown(urls: Sequence[str]) -> list[int]:
    """The numbers of those ``urls`` that nobody knows how to use."""
    return [number for number, known in enumerate(recognised(urls)) if not known and not _is_http(urls[number])]


def pinged(urls: Sequence[str]) -> list[str]:
    """Those ``urls`` that are to be pinged, for apprise does not know them."""
    known = recognised(urls) if any(map(_is_http, urls)) else [True] * len(urls)
    return [url for url, is_known in zip(urls, known, strict=True) if not is_known and _is_http(url)]


def recognised(urls: Sequence[str]) -> list[bool]:
    """For each of ``urls`` whether apprise knows it. Waits for a process of its own."""
    done = subprocess.run(  # noqa: S603 - our own module
        COMMAND, input=json.dumps({"urls": list(urls)}), capture_output=True, text=True, check=False, timeout=TIME
    )
    if done.returncode != 0:
        kind = done.stderr.strip().rpartition("\n")[2].partition(":")[0]  # no more of it: it may quote a URL
        raise RuntimeError(f"apprise does not work here: {kind}")
    return [bool(one) for one in json.loads(done.stdout)]


async def send(url: str, level: str, title: str, body: str) -> bool:
    """Whether the place ``url`` took the words."""
    request = {"urls": [url], "kind": KINDS[level], "title": title, "body": body}
    child = await asyncio.create_subprocess_exec(
        *COMMAND, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(TIME):
            await child.communicate(json.dumps(request).encode())
    except TimeoutError:
        return False
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return child.returncode == 0


def _is_http(url: str) -> bool:
    return url.lower().startswith(("https://", "http://"))


def _main(request: dict[str, Any]) -> int:
    import apprise  # not before it is needed

    if "title" not in request:
        print(json.dumps([apprise.Apprise.instantiate(url) is not None for url in request["urls"]]))
        return 0
    places = apprise.Apprise()
    added = [places.add(url) for url in request["urls"]]
    sent = places.notify(title=request["title"], body=request["body"], notify_type=request["kind"])
    return 0 if all(added) and sent else 1


if __name__ == "__main__":
    sys.exit(_main(json.load(sys.stdin)))
