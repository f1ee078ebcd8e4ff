"""The judge of the crash tests counts what is lost, so that no figure says 0 for it without having looked."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from support.judge import judge
from support.traffic import Acknowledged


def test_what_got_a_250_and_is_not_there_is_lost_unless_the_crash_came_before(tmp_path: Path) -> None:
    traffic: Any = SimpleNamespace(acknowledged={7: Acknowledged("0" + "7" * 25, steps=5)}, sent={})
    sink: Any = SimpleNamespace(taken={})
    spool = tmp_path / "spool"
    assert judge(spool, traffic, sink).lost == [f"number 7 (0{'7' * 25}) got a 250 and is lost"]
    assert judge(spool, traffic, sink, moment=5).lost
    assert judge(spool, traffic, sink, moment=4).lost == []
