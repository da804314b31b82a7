"""One watch's log groups, asked for lines: by pattern, by id, each listed to its end, each refusal remembered.

The service may ignore a pattern (what stands in for it does), so whatever it gives is looked at again. A group that
cannot be read is left out of the rest of a search, and named. Nothing here judges a request.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from exporter.access_log import AccessParser
from exporter.envelope import PLACEHOLDER_IDS, split
from exporter.filter_patterns import id_patterns
from exporter.find.patterns import access_pattern, execution_patterns
from exporter.find.query import Query
from exporter.model import AccessGlance, LogEvent, LogGroup, Window
from exporter.segments import ExecutionLine, extended_id_of
from exporter.sources import ListingBroken, Source, SourceError
from exporter.units import AccessLine
from exporter.watch_spec import WatchSpec
from exporter.windows import neighbourhoods

MOST_LINES = 20_000
"""So many lines of a window are kept, the newest: whoever gets more asks too broadly."""

_LISTINGS = 3
_EARLY_MS = 60_000
"""How much before its known lines a request's other lines are looked for."""

_Line = TypeVar("_Line")


class Desk:
    """The groups of one watch."""

    def __init__(self, spec: WatchSpec, source: Source, problems: dict[LogGroup, str]) -> None:
        """`problems` is shared by all desks: the groups that cannot be read, and why."""
        self.spec = spec
        self._source = source
        self._problems = problems
        self._parsers: dict[LogGroup, AccessParser] = {
            item.group: item.parser for item in spec.groups if item.parser is not None
        }
        self._execution = [item.group for item in spec.groups if item.kind == "execution"]
        self.overflowed = False
        """Whether a window held more lines than are kept."""

    @property
    def access_groups(self) -> Sequence[LogGroup]:
        """The access groups that can be read, as far as is known."""
        return [group for group in self._parsers if group not in self._problems]

    @property
    def execution_groups(self) -> Sequence[LogGroup]:
        """The execution groups that can be read, as far as is known."""
        return [group for group in self._execution if group not in self._problems]

    # ---- by what is asked for

    def access_lines(self, query: Query, window: Window) -> list[AccessLine]:
        """Access lines that may be of requests looked for."""
        return self._access(window, access_pattern(query), query.may_be)

    def execution_lines(self, query: Query, window: Window) -> list[ExecutionLine]:
        """Execution lines that name requests looked for."""
        found: dict[str, ExecutionLine] = {}
        for pattern in execution_patterns(query, alone=not self.access_groups):
            for line in self._executions(window, pattern, query.is_named_by):
                found[line.event_id] = line
        return list(found.values())

    # ---- by id

    def access_lines_of(self, ids: Iterable[str], window: Window) -> list[AccessLine]:
        """Access lines that carry one of `ids`."""
        wanted = frozenset(ids)
        found = []
        for pattern in id_patterns(sorted(wanted)):
            found += self._access(
                window,
                pattern,
                lambda _, glance: not wanted.isdisjoint((glance.request_id, glance.extended_request_id)),
            )
        return found

    def execution_lines_of(self, lines: Sequence[AccessLine | ExecutionLine]) -> list[ExecutionLine]:
        """All execution lines of the requests that `lines` are of: by request id, found by extended id if need be."""
        found: dict[str, ExecutionLine] = {}
        for window, near in neighbourhoods(lines, lambda line: self.around([line])):
            ids = {text for line in near if (text := request_id_of(line)) is not None}
            nameless = {
                line.glance.extended_request_id
                for line in near
                if isinstance(line, AccessLine) and request_id_of(line) is None
            }
            for pattern in id_patterns(sorted(text for text in nameless if text)):
                ids |= {
                    text
                    for link in self._executions(
                        window, pattern, lambda event: extended_id_of(split(event.message)[1]) is not None
                    )
                    if extended_id_of(link.text) in nameless and (text := request_id_of(link)) is not None
                }
            for line in self._executions_of(frozenset(ids), window):
                found[line.event_id] = line
        return list(found.values())

    def _executions_of(self, request_ids: frozenset[str], window: Window) -> list[ExecutionLine]:
        found = []
        for pattern in id_patterns(sorted(request_ids)):
            found += self._executions(window, pattern, lambda event: split(event.message)[0] in request_ids)
        return found

    def around(self, lines: Sequence[AccessLine | ExecutionLine]) -> Window:
        """The time within which all lines of these requests lie."""
        times = [line.at_ms for line in lines]
        spec = self.spec
        # An execution line may be the last of its request; an access line is of its beginning.
        before_ms = _EARLY_MS + (spec.max_request_ms if any(isinstance(line, ExecutionLine) for line in lines) else 0)
        return Window(min(times) - before_ms, max(times) + spec.max_request_ms + spec.allowed_lateness_ms)

    # ---- listing

    def _access(
        self, window: Window, pattern: str | None, wants: Callable[[LogEvent, AccessGlance], bool]
    ) -> list[AccessLine]:
        found: list[AccessLine] = []
        for group in self.access_groups:
            parser = self._parsers[group]

            def look(event: LogEvent, group: LogGroup = group, parser: AccessParser = parser) -> AccessLine | None:
                glance = parser.glance(event.message)
                wanted = isinstance(glance, AccessGlance) and wants(event, glance)
                return AccessLine(group, event, glance) if wanted and isinstance(glance, AccessGlance) else None

            found += self._list(group, window, pattern, look)
        return found

    def _executions(self, window: Window, pattern: str, wants: Callable[[LogEvent], bool]) -> list[ExecutionLine]:
        found: list[ExecutionLine] = []
        for group in self.execution_groups:

            def look(event: LogEvent, group: LogGroup = group) -> ExecutionLine | None:
                return ExecutionLine.of(group, event) if wants(event) else None

            found += self._list(group, window, pattern, look)
        return found

    def _list(
        self, group: LogGroup, window: Window, pattern: str | None, look: Callable[[LogEvent], _Line | None]
    ) -> list[_Line]:
        for last in (*[False] * (_LISTINGS - 1), True):
            try:
                return self._listed(group, window, pattern, look)
            except ListingBroken as error:
                if last:
                    self._problems[group] = str(error)
            except SourceError as error:
                self._problems[group] = str(error)
                break
        return []

    def _listed(
        self, group: LogGroup, window: Window, pattern: str | None, look: Callable[[LogEvent], _Line | None]
    ) -> list[_Line]:
        seen: set[str] = set()
        kept: deque[_Line] = deque(maxlen=MOST_LINES)
        for page in self._source.pages(group, window, pattern):
            for event in page.events:
                if event.event_id in seen or (line := look(event)) is None:
                    continue
                seen.add(event.event_id)  # a page may come twice
                self.overflowed = self.overflowed or len(kept) == MOST_LINES
                kept.append(line)
        return list(kept)


def request_id_of(line: AccessLine | ExecutionLine) -> str | None:
    """The request id that a line carries; None where it carries none, or one that many requests share."""
    request_id = line.glance.request_id if isinstance(line, AccessLine) else line.request_id
    return None if request_id in PLACEHOLDER_IDS else request_id
