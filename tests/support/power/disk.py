"""A disk with a cache that forgets: what programs see, what would be left after a power cut, and all that lies between.

The model promises no more than POSIX does, and less than any file system in use:

- What was written is on the disk after an fsync *of that file*, and at no other time for certain.
- A name made, removed or changed is on the disk after an fsync *of that folder*; syncing the file does not help.
- A rename within one folder is atomic; across folders its two halves are two steps.
- Before an fsync anything may have reached the disk or not: any 4 KiB page in any version that it had, any 512-byte
  sector of it (a torn write), any folder's steps. Truncating is a step that no page can overtake.
- An fsync that fails forgets that those pages were dirty, as Linux does: they stay visible, and the next fsync succeeds
  without them unless they are written again.

Everything is in memory, and nothing depends on time: the same operations give the same disk.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

PAGE = 4096
SECTOR = 512
ROOT = 1
ZERO = bytes(PAGE)

Operation = tuple[Any, ...]  # the name of a method of Disk that changes something, and its arguments
Pages = dict[int, bytes]  # what is not there is zero


class Loss(StrEnum):
    """What a power cut does to all that was not synced."""

    ALL = "all"  # nothing of it is left
    NONE = "none"  # the disk had caught up: as after kill -9
    PAGES = "pages"  # a random part of the pages and of the folders' steps is left
    TORN = "torn"  # the same in sectors


@dataclass(slots=True)
class Step:
    """One change of a file that is not synced: page ``page`` became ``data``, or the file was cut or grown."""

    page: int  # -1: ``size`` was set
    data: bytes
    size: int  # the file's size is at least, or for a page of -1 exactly, this


@dataclass(slots=True)
class File:
    """``pages`` and ``size`` as programs see them, ``kept`` and ``kept_size`` as they are on the disk."""

    mode: int
    pages: Pages = field(default_factory=dict)
    size: int = 0
    kept: Pages = field(default_factory=dict)
    kept_size: int = 0
    steps: list[Step] = field(default_factory=list)

    def read(self, offset: int, size: int) -> bytes:
        """What a program reads."""
        size = max(0, min(size, self.size - offset))
        first = offset // PAGE
        whole = b"".join(self.pages.get(n, ZERO) for n in range(first, -(-(offset + size) // PAGE)))
        return whole[offset - first * PAGE :][:size]

    def write(self, offset: int, data: bytes) -> None:
        at = 0
        while at < len(data):
            page, start = divmod(offset + at, PAGE)
            piece = data[at : at + PAGE - start]
            if len(piece) < PAGE:
                old = self.pages.get(page, ZERO)
                piece = old[:start] + piece + old[start + len(piece) :]
                end = min(offset + len(data), (page + 1) * PAGE)
                at = end - offset
            else:
                at += PAGE
                end = (page + 1) * PAGE
            self.pages[page] = piece
            self.size = max(self.size, end)
            self.steps.append(Step(page, piece, end))

    def truncate(self, size: int) -> None:
        _resize(self.pages, size)
        self.size = size
        self.steps.append(Step(-1, b"", size))

    def sync(self) -> None:
        for step in self.steps:
            self.kept_size = _apply(step, self.kept, self.kept_size)
        self.steps.clear()

    def forget(self) -> None:
        """An fsync that failed: nothing is dirty any more, and nothing of it is on the disk."""
        self.steps = [Step(-1, b"", self.size)]  # the size is no page: the next fsync writes it

    def left(self, loss: Loss, dice: random.Random) -> tuple[Pages, int]:
        """Pages and size after a power cut."""
        pages, size = dict(self.kept), self.kept_size
        if loss is not Loss.ALL:
            share = 1.0 if loss is Loss.NONE else dice.choice([0.1, 0.5, 0.9])
            cuts = [n for n, step in enumerate(self.steps) if step.page < 0]
            reached = dice.randint(0, len(cuts)) if share < 1 else len(cuts)
            until = cuts[reached] if reached < len(cuts) else len(self.steps)
            for step in self.steps[:until]:
                if step.page < 0 or share == 1 or dice.random() < share:
                    size = _apply(_torn(step, pages, dice) if loss is Loss.TORN else step, pages, size)
        return pages, size


@dataclass(slots=True)
class Folder:
    """``names`` as programs see them, ``kept`` as on the disk; a step sets or removes (0) some of them at once."""

    mode: int
    names: dict[str, int] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)
    steps: list[dict[str, int]] = field(default_factory=list)

    def change(self, step: dict[str, int]) -> None:
        _set(self.names, step)
        self.steps.append(step)

    def sync(self) -> None:
        for step in self.steps:
            _set(self.kept, step)
        self.steps.clear()

    def left(self, loss: Loss, dice: random.Random) -> dict[str, int]:
        """The folder's names after a power cut: in random losses the first steps of its journal, or any."""
        names = dict(self.kept)
        if loss is not Loss.ALL:
            until = len(self.steps) if loss is Loss.NONE else dice.randint(0, len(self.steps))
            in_order = loss is Loss.NONE or dice.random() < 0.5
            for n, step in enumerate(self.steps):
                if n < until if in_order else dice.random() < 0.5:
                    _set(names, step)
        return names


