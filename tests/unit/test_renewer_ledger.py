"""When certbot may run next: tables of numbers, and what survives a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from renewer.ledger import HOUR, Ledger, load, save
from renewer.outcome import Kind

NOW = 1_800_000_000.0
LETS_ENCRYPT_FAILED_VALIDATIONS_PER_HOUR = 5


def waits(kind: Kind, number: int, chance: float = 0.0) -> list[float]:
    """Minutes until the next attempt after each of ``number`` failures, each made when it was due."""
    ledger, now, minutes = Ledger("order"), NOW, []
    for _ in range(number):
        ledger = ledger.failed(kind, "It rains.", now)
        due = ledger.next_attempt(now, chance)
        minutes.append((due - now) / 60)
        now = due
    return minutes


@pytest.mark.parametrize("kind", [Kind.NETWORK, Kind.CLOUDFLARE, Kind.TOKEN, Kind.ZONE, Kind.TIMEOUT])
def test_faults_that_trouble_no_authority_are_tried_again_soon(kind: Kind) -> None:
    assert waits(kind, 8) == [1, 2, 4, 8, 16, 32, 60, 60]


@pytest.mark.parametrize("kind", [Kind.VALIDATION, Kind.AUTHORITY, Kind.RATE_LIMIT, Kind.CERTBOT])
def test_faults_at_the_authority_wait_longer(kind: Kind) -> None:
    assert waits(kind, 7) == [15, 30, 60, 120, 240, 360, 360]


def test_chance_spreads_the_attempts_upwards_only() -> None:
    assert waits(Kind.AUTHORITY, 1, 0.999)[0] == pytest.approx(16.5, abs=0.01)


def test_thousands_of_failures_overflow_nothing() -> None:
    assert waits(Kind.NETWORK, 2000)[-1] == 60


@pytest.mark.parametrize(("chance", "hours"), [(0.0, 12.0), (0.5, 11.5), (0.999, 11.0)])
def test_after_a_success_it_looks_about_twice_a_day(chance: float, hours: float) -> None:
    ledger = Ledger("order").failed(Kind.NETWORK, "It rains.", NOW).succeeded()
    assert (ledger.next_attempt(NOW, chance) - NOW) / HOUR == pytest.approx(hours, abs=0.01)


def test_impatient_restarts_stay_below_the_limit_of_failed_validations() -> None:
    """Whoever restarts the renewer every second for three hours makes at most four failed validations in any hour."""
    ledger, made = Ledger("order"), []
    for second in range(3 * 3600):
        now = NOW + second
        ledger = ledger.started("order")
        if ledger.earliest(now) <= now:
            ledger = ledger.failed(Kind.VALIDATION, "No record.", now)
            made.append(now)
    assert len(made) >= 12
    for moment in made:
        assert len([at for at in made if moment <= at < moment + HOUR]) < LETS_ENCRYPT_FAILED_VALIDATIONS_PER_HOUR


def test_a_named_time_is_obeyed_after_a_restart_too() -> None:
    ledger = Ledger("order").failed(Kind.RATE_LIMIT, "Too many.", NOW, NOW + 5 * HOUR)
    assert ledger.next_attempt(NOW, 0) == NOW + 5 * HOUR
    assert ledger.started("order").earliest(NOW) == NOW + 5 * HOUR
    assert ledger.started("order").sentence == "Too many."


def test_a_named_time_that_is_sooner_does_not_hurry_us() -> None:
    assert Ledger("order").failed(Kind.CLOUDFLARE, "Slow.", NOW, NOW + 1).next_attempt(NOW, 0) == NOW + 60


def test_a_restart_forgets_the_doubling() -> None:
    ledger = Ledger("order").failed(Kind.NETWORK, "a", NOW).failed(Kind.NETWORK, "b", NOW).started("order")
    assert ledger.failed(Kind.NETWORK, "c", NOW).next_attempt(NOW, 0) == NOW + 60
    assert ledger.earliest(NOW) <= NOW


def test_another_order_has_its_own_limits() -> None:
    ledger = Ledger("order").failed(Kind.RATE_LIMIT, "Too many.", NOW, NOW + 5 * HOUR)
    assert ledger.started("another") == Ledger("another")


def test_it_comes_back_from_disk_as_it_was(tmp_path: Path) -> None:
    ledger = Ledger("order").failed(Kind.VALIDATION, "No record.", NOW, NOW + 9)
    save(ledger, tmp_path / "ledger.json")
    assert load(tmp_path / "ledger.json") == ledger
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.json"]


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"kind": "new", "validations": [], "not_before": 0}', '{"validations": 3}']
)
def test_a_file_that_cannot_be_understood_counts_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "ledger.json").write_text(content)
    assert load(tmp_path / "ledger.json") == Ledger()


def test_no_file_is_an_empty_ledger(tmp_path: Path) -> None:
    assert load(tmp_path / "ledger.json") == Ledger()
