"""How long a scrape takes while much mail waits, and whether the relay notices: ``python tests/bench/scrape_bench.py``.

Fills a spool with waiting messages, starts relay and exporter on it, scrapes and loads the page a number of times, and
sends mail meanwhile. Prints a few lines; a scrape has to stay below 100 ms with 100,000 messages.
"""

from __future__ import annotations

import argparse
import asyncio
import smtplib
import ssl
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), *(str(HERE.parents[1] / "services" / name / "src") for name in ("relay", "common"))]

import apsw  # noqa: E402 (the paths above come first)

from relay.clock import SystemClock  # noqa: E402
from relay.ids import new_id  # noqa: E402
from relay.spool import Spool  # noqa: E402
from relay.spool.schema import SHIFT  # noqa: E402
from support.appliance import PASSWORD, Appliance  # noqa: E402
from support.exporter import Exporter, fetch  # noqa: E402


def fill(folder: Path, number: int) -> None:
    """``number`` messages that wait for tomorrow."""

    async def make() -> None:
        spool = await Spool.open(folder, clock=SystemClock(), on_committed=lambda _: None, on_fatal=print, ballast=0)
        await spool.close()

    asyncio.run(make())
    now = time.time()
    connection = apsw.Connection(str(folder / "spool.db"))
    message = "INSERT INTO message VALUES (?,?,'anna','anna@example.org',3,?,'<1@x>','mail',0,0,'',1,1,NULL)"
    delivery = "INSERT INTO delivery (id,account,recipient,state,next_attempt,changed_at) VALUES (?,'anna',?,'due',?,?)"
    with connection:
        for key in range(1, number + 1):
            connection.execute(message, (key, new_id(now), now - 600 + key / 1000))
            connection.execute("INSERT INTO chunk VALUES (?, x'0D0A78')", (key << SHIFT,))
            connection.execute(delivery, (key << SHIFT, f"to{key}@example.net", now + 86_400, now))
    connection.close()


def timed(what: Callable[[], object], times: int) -> list[float]:
    """Milliseconds of each call; a second apart, or the exporter would answer from what it knows."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        what()
        found.append((time.perf_counter() - start) * 1000)
        time.sleep(1.1)
    return found


class Sender(threading.Thread):
    """Sends mail all the time; remembers how long each 250 took."""

    def __init__(self, relay: Appliance) -> None:
        super().__init__()
        self.relay, self.enough, self.took = relay, threading.Event(), list[float]()

    def run(self) -> None:
        context = ssl.create_default_context(cafile=str(self.relay.ca))
        with smtplib.SMTP_SSL("127.0.0.1", self.relay.submissions, context=context) as smtp:
            smtp.login("anna", PASSWORD)
            while not self.enough.wait(0.02):
                start = time.perf_counter()
                smtp.sendmail("anna@example.org", ["b@example.net"], b"From: anna@example.org\r\nTo: b\r\n\r\nx\r\n")
                self.took.append((time.perf_counter() - start) * 1000)


def say(what: str, found: list[float]) -> None:
    print(f"{what:34} median {statistics.median(found):7.1f} ms   most {max(found):7.1f} ms   ({len(found)})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--times", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        relay = Appliance(folder)
        fill(folder / "spool", options.messages)
        relay.start()
        exporter = Exporter(folder, folder / "run")
        sender = Sender(relay)
        sender.start()
        try:
            time.sleep(3)
            say("mail, nobody looks", sender.took[:])
            sender.took.clear()
            say(
                f"/metrics, {options.messages:,} messages wait",
                timed(lambda: fetch(exporter.url + "/metrics"), options.times),
            )
            say("mail meanwhile", sender.took[:])
            say("/ (the page)", timed(lambda: fetch(exporter.url + "/"), options.times))
        finally:
            sender.enough.set()
            sender.join()
            exporter.stop()
            relay.stop()


if __name__ == "__main__":
    main()
