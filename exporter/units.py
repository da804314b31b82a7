"""Which lines are one request: lines that ids joined, split into units.

The access event is the unit (DESIGN 3.4): ids only join, several requests may share one. What ids leave open, extended
ids decide, then batches of delivery, status and time. This file reads no lines, keeps nothing and judges nothing.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Self

import msgspec

from exporter import execution_log
from exporter.envelope import PLACEHOLDER_IDS
from exporter.model import AccessGlance, Failure, LogEvent, LogGroup, RequestTimeline
from exporter.tombstones import joinable_ids
from exporter.windows import Timing

_EVENT_ID_DIGITS = 56
_BATCH_BITS, _INDEX_BITS = 144, 16
_EARLY_MS = 1_000
"""How much before its access line's time an execution line may lie: both clocks are AWS's, rounded."""
_LINK_DELAY_MS = 10_000
"""How long after its arrival a request's first execution line may be written (a web ACL, a slow authorizer)."""
_NEAR = 64
"""How many neighbours in time are looked at where ids do not decide: a caller's choice of ids must not cost more."""
LINK = "Extended Request Id: "
TRAILERS = ("AWS Integration Endpoint RequestId : ", "X-ray Tracing ID : ")
"""Printed after the terminal line (messages.md 1)."""


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


class ExecutionLine(msgspec.Struct, frozen=True, gc=False):
    """An execution line of interest. There are many of one request: the event itself, with its text, is let go."""

    group: LogGroup
    event_id: str
    at_ms: int
    ingested_at_ms: int
    request_id: str | None
    text: str
    """Without the request id, not redacted."""

    @classmethod
    def of(cls, group: LogGroup, event: LogEvent) -> Self:
        """The line that an event holds."""
        request_id, text = execution_log.split(event.message)
        return cls(group, event.event_id, event.at_ms, event.ingested_at_ms, request_id, text)


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
    def event_ids(self) -> tuple[str, ...]:
        """The events that it is made of: its access event (or nothing), then the others in order."""
        access = "" if self.access is None else self.access.event.event_id
        return access, *(line.event_id for line in self.execution)

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
    return after_ms >= -_EARLY_MS and (most_ms is None or after_ms <= most_ms + _EARLY_MS)


def segments_of(lines: Iterable[ExecutionLine], longest_ms: int | None = None) -> list[tuple[ExecutionLine, ...]]:
    """Cut execution lines that share a request id into requests, each in order of time, the earliest first.

    API Gateway writes the lines of a request in one batch, in order, several requests to a batch: a new one begins
    with a batch, at an `Extended Request Id` line, or after a terminal line at anything but that line's trailers.
    `longest_ms`: see `units_of`.
    """
    found = tuple(lines)
    if _is_whole(found, longest_ms):
        return [found]
    ordered = sorted([(_batch_order(line), number, line) for number, line in enumerate(found)])
    cuts: list[_Segment] = []
    last, batch = _Segment(), -1
    for order, _, line in ordered:
        link = line.text.startswith(LINK)
        if order[0] != batch or (link and last.links) or (last.ends and (link or not line.text.startswith(TRAILERS))):
            last = _Segment()
            cuts.append(last)
        batch = order[0]
        last.add(line, order, link=link)
    return [segment.in_order() for segment in (_rejoined(cuts, longest_ms) if len(cuts) > 1 else cuts)]


def request_of(end: str, lines: Iterable[ExecutionLine]) -> set[str] | None:
    """The event ids of the request that ends with the event `end`, its beginning too if both came in one batch.

    None: they did not. `lines`: all of that batch, and whatever else shares the request id.
    """
    ordered = sorted([(_batch_order(line), number, line) for number, line in enumerate(lines)])
    place = next(place for place, (_, _, line) in enumerate(ordered) if line.event_id == end)
    batch = ordered[place][0][0]
    found = {end}
    for order, _, line in reversed(ordered[:place]):
        if order[0] != batch or execution_log.completed_status(line.text) is not None:
            return None
        found.add(line.event_id)
        if line.text.startswith(LINK):
            return found
    return None


