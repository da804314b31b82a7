"""The routes of `/failures`: what is asked for, looked up in memory, answered as a page or as JSON.

They stand behind the same guard as every route and, like every route, wait for nobody: not for a poll, not for AWS.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from exporter.failures.charts import axis_of
from exporter.failures.detail_page import detail_page, unknown_page
from exporter.failures.entry import Entry, shown_of
from exporter.failures.layout import PATH
from exporter.failures.list_page import Overview, list_page
from exporter.failures.minutes import MINUTE_MS
from exporter.failures.recent import Holding, RecentFailures, order_of
from exporter.failures.selection import Selection, place_of, read_selection
from exporter.model import Cause

PAGE_SIZE = 50

_HEADERS = {"Cache-Control": "no-store"}


class _Line(msgspec.Struct, frozen=True, kw_only=True):
    """One failure in it; `/failures/{id}?format=json` has the rest."""

    id: str
    at_ms: int
    api_id: str
    api_name: str
    stage: str
    cause: str
    category: str
    status: int | None
    method: str
    resource: str
    duration_ms: int | None
    evidence: str


class _Listing(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON of the list."""

    since_ms: int
    """When this process started: what was counted before is not known."""
    learned: int
    kept: int
    size_bytes: int
    matching: int
    failures: list[_Line]
    older: str | None
    """The `before` of the next page."""


class FailurePages:
    """See the module."""

    def __init__(
        self, recent: RecentFailures, *, causes: Callable[[], Mapping[str, Cause]], now_ms: Callable[[], int]
    ) -> None:
        """`causes`: those of the rules in force, by name. `now_ms`: our clock."""
        self._recent = recent
        self._causes = causes
        self._now_ms = now_ms

    def routes(self) -> Sequence[Route]:
        """What a web application adds to its own."""
        return [Route(PATH, self._list), Route(f"{PATH}/{{identity}}", self._one)]

    def _list(self, request: Request) -> Response:
        now_ms = self._now_ms()
        selection = read_selection(request.query_params.multi_items(), now_ms)
        matching = selection.chosen(self._recent.newest_first())
        first = _first_of(selection, matching)
        entries = matching[first : first + PAGE_SIZE]
        older = place_of(entries[-1]) if first + PAGE_SIZE < len(matching) else None
        status = 400 if selection.mistakes else 200
        holding = self._recent.holding()
        if selection.as_json:
            if selection.mistakes:
                return _json({"mistakes": dict(selection.mistakes)}, status)
            return _json(_listing(self._recent.since_ms, holding, entries, len(matching), older))
        newer = None
        if first > 0:
            newer = place_of(matching[first - PAGE_SIZE - 1]) if first > PAGE_SIZE else ""
        known_ms = self._recent.first_ms or now_ms
        axis = axis_of(max(selection.since_ms, known_ms), max(min(selection.until_ms, now_ms), known_ms) + MINUTE_MS)
        overview = Overview(
            selection=selection,
            kinds=self._recent.kinds(),
            axis=axis,
            counts=self._recent.counted(
                max(axis.start_ms, selection.since_ms), min(axis.end_ms, selection.until_ms), selection.takes
            ),
            entries=entries,
            first=first,
            matching=len(matching),
            newer=newer,
            older=older,
            since_ms=self._recent.since_ms,
            holding=holding,
            per_cause=self._recent.per_cause,
            max_bytes=self._recent.max_bytes,
        )
        return HTMLResponse(list_page(overview), status, headers=_HEADERS)

    def _one(self, request: Request) -> Response:
        identity = request.path_params["identity"]
        as_json = request.query_params.get("format") == "json"
        entry = self._recent.get(identity)
        if entry is None:
            if as_json:
                return _json({"mistakes": {"id": "no failure that is kept has this id"}}, 404)
            return HTMLResponse(unknown_page(identity, self._recent.since_ms), 404, headers=_HEADERS)
        shown = shown_of(entry, self._causes())
        return _json(shown) if as_json else HTMLResponse(detail_page(entry, shown), headers=_HEADERS)


def _first_of(selection: Selection, matching: Sequence[Entry]) -> int:
    """How many are newer than the page that is asked for."""
    before = selection.before
    return 0 if before is None else sum(order_of(entry) >= before for entry in matching)


def _listing(since_ms: int, holding: Holding, entries: Sequence[Entry], matching: int, older: str | None) -> _Listing:
    lines = [
        _Line(
            id=entry.id,
            at_ms=entry.at_ms,
            **entry.kind._asdict(),
            method=entry.method,
            resource=entry.resource,
            duration_ms=entry.duration_ms,
            evidence=entry.evidence,
        )
        for entry in entries
    ]
    return _Listing(
        since_ms=since_ms,
        learned=holding.learned,
        kept=holding.failures,
        size_bytes=holding.size_bytes,
        matching=matching,
        failures=lines,
        older=older,
    )


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, headers=_HEADERS, media_type="application/json")
