"""Who may import whom: docs/architecture.md, "The house"."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.appliance import ROOT

OURS = {file.parent.name: file.parent for file in ROOT.glob("services/*/src/*/__init__.py")}
LIBRARY = "common"
SPEAKS_SMTP = {"smtplib", "aiosmtplib", "aiosmtpd"}


def imported(folder: Path) -> Iterator[tuple[str, Path]]:
    """The package of every absolute import below ``folder``, and the file that has it."""
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                yield from ((alias.name.partition(".")[0], file) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield (node.module or "").partition(".")[0], file


@pytest.mark.parametrize("package", OURS)
def test_a_service_imports_no_other_and_the_library_none(package: str) -> None:
    others = (OURS.keys() - {package, LIBRARY}) | (SPEAKS_SMTP if package == LIBRARY else set())
    assert {LIBRARY, "relay", "renewer", "exporter", "domain"} <= OURS.keys()
    assert [(name, str(file)) for name, file in imported(OURS[package]) if name in others] == []


@pytest.mark.parametrize("service", sorted(OURS.keys() - {LIBRARY}))
def test_a_service_names_what_the_library_imports(service: str) -> None:
    """Else its image does not hold it."""
    project = tomllib.loads((ROOT / f"services/{service}/pyproject.toml").read_text())["project"]
    needed = {name for name, _ in imported(OURS[LIBRARY])} - sys.stdlib_module_names - {LIBRARY}
    assert needed <= {requirement.partition(">")[0] for requirement in project["dependencies"]}