class Disk:
    """See the module. Numbers of files and folders are given in the order of making; the root is :data:`ROOT`."""

    def __init__(self) -> None:
        self.nodes: dict[int, File | Folder] = {ROOT: Folder(0o755)}
        self.steps = 0

    def apply(self, operation: Operation) -> Any:
        """Carry out one change, and count it."""
        self.steps += 1
        return getattr(self, operation[0])(*operation[1:])

    def file(self, number: int) -> File:
        found = self.nodes[number]
        assert isinstance(found, File)
        return found

    def folder(self, number: int) -> Folder:
        found = self.nodes[number]
        assert isinstance(found, Folder)
        return found

    # --- operations
    def create(self, parent: int, name: str, mode: int) -> int:
        return self._add(parent, name, File(mode))

    def mkdir(self, parent: int, name: str, mode: int) -> int:
        return self._add(parent, name, Folder(mode))

    def remove(self, parent: int, name: str) -> None:
        """Take a name away. Who has the file open goes on."""
        self.folder(parent).change({name: 0})

    def rename(self, parent: int, name: str, new_parent: int, new_name: str) -> None:
        number = self.folder(parent).names[name]
        if parent == new_parent:
            self.folder(parent).change({name: 0, new_name: number})
        else:
            self.folder(new_parent).change({new_name: number})
            self.folder(parent).change({name: 0})

    def write(self, number: int, offset: int, data: bytes) -> None:
        self.file(number).write(offset, data)

    def truncate(self, number: int, size: int) -> None:
        self.file(number).truncate(size)

    def chmod(self, number: int, mode: int) -> None:
        self.nodes[number].mode = mode

    def sync(self, number: int) -> None:
        self.nodes[number].sync()

    def fail_sync(self, number: int) -> None:
        """An fsync that reports an error; of a folder it only does nothing."""
        found = self.nodes[number]
        if isinstance(found, File):
            found.forget()

    def _add(self, parent: int, name: str, node: File | Folder) -> int:
        number = max(self.nodes) + 1
        self.nodes[number] = node
        self.folder(parent).change({name: number})
        return number

    # --- power
    def leave(self, folder: Path, loss: Loss = Loss.ALL, seed: int = 0, number: int = ROOT) -> None:
        """Write what a power cut now would leave into the real ``folder``, which is made."""
        self._leave(folder, loss, random.Random(seed), number)

    def _leave(self, path: Path, loss: Loss, dice: random.Random, number: int) -> None:
        node = self.nodes[number]
        if isinstance(node, File):
            pages, size = node.left(loss, dice)
            _write(path, pages, size)
            path.chmod(node.mode)
            return
        path.mkdir(exist_ok=number == ROOT)
        path.chmod(node.mode)
        for name, child in sorted(node.left(loss, dice).items()):
            self._leave(path / name, loss, dice, child)

    @classmethod
    def load(cls, folder: Path) -> Disk:
        """A disk on which all of the real ``folder`` is, synced."""
        disk = cls()
        disk._load(folder, ROOT)
        for node in disk.nodes.values():
            node.sync()
        return disk

    def _load(self, folder: Path, number: int) -> None:
        for entry in sorted(folder.iterdir()):
            mode = entry.stat().st_mode & 0o7777
            if entry.is_dir():
                self._load(entry, self.mkdir(number, entry.name, mode))
            else:
                self.write(self.create(number, entry.name, mode), 0, entry.read_bytes())


def _set(names: dict[str, int], step: dict[str, int]) -> None:
    for name, number in step.items():
        if number:
            names[name] = number
        else:
            names.pop(name, None)


def _apply(step: Step, pages: Pages, size: int) -> int:
    if step.page < 0:
        _resize(pages, step.size)
        return step.size
    pages[step.page] = step.data
    return max(size, step.size)


def _resize(pages: Pages, size: int) -> None:
    """Cut what lies behind ``size``: should the file grow again, zeros are there."""
    last, inside = divmod(size, PAGE)
    for page in [page for page in pages if page > last or (page == last and not inside)]:
        del pages[page]
    if last in pages:
        pages[last] = pages[last][:inside] + bytes(PAGE - inside)


def _write(path: Path, pages: Pages, size: int) -> None:
    """A real file, with holes where there are no pages: a ballast costs nothing."""
    with path.open("wb", buffering=0) as file:
        numbers = sorted(pages)
        begin = 0
        for n, page in enumerate(numbers, 1):
            if n == len(numbers) or numbers[n] != page + 1:
                file.seek(numbers[begin] * PAGE)
                file.write(b"".join([pages[one] for one in numbers[begin:n]]))
                begin = n
        file.truncate(size)


def _torn(step: Step, pages: Pages, dice: random.Random) -> Step:
    if step.page < 0 or dice.random() < 0.5:
        return step
    old = pages.get(step.page, ZERO)
    sectors = [step.data if dice.random() < 0.5 else old for _ in range(PAGE // SECTOR)]
    data = b"".join(source[n * SECTOR : (n + 1) * SECTOR] for n, source in enumerate(sectors))
    return Step(step.page, data, step.size)
