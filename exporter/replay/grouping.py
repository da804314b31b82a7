"""Which log group a recorded line is of, and which watches read these groups.

The export says it, or the user does; else there is one group of access lines and one of execution lines. Without a
configuration all groups are one watch: ids join them, names tell of execution logs which API they are of. Pure.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from exporter.access_log import AccessParser
from exporter.model import Api, LogEvent, LogGroup
from exporter.replay.reading import RecordedLine, ReplayError
from exporter.watch_spec import WatchGroup, WatchSpec

ACCESS, EXECUTION = "access", "execution"
"""The groups of lines that nothing names a group for."""

_PLACE = ("default", "unknown")
_EXECUTION_GROUP = re.compile(r"(?:API-Gateway-Execution-Logs_|/aws/apigateway/)(?P<id>[a-z0-9]+)/(?P<stage>[^/]+)")
_MAX_REQUEST_MS = 30_000
_ALLOWED_LATENESS_MS = 330_000
_POLL_INTERVAL_MS = 20_000
_EARLIEST_ID = 20


def events_by_group(lines: Iterable[RecordedLine], specs: Sequence[WatchSpec]) -> Mapping[LogGroup, Sequence[LogEvent]]:
    """Put events into the groups of `specs` (none: groups of their own); number those that have no id.

    Numbers follow time, then the order of the exports. Raises `ReplayError` for a group that no spec reads.
    """
    known = {item.group.name: item for spec in specs for item in spec.groups}
    found: defaultdict[LogGroup, list[LogEvent]] = defaultdict(list)
    for number, line in enumerate(sorted(lines, key=lambda line: line.event.at_ms)):
        event = line.event
        if not event.event_id:
            event = LogEvent(
                event_id=f"{number:0{_EARLIEST_ID}d}",
                at_ms=event.at_ms,
                message=event.message,
                ingested_at_ms=event.ingested_at_ms,
            )
        kind = EXECUTION if line.is_execution else ACCESS
        if not specs:
            found[LogGroup(*_PLACE, line.group or kind)].append(event)
        elif line.group is not None and line.group in known:
            found[known[line.group].group].append(event)
        else:
            found[_only_group(line.group, kind, known.values())].append(event)
    return found


def spec_of(
    events: Mapping[LogGroup, Sequence[LogEvent]], executions: Iterable[str], parser: AccessParser
) -> WatchSpec:
    """One watch of all groups; `executions` names those that hold execution lines."""
    names = frozenset(executions)
    groups = [
        WatchGroup(
            group=group,
            kind="execution" if group.name in names else "access",
            apis=_apis(group.name),
            parser=None if group.name in names else parser,
        )
        for group in sorted(events)
    ]
    return WatchSpec(
        name="replay",
        groups=tuple(sorted(groups, key=lambda item: item.kind)),
        max_request_ms=_MAX_REQUEST_MS,
        allowed_lateness_ms=_ALLOWED_LATENESS_MS,
        poll_interval_ms=_POLL_INTERVAL_MS,
        initial_lookback_ms=0,
    )


def execution_groups(lines: Iterable[RecordedLine]) -> frozenset[str]:
    """The names of the groups that hold execution lines: more of them than others, since any line may be broken."""
    balance: defaultdict[str, int] = defaultdict(int)
    for line in lines:
        kind = EXECUTION if line.is_execution else ACCESS
        balance[line.group or kind] += 1 if line.is_execution else -1
    return frozenset(name for name, more in balance.items() if more > 0)


def _only_group(name: str | None, kind: str, known: Iterable[WatchGroup]) -> LogGroup:
    if name is not None:
        raise ReplayError(f"log group {name} is in no watch of the configuration; add it, or replay without one")
    groups = [item.group for item in known if item.kind == kind]
    if len(groups) != 1:
        raise ReplayError(
            f"the configuration has {len(groups)} log groups of {kind} lines; say by --group-map which one a file is of"
        )
    return groups[0]


def _apis(name: str) -> tuple[Api, ...]:
    found = _EXECUTION_GROUP.fullmatch(name)
    return () if found is None else (Api(id=found["id"], name=found["id"], stage=found["stage"]),)
