"""The files mode: what the operator supplies is published when it is right, and named when it is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from renewer.files import EVERY, SIZE, Files
from renewer.outcome import Failed, Kept, Offered
from renewer.pair import Pair
from support.chains import NOW, Authority, Issued

HOST = "mail.example.org"


class Supplied:
    """A certificate and a key in a folder of the operator's."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority.new()
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"
        self.source = Files(self.cert, self.key, names=[HOST], now=lambda: NOW)
        self.supply(self.authority.leaf(HOST))

    def supply(self, leaf: Issued) -> None:
        self.cert.write_bytes(leaf.pem + self.authority.intermediate.pem)
        self.key.write_bytes(leaf.key_pem())

    async def failure(self, current: Pair | None = None) -> str:
        outcome = await self.source.attempt(current)
        assert isinstance(outcome, Failed)
        assert outcome.next_attempt == NOW + EVERY
        return outcome.sentence

    async def offer(self, current: Pair | None = None) -> Pair:
        outcome = await self.source.attempt(current)
        assert isinstance(outcome, Offered)
        assert not outcome.authority
        return outcome.pair


@pytest.fixture
def supplied(tmp_path: Path) -> Supplied:
    return Supplied(tmp_path)


async def test_a_good_pair_is_offered_once(supplied: Supplied) -> None:
    pair = await supplied.offer()
    assert pair == Pair(supplied.cert.read_bytes(), supplied.key.read_bytes())
    assert await supplied.source.attempt(pair) == Kept(NOW + EVERY)


async def test_a_changed_pair_is_offered_again(supplied: Supplied) -> None:
    pair = await supplied.offer()
    supplied.supply(supplied.authority.leaf(HOST))
    assert await supplied.offer(pair) != pair


async def test_what_stands_between_the_certificates_is_not_published(supplied: Supplied) -> None:
    pair = await supplied.offer()
    supplied.cert.write_bytes(
        b"Bag Attributes\n    friendlyName: x\n" + supplied.cert.read_bytes() + supplied.key.read_bytes()
    )
    assert await supplied.source.attempt(pair) == Kept(NOW + EVERY)


async def test_half_changed_files_are_a_failure_until_they_match(supplied: Supplied) -> None:
    pair = await supplied.offer()
    leaf = supplied.authority.leaf(HOST)
    supplied.key.write_bytes(leaf.key_pem())
    assert await supplied.failure(pair) == f"{supplied.cert}: The key does not belong to the certificate."
    supplied.supply(leaf)
    assert await supplied.offer(pair) != pair


async def test_a_missing_file_is_named_with_its_setting(supplied: Supplied) -> None:
    supplied.key.unlink()
    assert await supplied.failure() == f"RENEWER_FILES_KEY: {supplied.key} cannot be read: No such file or directory."


@pytest.mark.parametrize(("size", "refused"), [(SIZE, False), (SIZE + 1, True)])
async def test_a_file_that_is_too_large_is_not_taken_in(supplied: Supplied, size: int, refused: bool) -> None:
    pem = supplied.cert.read_bytes()
    supplied.cert.write_bytes(pem + b"\n" * (size - len(pem)))
    if refused:
        assert "is larger than 1024 KiB" in await supplied.failure()
    else:
        await supplied.offer()


async def test_an_expired_pair_is_told_even_while_it_is_the_published_one(supplied: Supplied) -> None:
    supplied.supply(supplied.authority.leaf(HOST, days=-0.5))
    pair = Pair(supplied.cert.read_bytes(), supplied.key.read_bytes())
    assert "The certificate ended on" in await supplied.failure(pair)
