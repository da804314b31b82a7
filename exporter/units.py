"""Which lines are one request: lines that ids joined, split into units.

The access event is the unit (DESIGN 3.4): ids only join, several requests may share one. Execution lines are cut into
requests by `segments.py`; which access line each belongs to, extended ids decide, then status and time. This file reads
no lines, keeps nothing and judges nothing.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence

import msgspec

from exporter import execution_log
from exporter.envelope import PLACEHOLDER_IDS
from exporter.model import AccessGlance, Failure, LogEvent, LogGroup, RequestTimeline
from exporter.segments import EARLY_MS, LINK, NEAR, ExecutionLine, extended_id_of, segments_of
from exporter.tombstones import joinable_ids
from exporter.windows import Timing

_LINK_DELAY_MS = 10_000
"""How long after its arrival a request's first execution line may be written (a web ACL, a slow authorizer)."""


class AccessLine(msgspec.Struct, frozen=True, gc=False):
    """An access line of interest: one that failed, or one that shares an id with a failure."""

    group: LogGroup
    event: LogEvent
    glance: AccessGlance

    @property
    def event_id(self) -> str:
        """The event's id."""
        return self.event.event_id

    @property
    def at_ms(self) -> int:
        """When the request arrived."""
        return self.event.at_ms


class Unit(msgspec.Struct, kw_only=True, gc=False):
    """The lines of one request, as far as they are here, and what they prove."""

    access: AccessLine | None
    execution: tuple[ExecutionLine, ...]
    ids: frozenset[str]
    extended_ids: frozenset[str]
    first_ms: int
    last_ms: int
    terminal: bool
    """The terminal line (`Method completed`) is here."""
    timeline: RequestTimeline | None = None
    failure: Failure | None = None

    @property
    def key(self) -> str:
        """What tells it from other requests for as long as it is open: its access event, else one of its ids."""
        return self.access.event.event_id if self.access is not None else min(self.ids, default="")

    @property
    def request_ids(self) -> frozenset[str]:
        """Those of its ids that are request ids. One of a WebSocket API is its own extended request id."""
        others = self.ids - self.extended_ids
        if others:
            return others
        told = {line.request_id for line in self.execution}
        if self.access is not None:
            told.add(self.access.glance.request_id)
        return self.ids & told

    @property
    def event_ids(self) -> tuple[str, ...]:
        """The events that it is made of: its access event (or nothing), then the others in order."""
        access = "" if self.access is None else self.access.event.event_id
        return access, *(line.event_id for line in self.execution)

    @property
    def end_id(self) -> str | None:
        """The event id of its terminal line."""
        ends = (
            one.event_id for one in reversed(self.execution) if execution_log.completed_status(one.text) is not None
        )
        return next(ends, None)

    @property
    def linked(self) -> bool:
        """The execution line that names the extended request id is here."""
        return any(line.text.startswith(LINK) for line in self.execution)

    @property
    def came_at_once(self) -> bool:
        """Whether its execution lines came in one batch, as far as their times tell."""
        return len({line.ingested_at_ms for line in self.execution}) < 2

    @property
    def placeholder(self) -> bool:
        """An access line whose request id says nothing, and which no extended id has joined to anything yet."""
        if self.access is None or self.execution:
            return False
        request_id = self.access.glance.request_id
        return request_id in PLACEHOLDER_IDS or not joinable_ids(self.access.glance)


def units_of(
    access: Mapping[str, AccessLine], execution: Mapping[str, ExecutionLine], longest_ms: int | None = None
) -> list[Unit]:
    """Split lines that ids joined into requests: one for each access line, and one for each execution remainder.

    With a single access line and no sign of a second request all lines are one. Otherwise the extended request id
    decides where both logs know it; then arrival and status. `longest_ms`: how long after its arrival a request's last
    lines may come, for ids that are known to be used more than once; None: as long as they like.
    """
    if not execution and len(access) == 1:
        return [_unit(next(iter(access.values())), ())]
    segments = segments_of(execution.values(), longest_ms)
    lines = sorted(access.values(), key=lambda line: (line.at_ms, line.event_id))
    if not lines:
        return [_unit(None, [segment]) for segment in segments]
    if len(lines) == 1 and _is_one_request(lines[0], segments, longest_ms):
        return [_unit(lines[0], segments)]
    shares, rest = _paired(lines, segments, longest_ms)
    units = [_unit(line, share) for line, share in zip(lines, shares, strict=True)]
    return units + [_unit(None, [segment]) for segment in rest]


def _is_one_request(line: AccessLine, segments: Sequence[tuple[ExecutionLine, ...]], longest_ms: int | None) -> bool:
    extended = {text for segment in segments if (text := _extended(segment)) is not None}
    if line.glance.extended_request_id is not None:
        extended.add(line.glance.extended_request_id)
    ends = [status for segment in segments if (status := _status(segment)) is not None]
    if len(extended) > 1 or len(ends) > 1 or not all(_fits_in_time(line, segment, longest_ms) for segment in segments):
        return False
    # A success whose id also ended badly elsewhere: two requests, one of them still without its access line.
    status = line.glance.status
    return not (ends and status is not None and status < 400 and status != ends[0])


