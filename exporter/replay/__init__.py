"""Exported logs through the real pipeline: what the daemon would have counted and told, from files.

`reading` takes files apart, `grouping` says which line is of which log group, `running` lets a watch read them,
`span_lines` writes the spans down. Nothing is read from AWS, and nothing is kept.
"""

from exporter.replay.grouping import events_by_group, execution_groups, spec_of
from exporter.replay.reading import RecordedLine, ReplayError, files_of, read_lines
from exporter.replay.running import MOST_DAYS, Replay, Sent

__all__ = [
    "MOST_DAYS",
    "RecordedLine",
    "Replay",
    "ReplayError",
    "Sent",
    "events_by_group",
    "execution_groups",
    "files_of",
    "read_lines",
    "spec_of",
]
