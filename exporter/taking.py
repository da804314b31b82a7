"""What is done with the lines of a page: access lines are counted, execution lines looked at, failures passed on.

Each `Taker` is given the lines of one group, page by page: it makes of every line what counting needs, and shows the
correlator what joining needs. Lines that ended well are taken many at a time, because nearly all are such; those that
are unlike others one by one. It never fetches a line, nor decides what is settled or committed.
"""

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import compress, takewhile
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

from exporter import metrics
from exporter.access_log import AccessParser
from exporter.access_values import Columns, Repeating, Scalar, glance_from, milliseconds
from exporter.correlate import Correlator
from exporter.loops import Ended, are_in_order, places_of, tally
from exporter.model import UNKNOWN, AccessGlance, Api, CounterKey, LogEvent, LogGroup, Unreadable
from exporter.settle import is_failed
from exporter.tally import Seen
from exporter.windows import BUCKET_MS

UNREADABLE = "unreadable"
"""The metric of tally keys that count unreadable lines: they are told of, once each, but no product series."""

_ROUTES_KNOWN = 100_000

Admit = Callable[[CounterKey], CounterKey]


@dataclass(frozen=True, kw_only=True, slots=True)
class Labelling:
    """Which labels the configuration wants to vary."""

    by_method: bool = True
    by_resource: bool = True

    def requests(self, api: Api, method: str, resource: str, status: int | None) -> CounterKey:
        """The series of all requests."""
        method, resource = metrics.route_labels(
            method, resource, by_method=self.by_method, by_resource=self.by_resource
        )
        return metrics.requests(api, method, resource, status)

    def failed_requests(self, api: Api, glance: AccessGlance, status: int | None, cause: str) -> CounterKey:
        """The series of failed requests in detail."""
        method, resource = metrics.route_labels(
            glance.method, glance.resource, by_method=self.by_method, by_resource=self.by_resource
        )
        return metrics.failed_requests(api, method, resource, status, cause)


class Directory:
    """Which API a line is about: what the configuration says of its group, completed by what the line says."""

    def __init__(self, known: Sequence[Api]) -> None:
        self._known = tuple(known)
        self._found: dict[tuple[str | None, str | None], Api] = {}

    @property
    def stages(self) -> Sequence[Api]:
        """Every stage that is known by id and name, configured or seen."""
        return [api for api in {*self._known, *self._found.values()} if UNKNOWN not in (api.id, api.stage)]

    def resolve(self, api_id: str | None, stage: str | None) -> Api:
        """The API of a line that names `api_id` and `stage` (None: it does not)."""
        api = self._found.get((api_id, stage))
        if api is None:
            api = self._found[api_id, stage] = self._search(api_id, stage)
        return api

    def _search(self, api_id: str | None, stage: str | None) -> Api:
        def fits(api: Api) -> bool:
            return (api_id is None or api.id in {api_id, UNKNOWN}) and (stage is None or api.stage in {stage, UNKNOWN})

        candidates = [api for api in self._known if fits(api)]
        if len(candidates) > 1 and (api_id is None or stage is None):
            # Several stages in one group, and the line does not say which: no guess.
            first = candidates[0]
            return Api(type=first.type, region=first.region, account_id=first.account_id)
        exact = [api for api in candidates if UNKNOWN not in (api.id, api.stage)]
        template = (exact or candidates or [*self._known, Api()])[0]
        own = bool(candidates)
        found_id = template.id if own and template.id != UNKNOWN else api_id or UNKNOWN
        named = own and template.name not in {UNKNOWN, ""}
        return Api(
            id=found_id,
            name=template.name if named else found_id,
            stage=template.stage if own and template.stage != UNKNOWN else stage or UNKNOWN,
            type=template.type,
            region=template.region,
            account_id=template.account_id,
        )


class Taker(Protocol):
    """What is done with the lines of one kind of log."""

    counts: bool
    """Whether lines are counted, so that a page which comes twice must not be taken twice."""

    def take(self, events: list[LogEvent], seen: Seen) -> None:
        """Count and pass on the lines of a page, in order."""
        ...

    def begin(self) -> None:
        """Forget what a listing left that broke off."""
        ...

    def finish(self, seen: Seen) -> None:
        """Complete the counts of a listing that reached its end."""
        ...


