"""What one watch fetches: all lines of its groups, or those of failed requests and then the rest of these by id.

Where failures alone are fetched, the service leaves out other lines by a filter pattern; execution lines are asked for
by the ids of open requests, 25 ids a call, soon after a request is known, again in growing pauses, and a last time
before it is settled. Whatever comes is looked at again, because the service may ignore a pattern. It judges nothing and
remembers nothing that a restart would miss.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from exporter.access_log import AccessParser
from exporter.correlate import Correlator
from exporter.filter_patterns import either, id_batches
from exporter.filtering import Filters
from exporter.model import CounterKey, LogEvent, LogGroup, Unreadable, Window
from exporter.reading import GroupReader
from exporter.settle import Horizon, settle_reason
from exporter.sources import GroupUnreadable, Source
from exporter.taking import UNREADABLE, AccessTaker, Admit, Directory, ExecutionTaker
from exporter.tally import Seen
from exporter.units import Unit
from exporter.watch_spec import WatchSpec
from exporter.windows import MINUTE_MS, neighbourhoods

_ASKABLE = re.compile(r"[A-Za-z0-9_=+/.:-]{1,256}", re.ASCII)
_EARLY_MS = 5_000
"""How much before its first known line, or after its longest time, lines of a request are asked for."""
_FIRST_PAUSE_MS = 10_000
"""The pauses between asking for a request's lines: twice this, then twice as long each time."""


def full_readers(spec: WatchSpec, *, directory: Directory, correlator: Correlator, admit: Admit) -> list[GroupReader]:
    """The readers of all lines of all groups, those of access groups first."""
    readers = [
        GroupReader(
            item.group,
            AccessTaker(
                item.group,
                parser=item.parser,
                directory=directory,
                correlator=correlator,
                admit=admit,
                labelling=spec.labelling,
            ),
        )
        for item in spec.groups
        if item.parser is not None
    ]
    return readers + _execution_readers(spec, correlator, admit, totals=not readers)


def failure_readers(
    spec: WatchSpec, *, directory: Directory, correlator: Correlator, admit: Admit, filters: Filters
) -> list[GroupReader]:
    """The readers that tell of failed requests: failing access lines; without access logs, failing execution lines."""
    readers = [
        GroupReader(
            item.group,
            _FailedAccessTaker(item.group, item.parser, directory, correlator),
            filters.pattern_of(item.group),
        )
        for item in spec.groups
        if item.parser is not None
    ]
    return readers or _execution_readers(spec, correlator, admit, filters, totals=False)


def _execution_readers(
    spec: WatchSpec, correlator: Correlator, admit: Admit, filters: Filters | None = None, *, totals: bool
) -> list[GroupReader]:
    return [
        GroupReader(
            item.group,
            ExecutionTaker(
                item.group, directory=Directory(item.apis), correlator=correlator, admit=admit, totals=totals
            ),
            None if filters is None else filters.pattern_of(item.group),
        )
        for item in spec.groups
        if item.kind == "execution"
    ]


class _FailedAccessTaker:
    """Access lines that tell of failures; nothing is counted, because the others are not here."""

    counts = True  # lines that cannot be read are told of once

    def __init__(self, group: LogGroup, parser: AccessParser, directory: Directory, correlator: Correlator) -> None:
        self._group = group
        self._parser = parser
        self._directory = directory
        self._correlator = correlator

    def take(self, events: Sequence[LogEvent], seen: Seen) -> None:
        for event in events:
            glance = self._parser.glance(event.message)
            if isinstance(glance, Unreadable):
                seen.add(event.at_ms, CounterKey(UNREADABLE, (self._group.name, glance.reason)))
                continue
            self._directory.resolve(glance.api_id, glance.stage)
            self._correlator.take_access(self._group, event, glance)

    def begin(self) -> None:
        """Nothing is kept between pages."""

    def finish(self, seen: Seen) -> None:
        """Nothing is left to do."""


class _AskedTaker:
    """Execution lines of open requests."""

    counts = False

    def __init__(self, group: LogGroup, correlator: Correlator) -> None:
        self._group = group
        self._correlator = correlator

    def take(self, events: Sequence[LogEvent], seen: Seen) -> None:  # noqa: ARG002
        self._correlator.take_asked(self._group, events)

    def begin(self) -> None:
        """Nothing is kept between pages."""

    def finish(self, seen: Seen) -> None:
        """Nothing is left to do."""


