"""REQUIRE_ALL=1: where every peer ought to be there, a skipped test is a failed one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.appliance import ROOT

ONE_TEST = 'import pytest\ndef test_it():\n    pytest.skip("no peer")\n'
WHOLE_MODULE = 'import pytest\npytest.skip("no peer", allow_module_level=True)\n'
EXPECTED_FAILURE = "import pytest\n@pytest.mark.xfail(strict=True)\ndef test_it():\n    assert 1 == 2\n"


def outcome(folder: Path, test: str, *options: str, **environ: str) -> int:
    """Exit code of pytest for ``test`` under our conftest."""
    shutil.copy(ROOT / "tests/conftest.py", folder)
    (folder / "test_it.py").write_text(test)
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    kept["PYTHONPATH"] = str(ROOT / "tests")  # of what conftest.py imports
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)]
    command += options
    return subprocess.run(command, env=kept | environ, cwd=folder, capture_output=True, check=False).returncode


@pytest.mark.parametrize("test", [ONE_TEST, WHOLE_MODULE])
def test_a_skip_fails_only_where_all_is_required(tmp_path: Path, test: str) -> None:
    assert outcome(tmp_path, test) in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
    for options in ((), ("--numprocesses=2",)):
        required = outcome(tmp_path, test, *options, REQUIRE_ALL="1")
        assert required not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)


def test_a_failure_that_is_expected_is_no_skip(tmp_path: Path) -> None:
    assert outcome(tmp_path, EXPECTED_FAILURE, REQUIRE_ALL="1") == pytest.ExitCode.OK


def test_settings_of_the_callers_environment_do_not_reach_the_tests(tmp_path: Path) -> None:
    seen = 'import os\ndef test_it():\n    assert "RELAY_CONNECTIONS" not in os.environ\n'
    assert outcome(tmp_path, seen, RELAY_CONNECTIONS="7") == pytest.ExitCode.OK
