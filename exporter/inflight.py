"""Execution lines of requests whose end has not been seen: kept as they came, let go when their request ends well.

Nearly every execution line is a routine line of a request that will end well: it costs two slices and two look-ups
here, and is never parsed. Whatever else a line may be is left to the caller. It holds memory only, and judges nothing.
"""

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator

from exporter import execution_log
from exporter.model import LogEvent, LogGroup
from exporter.settle import LINK, TRAILERS, ExecutionLine, segments_of

# Where things stand in `(<uuid>) text`, the form of nearly every execution line; heads begin with the closing bracket.
_ID, _HEAD, _STATUS = slice(1, 37), slice(37, 39 + execution_log.HEAD), slice(69, None)
_MIDDLE, _TRAILER, _LINK, _TERMINAL = range(4)
_KINDS = {
    **dict.fromkeys((f") {head}" for head in execution_log.ROUTINE_HEADS), _MIDDLE),
    **dict.fromkeys((f") {text[: execution_log.HEAD]}" for text in TRAILERS), _TRAILER),
    f") {LINK[: execution_log.HEAD]}": _LINK,
    f") {execution_log.COMPLETED[: execution_log.HEAD]}": _TERMINAL,
}
"""What kind of routine line has this head."""
_MOST_LINES = 64
"""So many lines under one id are told apart when a request ends: a caller's choice of ids must not cost more."""
_GOOD_STATUSES = {str(status): status for status in range(100, 400)}


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
        events: Iterable[LogEvent],
        open_ids: Container[str],
        ended: list[tuple[int, int]] | None,
    ) -> Iterator[LogEvent]:
        """Take in what is routine, in order of time. Gives the other lines, each to be dealt with before the next.

        Lines of open requests are not taken in. `ended` gets the event time and status of what ended well.
        """
        lines_by_id = self._lines[group]
        lines_of, kind_of, good_status = lines_by_id.get, _KINDS.get, _GOOD_STATUSES.get
        for event in events:
            message = event.message
            kind = kind_of(message[_HEAD])
            if kind is None:
                yield event
                continue
            request_id = message[_ID]
            lines = lines_of(request_id)
            if lines is None:
                if kind == _TERMINAL or request_id in open_ids:
                    yield event
                elif kind != _TRAILER:  # that is of a request that ended well and was dropped
                    lines_by_id[request_id] = [event]
            elif kind != _TERMINAL:
                lines.append(event)
                if kind == _LINK:
                    self._shared.add(request_id)
            elif (status := good_status(message[_STATUS])) is None:
                yield event
            else:
                if ended is not None:
                    ended.append((event.at_ms, status))
                if request_id in self._shared:
                    self.end(group, request_id, event)
                else:
                    del lines_by_id[request_id]

    def add(self, group: LogGroup, request_id: str, event: LogEvent) -> None:
        """Take in one line."""
        self._lines[group].setdefault(request_id, []).append(event)

    def has(self, group: LogGroup, request_id: str) -> bool:
        """Whether lines under this id are here."""
        return request_id in self._lines[group]

    def end(self, group: LogGroup, request_id: str, last: LogEvent) -> None:
        """Let go of the request that ended well with this line; what another one left stays, unless it is much."""
        lines = {line.event_id: line for line in self.pop(group, request_id)}
        if len(lines) <= _MOST_LINES and sum(LINK in line.message for line in lines.values()) > 1:
            lines.setdefault(last.event_id, last)
            segments = segments_of([ExecutionLine.of(group, line) for line in lines.values()], self._max_request_ms)
            ended = next(ids for part in segments if last.event_id in (ids := {line.event_id for line in part}))
            if left := [line for event_id, line in lines.items() if event_id not in ended]:
                self._lines[group][request_id] = left
                self._shared.add(request_id)

    def pop(self, group: LogGroup, request_id: str) -> list[LogEvent]:
        """Take the lines under an id out, each once: those of a request in flight are listed again and again."""
        self._shared.discard(request_id)
        return list({line.event_id: line for line in self._lines[group].pop(request_id, ())}.values())

    def pop_everywhere(self, request_id: str) -> list[tuple[LogGroup, LogEvent]]:
        """The same, whatever group they are of."""
        return [(group, event) for group in self._lines for event in self.pop(group, request_id)]

    def forget_before(self, at_ms: int) -> None:
        """Let go of what had its last line before this time."""
        for group, lines_by_id in self._lines.items():
            for request_id in [one for one, lines in lines_by_id.items() if lines[-1].at_ms < at_ms]:
                self.pop(group, request_id)
