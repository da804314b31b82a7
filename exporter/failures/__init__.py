"""The page `/failures`: the last failures of each cause, and what is known of one of them, for people without Grafana.

`entry` says what is kept of a failure, `recent` keeps the last ones, `minutes` counts them over time, `selection` reads
what a visitor asks for, `pages` answers; the rest writes HTML. All of it is in memory: a restart starts empty.
"""

from exporter.failures.pages import FailurePages
from exporter.failures.recent import RecentFailures

__all__ = ["FailurePages", "RecentFailures"]