class _Route:
    """What lines with the same status, method, resource, API and error have in common. Equal to itself alone."""

    __slots__ = ("api", "key", "passed_on", "repeating")

    def __init__(self, repeating: Repeating, key: CounterKey, api: Api | None, *, passed_on: bool) -> None:
        """`repeating`: as the lines have it. `key`: what each such line counts under.

        `api`: None for lines that are no requests, being unreadable.
        """
        self.repeating = repeating
        self.key = key
        self.api = api
        self.passed_on = passed_on


_AT_ONCE = 512
"""So many lines are taken together: enough to share the cost, few enough for the processor's caches."""
_ROUTES_HELD = 4_096
"""So many routes of ten seconds are counted before they are put under the series they count for: callers, and errors
that differ from line to line, may make any number of routes, but not of series."""
_at_ms_of = attrgetter("at_ms")


def _distinct(values: list[Any]) -> Collection[Any]:
    """Each value once."""
    counts: dict[Any, int] = {}
    tally(values, counts)
    return counts


class _Latencies(NamedTuple):
    """How often each latency was logged, as logged."""

    responses: dict[Scalar, int]
    integrations: dict[Scalar, int]

    def note(self, responses: list[Scalar], integrations: list[Scalar], dotted: list[Scalar]) -> None:
        """Count those of some lines; `dotted`: the other name of the integration's latency."""
        tally(responses, self.responses)
        tally(integrations, self.integrations)
        if self.integrations.pop(None, 0) + self.integrations.pop("-", 0):  # a dash stands for no value
            tally([dotted[place] for place in places_of(integrations, {None, "-"})], self.integrations)


class AccessTaker:
    """Access lines: every one counts for the totals; what failed, or shares an id with a failure, is passed on."""

    counts = True

    def __init__(
        self,
        group: LogGroup,
        *,
        parser: AccessParser,
        directory: Directory,
        correlator: Correlator,
        admit: Admit,
        labelling: Labelling,
    ) -> None:
        self._group = group
        self._look_at = parser.look_at
        self._directory = directory
        self._correlator = correlator
        self._admit = admit
        self._labelling = labelling
        self._routes: dict[Repeating, _Route] = {}
        self._amounts: dict[int, dict[_Route, int]] = {}
        """By ten seconds."""
        self._latencies: dict[tuple[int, Api], _Latencies] = {}
        """By ten seconds and API."""

    def take(self, events: list[LogEvent], seen: Seen) -> None:
        """See `Taker`. A line that ended well costs its reading and a few look-ups."""
        for start in range(0, len(events), _AT_ONCE):
            some = events[start : start + _AT_ONCE]
            if not are_in_order(some):
                some.sort(key=_at_ms_of)
            self._take_some(some, seen)

    def _take_some(self, events: list[LogEvent], seen: Seen) -> None:
        """Take lines in order of time."""
        columns, unreadable = self._look_at(events, self._routes)
        if unreadable:
            for place, why in unreadable.items():
                seen.add(events[place].at_ms, self._unreadable(why))
            events = [event for place, event in enumerate(events) if place not in unreadable]
        routes, first = columns.routes, []
        new = {found for found in _distinct(routes) if type(found) is tuple}
        for place in places_of(routes, new) if new else ():
            repeating = routes[place]
            route = self._routes.get(repeating)
            if route is None:
                route = self._new_route(columns.row(place, repeating), repeating)
                first.append(place)
            routes[place] = route
        self._pass_on(events, columns, first)
        self._count(events, columns, seen)

    def _pass_on(self, events: Sequence[LogEvent], columns: Columns, first: Sequence[int]) -> None:
        """Show the correlator the lines it needs: failures, what shares an id with what is open, and what may be new.

        `first`: the places of lines with a route that was not known: they may log other ids than those before.
        """
        correlator, routes = self._correlator, columns.routes
        shown: set[int] = set()

        def show(places: Iterable[int]) -> None:
            for place in places:
                if place in shown:
                    continue
                glance = glance_from(columns.row(place, routes[place].repeating))
                if isinstance(glance, AccessGlance):
                    correlator.take_access(self._group, events[place], glance)
                    shown.add(place)

        places = range(len(routes))
        show(takewhile(lambda _place: not correlator.knows_access_ids, places))
        show(first)
        unlike = {route for route in _distinct(routes) if route.passed_on}
        if unlike:
            show(places_of(routes, unlike))
        open_ids = correlator.open_ids
        for ids in (columns.request_ids, columns.extended_ids) if open_ids else ():
            show(places_of(ids, open_ids))

    def _count(self, events: Sequence[LogEvent], columns: Columns, seen: Seen) -> None:
        """Count lines in order of time, each ten seconds together."""
        start = 0
        while start < len(events):
            bucket = events[start].at_ms // BUCKET_MS
            end = bisect_left(events, (bucket + 1) * BUCKET_MS, start, key=_at_ms_of)
            part = columns if end - start == len(events) else columns.part(start, end)
            amounts = self._amounts.setdefault(bucket, {})
            tally(part.routes, amounts)
            if len(amounts) > _ROUTES_HELD:
                self._file_amounts(bucket, seen)
            latencies = [part.responses, part.integrations, part.dotted_integrations]
            routes: list[_Route] = part.routes
            # The directory gives the same one each time.
            apis = {id(route.api): route.api for route in _distinct(routes)}
            for api in apis.values():
                if api is not None:
                    theirs = latencies
                    if len(apis) > 1:
                        chosen = [route.api is api for route in routes]
                        theirs = [list(compress(column, chosen)) for column in latencies]
                    self._latencies_of(bucket, api).note(*theirs)
            start = end

    def _new_route(self, row: Sequence[Scalar], repeating: Repeating) -> _Route:
        """The route of a line that is the first to show it; `repeating`: the values of it that repeat."""
        glance = glance_from(row)
        if isinstance(glance, Unreadable):
            return _Route(repeating, self._unreadable(glance), None, passed_on=False)
        api = self._directory.resolve(glance.api_id, glance.stage)
        key = self._admit(self._labelling.requests(api, glance.method, glance.resource, glance.status))
        route = _Route(repeating, key, api, passed_on=glance.status is None or is_failed(glance))
        if glance.status is not None and not glance.gateway_error:  # its text differs from line to line
            if len(self._routes) > _ROUTES_KNOWN:
                self._routes.clear()
            self._routes[repeating] = route
        return route

    def _file_amounts(self, bucket: int, seen: Seen) -> None:
        for route, amount in self._amounts.pop(bucket).items():
            seen.add(bucket * BUCKET_MS, route.key, amount)

    def _latencies_of(self, bucket: int, api: Api) -> _Latencies:
        return self._latencies.setdefault((bucket, api), _Latencies({}, {}))

    def _unreadable(self, why: Unreadable) -> CounterKey:
        return CounterKey(UNREADABLE, (self._group.name, why.reason))

    def begin(self) -> None:
        """See `Taker`."""
        self._amounts.clear()
        self._latencies.clear()

    def finish(self, seen: Seen) -> None:
        """See `Taker`: latencies become buckets and sums, each distinct one once."""
        for bucket in list(self._amounts):
            self._file_amounts(bucket, seen)
        for (bucket, api), found in self._latencies.items():
            for histogram, values in zip((metrics.RESPONSE_LATENCY, metrics.INTEGRATION_LATENCY), found, strict=True):
                for key, amount in metrics.latencies(histogram, api, milliseconds(values)).items():
                    seen.add(bucket * BUCKET_MS, self._admit(key), amount)
        self.begin()


