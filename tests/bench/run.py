"""`make bench`: how fast this machine takes mail over TLS with a login, keeps it, and hands it on.

Starts the relay with a temporary spool, a local sink as its provider (plain text on loopback) and a crowd of clients;
prints a table. What counts is the ratio between two runs on the same machine: the figures of a shared virtual machine
vary by half.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent)]

from support.appliance import Appliance, account, eventually  # noqa: E402  (the path above comes first)

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def peak_mib(pid: int) -> float:
    """The most memory the process ever had resident."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


class Sink:
    """The provider, as a child process."""

    def __init__(self) -> None:
        command = [sys.executable, str(HERE / "sink.py")]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = self._line()

    def _line(self) -> int:
        assert self.process.stdout is not None
        return int(self.process.stdout.readline())

    def taken(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._line()

    def close(self) -> None:
        self.process.communicate("")


def measure(relay: Appliance, sink: Sink, connections: int, messages: int, size: int) -> list[str]:
    """One row of the table."""
    assert relay.process is not None
    pid, before, cpu, started = relay.process.pid, sink.taken(), cpu_seconds(relay.process.pid), time.monotonic()
    numbers = [str(number) for number in (relay.submission, connections, messages, size)]
    done = subprocess.run(
        [sys.executable, str(HERE / "load.py"), *numbers, str(relay.ca)], capture_output=True, text=True, check=True
    )
    eventually(lambda: sink.taken() - before >= messages, "the provider to have every message", seconds=300)
    through, spent = time.monotonic() - started, cpu_seconds(pid) - cpu
    load = json.loads(done.stdout)
    return [
        f"{messages} x {size:,} B, {connections} clients",
        f"{messages / load['seconds']:.0f}/s",
        f"{messages / through:.0f}/s",
        f"{load['p50_ms']:.1f} ms",
        f"{load['p99_ms']:.1f} ms",
        f"{spent / messages * 1e3:.2f} ms",
        f"{peak_mib(pid):.0f} MiB",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=4000)
    parser.add_argument("--clients", type=int, default=20)
    arguments = parser.parse_args()
    table = Table("load", "accepted", "at provider", "p50", "p99", "CPU/message", "peak memory", title="Ownpost")
    with tempfile.TemporaryDirectory() as folder:
        sink = Sink()
        provider = {"OWNPOST_PROVIDERS": "generic", "GENERIC_HOST": "127.0.0.1", "GENERIC_PORT": str(sink.port)}
        bench = account(["bench@example.org"])
        relay = Appliance(Path(folder), provider | {"GENERIC_TLS": "none"}, accounts={"bench": bench})
        relay.start()
        try:
            measure(relay, sink, arguments.clients, 200, 1024)  # the first messages meet cold caches
            table.add_row(*measure(relay, sink, arguments.clients, arguments.messages, 1024))
            table.add_row(*measure(relay, sink, arguments.clients, arguments.messages // 10, 100 * 1024))
            table.add_row(*measure(relay, sink, 8, 24, 20 * 1024 * 1024))
        finally:
            relay.stop()
            sink.close()
    Console().print(table)


if __name__ == "__main__":
    main()