@dataclass(kw_only=True, slots=True)
class Asked:
    """What asking by id came to."""

    windows: dict[str, Window] = field(default_factory=dict)
    """Over which time each id was asked for, in every group that can be read."""
    left_out: dict[LogGroup, str] = field(default_factory=dict)
    pages: int = 0
    events: dict[LogGroup, int] = field(default_factory=dict)


class Timelines:
    """Asks for the execution lines of open requests."""

    def __init__(self, spec: WatchSpec, correlator: Correlator, filters: Filters) -> None:
        self._max_request_ms = spec.max_request_ms
        self._takers = {
            item.group: _AskedTaker(item.group, correlator) for item in spec.groups if item.kind == "execution"
        }
        self._correlator = correlator
        self._filters = filters
        self._asked: dict[str, tuple[int, int]] = {}
        """How often each open request was asked for, and when last, by `Unit.key`."""

    def ask(self, source: Source, horizon: Horizon, now_ms: int) -> Asked:
        """Ask for what is due. `horizon`: of the slice, before any id was asked for. Raises a `SourceError`.

        A request that is known by its extended id alone is asked for twice: the first answer tells its request id.
        """
        result = Asked()
        if not self._takers:
            return result
        units = self._correlator.failing()
        due = {unit.key for unit in units if self._is_due(unit, horizon, now_ms)}
        for _ in range(2):
            wanted = [unit for unit in units if unit.key in due and not result.windows.keys() >= _ids_of(unit)]
            if not wanted:
                break
            for window, near in neighbourhoods(wanted, self._span):
                self._ask_for(source, window, near, now_ms, result)
            units = self._correlator.failing()
        open_now = {unit.key for unit in units}
        self._asked = {key: known for key, known in self._asked.items() if key in open_now}
        self._asked |= {key: (self._asked.get(key, (0, 0))[0] + 1, now_ms) for key in due & open_now}
        return result

    def _is_due(self, unit: Unit, horizon: Horizon, now_ms: int) -> bool:
        count, last_ms = self._asked.get(unit.key, (0, 0))
        pause_ms = _FIRST_PAUSE_MS << count
        return count == 0 or now_ms - last_ms >= pause_ms or settle_reason(unit, horizon) is not None

    def _span(self, unit: Unit) -> Window:
        """The time within which all lines of a request lie."""
        # An execution line may be the last of its request; an access line is of its beginning.
        begin_ms = unit.first_ms if unit.access is not None else unit.last_ms - self._max_request_ms
        return Window(begin_ms - _EARLY_MS, unit.first_ms + self._max_request_ms + MINUTE_MS)

    def _ask_for(self, source: Source, window: Window, units: Sequence[Unit], now_ms: int, result: Asked) -> None:
        """Ask for requests that are near each other, in order of time."""
        spans: dict[str, Window] = {}
        for unit in units:
            span = self._span(unit)
            spans |= {text: _joined([spans.get(text, span), span]) for text in _ids_of(unit)}
        asks: list[tuple[str | None, Window]] = []
        for batch in id_batches(spans):
            span = _joined([spans[text] for text in batch])
            span = Window(span.start_ms, min(span.end_ms, now_ms))
            asks.append((either(batch), span))
            result.windows |= dict.fromkeys(batch, span)
        for group, taker in self._takers.items():
            if group in result.left_out:
                continue
            # Where nearly everything fails, reading everything is cheaper than asking for it.
            density = self._filters.pages_per_ms(group)
            is_dear = density is not None and max(1.0, density * (window.end_ms - window.start_ms)) < len(asks)
            whole = [(None, Window(window.start_ms, min(window.end_ms, now_ms)))]
            try:
                for pattern, span in whole if is_dear else asks:
                    listed = GroupReader(group, taker, pattern).read(source, span, new_since_ms=now_ms)
                    result.pages += listed.pages
                    result.events[group] = result.events.get(group, 0) + listed.events
            except GroupUnreadable as error:
                result.left_out[group] = error.reason


def _joined(spans: Sequence[Window]) -> Window:
    return Window(min(span.start_ms for span in spans), max(span.end_ms for span in spans))


def _ids_of(unit: Unit) -> frozenset[str]:
    """The ids to ask for: request ids, which every line carries; else the extended one, which the first line names.

    Callers can set an id: one that is no id to the service would spoil the pattern of all.
    """
    ids = frozenset(filter(_ASKABLE.fullmatch, unit.ids))
    return (ids - unit.extended_ids) or ids
