"""Which execution lines are one request: lines that share a request id, cut into requests.

Callers may give one id to any number of requests. What tells their lines apart are the lines with which a request
begins and ends, the batches in which API Gateway writes them, and time. Access lines are joined in `units.py`; this
file reads no lines, keeps nothing and judges nothing.
"""

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, Self

import msgspec

from exporter import execution_log
from exporter.model import LogEvent, LogGroup

_EVENT_ID_DIGITS = 56
_BATCH_BITS, _INDEX_BITS = 144, 16
EARLY_MS = 1_000
"""How much two times of a request may differ that should be the same: both clocks are AWS's, rounded."""
NEAR = 64
"""How many neighbours in time are looked at where ids do not decide: a caller's choice of ids must not cost more."""
LINK = "Extended Request Id: "
TRAILERS = ("AWS Integration Endpoint RequestId : ", "X-ray Tracing ID : ")
"""Printed after the terminal line (messages.md 1)."""


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


def extended_id_of(text: str) -> str | None:
    """The extended request id that an execution line names: only a request's first line does."""
    return (text[len(LINK) :].strip() or None) if text.startswith(LINK) else None


def segments_of(lines: Iterable[ExecutionLine], longest_ms: int | None = None) -> list[tuple[ExecutionLine, ...]]:
    """Cut execution lines that share a request id into requests, each in order of time, the earliest first.

    API Gateway writes the lines of a request in one batch, in order, several requests to a batch: a new one begins
    with a batch, at an `Extended Request Id` line, or after a terminal line at anything but that line's trailers.
    `longest_ms`: how long after its arrival a request's last lines may come, where an id is known to be used more than
    once; None: as long as they like.
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


_LINE, _BEGINNING, _END = "line", "beginning", "end"


class _Place(NamedTuple):
    """Where a line stands among others of its id."""

    batch: int
    position: int
    number: int
    """Each line that comes has a higher one: what is behind it decides no order."""
    event_id: str
    what: str
    """What it is of its request."""


class Crowd:
    """Lines of several requests under one id, which end one after the other without a look at those of all others."""

    __slots__ = ("_lines", "_number", "_order", "links")

    def __init__(self) -> None:
        self._lines: dict[str, tuple[_Place, LogEvent]] = {}
        """By event id, in the order in which they came."""
        self._order: list[_Place] = []
        """Their places, sorted."""
        self._number = 0
        self.links = 0
        """How many requests began."""

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def lines(self) -> list[LogEvent]:
        """All lines, in the order in which they came."""
        return [line for _, line in self._lines.values()]

    def add(self, lines: Iterable[LogEvent]) -> None:
        """Take lines in that are not here, but for trailers: what they stand behind has ended."""
        for line in lines:
            if line.event_id in self._lines:
                if self._lines[line.event_id][1].ingested_at_ms == line.ingested_at_ms:
                    continue
                self.drop([line.event_id])
            _, text = execution_log.split(line.message)
            if text.startswith(TRAILERS):
                continue
            what = _LINE
            if text.startswith(LINK):
                what = _BEGINNING
                self.links += 1
            elif execution_log.completed_status(text) is not None:
                what = _END
            self._number += 1
            place = _Place(*_batch_order(line), self._number, line.event_id, what)
            self._lines[line.event_id] = place, line
            insort(self._order, place)

    def end(self, event_id: str) -> bool:
        """Let go of the request that ends with this event, which is here. False: it did not come whole in one batch."""
        last, _ = self._lines[event_id]
        end = bisect_left(self._order, last)
        begin = end - 1
        while begin >= 0 and self._order[begin].batch == last.batch and self._order[begin].what == _LINE:
            begin -= 1
        if begin < 0 or self._order[begin].batch != last.batch or self._order[begin].what != _BEGINNING:
            return False
        for place in self._order[begin : end + 1]:
            del self._lines[place.event_id]
        del self._order[begin : end + 1]
        self.links -= 1
        return True

    def drop(self, event_ids: Collection[str]) -> None:
        """Let go of these lines."""
        gone = [place for place in self._order if place.event_id in event_ids]
        self._order = [place for place in self._order if place.event_id not in event_ids]
        self.links -= sum(place.what == _BEGINNING for place in gone)
        for place in gone:
            del self._lines[place.event_id]


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
            if at_ms > end_ms + EARLY_MS or not text.startswith(TRAILERS):
                return False
        elif text.startswith(LINK):
            if last_id:
                return False
        elif text.startswith(execution_log.COMPLETED) and execution_log.completed_status(text) is not None:
            end_ms = at_ms
        last_id, last_ms = event_id, at_ms
    longest_ms = longest_ms if lines[0].text.startswith(LINK) else 0
    return longest_ms is None or last_ms - lines[0].at_ms <= longest_ms + EARLY_MS


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
        if longest_ms is not None and self.last_ms - other.first_ms > longest_ms + EARLY_MS:
            return False
        if other.links:
            return other.first_ms <= self.first_ms and not (other.ends and self.first_ms > other.last_ms + EARLY_MS)
        # At ERROR level a request has only its last lines, all written at its end.
        return abs(other.last_ms - self.first_ms) <= EARLY_MS


def _rejoined(cuts: list[_Segment], longest_ms: int | None) -> list[_Segment]:
    """Put requests that were delivered in several batches together again: a part goes to the nearest before it."""
    whole: list[_Segment] = []
    for part in sorted(cuts, key=lambda segment: (segment.first_ms, not segment.links)):
        owners = [] if part.links else [other for other in whole[-NEAR:] if part.may_be_part_of(other, longest_ms)]
        if owners:
            min(owners, key=lambda other: abs(part.first_ms - other.first_ms)).take(part)
        else:
            whole.append(part)
    return sorted(whole, key=lambda segment: segment.first_ms)


def _batch_order(line: ExecutionLine | LogEvent) -> tuple[int, int]:
    """Batch and position of an event (aws.md 1.1); elsewhere its ingestion and the id as it is."""
    text = line.event_id
    try:
        number = int(text) if len(text) <= _EVENT_ID_DIGITS and text.isascii() else 0
    except ValueError:
        number = 0
    if len(text) == _EVENT_ID_DIGITS:
        return divmod(number & ((1 << _BATCH_BITS) - 1), 1 << _INDEX_BITS)
    return line.ingested_at_ms, number or line.at_ms