class ExecutionTaker:
    """Execution lines: looked at for failures; their terminal lines are the totals where there is no access log."""

    def __init__(
        self, group: LogGroup, *, directory: Directory, correlator: Correlator, admit: Admit, totals: bool
    ) -> None:
        self._group = group
        self._directory = directory
        self._correlator = correlator
        self._admit = admit
        self.counts = totals

    def take(self, events: list[LogEvent], seen: Seen) -> None:
        """See `Taker`."""
        ended: Ended | None = {} if self.counts else None
        for event in self._correlator.take_executions(self._group, events, ended):
            seen.add(event.at_ms, CounterKey(UNREADABLE, (self._group.name, "no_request_id")))
        if not ended:
            return
        # The terminal line alone tells neither method nor resource, and counting it once needs a key that every
        # listing finds the same.
        api = self._directory.resolve(None, None)
        for (bucket, status), count in ended.items():
            seen.add(bucket * BUCKET_MS, self._admit(metrics.requests(api, UNKNOWN, UNKNOWN, status)), count)

    def begin(self) -> None:
        """See `Taker`: nothing is kept between pages."""

    def finish(self, seen: Seen) -> None:
        """See `Taker`: nothing is left to do."""


class Uncounted:
    """Lines that are only to be numbered."""

    counts = False

    def begin(self) -> None:
        """See `Taker`."""

    def take(self, events: list[LogEvent], seen: Seen) -> None:
        """See `Taker`."""

    def finish(self, seen: Seen) -> None:
        """See `Taker`."""
