"""Hostile config/aliases.toml and config/providers.toml: targets that Email Routing takes, or the list of problems."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import aliases, pasted
from support.fuzzing import corpus, keep_at_it, texts

DOMAINS = ("example.org", "example.net")


@given(texts("aliases") | st.text(max_size=100))
def check(text: str) -> None:
    problems = problems_or_right(text)
    assert all(problem.strip() for problem in problems)
    with contextlib.suppress(pasted.PastedError):
        pasted.parse(text, DOMAINS)


def problems_or_right(text: str) -> list[str]:
    try:
        found = aliases.parse(text, DOMAINS)
    except aliases.AliasesError as error:
        return error.problems or [""]
    assert set(found) == set(DOMAINS)
    for domain, targets in found.items():
        for local, target in targets.items():
            assert local == "*" or (local.isprintable() and "@" not in local and len(local) <= 64)
            assert target.act is not aliases.Act.FORWARD or target.value.count("@") == 1
            assert target.value.isprintable()
            assert target.value.lower() != f"{local}@{domain}"
    return []


@pytest.mark.parametrize("data", corpus("aliases"))
def test_corpus(data: bytes) -> None:
    check.hypothesis.inner_test(data.decode("utf-8", "replace"))  # type: ignore[attr-defined]


def test_aliases_files(request: pytest.FixtureRequest) -> None:
    keep_at_it(check, request)