def _fits_in_time(line: AccessLine, segment: Sequence[ExecutionLine], longest_ms: int | None) -> bool:
    """Whether a segment may be of a request that arrived with `line`, by time alone.

    Its first line (at INFO, the one with the extended id) is written at arrival; at ERROR level there are only the
    last ones.
    """
    after_ms = segment[0].at_ms - line.at_ms
    most_ms = _LINK_DELAY_MS if segment[0].text.startswith(LINK) else longest_ms
    return after_ms >= -EARLY_MS and (most_ms is None or after_ms <= most_ms + EARLY_MS)


def _paired(
    lines: Sequence[AccessLine], segments: Sequence[tuple[ExecutionLine, ...]], longest_ms: int | None
) -> tuple[list[list[tuple[ExecutionLine, ...]]], list[tuple[ExecutionLine, ...]]]:
    """Give each segment to the access line it fits: by extended id, else by status and nearness in time.

    `lines` are in order of time.
    """
    fits: list[tuple[int, int, int]] = []
    by_extended = {line.glance.extended_request_id: index for index, line in enumerate(lines)}
    times = [line.at_ms for line in lines]
    for number, segment in enumerate(segments):
        extended, status, first_ms = _extended(segment), _status(segment), segment[0].at_ms
        if extended is not None and extended in by_extended:
            fits.append((-1, number, by_extended[extended]))
            continue
        end = bisect_right(times, first_ms + EARLY_MS)
        for index in range(max(0, end - NEAR), end):
            line = lines[index]
            if extended is not None and line.glance.extended_request_id is not None:
                continue
            if status is not None and line.glance.status is not None and status != line.glance.status:
                continue
            if _fits_in_time(line, segment, longest_ms):
                fits.append((abs(first_ms - line.at_ms), number, index))
    shares: list[list[tuple[ExecutionLine, ...]]] = [[] for _ in lines]
    owned: set[int] = set()
    ended: set[int] = set()
    for _, number, index in sorted(fits):
        ends = _status(segments[number]) is not None
        if number in owned or (ends and index in ended):
            continue
        owned.add(number)
        shares[index].append(segments[number])
        if ends:
            ended.add(index)
    return shares, [segment for number, segment in enumerate(segments) if number not in owned]


def _unit(access: AccessLine | None, segments: Sequence[tuple[ExecutionLine, ...]]) -> Unit:
    if access is not None and not segments:  # most often
        return _of_access_line(access)
    execution = tuple([line for segment in segments for line in segment])
    ids = set(joinable_ids(access.glance)) if access is not None else set()
    extended_ids = {text for segment in segments if (text := _extended(segment)) is not None}
    if access is not None and access.glance.extended_request_id is not None:
        extended_ids.add(access.glance.extended_request_id)
    ids.update({line.request_id for line in execution if line.request_id is not None} - PLACEHOLDER_IDS)
    times = [line.at_ms for segment in segments for line in (segment[0], segment[-1])]
    if access is not None:
        times.append(access.at_ms)
    return Unit(
        access=access,
        execution=execution,
        ids=frozenset(ids | extended_ids),
        extended_ids=frozenset(extended_ids),
        first_ms=min(times),
        last_ms=max(times),
        terminal=_status(execution) is not None,
    )


def _of_access_line(access: AccessLine) -> Unit:
    extended = access.glance.extended_request_id
    return Unit(
        access=access,
        execution=(),
        ids=frozenset(joinable_ids(access.glance) if extended is None else [*joinable_ids(access.glance), extended]),
        extended_ids=frozenset() if extended is None else frozenset((extended,)),
        first_ms=access.at_ms,
        last_ms=access.at_ms,
        terminal=False,
    )


def claim_placeholders(units: Sequence[Unit], timing: Timing) -> list[tuple[Unit, Unit]]:
    """Pair execution-only failures with placeholder access lines of equal status, nearest in time first."""
    free: dict[int | None, list[tuple[int, int]]] = {}
    for place, unit in enumerate(units):
        if unit.placeholder and unit.access is not None:
            free.setdefault(unit.access.glance.status, []).append((unit.first_ms, place))
    for of_status in free.values():
        of_status.sort()
    pairs = []
    for unit in sorted(units, key=lambda unit: unit.first_ms):
        if unit.access is not None or unit.failure is None:
            continue
        of_status = free.get(unit.failure.timeline.status, [])
        found = _nearest(of_status, unit.first_ms, before_ms=timing.max_request_ms, after_ms=EARLY_MS)
        if found is not None:
            pairs.append((unit, units[of_status.pop(found)[1]]))
    return pairs


def _nearest(times: Sequence[tuple[int, int]], at_ms: int, *, before_ms: int, after_ms: int) -> int | None:
    """The index of the time that is nearest, of equal ones the first; None where none is so near. `times`: sorted."""
    after = bisect_left(times, (at_ms,))
    before = bisect_left(times, (times[after - 1][0],)) if after else 0
    near = [
        index for index in (before, after) if index < len(times) and -after_ms <= at_ms - times[index][0] <= before_ms
    ]
    return min(near, key=lambda index: abs(at_ms - times[index][0]), default=None)


def _extended(segment: Sequence[ExecutionLine]) -> str | None:
    return next((found for line in segment if (found := extended_id_of(line.text)) is not None), None)


def _status(segment: Sequence[ExecutionLine]) -> int | None:
    for line in reversed(segment):
        status = execution_log.completed_status(line.text)
        if status is not None:
            return status
    return None
