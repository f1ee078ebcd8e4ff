"""What was accepted and is not yet done, kept so that no crash loses it. ``docs/spool.md`` is its state table."""

from relay.spool.errors import SpoolError, SpoolFailed, SpoolFull, SpoolUnusable
from relay.spool.queries import QueueEntry, Summary, Trace
from relay.spool.space import Reservation
from relay.spool.spool import Spool
from relay.spool.stats import Stats
from relay.spool.upload import Upload
from relay.spool.verbs import Retried

__all__ = [
    "QueueEntry",
    "Reservation",
    "Retried",
    "Spool",
    "SpoolError",
    "SpoolFailed",
    "SpoolFull",
    "SpoolUnusable",
    "Stats",
    "Summary",
    "Trace",
    "Upload",
]
