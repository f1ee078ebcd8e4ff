"""Open files: the limit is raised as far as it must be, or the start is refused with a sentence."""

from __future__ import annotations

import resource

import pytest

from relay.descriptors import CannotOpenFiles, raise_limit


class Limits:
    """The operating system's two limits, without touching the real ones."""

    def __init__(self, soft: int, hard: int) -> None:
        self.now = (soft, hard)

    def get(self, _: int) -> tuple[int, int]:
        return self.now

    def set(self, _: int, limits: tuple[int, int]) -> None:
        self.now = limits


def use(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> Limits:
    limits = Limits(soft, hard)
    monkeypatch.setattr(resource, "getrlimit", limits.get)
    monkeypatch.setattr(resource, "setrlimit", limits.set)
    return limits


@pytest.mark.parametrize(("soft", "hard", "after"), [(1024, 4096, 1256), (1256, 4096, 1256), (4096, 4096, 4096)])
def test_the_limit_is_raised_only_as_far_as_needed(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, after: int
) -> None:
    limits = use(monkeypatch, soft, hard)
    raise_limit(1256)
    assert limits.now == (after, hard)


def test_no_limit_at_all_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = use(monkeypatch, resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    raise_limit(10**6)
    assert limits.now[0] == resource.RLIM_INFINITY


def test_a_system_that_allows_too_few_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, 1024, 1255)
    with pytest.raises(CannotOpenFiles, match=r"1256 files .* allows 1255; lower RELAY_CONNECTIONS"):
        raise_limit(1256)
