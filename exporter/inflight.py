"""Execution lines of requests whose end has not been seen: kept as they came, let go when their request ends well.

Nearly every execution line is a routine line of a request that will end well: it is filed by `loops`, and never parsed.
Whatever else a line may be is left to the caller. It holds memory only, and judges nothing.
"""

from collections import defaultdict
from collections.abc import Container, Iterator

from exporter import execution_log, loops
from exporter.model import LogEvent, LogGroup
from exporter.segments import LINK, TRAILERS, ExecutionLine, request_of, segments_of
from exporter.windows import BUCKET_MS

_KINDS = {
    **dict.fromkeys((f") {head}" for head in execution_log.ROUTINE_HEADS), loops.MIDDLE),
    **dict.fromkeys((f") {text[: execution_log.HEAD]}" for text in TRAILERS), loops.TRAILER),
    f") {LINK[: execution_log.HEAD]}": loops.LINK,
    f") {execution_log.COMPLETED[: execution_log.HEAD]}": loops.TERMINAL,
}
"""What kind of routine line has this head, which begins with the bracket behind the request id."""
_ROUTINE = loops.Routine(_KINDS, BUCKET_MS)
_MOST_LINES = 1_024
"""So many lines under one id are kept when one of its requests ends: a caller's choice of ids must not cost more."""
_MOST_PARTS = 64
"""So many are told apart where a request came in several batches, which costs ten times as much."""


def count_end(ended: loops.Ended | None, event: LogEvent, status: int) -> None:
    """Count the end of a request that this line tells, where ends are counted."""
    if ended is not None:
        key = event.at_ms // BUCKET_MS, status
        ended[key] = ended.get(key, 0) + 1


class InFlight:
    """The lines of one watch, by group and request id, in the order in which they were read."""

    def __init__(self, *, max_request_ms: int) -> None:
        self._max_request_ms = max_request_ms
        self._lines: defaultdict[LogGroup, dict[str, list[LogEvent]]] = defaultdict(dict)
        self._shared: set[str] = set()
        """Ids under which a request seems to have begun before another had ended."""

    def unusual(
        self,
        group: LogGroup,
        events: list[LogEvent],
        open_ids: Container[str],
        ended: loops.Ended | None,
    ) -> Iterator[LogEvent]:
        """Take in what is routine, in order of time. Gives the other lines, each to be dealt with before the next.

        Lines of open requests are not taken in. What ended well is counted in `ended`.
        """
        lines_by_id, place = self._lines[group], -1
        while (place := _ROUTINE.take(events, place + 1, lines_by_id, open_ids, self._shared, ended)) < len(events):
            event = events[place]
            message = event.message
            kind, request_id = _KINDS.get(message[loops.HEAD]), message[loops.ID]
            lines, status = lines_by_id.get(request_id), loops.GOOD_STATUSES.get(message[loops.STATUS])
            if kind == loops.LINK and lines is not None:
                lines.append(event)
                self._shared.add(request_id)
            elif kind == loops.TERMINAL and lines is not None and status is not None:
                count_end(ended, event, status)
                self.end(group, request_id, event)
            else:
                yield event

    def add(self, group: LogGroup, request_id: str, event: LogEvent) -> None:
        """Take in one line."""
        self._lines[group].setdefault(request_id, []).append(event)

    def has(self, group: LogGroup, request_id: str) -> bool:
        """Whether lines under this id are here."""
        return request_id in self._lines[group]

    def end(self, group: LogGroup, request_id: str, last: LogEvent) -> None:
        """Let go of the request that ended well with this line; what another one left stays, unless it is much."""
        lines = {line.event_id: line for line in self.pop(group, request_id)}
        if len(lines) > _MOST_LINES or sum(LINK in line.message for line in lines.values()) < 2:
            return
        lines[last.event_id] = last
        batch = [ExecutionLine.of(group, one) for one in lines.values() if one.ingested_at_ms == last.ingested_at_ms]
        ended = request_of(last.event_id, batch)
        if ended is None and len(lines) <= _MOST_PARTS:
            segments = segments_of([ExecutionLine.of(group, line) for line in lines.values()], self._max_request_ms)
            ended = next(ids for part in segments if last.event_id in (ids := {line.event_id for line in part}))
        if ended is None:
            return
        # What is printed behind an end that came before this one is of a request that is gone.
        left = [
            line
            for event_id, line in lines.items()
            if event_id not in ended and _KINDS.get(line.message[loops.HEAD]) != loops.TRAILER
        ]
        if left:
            self._lines[group][request_id] = left
            self._shared.add(request_id)

    def pop(self, group: LogGroup, request_id: str) -> list[LogEvent]:
        """Take the lines under an id out, each once: those of a request in flight are listed again and again."""
        self._shared.discard(request_id)
        lines = self._lines[group].pop(request_id, None)
        return list({line.event_id: line for line in lines}.values()) if lines is not None else []

    def pop_everywhere(self, request_id: str) -> list[tuple[LogGroup, LogEvent]]:
        """The same, whatever group they are of."""
        having = [group for group, lines_by_id in self._lines.items() if request_id in lines_by_id]
        return [(group, event) for group in having for event in self.pop(group, request_id)]

    def forget_before(self, at_ms: int) -> None:
        """Let go of what had its last line before this time."""
        for group, lines_by_id in self._lines.items():
            for request_id in [one for one, lines in lines_by_id.items() if lines[-1].at_ms < at_ms]:
                self.pop(group, request_id)
