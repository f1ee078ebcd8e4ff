"""Publication: one rename switches, and whatever interrupts it leaves a whole pair and nothing lying about."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from renewer import publish
from renewer.pair import Pair, chain_of, facts_of
from renewer.publish import BusyError, Publisher
from renewer.selfsigned import make

NOW = 1_800_000_000.0
OPERATIONS = ("open", "fsync", "fchmod", "utime", "mkdir", "rename", "symlink", "unlink", "rmdir")


@pytest.fixture
def publisher(tmp_path: Path) -> Iterator[Publisher]:
    publisher = Publisher(tmp_path)
    yield publisher
    publisher.close()


def pair(number: int = 0) -> Pair:
    return make(["mail.example.org"], NOW + number)


def folders(certs: Path) -> set[str]:
    return {path.name for path in certs.iterdir()} - {".lock", "current", "ca.pem"}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def root_of(one: Pair) -> bytes:
    return publish.as_pem([chain_of(one.fullchain)[-1]])


def test_what_was_published_is_found_under_current(publisher: Publisher, tmp_path: Path) -> None:
    first = pair()
    name = publisher.publish(first)
    assert os.readlink(tmp_path / "current") == name == facts_of(first.fullchain).serial
    assert (tmp_path / "current" / "fullchain.pem").read_bytes() == first.fullchain
    assert (tmp_path / "current" / "privkey.pem").read_bytes() == first.privkey
    assert publisher.current() == first


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_only_the_owner_can_read_the_key(publisher: Publisher, tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        name = publisher.publish(pair(), authority=True)
    finally:
        os.umask(before)
    assert mode(tmp_path / name) == 0o700
    assert mode(tmp_path / name / "privkey.pem") == 0o600
    assert mode(tmp_path / name / "fullchain.pem") == 0o644
    assert mode(tmp_path / "ca.pem") == 0o644


def test_the_last_three_are_kept(publisher: Publisher, tmp_path: Path) -> None:
    names = []
    for number in range(5):
        names.append(publisher.publish(pair(number)))
        os.utime(tmp_path / names[-1], (NOW, NOW + number))
    assert folders(tmp_path) == set(names[-3:])


def test_an_older_pair_comes_back_without_a_second_folder(publisher: Publisher, tmp_path: Path) -> None:
    first, second = pair(), pair(1)
    for one in (first, second, first):
        publisher.publish(one)
    assert publisher.current() == first
    assert len(folders(tmp_path)) == 2


def test_the_pair_that_was_current_last_is_not_the_first_to_go(publisher: Publisher, tmp_path: Path) -> None:
    """The relay may be about to read it; that it was made long ago does not count."""
    pairs = [pair(number) for number in range(3)]
    names = [publisher.publish(one) for one in pairs]
    for order, name in enumerate(names):
        os.utime(tmp_path / name, (order, order))
    assert publisher.publish(pairs[0]) == names[0]
    newest = publisher.publish(pair(3))
    assert folders(tmp_path) == {names[0], names[2], newest}


def test_the_same_leaf_with_another_chain_gets_its_own_folder(publisher: Publisher) -> None:
    long = pair()
    short = Pair(publish.as_pem(chain_of(long.fullchain)[:1]), long.privkey)
    serial = publisher.publish(long)
    assert publisher.publish(short) == f"{serial}-2"
    assert publisher.current() == short


def test_a_damaged_folder_counts_as_none_and_is_not_used_again(publisher: Publisher, tmp_path: Path) -> None:
    first = pair()
    (tmp_path / publisher.publish(first) / "privkey.pem").unlink()
    assert publisher.current() is None
    publisher.publish(first)
    assert publisher.current() == first


def test_ca_pem_vouches_for_the_pair_before_and_the_pair_now(publisher: Publisher, tmp_path: Path) -> None:
    first, second = pair(), pair(1)
    publisher.publish(first, authority=True)
    assert (tmp_path / "ca.pem").read_bytes() == root_of(first)
    publisher.publish(second, authority=True)
    assert (tmp_path / "ca.pem").read_bytes() == root_of(second) + root_of(first)


def test_ca_pem_goes_when_clients_need_none(publisher: Publisher, tmp_path: Path) -> None:
    publisher.publish(pair(), authority=True)
    publisher.publish(pair(1))
    assert not (tmp_path / "ca.pem").exists()


def test_a_second_renewer_is_kept_out(publisher: Publisher, tmp_path: Path) -> None:
    with pytest.raises(BusyError, match="Another renewer works in"):
        Publisher(tmp_path)


def test_files_that_are_not_ours_stay(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "x").write_text("mine")
    (tmp_path / ".new-0").mkdir()
    (tmp_path / ".new-0" / "privkey.pem").write_text("half a ke")
    (tmp_path / ".new-1").symlink_to("notes")
    publisher = Publisher(tmp_path)
    for number in range(5):
        publisher.publish(pair(number))
    publisher.close()
    assert (tmp_path / "notes" / "x").read_text() == "mine"
    assert len(folders(tmp_path)) == 4


def counting(monkeypatch: pytest.MonkeyPatch, on: Callable[[int, str, tuple[Any, ...]], None]) -> None:
    """Call ``on(n, operation, arguments)`` before the n-th system call that publication makes."""
    count = iter(range(10_000))

    def wrap(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def wrapped(*arguments: Any, **named: Any) -> Any:
            on(next(count), name, arguments)
            return real(*arguments, **named)

        return wrapped

    for name in OPERATIONS:
        monkeypatch.setattr(os, name, wrap(name))


def test_everything_is_on_disk_before_the_switch(
    publisher: Publisher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.publish(pair())
    calls: list[str] = []

    def note(_: int, name: str, arguments: tuple[Any, ...]) -> None:
        if name == "fsync":
            calls.append(f"fsync {os.path.basename(os.readlink(f'/proc/self/fd/{arguments[0]}')).split('-')[0]}")
        elif name == "rename":
            calls.append(f"rename {os.path.basename(arguments[1]).replace(second, 'SERIAL')}")

    next_pair = pair(1)
    second = facts_of(next_pair.fullchain).serial
    counting(monkeypatch, note)
    publisher.publish(next_pair)
    folder = f"fsync {tmp_path.name.split('-')[0]}"
    assert calls[:7] == [
        "fsync fullchain.pem",
        "fsync privkey.pem",
        "fsync .new",
        "rename SERIAL",
        folder,
        "rename current",
        folder,
    ]


def prepared(certs: Path) -> list[Pair]:
    """Three pairs published, so that the next publication also prunes."""
    pairs = [pair(number) for number in range(4)]
    publisher = Publisher(certs)
    for number, one in enumerate(pairs[:3]):
        os.utime(certs / publisher.publish(one, authority=True), (NOW, NOW + number))
    publisher.close()
    return pairs


def check_after_interruption(certs: Path, pairs: list[Pair]) -> None:
    """Old or new is published, whole, and clients trust it; the next start tidies up and publishes as ever."""
    publisher = Publisher(certs)
    published = publisher.current()
    assert published in (pairs[2], pairs[3])
    assert root_of(published) in (certs / "ca.pem").read_bytes()
    assert not [name for name in folders(certs) if name.startswith(".")]
    publisher.publish(pairs[3], authority=True)
    assert publisher.current() == pairs[3]
    assert len(folders(certs)) == 3
    publisher.close()


class Killed(BaseException):
    """The process is no more."""


@pytest.mark.parametrize("how", ["killed", "refused"])
def test_interrupted_at_any_system_call(tmp_path: Path, how: str) -> None:
    """The process is killed before its n-th system call, or that call fails, for every n there is."""
    step = 0
    while True:
        certs = tmp_path / str(step)
        certs.mkdir()
        pairs = prepared(certs)
        finished = _interrupted(certs, pairs[3], step, how)
        check_after_interruption(certs, pairs)
        if finished:
            break
        step += 1
    assert step > 20


def _interrupted(certs: Path, one: Pair, step: int, how: str) -> bool:
    """Whether the publication came to its end before the n-th call."""

    def interrupt(number: int, name: str, arguments: tuple[Any, ...]) -> None:
        if how == "killed" and number >= step:
            raise Killed  # and so does every later call: no clean-up of a dead process does anything
        if number == step:
            raise OSError(28, "No space left on device")

    publisher = Publisher(certs)
    try:
        with pytest.MonkeyPatch.context() as patch:
            counting(patch, interrupt)
            publisher.publish(one, authority=True)
    except (Killed, OSError):
        return False
    finally:
        publisher.close()
    return True
