"""Shows what goes on: /metrics for Prometheus, / for people, a word to somebody when the verdict changes.

It reads the sockets in the volume ``run`` (and the report that the domain check leaves there) and changes nothing. What
it cannot learn costs itself only: a part that hangs or answers nonsense becomes a line on the page and a zero in
``ownpost_collector_success``, never a failed scrape.
"""

__version__ = "0.1.0"
