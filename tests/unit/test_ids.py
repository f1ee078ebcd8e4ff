"""Message ids: their form, their order, and that no two are alike."""

from __future__ import annotations

import pytest

from relay.ids import is_id, new_id


def test_an_id_has_the_promised_form() -> None:
    found = new_id(1_800_000_000.0)
    assert len(found) == 26
    assert is_id(found)


def test_ids_sort_by_the_time_they_were_made() -> None:
    moments = [0.001, 1.0, 1_700_000_000.0, 1_700_000_000.002, 1_900_000_000.0, 4_000_000_000.0]
    ids = [new_id(moment) for moment in moments]
    assert ids == sorted(ids)


def test_ids_of_one_moment_differ() -> None:
    assert len({new_id(1_800_000_000.0) for _ in range(10_000)}) == 10_000


def test_an_id_is_a_uuid_of_version_7() -> None:
    value = 0
    for character in new_id(1_800_000_000.123):
        value = value * 32 + "0123456789ABCDEFGHJKMNPQRSTVWXYZ".index(character)
    assert value >> 80 == 1_800_000_000_123
    assert value >> 76 & 0xF == 7
    assert value >> 62 & 0x3 == 2


@pytest.mark.parametrize(
    "text",
    ["", "x", "../../etc/passwd", "8" + "0" * 25, "0" * 25, "0" * 27, "0" * 25 + "U", "0" * 25 + "\n", "０" * 26],
)
def test_anything_else_is_no_id(text: str) -> None:
    assert not is_id(text)