def _is_whole(lines: Sequence[ExecutionLine], longest_ms: int | None) -> bool:
    """Whether lines are those of one request, in order, whichever batches they came in: so nearly all are.

    It begins with its only `Extended Request Id` line, or all of it was written at one moment; nothing but trailers
    stands behind its end.
    """
    if not lines:
        return False
    last_id, last_ms, end_ms = "", lines[0].at_ms, None
    for line in lines:
        event_id, at_ms, text = line.event_id, line.at_ms, line.text
        # Of events at one moment the ids are in the order of delivery, then of their place in it.
        if event_id <= last_id or at_ms < last_ms or len(event_id) != _EVENT_ID_DIGITS:
            return False
        if end_ms is not None:
            if at_ms > end_ms + _EARLY_MS or not text.startswith(TRAILERS):
                return False
        elif text.startswith(LINK):
            if last_id:
                return False
        elif text.startswith(execution_log.COMPLETED) and execution_log.completed_status(text) is not None:
            end_ms = at_ms
        last_id, last_ms = event_id, at_ms
    longest_ms = longest_ms if lines[0].text.startswith(LINK) else 0
    return longest_ms is None or last_ms - lines[0].at_ms <= longest_ms + _EARLY_MS


class _Segment:
    """Lines of one request, or of a part of it that came in a batch of its own."""

    __slots__ = ("_lines", "ends", "first_ms", "last_ms", "links")

    def __init__(self) -> None:
        self._lines: list[tuple[int, tuple[int, int], int, ExecutionLine]] = []
        self.links = 0
        self.ends = 0
        self.first_ms = self.last_ms = 0

    def add(self, line: ExecutionLine, order: tuple[int, int], *, link: bool) -> None:
        at_ms = line.at_ms
        if not self._lines or at_ms < self.first_ms:
            self.first_ms = at_ms
        self.last_ms = max(self.last_ms, at_ms)
        self._lines.append((at_ms, order, len(self._lines), line))
        self.links += link
        self.ends += execution_log.completed_status(line.text) is not None

    def take(self, part: "_Segment") -> None:
        for _, order, _, line in part._lines:  # noqa: SLF001 one of us
            self.add(line, order, link=False)

    def in_order(self) -> tuple[ExecutionLine, ...]:
        return tuple(line for _, _, _, line in sorted(self._lines))

    def may_be_part_of(self, other: "_Segment", longest_ms: int | None) -> bool:
        """Whether this, without a beginning, can belong to `other`: one beginning, one end, in order of time."""
        if self.links or self.ends + other.ends > 1:
            return False
        if longest_ms is not None and self.last_ms - other.first_ms > longest_ms + _EARLY_MS:
            return False
        if other.links:
            return other.first_ms <= self.first_ms and not (other.ends and self.first_ms > other.last_ms + _EARLY_MS)
        # At ERROR level a request has only its last lines, all written at its end.
        return abs(other.last_ms - self.first_ms) <= _EARLY_MS


def _rejoined(cuts: list[_Segment], longest_ms: int | None) -> list[_Segment]:
    """Put requests that were delivered in several batches together again: a part goes to the nearest before it."""
    whole: list[_Segment] = []
    for part in sorted(cuts, key=lambda segment: (segment.first_ms, not segment.links)):
        owners = [other for other in whole[-_NEAR:] if part.may_be_part_of(other, longest_ms)]
        if owners:
            min(owners, key=lambda other: abs(part.first_ms - other.first_ms)).take(part)
        else:
            whole.append(part)
    return sorted(whole, key=lambda segment: segment.first_ms)


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
        end = bisect_right(times, first_ms + _EARLY_MS)
        for index in range(max(0, end - _NEAR), end):
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
    times = [line.at_ms for line in execution]
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
        found = _nearest(of_status, unit.first_ms, before_ms=timing.max_request_ms, after_ms=_EARLY_MS)
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


def extended_id_of(text: str) -> str | None:
    """The extended request id that an execution line names: only a request's first line does."""
    return (text[len(LINK) :].strip() or None) if text.startswith(LINK) else None


def _extended(segment: Sequence[ExecutionLine]) -> str | None:
    return next((found for line in segment if (found := extended_id_of(line.text)) is not None), None)


def _status(segment: Sequence[ExecutionLine]) -> int | None:
    for line in reversed(segment):
        status = execution_log.completed_status(line.text)
        if status is not None:
            return status
    return None


def _batch_order(line: ExecutionLine) -> tuple[int, int]:
    """Batch and position of an event (aws.md 1.1); elsewhere its ingestion and the id as it is."""
    text = line.event_id
    try:
        number = int(text) if len(text) <= _EVENT_ID_DIGITS and text.isascii() else 0
    except ValueError:
        number = 0
    if len(text) == _EVENT_ID_DIGITS:
        return divmod(number & ((1 << _BATCH_BITS) - 1), 1 << _INDEX_BITS)
    return line.ingested_at_ms, number or line.at_ms
