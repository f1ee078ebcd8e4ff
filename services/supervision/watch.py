"""supervisor's event listener: restarts a program that no longer answers, ends all when one cannot be kept alive.

Docker neither restarts the unhealthy nor looks into a container, so both are done here. Every five seconds each running
program NAME is asked for ``/livez`` on ``$NAME_RUN/NAME/NAME.sock``:

- It answered before and failed ``MISSES`` times in a row: its event loop hangs, it would not hear SIGTERM either.
  It is killed; supervisor starts it again, and the spool stands that by design. Should one mail be what hangs it, the
  relay finds it out: at the third such end it is held, and all others go on (docs/spool.md).
- It has not answered yet: it may be recovering a large spool, and gets ``STARTING`` seconds.
- supervisor gave up on it (FATAL): the reason is written to ``$STATE/failed``, which makes ``start.py`` end with 1, and
  supervisor is asked to stop.

The protocol (supervisord.org, "Event Listeners"): READY, a header line, a payload of that many bytes, RESULT 2\\nOK.
Standard output belongs to that protocol; what people should read goes to standard error.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from probe import ask

MISSES = 3
STARTING = 300.0  # seconds, the time in which "not ready yet" is no failure
ANSWER = 5.0  # seconds to wait for an answer


class Program:
    """A running program, from supervisor's word RUNNING until any other."""

    def __init__(self, pid: int, since: float) -> None:
        self.pid, self.since = pid, since
        self.answered = False
        self.misses = 0

    def hangs(self, well: bool, now: float) -> bool:
        """Takes one answer (or none) into account; whether it is time to kill the program."""
        if well:
            self.answered, self.misses = True, 0
            return False
        self.misses += 1
        return self.misses >= MISSES if self.answered else now - self.since > STARTING


class Watch:
    """What the listener knows. ``alive`` asks a program by name, ``kill`` ends a pid, ``give_up`` ends everything."""

    def __init__(
        self,
        *,
        alive: Callable[[str], bool],
        kill: Callable[[int], None],
        give_up: Callable[[str], None],
        say: Callable[[str], None],
        now: Callable[[], float],
    ) -> None:
        self._alive, self._kill, self._give_up, self._say, self._now = alive, kill, give_up, say, now
        self._running: dict[str, Program] = {}

    def event(self, name: str, fields: dict[str, str]) -> None:
        """One event of supervisor: its name and the fields of its payload."""
        if name.startswith("TICK"):
            self._ask_all()
            return
        program = fields.get("processname", "")
        if name == "PROCESS_STATE_RUNNING":
            self._running[program] = Program(int(fields["pid"]), self._now())
            return
        self._running.pop(program, None)
        if name == "PROCESS_STATE_FATAL":
            self._give_up(f"{program} ended again and again and cannot be kept running; its last lines above say why")

    def _ask_all(self) -> None:
        for name, program in list(self._running.items()):
            if program.hangs(self._alive(name), self._now()):
                self._say(f"{name} runs but no longer answers: killed, to be started again")
                del self._running[name]
                self._kill(program.pid)


def fields_of(line: str) -> dict[str, str]:
    """``a:1 b:2`` as a mapping: the form of supervisor's headers and payloads."""
    return dict(part.split(":", 1) for part in line.split() if ":" in part)


def _socket(name: str) -> str:
    return f"{os.environ.get(name.upper() + '_RUN', '/run/ownpost')}/{name}/{name}.sock"


def _alive(name: str) -> bool:
    return ask(_socket(name), "/livez", ANSWER)[0]


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def _say(sentence: str) -> None:
    print(f"watch: {sentence}", file=sys.stderr, flush=True)


def _give_up(reason: str) -> None:
    Path(os.environ["STATE"], "failed").write_text(reason + "\n")
    os.kill(os.getppid(), signal.SIGTERM)


def main() -> None:
    """Answers supervisor until it closes our standard input."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    watch = Watch(alive=_alive, kill=_kill, give_up=_give_up, say=_say, now=time.monotonic)
    own = os.environ.get("SUPERVISOR_PROCESS_NAME", "watch")
    while True:
        sys.stdout.write("READY\n")
        sys.stdout.flush()
        header = fields_of(sys.stdin.readline())
        if not header:
            return
        payload = fields_of(sys.stdin.read(int(header["len"])))
        if payload.get("processname") != own:
            watch.event(header["eventname"], payload)
        sys.stdout.write("RESULT 2\nOK")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
