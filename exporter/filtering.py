"""Whether filter patterns can be relied on: what they select is compared with what the groups really hold.

A pattern that selects too little loses failures without a word: the stage's format was changed, or the service reads
the pattern otherwise than it was meant. So once an hour a page of every group is read without a pattern, and each
failing line in it, and each line as it would look had its request failed, has to be selected; else the next pattern is
taken, and after the last one all lines. The same pages tell what reading everything would take.
"""

import re
from collections.abc import Callable, Iterator, Sequence

import structlog

from exporter.execution_log import completed_status, split
from exporter.filter_patterns import FAILED_EXECUTIONS
from exporter.model import LogEvent, LogGroup, Page, Unreadable, Window
from exporter.settle import is_failed
from exporter.sources import MAX_TESTED, GroupUnreadable, Source, SourceError
from exporter.watch_spec import WatchSpec
from exporter.windows import MINUTE_MS

HOUR_MS = 60 * MINUTE_MS
_SOON_MS = 5 * MINUTE_MS
"""When to look again, after a look that met no line."""
_FAILED = "504"

_log = structlog.get_logger(__name__)


class Filters:
    """The filter patterns of one watch's access groups, and how much all of its groups hold."""

    def __init__(self, spec: WatchSpec) -> None:
        self._spec = spec
        has_access = any(item.kind == "access" for item in spec.groups)
        self._patterns = {
            item.group: item.failure_patterns if item.kind == "access" else (FAILED_EXECUTIONS,)
            for item in spec.groups
            if item.kind == "access" or not has_access
        }
        self._parsers = {item.group: item.parser for item in spec.groups if item.parser is not None}
        self._pages_per_ms: dict[LogGroup, float] = {}
        self._due_ms: int | None = None
        self._given_up = False

    @property
    def usable(self) -> bool:
        """Whether every group that tells of failures has a pattern which selects them, as far as is known."""
        return all(self._patterns.values())

    def pattern_of(self, group: LogGroup) -> str | None:
        """The pattern for a group that tells of failures; None for one that is only asked by id."""
        return next(iter(self._patterns.get(group, ())), None)

    def pages_per_ms(self, group: LogGroup) -> float | None:
        """How many pages all lines of a group fill, by event time; None while it is not known."""
        return self._pages_per_ms.get(group)

    def refused(self, group: LogGroup) -> None:
        """Do without the present pattern of a group from now on."""
        _log.warning("filter pattern misses failing lines", watch=self._spec.name, group=group.name)
        self._patterns[group] = self._patterns[group][1:]
        self._given_up = True

    def check(self, source: Source, now_ms: int) -> bool:
        """Compare patterns and lines when it is time to. Returns whether a pattern was given up, then or since.

        What cannot be read now is looked at with the next poll.
        """
        if self._due_ms is None or now_ms >= self._due_ms:
            self._look(source, now_ms)
        given_up, self._given_up = self._given_up, False
        return given_up

    def _look(self, source: Source, now_ms: int) -> None:
        end_ms = now_ms - self._spec.allowed_lateness_ms
        window = Window(end_ms - MINUTE_MS, end_ms)
        found = False
        for item in self._spec.groups:
            try:
                page = next(source.pages(item.group, window), None)
                if page is None:
                    continue
                self._pages_per_ms[item.group] = _density(page, window)
                if item.group in self._patterns and page.events:
                    found = True
                    self._compare(source, item.group, page.events)
            except GroupUnreadable:
                self._pages_per_ms[item.group] = 0.0  # its own listing will say so
            except SourceError:
                return
        self._due_ms = now_ms + (HOUR_MS if found else _SOON_MS)

    def _compare(self, source: Source, group: LogGroup, events: Sequence[LogEvent]) -> None:
        status_of = self._status_of(group)
        failed = [event for event in events if status_of(event.message) == _FAILED]
        messages = [event.message for event in failed[: MAX_TESTED // 2]]
        messages += [text for _, text in zip(range(MAX_TESTED // 2), _as_if_failed(events, status_of), strict=False)]
        while messages and (pattern := self.pattern_of(group)) is not None:
            regex = re.compile(pattern.strip("%"))
            if all(map(regex.search, messages)) and _serves(source, group, pattern, messages, failed):
                break
            self.refused(group)

    def _status_of(self, group: LogGroup) -> Callable[[str], str | None]:
        """How a line of the group tells its status: `_FAILED` for every line that tells of a failure."""
        parser = self._parsers.get(group)

        def of_access(message: str) -> str | None:
            glance = None if parser is None else parser.glance(message)
            if glance is None or isinstance(glance, Unreadable):
                return None
            return _FAILED if is_failed(glance) else str(glance.status or "") or None

        def of_execution(message: str) -> str | None:
            status = completed_status(split(message)[1])
            return None if status is None else _FAILED if status >= 400 else str(status)

        return of_execution if parser is None else of_access


def _density(page: Page, window: Window) -> float:
    """Pages a millisecond, from the first page of a window."""
    if not page.events or page.fill < 0.5:  # all that the window has
        return page.fill / (window.end_ms - window.start_ms)
    return page.fill / max(page.events[-1].at_ms - window.start_ms, 1)


def _serves(source: Source, group: LogGroup, pattern: str, messages: Sequence[str], failed: Sequence[LogEvent]) -> bool:
    """Whether the service selects what it should: by its own test, else by a listing of lines that are there."""
    selected = source.selected(pattern, messages)
    if selected is not None:
        return selected.issuperset(messages)
    if not failed:
        return True
    window = Window(failed[0].at_ms, failed[-1].at_ms + 1)
    listed = {event.event_id for page in source.pages(group, window, pattern) for event in page.events}
    return listed.issuperset(event.event_id for event in failed)


def _as_if_failed(events: Sequence[LogEvent], status_of: Callable[[str], str | None]) -> Iterator[str]:
    """Lines of success with another status: what a failure of today would look like."""
    for event in events:
        status = status_of(event.message)
        if status is None or status == _FAILED:
            continue
        for place in re.finditer(status, event.message):
            text = event.message[: place.start()] + _FAILED + event.message[place.end() :]
            if status_of(text) == _FAILED:
                yield text
                break
