"""The search: stretch by stretch back in time, until what is asked for is found.

Access groups are asked first, because every request has a line there; execution groups tell what only they know: the
reason, and requests without an access line. Lines are joined and judged as the daemon joins and judges them. It prints
nothing and knows no clock; how politely it asks is up to the sources.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from exporter.describing import Describer
from exporter.find.query import Query
from exporter.find.reading import Desk, request_id_of
from exporter.find.stretches import stretches
from exporter.model import Failure, LogGroup, RequestTimeline, Window
from exporter.rules import RuleSet
from exporter.segments import ExecutionLine, extended_id_of
from exporter.sources import Source
from exporter.taking import Directory
from exporter.units import AccessLine, Unit, units_of
from exporter.watch_spec import WatchSpec

_CHUNK = 25
"""Requests whose execution lines are asked for together: so many ids fit into a pattern."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """One request that is what was looked for."""

    unit: Unit
    timeline: RequestTimeline
    failure: Failure | None
    reused_id: bool
    """Another request has its request id, too."""
    complete: bool
    """Whether its execution lines have been read, where there are any to be read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Findings:
    """What a search came to."""

    matches: tuple[Found, ...]
    """The newest first."""
    more: bool
    """There are more than were asked for, or there may be: older ones were not looked for any more."""
    searched: Window
    """What was looked through; its beginning is later than asked where enough was found before."""
    groups: tuple[LogGroup, ...]
    """Those that were searched."""
    problems: tuple[str, ...]
    """What could not be read, and why; for people."""


class Search:
    """One search through the log groups of some watches."""

    def __init__(
        self,
        specs: Sequence[WatchSpec],
        *,
        source_of: Callable[[WatchSpec], Source],
        rules: RuleSet,
        query: Query,
        told: Callable[[Window], None] = lambda _: None,
    ) -> None:
        """`told` hears which stretch of time is searched next."""
        self._problems: dict[LogGroup, str] = {}
        self._desks = [Desk(spec, source_of(spec), self._problems) for spec in specs]
        self._judges = [_Judge(spec, rules) for spec in specs]
        self._groups = tuple(dict.fromkeys(item.group for spec in specs for item in spec.groups))
        self._max_request_ms = max((spec.max_request_ms for spec in specs), default=0)
        self._query = query
        self._told = told

    def run(self, span: Window, *, limit: int, answered_at_ms: int | None = None, whole: bool = False) -> Findings:
        """Look through `span` until `limit` requests are found, of ids until any is.

        `answered_at_ms`: when the response was sent, where that is known. `whole`: read the execution lines of all that
        is found; else only where that decides the cause, and of what was asked for by id or found alone.
        """
        by_id = bool(self._query.ids)
        whole = whole or by_id
        found, reached_ms = self._back(span, limit, answered_at_ms, whole=whole, second=False)
        if by_id and not found:
            found, reached_ms = self._back(span, limit, answered_at_ms, whole=whole, second=True)
        sure = [match for match in found if self._query.is_surely_met_by(match.unit)]
        found = sorted(sure or found, key=lambda match: match.unit.first_ms, reverse=True)
        more = len(found) > limit or (len(found) == limit and not by_id and reached_ms > span.start_ms)
        found = found[:limit]
        if len(found) == 1 and not found[0].complete:
            found = self._completed(found[0])
        problems = list(self._problems.values())
        if any(desk.overflowed for desk in self._desks):
            problems.append("more lines match than are looked at: ask for less, by --until, --status, --api or --stage")
        return Findings(
            matches=tuple(found),
            more=more,
            searched=Window(reached_ms, span.end_ms),
            groups=tuple(group for group in self._groups if group not in self._problems),
            problems=tuple(problems),
        )

    def _back(
        self, span: Window, limit: int, answered_at_ms: int | None, *, whole: bool, second: bool
    ) -> tuple[list[Found], int]:
        """Go back in time; returns what was found, and how far it went.

        `second`: nobody's access lines know the ids; perhaps execution lines do.
        """
        found: dict[str, Found] = {}
        reached_ms = span.end_ms
        for window in stretches(span, answered_at_ms=answered_at_ms, max_request_ms=self._max_request_ms):
            self._told(window)
            for desk, judge in zip(self._desks, self._judges, strict=True):
                for match in self._matches(desk, judge, window, limit, whole=whole, second=second):
                    found.setdefault(_key(match.unit), match)
            reached_ms = min(reached_ms, window.start_ms)
            if len(found) > limit or (found and (self._query.ids or len(found) == limit)):
                break
        return list(found.values()), reached_ms

    def _matches(
        self, desk: Desk, judge: "_Judge", window: Window, limit: int, *, whole: bool, second: bool
    ) -> list[Found]:
        query = self._query
        executions: list[ExecutionLine] = []
        accesses: list[AccessLine] = []
        if not second:
            accesses = desk.access_lines(query, window)
        if second or not query.ids or not desk.access_groups:
            executions = desk.execution_lines(query, window)
        known = {request_id_of(line) for line in accesses}
        named = {text: line for line in executions if (text := request_id_of(line)) is not None and text not in known}
        if named and desk.access_groups:
            accesses += desk.access_lines_of(named, desk.around(list(named.values())))
            known = {request_id_of(line) for line in accesses}
        leads: list[AccessLine | ExecutionLine] = [
            *accesses,
            *(line for text, line in named.items() if text not in known),
        ]
        leads.sort(key=lambda line: line.at_ms, reverse=True)
        found: list[Found] = []
        for begin in range(0, len(leads), _CHUNK):
            found += self._judged(desk, judge, leads[begin : begin + _CHUNK], executions, whole=whole)
            if len(found) > limit:
                break
        return found

    def _judged(
        self,
        desk: Desk,
        judge: "_Judge",
        leads: Sequence[AccessLine | ExecutionLine],
        executions: Sequence[ExecutionLine],
        *,
        whole: bool,
    ) -> list[Found]:
        """Judge requests by the lines at hand (`executions` may be of others) where these prove it, else by all."""
        if not desk.execution_groups:
            return self._met(judge, leads, ())
        unsure: list[AccessLine | ExecutionLine] = []
        found: list[Found] = []
        lines_of = defaultdict(list)
        for line in executions:
            lines_of[request_id_of(line)].append(line)
        for lead in leads:
            if isinstance(lead, ExecutionLine):
                unsure.append(lead)  # one line does not tell how its request ended
                continue
            matches = self._met(judge, [lead], lines_of[request_id_of(lead)], complete=False)
            if not judge.is_sure_of(lead, lines_of[request_id_of(lead)]) or (matches and whole):
                unsure.append(lead)
            else:
                found += matches
        return found + (self._met(judge, unsure, desk.execution_lines_of(unsure)) if unsure else [])

    def _met(
        self,
        judge: "_Judge",
        leads: Iterable[AccessLine | ExecutionLine],
        executions: Sequence[ExecutionLine],
        *,
        complete: bool = True,
    ) -> list[Found]:
        """The requests of these lines that are what is looked for."""
        found = []
        accesses = [line for line in leads if isinstance(line, AccessLine)]
        for units in _joined(accesses, executions):
            for unit in units:
                timeline, failure = judge.judge(unit)
                if self._query.is_met_by(unit, timeline, failure):
                    reused = len(units) > 1
                    found.append(
                        Found(unit=unit, timeline=timeline, failure=failure, reused_id=reused, complete=complete)
                    )
        return found

    def _completed(self, match: Found) -> list[Found]:
        """Read the execution lines of a request, too."""
        access = match.unit.access
        for desk, judge in zip(self._desks, self._judges, strict=True):
            if access is not None and access.group in desk.access_groups:
                found = self._met(judge, [access], desk.execution_lines_of([access]))
                return [other for other in found if other.unit.access == access] or [match]
        return [match]


