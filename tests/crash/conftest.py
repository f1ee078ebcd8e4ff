"""Prints at the end of a run what the crash tests have counted: how much was promised, and that nothing was lost."""

from __future__ import annotations

import pytest

from support.traffic import FIGURES


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if FIGURES:
        terminalreporter.section("counted by the crash tests")
        for line in FIGURES:
            terminalreporter.write_line(line)
