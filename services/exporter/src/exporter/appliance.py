"""The appliance as a whole: asks the collectors, remembers the day, judges. What web and notifier build on."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client.metrics_core import Metric

from .collectors import all_of, sentence
from .facts import Story
from .families import Merged, Values
from .history import SLOT, History
from .own import Own
from .snapshot import Snapshot, take, totals
from .sources import Sources
from .verdict import Verdict, judge, unready


class Appliance:
    """``now`` gives Unix seconds."""

    def __init__(self, sources: Sources, own: Own, now: Callable[[], float]) -> None:
        self._sources, self._own, self.now = sources, own, now
        self._began, self._history = now(), History()
        self.sentence = sentence

    async def look(self) -> tuple[Snapshot, Verdict]:
        """All that is known now, and what to make of it. The day's numbers go on to this moment."""
        await all_of(self._sources.all)
        metrics = self._sources.relay_metrics.last.value
        relay = self._sources.relay_status.last.value
        if metrics and relay is not None:  # without it, what was counted before the first look could not be told apart
            together = relay.started_at > self._began - SLOT
            self._history.add(self.now(), totals(Values(metrics)), all_of_it=together)
        return self._judged()

    async def unready(self) -> list[str]:
        """Why mail cannot be accepted now; empty when it can."""
        await self._sources.relay_status.get()
        return unready(take(self._sources, self._history, self.now()))

    async def metrics(self, accept: str) -> tuple[str, bytes]:
        """Media type and text of a scrape: everybody's metrics."""
        await all_of(self._sources.for_scrapes)
        snapshot, verdict = self._judged()
        own = self._own.families(self._sources.all, snapshot, verdict, ready=not unready(snapshot))
        others: list[list[Metric]] = [
            one.last.value or [] for one in (self._sources.relay_metrics, self._sources.renewer_metrics)
        ]
        return Merged([own, *others]).page(accept)

    async def story(self, message: str) -> Story | None:
        """One message's story; raises whatever stands in the way."""
        return await self._sources.story(message)

    def _judged(self) -> tuple[Snapshot, Verdict]:
        snapshot = take(self._sources, self._history, self.now())
        return snapshot, judge(snapshot)
