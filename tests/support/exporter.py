"""The exporter and Prometheus as their own processes, seen from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from support.appliance import eventually, sources
from support.ports import free_port

Series = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def fetch(url: str, **headers: str) -> tuple[int, str]:
    """Status and body; status 0 when nobody answers."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read().decode()
    except OSError:
        return 0, ""


class Process:
    """A program with a log; ``url`` is where it answers."""

    def __init__(self, log: Path, command: list[str], environ: dict[str, str], url: str) -> None:
        self.log, self.url = log, url
        with log.open("ab") as file:
            self.process = subprocess.Popen(command, env=environ, stdout=file, stderr=file)

    def wait_for(self, path: str) -> None:
        def answers() -> bool:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            return fetch(self.url + path)[0] == 200

        eventually(answers, f"{self.url}{path}")

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


class Exporter(Process):
    """``python -m exporter`` for the sockets in ``run``."""

    def __init__(self, folder: Path, run: Path, **environ: str) -> None:
        port = free_port()
        base = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": sources("exporter"),
            "EXPORTER_PORT": str(port),
            "EXPORTER_RUN": str(run),
        }
        command = [sys.executable, "-W", "error", "-m", "exporter"]
        super().__init__(folder / "exporter.log", command, base | environ, f"http://127.0.0.1:{port}")
        self.wait_for("/livez")

    def series(self) -> Series:
        """Every sample of /metrics."""
        code, text = fetch(self.url + "/metrics")
        assert code == 200, text
        samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
        return {(one.name, tuple(sorted(one.labels.items()))): one.value for one in samples}

    def value(self, name: str, **labels: str) -> float | None:
        return self.series().get((f"ownpost_{name}", tuple(sorted(labels.items()))))

    def status(self) -> Any:
        code, text = fetch(self.url + "/status.json")
        assert code == 200, text
        return json.loads(text)


class Prometheus(Process):
    """Debian's Prometheus, scraping ``target`` every second."""

    def __init__(self, program: str, folder: Path, target: str) -> None:
        port = free_port()
        config = folder / "prometheus.yaml"
        job = {"job_name": "ownpost", "static_configs": [{"targets": [target.removeprefix("http://")]}]}
        config.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}))
        command = [
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--enable-feature=exemplar-storage",
        ]
        super().__init__(folder / "prometheus.log", command, dict(os.environ), f"http://127.0.0.1:{port}")
        self.wait_for("/-/ready")

    def ask(self, path: str, **query: str) -> Any:
        code, text = fetch(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}")
        assert code == 200, text
        return json.loads(text)["data"]

    def query(self, expression: str) -> list[Any]:
        """What an expression finds now: an alarm's expression finds something when the alarm is pending."""
        found: list[Any] = self.ask("query", query=expression)["result"]
        return found
