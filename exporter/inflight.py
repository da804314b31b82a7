"""Execution lines of requests whose end has not been seen: kept as they came, let go when their request ends well.

Nearly every execution line is a routine line of a request that will end well: it is filed by `loops`, and never parsed.
Whatever else a line may be is left to the caller. It holds memory only, and judges nothing.
"""

from collections import defaultdict
from collections.abc import Container, Iterator

from exporter import execution_log, loops
from exporter.model import LogEvent, LogGroup
from exporter.segments import LINK, TRAILERS, Crowd, ExecutionLine, segments_of
from exporter.windows import BUCKET_MS

_KINDS = {
    **dict.fromkeys((f") {head}" for head in execution_log.ROUTINE_HEADS), loops.MIDDLE),
    **dict.fromkeys((f") {text[: execution_log.HEAD]}" for text in TRAILERS), loops.TRAILER),
    f") {LINK[: execution_log.HEAD]}": loops.LINK,
    f") {execution_log.COMPLETED[: execution_log.HEAD]}": loops.TERMINAL,
}
"""What kind of routine line has this head, which begins with the bracket behind the request id."""
_ROUTINE = loops.Routine(_KINDS, BUCKET_MS)
_MOST_PARTS = 64
"""So many lines under one id are told apart where a request came in several batches: a caller's choice of ids must not
cost more."""


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
        self._shared: defaultdict[LogGroup, set[str]] = defaultdict(set)
        """Ids under which a request seems to have begun before another had ended."""
        self._crowds: defaultdict[LogGroup, dict[str, Crowd]] = defaultdict(dict)
        """What was there under a shared id when one of its requests ended; what came since is among the lines."""

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
        lines_by_id, shared, place = self._lines[group], self._shared[group], -1
        while (place := _ROUTINE.take(events, place + 1, lines_by_id, open_ids, shared, ended)) < len(events):
            event = events[place]
            message = event.message
            end = loops.end_of_id(message)
            kind, request_id = _KINDS.get(message[end : end + loops.HEAD_SIZE]), message[1:end]
            lines, status = lines_by_id.get(request_id), loops.GOOD_STATUSES.get(message[end + loops.STATUS_BEHIND :])
            if kind == loops.LINK and lines is not None:
                lines.append(event)
                shared.add(request_id)
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
        """Let go of the request that ended well with this line; what others left stays, unless it is not clear what."""
        crowd = self._crowds[group].pop(request_id, None) or Crowd()
        crowd.add(self._lines[group].pop(request_id, ()))
        self._shared[group].discard(request_id)
        if crowd.links < 2:
            return
        crowd.add([last])
        if not crowd.end(last.event_id):
            if len(crowd) > _MOST_PARTS:
                return
            segments = segments_of([ExecutionLine.of(group, line) for line in crowd.lines], self._max_request_ms)
            crowd.drop(next(ids for part in segments if last.event_id in (ids := {line.event_id for line in part})))
        if crowd:
            self._crowds[group][request_id] = crowd
            self._lines[group][request_id] = []
            self._shared[group].add(request_id)

    def pop(self, group: LogGroup, request_id: str) -> list[LogEvent]:
        """Take the lines under an id out, each once: those of a request in flight are listed again and again."""
        self._shared[group].discard(request_id)
        lines = self._lines[group].pop(request_id, ())
        crowd = self._crowds[group].pop(request_id, None)
        return list({line.event_id: line for line in (*(crowd.lines if crowd is not None else ()), *lines)}.values())

    def pop_everywhere(self, request_id: str) -> list[tuple[LogGroup, LogEvent]]:
        """The same, whatever group they are of."""
        having = [group for group, lines_by_id in self._lines.items() if request_id in lines_by_id]
        return [(group, event) for group in having for event in self.pop(group, request_id)]

    def forget_before(self, at_ms: int) -> None:
        """Let go of what had its last line before this time; under a shared id, of every line before it."""
        for group, crowds in self._crowds.items():
            for request_id, crowd in list(crowds.items()):
                crowd.drop({line.event_id for line in crowd.lines if line.at_ms < at_ms})
                if not crowd and not self._lines[group][request_id]:
                    self.pop(group, request_id)
        for group, lines_by_id in self._lines.items():
            for request_id in [one for one, lines in lines_by_id.items() if lines and lines[-1].at_ms < at_ms]:
                self.pop(group, request_id)