class _Judge:
    """Makes timelines of one watch's requests, and says why they failed."""

    def __init__(self, spec: WatchSpec, rules: RuleSet) -> None:
        self._rules = rules
        apis = list(dict.fromkeys(api for item in spec.groups for api in item.apis))
        self._describer = Describer(
            parsers={item.group: item.parser for item in spec.groups if item.parser is not None},
            directory=Directory(apis),
            execution_apis={item.group: item.apis for item in spec.groups if item.kind == "execution"},
        )

    def judge(self, unit: Unit) -> tuple[RequestTimeline, Failure | None]:
        timeline = self._describer.describe(unit)
        return timeline, self._rules.classify(timeline)

    def is_sure_of(self, access: AccessLine, executions: Sequence[ExecutionLine]) -> bool:
        """Whether further execution lines could tell no more of a request."""
        units = units_of({access.event.event_id: access}, {line.event_id: line for line in executions})
        failure = self.judge(next(unit for unit in units if unit.access is not None))[1]
        return failure is not None and not failure.refinable


def _joined(accesses: Iterable[AccessLine], executions: Iterable[ExecutionLine]) -> list[list[Unit]]:
    """Put lines together by id, as far as ids go; what of them is one request, `units_of` knows."""
    by_extended = {
        extended: request_id_of(line) for line in executions if (extended := extended_id_of(line.text)) is not None
    }
    access_of: defaultdict[str, dict[str, AccessLine]] = defaultdict(dict)
    execution_of: defaultdict[str, dict[str, ExecutionLine]] = defaultdict(dict)
    for line in accesses:
        name = request_id_of(line) or by_extended.get(line.glance.extended_request_id or "") or line.event_id
        access_of[name][line.event_id] = line
    for step in executions:
        name = request_id_of(step) or step.event_id
        execution_of[name][step.event_id] = step
    return [units_of(access_of[name], execution_of[name]) for name in dict.fromkeys([*access_of, *execution_of])]


def _key(unit: Unit) -> str:
    """What tells a request from others: windows may find it twice."""
    return unit.access.event.event_id if unit.access is not None else min(line.event_id for line in unit.execution)
