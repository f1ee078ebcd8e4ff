"""What holds for every test: no setting of the caller's environment, REQUIRE_ALL, hypothesis' profiles, which
tests may run side by side, and what the long ones have counted is printed."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling
from xdist.workermanage import WorkerController

from support.figures import FIGURES
from support.scratch import scratch_folder
from support.sink import CountingSink

OURS = (
    "OWNPOST_",
    "RELAY_",
    "RENEWER_",
    "EXPORTER_",
    "DOMAIN_",
    "SENDGRID_",
    "GENERIC_",
    "CAPTURE_",
    "CLOUDFLARE_",
    "ACME_",
)
REQUIRE_ALL = os.environ.get("REQUIRE_ALL") == "1"

for name in [name for name in os.environ if name.startswith(OURS)]:
    del os.environ[name]

hypothesis.settings.register_profile("dev", max_examples=50, deadline=None)
hypothesis.settings.register_profile("ci", max_examples=300, deadline=None, print_blob=True)
hypothesis.settings.register_profile("long", max_examples=20_000, deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if REQUIRE_ALL else "dev"))


@pytest.fixture
def sink() -> Iterator[CountingSink]:
    """A provider that takes everything."""
    sink = CountingSink()
    yield sink
    sink.close()


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A folder in memory where there is one; else as ``tmp_path``."""
    with scratch_folder() as folder:
        yield Path(folder)


def _insist(report: pytest.TestReport | pytest.CollectReport) -> None:
    """With REQUIRE_ALL=1 a skip is a failure: where all peers ought to be, a missing one must not go unnoticed."""
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"REQUIRE_ALL=1, but it was skipped: {report.longrepr}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _insist(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _insist(report)
    return report


class ByFile(LoadFileScheduling):
    """Files side by side, but for those that use Docker: they build the same images, and count seconds."""

    def _split_scope(self, nodeid: str) -> str:
        return "tests/e2e" if nodeid.startswith("tests/e2e/") else super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFile | None:
    return ByFile(config, log) if config.option.dist == "loadfile" else None


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker hands what it has counted to the process that prints it."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["figures"] = FIGURES


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: WorkerController) -> None:
    FIGURES.extend(getattr(node, "workeroutput", {}).get("figures", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How much was promised, and that nothing was lost."""
    if FIGURES:
        terminalreporter.section("counted by the long tests")
        for line in FIGURES:
            terminalreporter.write_line(line)
