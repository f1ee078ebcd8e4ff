"""Kill -9 and power cuts at many points of a spool's work: what was promised is there, nothing is half there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("kind", "first", "last", "stride"),
    [
        pytest.param("kill", 1, 60, 1, id="kill while it is made"),
        pytest.param("kill", 61, 100_000, 53, id="kill under load"),
        pytest.param("cut", 1, 60, 1, id="power cut while it is made"),
        pytest.param("cut", 61, 100_000, 47, id="power cut under load"),
        pytest.param("kill", 2_640, 100_000, 1, id="kill while somebody sees to failed mail"),
        pytest.param("cut", 2_640, 100_000, 1, id="power cut while somebody sees to failed mail"),
    ],
)
def test_a_crash_loses_nothing_that_was_promised(tmp_path: Path, kind: str, first: int, last: int, stride: int) -> None:
    path = os.pathsep.join([str(ROOT / name) for name in ("services/relay/src", "services/common/src", "tests")])
    run = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-m",
            "support.spool_crash",
            str(tmp_path),
            kind,
            *map(str, (first, last, stride)),
        ],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert int(run.stdout.split()[0]) >= 30
