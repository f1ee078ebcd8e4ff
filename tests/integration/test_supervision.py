"""Programs under the real supervisor, as every container and `make try` run them; the programs are stubs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.appliance import ROOT, eventually

STUB = """
import os, signal, socket, sys, time
if "--check" in sys.argv:
    problem = os.environ.get("NAME_PROBLEM", "")
    print(problem or "settings are fine")
    sys.exit(78 if problem else 0)
path = os.environ["NAME_RUN"] + "/NAME/NAME.sock"
def stop(*_):
    print("NAME: drained", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
os.makedirs(os.path.dirname(path), exist_ok=True)
if os.path.exists(path): os.unlink(path)
server = socket.socket(socket.AF_UNIX)
server.bind(path)
server.listen()
print("NAME: started", os.getpid(), flush=True)
if os.environ.get("NAME_DIES"):
    sys.exit("NAME: the port is taken")
while not os.path.exists(os.environ["NAME_RUN"] + "/hang"):
    connection, _ = server.accept()
    connection.recv(1000)
    connection.sendall(b"HTTP/1.1 200 OK\\r\\n\\r\\nok")
    connection.close()
    print("NAME: answered", flush=True)
while True:
    time.sleep(60)
"""
CONF = """[program:NAME]
command=python -m NAME
environment=PYTHONPATH="%(here)s/src"
autorestart=true
startsecs=SECONDS
stdout_logfile=/dev/stdout
stdout_logfile_maxbytes=0
redirect_stderr=true
"""


class House:
    """A copy of services/supervision with the stub services ``one`` and ``two``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        shutil.copytree(ROOT / "services/supervision", folder / "services/supervision")
        for name in ("one", "two"):
            source = folder / "services" / name / "src" / name
            source.mkdir(parents=True)
            (source / "__main__.py").write_text(STUB.replace("NAME_", name.upper() + "_").replace("NAME", name))
            self.configure(name, startsecs=0)

    def configure(self, name: str, *, startsecs: int) -> None:
        text = CONF.replace("NAME", name).replace("SECONDS", str(startsecs))
        (self.folder / "services" / name / "supervisord.conf").write_text(text)

    def start(self, services: str, **more: str) -> subprocess.Popen[bytes]:
        environ = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "SERVICES": services}
        environ |= {"STATE": str(self.folder), "ONE_RUN": str(self.folder), "TWO_RUN": str(self.folder)} | more
        command = [sys.executable, str(self.folder / "services/supervision/start.py")]
        with (self.folder / "output").open("wb") as output:
            self.process = subprocess.Popen(command, env=environ, stdout=output, stderr=output)
        return self.process

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    if house.process and house.process.poll() is None:
        house.process.terminate()
        house.process.wait(20)


def test_every_problem_of_every_service_is_told_and_nothing_starts(house: House) -> None:
    process = house.start("one two", ONE_PROBLEM="ONE_PORT: is not a number", TWO_PROBLEM="TWO_NAME: is missing")
    assert process.wait(20) == 78
    assert "ONE_PORT: is not a number" in house.output
    assert "TWO_NAME: is missing" in house.output
    assert "started" not in house.output


def test_sigterm_drains_all_and_ends_with_0(house: House) -> None:
    process = house.start("one two")
    eventually(lambda: "one: started" in house.output and "two: started" in house.output, "both to start")
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    assert "one: drained" in house.output
    assert "two: drained" in house.output


def test_a_killed_program_is_started_again(house: House) -> None:
    house.start("one")
    eventually(lambda: "one: started" in house.output, "it to start")
    os.kill(int(house.output.split("one: started ")[1].split()[0]), signal.SIGKILL)
    eventually(lambda: house.output.count("one: started") == 2, "it to start again")


def test_a_program_that_cannot_be_kept_alive_ends_all_with_1_and_its_last_words(house: House) -> None:
    house.configure("one", startsecs=3)
    process = house.start("one two", ONE_DIES="yes")
    assert process.wait(40) == 1
    assert "one: the port is taken" in house.output
    assert "ownpost: one ended again and again" in house.output.splitlines()[-1]
    assert "two: drained" in house.output


def test_a_program_that_lives_but_no_longer_answers_is_started_again(house: House) -> None:
    house.start("one")
    eventually(lambda: "one: answered" in house.output, "the first question")
    (house.folder / "hang").touch()
    eventually(lambda: "one runs but no longer answers" in house.output, "it to be found out", 60)
    (house.folder / "hang").unlink()
    eventually(lambda: house.output.count("one: started") == 2, "it to start again")
