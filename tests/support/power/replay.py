"""Every moment of a recorded run, again and again: what a power cut at that moment would have left."""

from __future__ import annotations

import pickle
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from support.power.disk import Disk, Loss, Operation


class Recording:
    """The operations that :meth:`~support.power.mount.PowerDisk.record` wrote."""

    def __init__(self, file: Path) -> None:
        self.operations: list[Operation] = pickle.loads(file.read_bytes())

    def moments(self) -> list[int]:
        """The numbers of operations after which the disk, or what a cut leaves of it, is not as before.

        SQLite's index of the log is left out: it is not read after a restart.
        """
        index = {number for number, operation in enumerate(_made(self.operations), 2) if operation[2].endswith("-shm")}
        changing = [
            n for n, operation in enumerate(self.operations, 1) if operation[0] != "chmod" and operation[1] not in index
        ]
        return [0, *changing]

    def choose(self, number: int, dice: random.Random) -> list[int]:
        """``number`` of the moments, rising: half of them at random among those next to a sync, a truncation or a
        change of names, where something begins or ceases to be certain; the others at random among all.
        """
        moments = self.moments()
        edges = [
            moment for moment in moments if {"write"} != {one[0] for one in self.operations[moment - 1 : moment + 1]}
        ]
        chosen = set(dice.sample(edges, min(len(edges), number // 2)))
        others = sorted(set(moments) - chosen)
        return sorted(chosen.union(dice.sample(others, min(len(others), number - len(chosen)))))

    def cuts(self, at: list[int], folder: Path, losses: list[Loss], seed: int) -> Iterator[tuple[int, Loss, Path]]:
        """For each of the moments ``at``, rising, and each loss: the moment, the loss, and a folder with what is left.

        The folder is made anew each time and may be changed.
        """
        disk, done = Disk(), 0
        for moment in at:
            for operation in self.operations[done:moment]:
                disk.apply(operation)
            done = moment
            for loss in losses:
                shutil.rmtree(folder, ignore_errors=True)
                disk.leave(folder, loss, seed + moment)
                yield moment, loss, folder


def _made(operations: list[Operation]) -> list[Operation]:
    """The operations that gave out numbers, in order: the first made is number 2."""
    return [operation for operation in operations if operation[0] in ("create", "mkdir")]
